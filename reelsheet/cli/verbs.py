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
    suppress_keyboard_interrupt=False,  # `call` has a sentence for it
    default_parameter=Parameter(show_default=False, negative=""),
)

_MONEY = Group("Money", sort_key=1)
_PACE = Group("Pace", sort_key=2)
_SHEET = Group("Sheet", sort_key=3)
_OUT = Group("Output", sort_key=4)

Manifest = Annotated[
    str,
    Parameter(
        name="MANIFEST", help="A CSV or Excel file, s3://bucket/key, an https:// address or a Google Sheets link."
    ),
]
To = Annotated[str | None, Parameter(metavar="DEST", help="Where the clips go: s3://bucket/prefix or a folder.")]
Results = Annotated[str | None, Parameter(metavar="FILE", help="Write the results table here as well.", group=_OUT)]
MaxCost = Annotated[
    str | None,
    Parameter(name="--max-cost", metavar="USD", help="The most that this run may spend.", group=_MONEY),
]
Limit = Annotated[int | None, Parameter(metavar="N", help="Only the first N rows that need work.", group=_MONEY)]
Concurrency = Annotated[
    int | None,
    Parameter(
        metavar="N", help="At most N predictions in flight; without it, as many as the account allows.", group=_PACE
    ),
]
Deadline = Annotated[
    float, Parameter(metavar="SECONDS", help="How long to wait for one prediction; 1800 without it.", group=_PACE)
]
Fresh = Annotated[bool, Parameter(help="Pay again, once, for rows that were paid for before.", group=_MONEY)]
RetryUnknown = Annotated[
    bool,
    Parameter(help="Submit rows again whose answer was lost; they may then be charged twice.", group=_MONEY),
]
Yes = Annotated[
    bool, Parameter(name=["--yes", "-y"], help="Spend up to the plan's total without asking.", group=_MONEY)
]
Json = Annotated[bool, Parameter(name="--json", help="The summary as one JSON object on stdout.", group=_OUT)]
NoPreflight = Annotated[bool, Parameter(name="--no-preflight", help="Do not look at the pictures first.", group=_SHEET)]
Name = Annotated[
    str | None,
    Parameter(metavar="TEMPLATE", help="How the clips are called, such as {campaign}/{sku}.", group=_OUT),
]
Sheet = Annotated[
    str | None, Parameter(metavar="NAME", help="The sheet of a workbook; without it, the first.", group=_SHEET)
]
ImageColumn = Annotated[
    str | None, Parameter(metavar="NAME", help="The column with the pictures' addresses.", group=_SHEET)
]
PromptColumn = Annotated[str | None, Parameter(metavar="NAME", help="The column with the prompts.", group=_SHEET)]
IdColumn = Annotated[str | None, Parameter(metavar="NAME", help="The column that names the rows.", group=_SHEET)]


@app.command(sort_key=4)
def run(
    manifest: Manifest,
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

    It shows the plan and asks before it spends. Without a terminal it wants --yes or --max-cost.
    The same command again goes on where an earlier one stopped, and pays for nothing twice.
    """
    from reelsheet.cli.execute import execute, options_of

    return execute(options_of("run", manifest, locals()), yes=yes, as_json=as_json)


@app.command(sort_key=5)
def retry(
    results_of: Annotated[
        str, Parameter(name="RESULTS", help="A results file, a run's id, or a destination: its latest run.")
    ],
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
    """Try again what did not succeed, as cheaply as can be.

    Paid clips are copied or collected again at no cost. Failed and skipped rows, and rows whose review cell
    says redo, are paid for.
    """
    from reelsheet.cli.execute import execute, options_of

    return execute(options_of("retry", results_of, locals()), yes=yes, as_json=as_json)


@app.command(sort_key=3)
def plan(
    manifest: Manifest,
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
    """Check every row, and say what a run would do and cost.

    It looks at every picture, spends nothing and needs no key. The exit code is 0 whatever it finds, and 2
    where the manifest cannot be read.
    """
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
    """The whole job on a sandbox: no account, nothing charged.

    The clips, the results and the gallery are then in ./out.
    """
    from reelsheet.cli.demo import demonstrate
    from reelsheet.cli.execute import options_of

    return demonstrate(options_of("run", "out/manifest.csv", locals()), as_json=as_json)


@app.command(sort_key=8)
def resolve(
    row: Annotated[
        str, Parameter(name="ROW", help="Its identity or the first eight characters, a prediction's id, or RUN:NUMBER.")
    ],
    /,
    *,
    id: Annotated[  # noqa: A002 - the flag's own name
        str | None, Parameter(name="--id", metavar="PREDICTION", help="The dashboard shows this prediction for it.")
    ] = None,
    abandon: Annotated[bool, Parameter(help="The dashboard shows none: it was never charged.")] = False,
    as_json: Json = False,
) -> int:
    """Settle a row that was perhaps charged.

    Look for it in the provider's dashboard, and say what that shows.
    """
    from reelsheet.cli.ledger_commands import settle

    return settle(row, prediction_id=id, abandon=abandon, as_json=as_json)


@app.command(sort_key=6)
def status(
    run_id: Annotated[str | None, Parameter(name="RUN", help="A run's id or its beginning; the latest run.")] = None,
    /,
    *,
    as_json: Json = False,
) -> int:
    """What a run has done, spent and lost, also while it goes on."""
    from reelsheet.cli.ledger_commands import show_status

    return show_status(run_id, as_json=as_json)


@app.command(sort_key=7)
def report(
    run_id: Annotated[str, Parameter(name="RUN", help="A run's id or its beginning.")],
    /,
    *,
    results: Results = None,
    as_json: Json = False,
) -> int:
    """Write a run's results and gallery anew, with fresh links."""
    from reelsheet.cli.ledger_commands import rebuild

    return rebuild(run_id, results=results, as_json=as_json)


@app.command(sort_key=9)
def sandbox(
    *,
    port: Annotated[int, Parameter(help="Of the provider's API; 8780 without it, 0 is a free one.")] = 8780,
    s3_port: Annotated[int, Parameter(metavar="PORT", help="Of the simulated S3; 8781 without it.")] = 8781,
    latency: Annotated[float, Parameter(metavar="SECONDS", help="How long a clip takes; 5 without it.")] = 5.0,
    latency_sigma: Annotated[float, Parameter(metavar="SIGMA", help="Spread of a log-normal latency.")] = 0.0,
    capacity: Annotated[int | None, Parameter(metavar="N", help="At most N in flight, beyond that 429.")] = None,
    per_minute: Annotated[
        int | None, Parameter(metavar="N", help="At most N accepted a minute, beyond that 429.")
    ] = None,
    fail_rate: Annotated[float, Parameter(metavar="SHARE", help="Share of the predictions that fail, 0 to 1.")] = 0.0,
    clips: Annotated[
        str, Parameter(metavar="KIND", help="real: made from the picture; tiny: one small clip.")
    ] = "real",
    state: Annotated[
        str | None, Parameter(metavar="FOLDER", help="Predictions and books outlive the process here.")
    ] = None,
    mirror: Annotated[
        str | None, Parameter(metavar="FOLDER", help="The simulated S3's objects as plain files.")
    ] = None,
) -> int:
    """Serve a stand-in for the provider and a simulated S3.

    For people who develop against them; Ctrl-C ends it.
    """
    flags = dict(locals())  # before the import puts another name beside them
    from reelsheet.cli.demo import serve

    serve(flags)


@app.command(sort_key=1)
def init(
    folder: Annotated[str, Parameter(name="FOLDER", help="Made where there is none; without it, this folder.")] = ".", /
) -> int:
    """Write a starter manifest, .env and README.

    What is there already stays as it is.
    """
    from reelsheet.cli.init import write_starter

    return write_starter(folder)


@app.command(sort_key=2)
def doctor(
    *,
    to: To = None,
    as_json: Annotated[bool, Parameter(name="--json", help="What was found as one JSON object.")] = False,
) -> int:
    """Find what is wrong with the setup, and what mends it.

    It looks at settings, key, S3, clock, ledger, Prefect, disk and notifications.

    It spends nothing. With --to it also writes, reads and deletes a small object there. Exit code 2 where a run
    could not work, else 0.
    """
    from reelsheet.cli.doctor import examine

    return examine(to, as_json=as_json)
