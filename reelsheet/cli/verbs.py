"""The verbs and their flags. Each body imports what it needs when it runs."""

from typing import Annotated

from cyclopts import App, Group, Parameter

from reelsheet import __version__

app = App(
    name="reelsheet",
    help="A spreadsheet of pictures and prompts in, finished clips in S3 out. Nothing is ever paid for twice.",
    version=f"reelsheet {__version__}",
    version_flags=["--version"],
    help_flags=["--help", "-h"],
)

_MONEY = Group("Money", sort_key=1)
_PACE = Group("Pace", sort_key=2)
_SHEET = Group("Sheet", sort_key=3)
_OUT = Group("Output", sort_key=4)

To = Annotated[str | None, Parameter(help="Where the clips go: s3://bucket/prefix or a folder.")]
Results = Annotated[str | None, Parameter(help="Also write the results here.", group=_OUT)]
MaxCost = Annotated[str | None, Parameter(name="--max-cost", help="The most to spend in this run, in USD.", group=_MONEY)]
Limit = Annotated[int | None, Parameter(help="Only the first N rows that need work.", group=_MONEY)]
Concurrency = Annotated[
    int | None, Parameter(help="A ceiling for predictions in flight; by default the account's own is found.", group=_PACE)
]
Deadline = Annotated[float, Parameter(help="Seconds to wait for one prediction.", group=_PACE)]
Fresh = Annotated[bool, Parameter(help="Pay again, once, for rows that were paid for before.", negative="", group=_MONEY)]
RetryUnknown = Annotated[
    bool,
    Parameter(help="Submit rows again whose answer was lost; they may be charged twice.", negative="", group=_MONEY),
]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], help="Agree to the plan's total without asking.", negative="", group=_MONEY)]
Json = Annotated[bool, Parameter(name="--json", help="The summary as one JSON object on stdout.", negative="", group=_OUT)]
NoPreflight = Annotated[
    bool, Parameter(name="--no-preflight", help="Do not look at the pictures first.", negative="", group=_SHEET)
]
Name = Annotated[str | None, Parameter(help="Names for the clips, such as {campaign}/{sku}.", group=_OUT)]
Sheet = Annotated[str | None, Parameter(help="The sheet of a workbook; by default the first.", group=_SHEET)]
ImageColumn = Annotated[str | None, Parameter(help="The column of the pictures' addresses.", group=_SHEET)]
PromptColumn = Annotated[str | None, Parameter(help="The column of the prompts.", group=_SHEET)]
IdColumn = Annotated[str | None, Parameter(help="The column that names the rows.", group=_SHEET)]


@app.command(sort_key=2)
def run(
    manifest: str,
    /,
    *,
    to: To = None,
    results: Results = None,
    max_cost: MaxCost = None,
    limit: Limit = None,
    concurrency: Concurrency = None,
    deadline: Deadline = 1800.0,
    fresh: Fresh = False,
    retry_unknown: RetryUnknown = False,
    yes: Yes = False,
    as_json: Json = False,
    no_preflight: NoPreflight = False,
    name: Name = None,
    sheet: Sheet = None,
    image_column: ImageColumn = None,
    prompt_column: PromptColumn = None,
    id_column: IdColumn = None,
) -> int:
    """Make the clips of MANIFEST and store them under --to.

    Shows the plan and asks before it spends; without a terminal give --yes or --max-cost.
    """
    from reelsheet.cli.execute import execute, options_of

    return execute(options_of("run", manifest, locals()), yes=yes, as_json=as_json)


@app.command(sort_key=3)
def retry(
    results_of: Annotated[str, Parameter(name="RESULTS")],
    /,
    *,
    to: To = None,
    results: Results = None,
    max_cost: MaxCost = None,
    limit: Limit = None,
    concurrency: Concurrency = None,
    deadline: Deadline = 1800.0,
    fresh: Fresh = False,
    retry_unknown: RetryUnknown = False,
    yes: Yes = False,
    as_json: Json = False,
    no_preflight: NoPreflight = False,
    name: Name = None,
    sheet: Sheet = None,
    image_column: ImageColumn = None,
    prompt_column: PromptColumn = None,
    id_column: IdColumn = None,
) -> int:
    """Try again what did not succeed: copy, poll, or submit, whichever is cheapest.

    RESULTS is a results file, a run's id, or a destination (its latest run). Rows whose review cell says
    `redo` are paid for again.
    """
    from reelsheet.cli.execute import execute, options_of

    return execute(options_of("retry", results_of, locals()), yes=yes, as_json=as_json)


@app.command(sort_key=1)
def plan(
    manifest: str,
    /,
    *,
    to: To = None,
    max_cost: MaxCost = None,
    limit: Limit = None,
    concurrency: Concurrency = None,
    fresh: Fresh = False,
    retry_unknown: RetryUnknown = False,
    as_json: Json = False,
    no_preflight: NoPreflight = False,
    name: Name = None,
    sheet: Sheet = None,
    image_column: ImageColumn = None,
    prompt_column: PromptColumn = None,
    id_column: IdColumn = None,
) -> int:
    """Check every row and picture of MANIFEST and say what a run would do and cost; spends nothing."""
    from reelsheet.cli.execute import options_of, show_plan

    return show_plan(options_of("run", manifest, locals()), as_json=as_json)


@app.command(sort_key=0)
def demo(
    *,
    results: Results = None,
    max_cost: MaxCost = None,
    limit: Limit = None,
    concurrency: Concurrency = None,
    deadline: Deadline = 1800.0,
    fresh: Fresh = False,
    retry_unknown: RetryUnknown = False,
    yes: Yes = False,
    as_json: Json = False,
    no_preflight: NoPreflight = False,
    name: Name = None,
    sheet: Sheet = None,
    image_column: ImageColumn = None,
    prompt_column: PromptColumn = None,
    id_column: IdColumn = None,
) -> int:
    """The whole job on the embedded sandbox, no account: real clips in ./out, nothing charged."""
    from reelsheet.cli.demo import demonstrate
    from reelsheet.cli.execute import options_of

    return demonstrate(options_of("run", "out/manifest.csv", locals()), as_json=as_json)


@app.command(sort_key=4)
def resolve(
    row: str,
    /,
    *,
    id: Annotated[str | None, Parameter(name="--id", help="The prediction that the dashboard shows for it.")] = None,  # noqa: A002 - the flag's own name
    abandon: Annotated[bool, Parameter(help="The dashboard shows none: it was never charged.", negative="")] = False,
    as_json: Json = False,
) -> int:
    """Settle an `unknown` ROW: its identity (or the first eight characters), its id, or RUN:NUMBER."""
    from reelsheet.cli.books import settle

    return settle(row, prediction_id=id, abandon=abandon, as_json=as_json)


@app.command(sort_key=5)
def status(
    run_id: Annotated[str | None, Parameter(name="RUN")] = None,
    /,
    *,
    as_json: Json = False,
) -> int:
    """What a run (the latest) has done, spent and lost so far, also while it runs."""
    from reelsheet.cli.books import show_status

    return show_status(run_id, as_json=as_json)


@app.command(sort_key=6)
def report(
    run_id: Annotated[str, Parameter(name="RUN")],
    /,
    *,
    results: Results = None,
    as_json: Json = False,
) -> int:
    """Write a run's results and gallery anew, from the ledger's truth."""
    from reelsheet.cli.books import rebuild

    return rebuild(run_id, results=results, as_json=as_json)


@app.command(sort_key=7)
def sandbox(
    *,
    port: int = 8780,
    s3_port: int = 8781,
    latency: float = 5.0,
    latency_sigma: float = 0.0,
    capacity: int | None = None,
    per_minute: int | None = None,
    fail_rate: float = 0.0,
    clips: str = "real",
    state: str | None = None,
    mirror: str | None = None,
) -> int:
    """Serve a stand-in for the provider, and a simulated S3, on this machine."""
    from reelsheet.cli.demo import serve

    return serve(locals())


@app.command(sort_key=8)
def init(folder: str = ".", /) -> int:
    """Write a starter manifest, .env and README into an empty folder."""
    from reelsheet.cli.starter import write_starter

    return write_starter(folder)


@app.command(sort_key=9)
def doctor(*, to: To = None, as_json: Json = False) -> int:
    """What is configured, reachable and writable, and what to do about what is not."""
    from reelsheet.cli.checkup import examine

    return examine(to, as_json=as_json)
