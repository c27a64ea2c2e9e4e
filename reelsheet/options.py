"""What can be asked of a run. Each option's name, type, bounds and sentence are written here, and nowhere else.

The flags of the command line (`reelsheet.cli.verbs`) and the parameters of the flows (`flows.form`) are made from
these fields. cyclopts is light: pydantic would take half of the time that `--help` may take.
"""

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from reelsheet.redaction import clean_url, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cyclopts import Token

MONEY: Final = Group("Money", sort_key=1)
PACE: Final = Group("Pace", sort_key=2)
SHEET: Final = Group("Sheet", sort_key=3)
OUTPUT: Final = Group("Output", sort_key=4)
NOT_FLOW_PARAMETERS: Final = frozenset({"verb", "source", "destination", "results"})  # flows name their own


def flag(help: str, group: Group, value: str | None = None, **more: Any) -> Parameter:  # noqa: A002 - as cyclopts has it
    """A flag with its sentence; `value` stands for what is written after it."""
    return Parameter(help=help, group=group, metavar=value, **more)


def _dollars(_: object, tokens: "Sequence[Token]") -> float:
    from reelsheet.errors import UsageError
    from reelsheet.money import cents

    if not tokens[0].value.strip():
        raise UsageError("--max-cost has no amount after it. A shell takes $5 for a variable: write --max-cost 5.")
    return cents(tokens[0].value) / 100


def _is_csv(_: object, path: str | None) -> None:
    """A table under a workbook's name opens nowhere, and might overwrite the very sheet that was read.

    What is no file (/dev/null) would be replaced by one.
    """
    from reelsheet.errors import UsageError

    if not path:
        return
    if path.lower().endswith((".xlsx", ".xlsm", ".xls", ".ods")):
        raise UsageError(
            f"--results writes a CSV table: give {visible(path)} a name that ends in .csv. "
            "A workbook, results.xlsx, is in the run's folder."
        )
    place = os.path.expanduser(path)  # noqa: PTH111 - it may be an address, or a name that no disk takes
    if os.path.exists(place) and not os.path.isfile(place):  # noqa: PTH110, PTH113
        raise UsageError(f"--results writes a CSV table: {visible(path)} is no file. Name one, or leave --results out.")


Results = Annotated[str | None, flag("Write the results table here as well.", OUTPUT, "FILE", validator=_is_csv)]


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What `plan` takes."""

    max_cost_usd: Annotated[
        float | None,
        flag("The most that this run may spend, in US dollars; without it, the plan's total.", MONEY, "USD",
             name="--max-cost", converter=_dollars, validator=Number(gte=0, lte=1_000_000)),
    ] = None  # fmt: skip
    limit: Annotated[
        int | None,
        flag("Only N of the rows that need work: first those never tried, then the longest untried.", MONEY, "N",
             validator=Number(gte=1)),
    ] = None  # fmt: skip
    where: Annotated[
        tuple[str, ...],
        flag("Only rows with COLUMN=VALUE or COLUMN!=VALUE, such as campaign=spring; if several, all must hold.", SHEET,
             "COLUMN=VALUE", negative=""),
    ] = ()  # fmt: skip
    prompt: Annotated[
        str | None,
        flag("One prompt for all rows, such as '{product} turns slowly'; {product} is each row's cell in that column.",
             SHEET, "TEXT"),
    ] = None  # fmt: skip
    pictures: Annotated[
        str | None,
        flag("The folder of the picture files that the sheet names; without it, the sheet's own.", SHEET, "FOLDER"),
    ] = None
    encoding: Annotated[
        str | None, flag("A CSV file's encoding, such as cp1250 or shift_jis; without it, it is found.", SHEET, "NAME")
    ] = None
    concurrency: Annotated[
        int | None,
        flag("At most N predictions in flight; without it, as many as the account allows.", PACE, "N",
             validator=Number(gte=1, lte=10_000)),
    ] = None  # fmt: skip
    fresh: Annotated[
        bool, flag("Pay again, once, for rows that were paid for before; the old clips are kept.", MONEY)
    ] = False
    retry_unknown: Annotated[
        bool, flag("Submit rows again whose answer was lost; they may then be charged twice.", MONEY)
    ] = False
    new_run: Annotated[
        bool, flag("Begin another run, even where one of the same command is unfinished; it may pay again.", MONEY)
    ] = False
    preflight: Annotated[
        bool, flag("Check every picture before anything is spent.", SHEET, negative="--no-preflight")
    ] = True
    include_hidden: Annotated[
        bool, flag("Run the hidden rows of a workbook, too; without it, they are left out.", SHEET)
    ] = False
    sheet: Annotated[str | None, flag("The sheet of a workbook; without it, the first.", SHEET, "NAME")] = None
    image_column: Annotated[str | None, flag("The column with the pictures' addresses.", SHEET, "NAME")] = None
    prompt_column: Annotated[str | None, flag("The column with the prompts.", SHEET, "NAME")] = None
    id_column: Annotated[str | None, flag("The column that names the rows.", SHEET, "NAME")] = None
    name: Annotated[str | None, flag("How the clips are named, such as {campaign}/{sku}.", OUTPUT, "TEMPLATE")] = None


@dataclass(frozen=True, kw_only=True)
class RunOptions(PlanOptions):
    """What `run`, `retry` and `demo` take."""

    deadline_seconds: Annotated[
        float,
        flag("How long to wait for one prediction, by default 1800 seconds; a later run can still fetch it.", PACE,
             "SECONDS", name="--deadline", validator=Number(gte=0, lte=86_400)),
    ] = 1800.0  # fmt: skip
    results: Results = None


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """All that a run is asked for. `source` is a manifest, or for `retry` a results file, a run or a destination."""

    verb: str = "run"
    source: str
    destination: str | None = None
    shard_size: Annotated[
        int,
        flag("Rows in one shard; a larger manifest is split into several.", PACE, validator=Number(gte=1, lte=10_000)),
    ] = 2000
    approve_above_usd: Annotated[
        float | None,
        flag("Pause for a person's approval where the plan costs more US dollars than this; without it, never.", MONEY,
             validator=Number(gte=0)),
    ] = None  # fmt: skip

    @classmethod
    def of(cls, verb: str, source: str, destination: str | None, flags: PlanOptions) -> "Options":
        """A command's options."""
        return cls(verb=verb, source=source, destination=destination, **vars(flags))

    @classmethod
    def from_record(cls, recorded: "Mapping[str, Any]", **changes: Any) -> "Options":
        """Options as the ledger keeps them beside other things of the run, with `changes`."""
        names = {option.name for option in fields(cls)}
        kept = {name: value for name, value in recorded.items() if name in names} | changes
        return cls(**kept | {"where": tuple(kept.get("where") or ())})

    def shown(self) -> "Options":
        """These options as they may be kept: a web address without its signature."""
        on_the_web = self.source.strip().lower().startswith(("http://", "https://"))
        return replace(self, source=clean_url(self.source)) if on_the_web else self

    def for_flow(self) -> "Options":
        """These options as a flow gets them from the command line: without a signature, and without --results."""
        return replace(self.shown(), results=None)

    def flow_parameters(self) -> dict[str, Any]:
        """What the flows take beside the source and the destination, by name."""
        return {name: value for name, value in vars(self).items() if name not in NOT_FLOW_PARAMETERS}
