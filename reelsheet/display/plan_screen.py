"""The plan: what a run would pay for, reuse and leave alone, for people on one screen and for scripts as one object."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from reelsheet.display.terminal import about, counted, length, safe, show
from reelsheet.ledger import VACANT, State
from reelsheet.ledger.pace_history import ObservedPace
from reelsheet.manifest.rows import Row
from reelsheet.money import dollars
from reelsheet.outcomes import ErrorCode
from reelsheet.planning.plan import RowGroup, Step, object_key
from reelsheet.provider.client import KeyState

if TYPE_CHECKING:
    from reelsheet.planning.preparation import Preparation

PROBLEMS_SHOWN: Final = 8
WARNINGS_SHOWN: Final = 6
EXAMPLES: Final = 3
ROWS_IN_JSON: Final = 20  # of one warning
_NUMBERS: Final = re.compile(r"\d[\d,.]*|'[^']*'")


class Problem(NamedTuple):
    """A row that cannot work, and why."""

    row: Row
    error: str


@dataclass(slots=True)
class WarningKind:
    """Warnings that differ in numbers only: the text of the first, and the rows that have one (none: the sheet)."""

    text: str
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the plan comes to. The counts are clips; with the duplicates they add up to the rows."""

    pay: int
    poll: int
    copy: int
    reuse: int
    failed: int
    unknown: int
    left_alone: int  # beside the failed and the unknown ones
    over_limit: int
    duplicates: int
    problems: list[Problem]
    warnings: list[WarningKind]
    price_cents: int
    cost_cents: int
    cap_cents: int
    day_cap_cents: int | None
    day_left_cents: int | None
    pace: ObservedPace | None
    eta_s: float | None
    names: list[str]

    @property
    def affordable(self) -> int:
        """How many of `pay` fit under the tighter of the two caps at the expected price."""
        if not self.price_cents:
            return self.pay
        left_cents = self.cap_cents if self.day_left_cents is None else min(self.cap_cents, self.day_left_cents)
        return max(0, min(self.pay, left_cents // self.price_cents))


def facts(prepared: "Preparation") -> Facts:
    """Everything that the screen and the JSON say, counted once."""
    plan, options = prepared.plan, prepared.options
    steps: dict[Step, list[RowGroup]] = {step: [] for step in Step}
    over_limit = 0
    for group in plan.groups.values():
        if group.error_code == ErrorCode.OVER_LIMIT:
            over_limit += 1
        else:
            steps[group.step].append(group)
    states = [group.history.latest.state for group in steps[Step.REPORT] if group.history is not None]
    failed, unknown = states.count(State.FAILED), states.count(State.UNKNOWN) + states.count(State.CLAIMED)
    problems = [Problem(row, " ".join(row.problems)) for row in plan.invalid]
    problems += [Problem(group.row, group.error) for group in steps[Step.REFUSE]]
    pace = prepared.ledger.observed_pace()
    pay = steps[Step.SUBMIT]
    day_cap_cents = prepared.settings.daily_cap_cents
    return Facts(
        pay=len(pay),
        poll=len(steps[Step.POLL]),
        copy=len(steps[Step.COPY]),
        reuse=len(steps[Step.DONE]),
        failed=failed,
        unknown=unknown,
        left_alone=len(steps[Step.REPORT]) - failed - unknown,
        over_limit=over_limit,
        duplicates=plan.duplicates,
        problems=sorted(problems, key=lambda problem: problem.row.position),
        warnings=list(_warning_kinds(prepared)),
        price_cents=plan.price_cents,
        cost_cents=plan.cost_cents,
        cap_cents=prepared.cap_cents,
        day_cap_cents=day_cap_cents,
        day_left_cents=None if day_cap_cents is None else max(0, day_cap_cents - _spent_today_cents(prepared)),
        pace=pace,
        eta_s=pace.estimate_s(len(pay), options.concurrency) if pace is not None else None,
        names=[object_key(options, plan.manifest, group, _next_attempt(group), 0) for group in pay[:EXAMPLES]],
    )


def _warning_kinds(prepared: "Preparation") -> Iterator[WarningKind]:
    """Those of the sheet and the destination first, then those of rows that are not delivered yet."""
    plan = prepared.plan
    for text in dict.fromkeys((*plan.manifest.warnings, *plan.notes)):
        yield WarningKind(text)
    kinds: dict[str, WarningKind] = {}
    for group in plan.groups.values():
        own = group.row.warnings if group.step not in {Step.DONE, Step.REPORT} else ()
        for text in (*own, *group.warnings):
            kinds.setdefault(_NUMBERS.sub("#", text), WarningKind(text)).rows.append(group.row)
    yield from sorted(kinds.values(), key=lambda kind: -len(kind.rows))


def _next_attempt(group: RowGroup) -> int:
    """The number of the attempt that would be paid for; one that cost nothing is repeated under its number."""
    if group.history is None:
        return 1
    latest = group.history.latest
    return latest.number if latest.state in VACANT else latest.number + 1


def _spent_today_cents(prepared: "Preparation") -> int:
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    return next((total.spent_cents for total in prepared.ledger.days(1) if total.day == today), 0)


def plan_json(prepared: "Preparation") -> dict[str, Any]:
    """The plan as one object; money in US dollars. pay to invalid, with duplicates and limited, add up to rows."""
    plan = facts(prepared)
    return {
        "manifest": prepared.plan.manifest.source,
        "destination": prepared.destination.address if prepared.destination else None,
        "rows": len(prepared.plan.manifest.rows),
        "pay": plan.pay,
        "poll": plan.poll,
        "copy": plan.copy,
        "reuse": plan.reuse,
        "report": plan.failed + plan.unknown + plan.left_alone,
        "duplicates": plan.duplicates,
        "invalid": len(plan.problems),
        "limited": plan.over_limit,
        "failed": plan.failed,
        "unknown": plan.unknown,
        "price_usd": plan.price_cents / 100,
        "cost_usd": plan.cost_cents / 100,
        "cap_usd": plan.cap_cents / 100,
        "daily_cap_left_usd": None if plan.day_left_cents is None else plan.day_left_cents / 100,
        "left_out": plan.pay - plan.affordable,
        "eta_seconds": None if plan.eta_s is None else round(plan.eta_s, 1),
        "seconds_per_clip": None if plan.pace is None else round(plan.pace.prediction_s, 1),
        "at_once": None if plan.pace is None else plan.pace.most_in_flight,
        "key": str(prepared.key.state),
        "names": plan.names,
        "warnings": [
            {"warning": kind.text, "count": len(kind.rows), "rows": [row.name for row in kind.rows[:ROWS_IN_JSON]]}
            for kind in plan.warnings
        ],
        "problems": [{"row": row.name, "line": row.line, "error": error} for row, error in plan.problems],
    }


def show_plan(prepared: "Preparation", stream: IO[str] | None = None) -> None:
    """The plan on one screen of `stream`, by default stderr."""
    plan = facts(prepared)
    parts: list[RenderableType] = [_title(prepared), Text(), _counts(prepared, plan)]
    if plan.problems:
        parts += [Text(), _problems(plan.problems)]
    if plan.warnings:
        parts += [Text(), _warnings(plan.warnings)]
    show(Group(*parts, Text(), _figures(prepared, plan), Text()), stream)


def _title(prepared: "Preparation") -> Text:
    title = Text(style="bold")
    title.append_text(safe(prepared.plan.manifest.source))
    title.append(f": {counted(len(prepared.plan.manifest.rows), 'row')}")
    if prepared.destination is not None:
        title.append(" → ").append_text(safe(prepared.destination.address))
    return title


def _counts(prepared: "Preparation", plan: Facts) -> Table:
    lines = (
        (plan.pay, "to pay for", "bold", ""),
        (plan.poll, "paid for already, to be fetched", "", "no cost"),
        (plan.copy, "made already, to be copied", "", "no cost"),
        (plan.reuse, "delivered already", "", "no cost"),
        (plan.duplicates, "the same as an earlier row", "", "paid for once, delivered to each"),
        (plan.failed, "failed before, left alone", "yellow", "`reelsheet retry` pays for another attempt"),
        (plan.unknown, "may have been charged, left alone", "yellow", "`reelsheet resolve` settles it"),
        (plan.left_alone, "left alone", "", ""),
        (plan.over_limit, "left out", "", f"--limit {prepared.options.limit}"),
        (len(plan.problems), "cannot work", "red", "costs nothing"),
    )
    table = Table.grid(Column(justify="right"), Column(), Column(overflow="fold", style="dim"), padding=(0, 2))
    for count, words, style, note in lines:
        if count:
            table.add_row(Text(f"  {count:,}", style=style), Text(words, style=style), note)
    if not table.row_count:
        table.add_row("  0", "no rows", "")
    return table


def _problems(problems: list[Problem]) -> RenderableType:
    table = _list()
    for row, error in problems[:PROBLEMS_SHOWN]:
        name = safe(row.name)
        if row.id:
            name.truncate(18, overflow="ellipsis")
            name.append(f" (line {row.line})", style="dim")
        table.add_row(Padding(name, (0, 0, 0, 2)), safe(error))
    if len(problems) > PROBLEMS_SHOWN:
        table.add_row("", Text(f"and {len(problems) - PROBLEMS_SHOWN:,} more; --json lists all of them", style="dim"))
    return Group(Text("Cannot work", style="red"), table)


def _warnings(kinds: list[WarningKind]) -> RenderableType:
    table = _list()
    for kind in kinds[:WARNINGS_SHOWN]:
        text = safe(kind.text)
        if kind.rows:
            names = ", ".join(row.name for row in kind.rows[:EXAMPLES])
            more = f" and {len(kind.rows) - EXAMPLES:,} more" if len(kind.rows) > EXAMPLES else ""
            text.append(" ").append_text(safe(f"({names}{more})", "dim"))
        table.add_row(Text(f"  {len(kind.rows):,} \u00d7" if kind.rows else "  all"), text)
    if len(kinds) > WARNINGS_SHOWN:
        table.add_row("", Text(f"and {len(kinds) - WARNINGS_SHOWN:,} more kinds; --json lists them", style="dim"))
    return Group(Text("Warnings", style="yellow"), table)


def _list() -> Table:
    """A name or a count, and a text that may take several lines."""
    first = Column(max_width=30, overflow="ellipsis", no_wrap=True)
    return Table.grid(first, Column(overflow="fold"), padding=(0, 2))


def _figures(prepared: "Preparation", plan: Facts) -> Table:
    table = Table.grid(Column(style="bold"), Column(overflow="fold"), padding=(0, 2))
    table.add_row("Cost", _cost(prepared, plan))
    if plan.day_cap_cents is not None and plan.day_left_cents is not None:
        text = f"{dollars(plan.day_left_cents)} left of the day's {dollars(plan.day_cap_cents)}"
        table.add_row("Today", Text(text, style="red" if plan.pay and plan.day_left_cents < plan.price_cents else ""))
    if plan.pay:
        table.add_row("Time", _time(prepared, plan))
        names = ", ".join(plan.names[: 2 if plan.pay > 1 else 1]) + (", …" if plan.pay > 2 else "")
        table.add_row("Names", safe(names))
    if prepared.key.state is KeyState.REFUSED:
        table.add_row("Key", Text("the provider refuses it; check VIBEDREAM_API_KEY", style="red"))
    return table


def _cost(prepared: "Preparation", plan: Facts) -> Text:
    if not plan.pay:
        return Text("nothing to pay for")
    text = Text(dollars(plan.cost_cents), style="bold")
    text.append(f" ({plan.pay:,} \u00d7 {dollars(plan.price_cents)})", style="not bold")
    if prepared.options.max_cost_usd is not None:
        text.append(f", --max-cost {dollars(plan.cap_cents)}", style="not bold")
    if plan.affordable < plan.pay:
        first = f"the first {plan.affordable:,}" if plan.affordable else "none"
        text.append(f"; pays for {first} of {counted(plan.pay, 'row')}", style="yellow")
    return text


def _time(prepared: "Preparation", plan: Facts) -> str:
    if plan.pace is None:
        return "not known yet; the first clips will tell"
    seconds = plan.pace.estimate_s(plan.affordable or plan.pay, prepared.options.concurrency)
    pace = f"{length(plan.pace.prediction_s)} a clip, {plan.pace.most_in_flight:,} at once"
    return f"{about(seconds)} at the pace so far ({pace})"
