"""The verbs of the command line. Each body imports what it needs when it runs, so that `--help` comes at once."""

from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import App, Parameter

from reelsheet import __version__
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
_RUN: Final = "A run's id or its beginning"

_SHEETS: Final = "A CSV or Excel file, s3://bucket/key, an https:// address or a Google Sheets link."
Manifest = Annotated[str, Parameter(name="MANIFEST", help=_SHEETS)]
To = Annotated[str | None, Parameter(metavar="DEST", help="Where the clips go: s3://bucket/prefix or a folder.")]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], help="Spend up to the plan's total without asking.", group=MONEY)]
PlanFlags = Annotated[PlanOptions, _FLAGS]
RunFlags = Annotated[RunOptions, _FLAGS]
Json = Annotated[bool, Parameter(name="--json", help="Print the result as one JSON object on stdout.", group=OUTPUT)]


@app.command(sort_key=4)
def run(
    manifest: Manifest, /, *, to: To = None, flags: RunFlags = _RUN_DEFAULTS, yes: Yes = False, as_json: Json = False
) -> int:
    """Make the clips of MANIFEST and store them under --to.

    It shows the plan and asks before it spends. Without a terminal it needs --yes or --max-cost.
    The same command again continues where an earlier one stopped, and pays for nothing twice.

    Example: `reelsheet run products.xlsx --to s3://bucket/spring --max-cost 50`
    """
    from reelsheet.cli.execute import execute

    return execute(Options.of("run", manifest, to, flags), yes=yes, as_json=as_json)


@app.command(sort_key=5)
def retry(
    results_of: Annotated[
        str, Parameter(name="RESULTS", help="A results file, a run's id, or a destination: its latest run.")
    ],
    /,
    *,
    to: To = None,
    flags: RunFlags = _RUN_DEFAULTS,
    yes: Yes = False,
    as_json: Json = False,
) -> int:
    """Resume each unfinished row of RESULTS from the cheapest step.

    A clip that is paid for is copied or fetched at no cost. Failed and skipped rows, and rows whose review cell
    says redo, are paid for.

    Example: `reelsheet retry s3://bucket/spring --yes`
    """
    from reelsheet.cli.execute import execute

    return execute(Options.of("retry", results_of, to, flags), yes=yes, as_json=as_json)


@app.command(sort_key=3)
def plan(manifest: Manifest, /, *, to: To = None, flags: PlanFlags = _PLAN_DEFAULTS, as_json: Json = False) -> int:
    """Check every row, and say what a run would do and cost.

    It checks every picture, spends nothing and needs no key. The exit code is 0 whatever it finds, and 2
    where the manifest cannot be read.

    Example: `reelsheet plan products.xlsx --to s3://bucket/spring`
    """
    from reelsheet.cli.execute import show_plan

    return show_plan(Options.of("run", manifest, to, flags), as_json=as_json)


@app.command(sort_key=0)
def demo(
    *,
    flags: RunFlags = _RUN_DEFAULTS,
    yes: Yes = False,  # noqa: ARG001 - it never asks; taken so that a `run` line can be tried as a demo
    as_json: Json = False,
) -> int:
    """The whole job on a sandbox: no account, nothing charged.

    The clips, the results and the gallery are then in ./out.

    Example: `reelsheet demo`
    """
    from reelsheet.cli.demo import demonstrate

    return demonstrate(Options.of("run", "out/manifest.csv", None, flags), as_json=as_json)


@app.command(sort_key=8)
def resolve(
    row: Annotated[
        str, Parameter(name="ROW", help="Its identity or the first eight characters, its name, or RUN:LINE.")
    ],
    /,
    *,
    id: Annotated[  # noqa: A002 - the flag's own name
        str | None, Parameter(name="--id", metavar="PREDICTION", help="The dashboard shows this prediction for it.")
    ] = None,
    abandon: Annotated[bool, Parameter(help="The dashboard shows none: it was never charged.")] = False,
    as_json: Json = False,
) -> int:
    """Settle a row that may have been charged.

    Look for it in the provider's dashboard, and say what that shows.

    Example: `reelsheet resolve SKU-007 --id 4b1f0c2e`
    """
    from reelsheet.cli import resolve

    return resolve.resolve(row, prediction_id=id, abandon=abandon, as_json=as_json)


@app.command(sort_key=6)
def status(
    run_id: Annotated[str | None, Parameter(name="RUN", help=f"{_RUN}; without it, the latest run.")] = None,
    /,
    *,
    as_json: Json = False,
) -> int:
    """Show what a run has done, spent and lost, also while it is running.

    Example: `reelsheet status`
    """
    from reelsheet.cli import status

    return status.status(run_id, as_json=as_json)


@app.command(sort_key=7)
def report(
    run_id: Annotated[str, Parameter(name="RUN", help=f"{_RUN}.")], /, *, results: Results = None, as_json: Json = False
) -> int:
    """Write a run's results and gallery again, with fresh links.

    Example: `reelsheet report 20260115`
    """
    from reelsheet.cli import report

    return report.report(run_id, results=results, as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class SandboxOptions:
    """The flags of `python -m reelsheet.sandbox` that are for users."""

    port: Annotated[int, Parameter(help="Of the provider's API; by default 8780, 0 is a free one.")] = 8780
    s3_port: Annotated[int, Parameter(metavar="PORT", help="Of the simulated S3; by default 8781.")] = 8781
    latency: Annotated[float, Parameter(metavar="SECONDS", help="How long a clip takes; by default 5.")] = 5.0
    latency_sigma: Annotated[float, Parameter(metavar="SIGMA", help="Spread of a log-normal latency.")] = 0.0
    capacity: Annotated[int | None, Parameter(metavar="N", help="At most N in flight, beyond that 429.")] = None
    per_minute: Annotated[int | None, Parameter(metavar="N", help="At most N a minute, beyond that 429.")] = None
    fail_rate: Annotated[float, Parameter(metavar="SHARE", help="Share of the predictions that fail, 0 to 1.")] = 0.0
    clips: Annotated[str, Parameter(metavar="KIND", help="real: made from the picture; tiny: one small clip.")] = "real"
    state: Annotated[str | None, Parameter(metavar="FOLDER", help="Keep predictions here between two starts.")] = None


_SANDBOX_DEFAULTS: Final = SandboxOptions()


@app.command(sort_key=9)
def sandbox(*, flags: Annotated[SandboxOptions, _FLAGS] = _SANDBOX_DEFAULTS) -> int:
    """Serve a stand-in for the provider and a simulated S3.

    For people who develop against them. Ctrl-C ends it.

    Example: `reelsheet sandbox --latency 2 --capacity 8`
    """
    from reelsheet.cli.demo import serve

    serve(vars(flags))


@app.command(sort_key=1)
def init(
    folder: Annotated[
        str, Parameter(name="FOLDER", help="Created if it does not exist; by default this folder.")
    ] = ".",
    /,
) -> int:
    """Write a starter manifest, .env and README.

    Files that exist already stay as they are.

    Example: `reelsheet init spring`
    """
    from reelsheet.cli.init import write_starter

    return write_starter(folder)


@app.command(sort_key=2)
def doctor(
    *,
    to: To = None,
    as_json: Json = False,
) -> int:
    """Find what is wrong with the setup, and how to fix it.

    It checks settings, key, S3, clock, ledger, Prefect, disk and notifications, and spends nothing. With --to it
    also writes, reads and deletes a small object there. Exit code 2 where a run could not work, else 0.

    Example: `reelsheet doctor --to s3://bucket/spring`
    """
    from reelsheet.cli import doctor

    return doctor.doctor(to, as_json=as_json)
