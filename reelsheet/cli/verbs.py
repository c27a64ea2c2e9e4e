"""The verbs of the command line. Each body imports what it needs when it runs, so that `--help` comes at once."""

import re
from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import App, Parameter

from reelsheet import __version__
from reelsheet.cli import verbs_of
from reelsheet.options import MONEY, OUTPUT, Options, PlanOptions, Results, RunOptions

app = App(
    name="reelsheet",
    help="A spreadsheet of pictures and prompts in, finished clips in S3 out. Nothing is ever paid for twice.",
    version=f"reelsheet {__version__}",
    version_flags=["--version"],
    help_flags=["--help", "-h"],
    suppress_keyboard_interrupt=False,  # `call` has a sentence for it
    default_parameter=Parameter(show_default=False, negative=""),
)

_FLAGS: Final = Parameter(name="*")  # each field is a flag
_PLAN_DEFAULTS: Final = PlanOptions()
_RUN_DEFAULTS: Final = RunOptions()
_WORK_POOL: Final = "The work pool to take runs from; by default reelsheet."
_WORKER_NAME: Final = "The worker's name; by default one is made up."
_RUN: Final = "A run's id or its beginning"

_SHEETS: Final = "A CSV or Excel file, s3://bucket/key, an https:// address or a Google Sheets link."
Manifest = Annotated[str, Parameter(name="MANIFEST", help=_SHEETS)]
_DEST: Final = "Where the clips go: s3://bucket/prefix or a folder"
To = Annotated[str | None, Parameter(metavar="DEST", help=f"{_DEST}.")]
RequiredTo = Annotated[str | None, Parameter(metavar="DEST", help=f"{_DEST} (required).")]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], help="Spend up to the plan's total without asking.", group=MONEY)]
PlanFlags = Annotated[PlanOptions, _FLAGS]
RunFlags = Annotated[RunOptions, _FLAGS]
Json = Annotated[bool, Parameter(name="--json", help="Print the result as one JSON object on stdout.", group=OUTPUT)]


@app.command(sort_key=4, usage="Usage: reelsheet run MANIFEST --to DEST [OPTIONS]")
def run(
    manifest: Manifest,
    /,
    *,
    to: RequiredTo = None,
    flags: RunFlags = _RUN_DEFAULTS,
    yes: Yes = False,
    as_json: Json = False,
) -> int:
    """Make the clips of MANIFEST and store them under --to.

    It shows the plan and asks before it spends. Without a terminal it needs --yes or --max-cost.
    The same command again continues where an earlier one stopped, and pays for nothing twice.

    Example: `reelsheet run products.xlsx --to s3://bucket/spring --max-cost 50`
    """
    from reelsheet.cli.execute import execute

    return execute(Options.of("run", manifest, to, flags), yes=yes, as_json=as_json)


@app.command(sort_key=5, usage="Usage: reelsheet retry RESULTS [OPTIONS]")
def retry(
    results_of: Annotated[
        str,
        Parameter(name="RESULTS", help="A results file, a review file, a run's id, or a destination: its latest run."),
    ],
    /,
    *,
    to: To = None,
    flags: RunFlags = _RUN_DEFAULTS,
    yes: Yes = False,
    as_json: Json = False,
) -> int:
    """Resume each unfinished row of RESULTS from the cheapest step.

    A clip that is paid for is copied or fetched at no cost, also if its row reads otherwise now. Failed and skipped
    rows, and rows whose review cell says redo, are paid for.

    Example: `reelsheet retry s3://bucket/spring`
    """
    from reelsheet.cli.execute import execute

    return execute(Options.of("retry", results_of, to, flags), yes=yes, as_json=as_json)


@app.command(sort_key=3, usage="Usage: reelsheet plan MANIFEST [OPTIONS]")
def plan(
    manifest: Manifest,
    /,
    *,
    to: To = None,
    flags: PlanFlags = _PLAN_DEFAULTS,
    strict: Annotated[bool, Parameter(help="Exit with 1 where rows cannot run.", group=OUTPUT)] = False,
    as_json: Json = False,
) -> int:
    """Check every row, and say what a run would do and cost.

    It checks every picture, spends nothing and needs no key. The exit code is 0 whatever it finds, with --strict 1
    where rows cannot run, and 2 where the manifest cannot be read.

    Example: `reelsheet plan products.xlsx --to s3://bucket/spring`
    """
    from reelsheet.cli.execute import show_plan

    return show_plan(Options.of("run", manifest, to, flags), strict=strict, as_json=as_json)


@app.command(sort_key=0, usage="Usage: reelsheet demo [OPTIONS]")
def demo(
    review: Annotated[
        str | None,
        Parameter(
            name="RESULTS", help="With --retry: a results or review file of the demo; without it, the marked one."
        ),
    ] = None,
    /,
    *,
    retry: Annotated[bool, Parameter(help="Make again what you marked redo in ./out.")] = False,
    flags: RunFlags = _RUN_DEFAULTS,
    yes: Yes = False,  # noqa: ARG001 - it never asks; taken so that a `run` line can be tried as a demo
    as_json: Json = False,
) -> int:
    """The whole job on a sandbox: no account, nothing charged.

    The clips, the results and the gallery are then in ./out. To try the review: write redo into the review column of
    out/…/results.xlsx, save it, and run `reelsheet demo --retry`.

    Example: `reelsheet demo`
    """
    from reelsheet.cli.demo import demonstrate
    from reelsheet.errors import UsageError

    if review is not None and not retry:
        raise UsageError("The demo has a sheet of its own; a results file is for `demo --retry`.")
    options = Options.of("run", "out/manifest.csv", None, flags)
    return demonstrate(options, retry=(review or "") if retry else None, as_json=as_json)


@app.command(sort_key=9, usage="Usage: reelsheet resolve ROW (--id PREDICTION | --abandon)")
def resolve(
    row: Annotated[
        str, Parameter(name="ROW", help="Its identity or the first eight characters, its name, or RUN:LINE.")
    ],
    /,
    *,
    id: Annotated[  # noqa: A002 - the flag's own name
        str | None,
        Parameter(
            name="--id", metavar="PREDICTION", help="The dashboard shows this prediction for it. The provider is asked."
        ),
    ] = None,
    abandon: Annotated[
        bool, Parameter(help="The dashboard shows none for it: you say that it was never charged.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Settle a row that may have been charged.

    Look for it in the provider's dashboard, and say what that shows. A wrong id can be replaced by the right one.

    Example: `reelsheet resolve SKU-007 --id 4b1f0c2e`
    """
    from reelsheet.cli import resolve

    return resolve.resolve(row, prediction_id=id, abandon=abandon, as_json=as_json)


@app.command(sort_key=6, usage="Usage: reelsheet status [RUN] [OPTIONS]")
def status(
    run_id: Annotated[str | None, Parameter(name="RUN", help=f"{_RUN}; without it, the latest run.")] = None,
    /,
    *,
    all_runs: Annotated[bool, Parameter(name="--all", help="List all runs instead, the latest first.")] = False,
    by: Annotated[
        str | None, Parameter(metavar="COLUMN", help="What was spent for each value of this column, over all runs.")
    ] = None,
    since: Annotated[
        str | None, Parameter(metavar="DATE", help="With --by: only what was spent from this day on (UTC).")
    ] = None,
    as_csv: Annotated[bool, Parameter(name="--csv", help="Print the list or the sums as CSV.", group=OUTPUT)] = False,
    as_json: Json = False,
) -> int:
    """Show what a run has done, spent and lost, also while it is running.

    Example: `reelsheet status`, `reelsheet status --by campaign --since 2026-01-01`
    """
    from reelsheet.cli import status, status_tables

    if all_runs or by is not None or since is not None or as_csv:
        return status_tables.show(run_id, all_runs=all_runs, by=by, since=since, as_csv=as_csv, as_json=as_json)
    return status.status(run_id, as_json=as_json)


@app.command(sort_key=7, usage="Usage: reelsheet report RUN [OPTIONS]")
def report(
    run_id: Annotated[str, Parameter(name="RUN", help=f"{_RUN}.")], /, *, results: Results = None, as_json: Json = False
) -> int:
    """Write a run's results and gallery again, with fresh links.

    Example: `reelsheet report 20260115`
    """
    from reelsheet.cli import report

    return report.report(run_id, results=results, as_json=as_json)


@app.command(sort_key=8, usage="Usage: reelsheet fetch RUN|DEST [FOLDER] [OPTIONS]")
def fetch(
    run_or_dest: Annotated[
        str, Parameter(name="RUN", help=f"{_RUN}, or a destination: its latest run. A destination needs no ledger.")
    ],
    folder: Annotated[
        str | None, Parameter(name="FOLDER", help="Where they go; by default a folder here, named after DEST.")
    ] = None,
    /,
    *,
    as_json: Json = False,
) -> int:
    """Copy a run's clips, results and gallery onto this machine.

    Only what is missing or differs is fetched. A table that you changed is kept, and the new one is written beside it.
    The gallery in FOLDER plays the clips in FOLDER.

    Example: `reelsheet fetch s3://bucket/spring`
    """
    from reelsheet.cli import fetch

    return fetch.fetch(run_or_dest, folder, as_json=as_json)


@app.command(sort_key=11, usage="Usage: reelsheet worker [OPTIONS] [FLAGS]")
def worker(
    *arguments: Annotated[
        str,
        Parameter(
            name="FLAGS",
            allow_leading_hyphen=True,
            help="Other flags, as `prefect worker start --help` shows them.",
        ),
    ],
    pool: Annotated[str, Parameter(name=["--pool", "-p"], help=_WORK_POOL)] = "reelsheet",
    name: Annotated[str | None, Parameter(name=["--name", "-n"], help=_WORKER_NAME)] = None,
) -> int:
    """A Prefect worker that stops politely.

    SIGTERM ends it within a minute: its runs buy nothing more, record the answers on their way, and go on by
    themselves on the next worker.

    Example: `reelsheet worker --pool reelsheet --limit 4`
    """
    from reelsheet.cli.worker import work

    return work(["--pool", pool, *(["--name", name] if name else []), *arguments])


@dataclass(frozen=True, kw_only=True)
class SandboxOptions:
    """The flags of `python -m reelsheet.sandbox` that are for users."""

    port: Annotated[int, Parameter(help="Of the provider's API; by default 8780, 0 is a free one.")] = 8780
    s3_port: Annotated[int, Parameter(metavar="PORT", help="Of the simulated S3; by default 8781.")] = 8781
    latency: Annotated[float, Parameter(metavar="SECONDS", help="How long a clip takes; by default 5.")] = 5.0
    latency_sigma: Annotated[float, Parameter(metavar="SIGMA", help="Spread of a log-normal latency.")] = 0.0
    capacity: Annotated[int | None, Parameter(metavar="N", help="At most N in flight, beyond that 429.")] = None
    per_minute: Annotated[int | None, Parameter(metavar="N", help="At most N a minute, beyond that 429.")] = None
    burst: Annotated[int, Parameter(metavar="N", help="With --per-minute: at most N at once; by default 1.")] = 1
    fail_rate: Annotated[float, Parameter(metavar="SHARE", help="Share of the predictions that fail, 0 to 1.")] = 0.0
    clips: Annotated[str, Parameter(metavar="KIND", help="real: made from the picture; tiny: one small clip.")] = "real"
    state: Annotated[str | None, Parameter(metavar="FOLDER", help="Keep predictions here between two starts.")] = None


_SANDBOX_DEFAULTS: Final = SandboxOptions()


@app.command(sort_key=10, usage="Usage: reelsheet sandbox [OPTIONS]")
def sandbox(*, flags: Annotated[SandboxOptions, _FLAGS] = _SANDBOX_DEFAULTS) -> int:
    """Serve a stand-in for the provider and a simulated S3.

    For people who develop against them. Ctrl-C ends it.

    Example: `reelsheet sandbox --latency 2 --capacity 8`
    """
    from reelsheet.cli.demo import serve

    serve(vars(flags))


@app.command(sort_key=1, usage="Usage: reelsheet init [FOLDER]")
def init(
    folder: Annotated[
        str, Parameter(name="FOLDER", help="Created if it does not exist; by default this folder.")
    ] = ".",
    /,
    *,
    pictures: Annotated[
        str | None, Parameter(metavar="FOLDER", help="The manifest gets a row for each picture in this folder.")
    ] = None,
) -> int:
    """Write a starter manifest, .env and README.

    Files that exist already stay as they are.

    Example: `reelsheet init spring`
    """
    from reelsheet.cli.init import write_starter

    return write_starter(folder, pictures)


@app.command(sort_key=2, usage="Usage: reelsheet doctor [OPTIONS]")
def doctor(
    *,
    to: To = None,
    as_json: Json = False,
) -> int:
    """Find what is wrong with the setup, and how to fix it.

    It checks settings, network, key, S3, clock, ledger, Prefect, this machine and notifications, and spends
    nothing. With --to it also writes, reads and deletes a small object there. Exit code 2 where a run could not
    work, else 0.

    Example: `reelsheet doctor --to s3://bucket/spring`
    """
    from reelsheet.cli import doctor

    return doctor.doctor(to, as_json=as_json)


def _add_examples() -> None:
    """Below the list of verbs, a line for each one from its own help, in the order of the list."""
    verbs = sorted((app[name] for name in verbs_of(app)), key=lambda verb: verb.sort_key)
    examples = (re.search(r"Example: (`.+?`)", verb.help) for verb in verbs)
    app.help_epilogue = "Examples:\n\n" + "  \n".join(example[1] for example in examples if example)
    for verb in verbs:
        verb.help_epilogue = ""  # else it is the list's


_add_examples()
