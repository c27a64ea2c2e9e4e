"""The plan: what a run would pay, reuse and leave, for people on one screen and for scripts as one object."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
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

FIRST_PROBLEMS: Final = 8
FIRST_WARNINGS: Final = 6
EXAMPLES: Final = 3
_NUMBERS: Final = re.compile(r"\d[\d,.]*|'[^']*'")


@dataclass(slots=True)
class Caution:
    """One kind of warning, in the words of its first row, and the rows that have it (none: the whole sheet)."""

    text: str
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the plan comes to. Counts of PAY to REFUSE are clips, so that with duplicates they add up to the rows."""

    pay: int
    poll: int
    copy: int
    reuse: int
    failed: int
    unknown: int
    left: int  # others that nothing is done for
    limited: int
    duplicates: int
    problems: list[tuple[Row, str]]
    cautions: list[Caution]
    price_cents: int
    cost_cents: int
    cap_cents: int
    day_cap_cents: int | None
    day_spent_cents: int
    pace: ObservedPace | None
    eta_seconds: float | None
    names: list[str]

    @property
    def payable(self) -> int:
        """How many of `pay` fit under the caps at the expected price."""
        if not self.price_cents:
            return self.pay
        return max(0, min(self.pay, self.room_cents // self.price_cents))

    @property
    def room_cents(self) -> int:
        """What the tighter of the two caps leaves."""
        return self.cap_cents if self.day_left_cents is None else min(self.cap_cents, self.day_left_cents)

    @property
    def day_left_cents(self) -> int | None:
        return None if self.day_cap_cents is None else max(0, self.day_cap_cents - self.day_spent_cents)


def facts(prepared: "Preparation") -> Facts:
    """Everything that the screen and the JSON say, counted once."""
    plan, options = prepared.plan, prepared.options
    steps: dict[Step, list[RowGroup]] = {step: [] for step in Step}
    limited = 0
    for group in plan.groups.values():
        if group.error_code == ErrorCode.OVER_LIMIT:
            limited += 1
        else:
            steps[group.step].append(group)
    report = [group.history.latest.state for group in steps[Step.REPORT] if group.history is not None]
    failed, unknown = report.count(State.FAILED), report.count(State.UNKNOWN) + report.count(State.CLAIMED)
    pace = prepared.ledger.observed_pace()
    pay = steps[Step.SUBMIT]
    day_cap = prepared.settings.daily_cap_cents
    return Facts(
        pay=len(pay),
        poll=len(steps[Step.POLL]),
        copy=len(steps[Step.COPY]),
        reuse=len(steps[Step.DONE]),
        failed=failed,
        unknown=unknown,
        left=len(steps[Step.REPORT]) - failed - unknown,
        limited=limited,
        duplicates=plan.duplicates,
        problems=_problems(plan.invalid, steps[Step.REFUSE]),
        cautions=list(_cautions(prepared)),
        price_cents=plan.price_cents,
        cost_cents=plan.cost_cents,
        cap_cents=prepared.cap_cents,
        day_cap_cents=day_cap,
        day_spent_cents=_spent_today(prepared) if day_cap is not None else 0,
        pace=pace,
        eta_seconds=pace.estimate_s(len(pay), options.concurrency) if pace is not None else None,
        names=[object_key(options, plan.manifest, group, _next_attempt(group), 0) for group in pay[:EXAMPLES]],
    )


def plan_json(prepared: "Preparation") -> dict[str, Any]:
    """The plan as one object; money in US dollars. pay to invalid, with duplicates and limited, add up to rows."""
    found = facts(prepared)
    left = found.day_left_cents
    return {
        "manifest": prepared.plan.manifest.source,
        "destination": prepared.destination.address if prepared.destination else None,
        "rows": len(prepared.plan.manifest.rows),
        "pay": found.pay,
        "poll": found.poll,
        "copy": found.copy,
        "reuse": found.reuse,
        "report": found.failed + found.unknown + found.left,
        "duplicates": found.duplicates,
        "invalid": len(found.problems),
        "limited": found.limited,
        "failed": found.failed,
        "unknown": found.unknown,
        "price_usd": found.price_cents / 100,
        "cost_usd": found.cost_cents / 100,
        "cap_usd": found.cap_cents / 100,
        "daily_cap_left_usd": None if left is None else left / 100,
        "left_out": found.pay - found.payable,
        "eta_seconds": None if found.eta_seconds is None else round(found.eta_seconds, 1),
        "seconds_per_clip": None if found.pace is None else round(found.pace.prediction_s, 1),
        "at_once": None if found.pace is None else found.pace.most_in_flight,
        "key": str(prepared.key.state),
        "names": found.names,
        "warnings": [
            {"warning": caution.text, "count": len(caution.rows), "rows": [row.name for row in caution.rows[:20]]}
            for caution in found.cautions
        ],
        "problems": [{"row": row.name, "line": row.line, "error": error} for row, error in found.problems],
    }


def show_plan(prepared: "Preparation", stream: IO[str] | None = None) -> None:
    """The plan on one screen of `stream`, by default stderr."""
    show(_screen(prepared, facts(prepared)), stream)


def _screen(prepared: "Preparation", found: Facts) -> RenderableType:
    parts: list[RenderableType] = [_title(prepared), Text(), _counts(prepared, found)]
    if found.problems:
        parts += [Text(), _listed_problems(found.problems)]
    if found.cautions:
        parts += [Text(), _listed_cautions(found.cautions)]
    return Group(*parts, Text(), _figures(prepared, found), Text())


def _title(prepared: "Preparation") -> Text:
    told = Text(style="bold")
    told.append_text(safe(prepared.plan.manifest.source))
    told.append(f": {counted(len(prepared.plan.manifest.rows), 'row')}")
    if prepared.destination is not None:
        told.append(" → ").append_text(safe(prepared.destination.address))
    return told


def _counts(prepared: "Preparation", found: Facts) -> Table:
    retry = "`reelsheet retry` pays for another try"
    lines = (
        (found.pay, "to pay for", "bold", ""),
        (found.poll, "paid for already, to be collected", "", "no cost"),
        (found.copy, "made already, to be copied", "", "no cost"),
        (found.reuse, "delivered already", "", "no cost"),
        (found.duplicates, "the same as an earlier row", "", "paid for once, delivered to each"),
        (found.failed, "failed before, left alone", "yellow", retry),
        (found.unknown, "perhaps paid for, left alone", "yellow", "`reelsheet resolve` settles it"),
        (found.left, "left alone", "", ""),
        (found.limited, "left out", "", f"--limit {prepared.options.limit}"),
        (len(found.problems), "cannot work", "red", "costs nothing"),
    )
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column()
    table.add_column(style="dim", overflow="fold")
    for count, words, style, note in lines:
        if count:
            table.add_row(Text(f"  {count:,}", style=style), Text(words, style=style), note)
    if not table.row_count:
        table.add_row("  0", "no rows", "")
    return table


def _listed_problems(problems: Sequence[tuple[Row, str]]) -> RenderableType:
    table = _hanging()
    for row, error in problems[:FIRST_PROBLEMS]:
        table.add_row(_named(row), safe(error))
    if len(problems) > FIRST_PROBLEMS:
        table.add_row("", Text(f"and {len(problems) - FIRST_PROBLEMS:,} more; --json lists all of them", style="dim"))
    return Group(Text("Cannot work", style="red"), table)


def _listed_cautions(cautions: Sequence[Caution]) -> RenderableType:
    table = _hanging()
    for caution in cautions[:FIRST_WARNINGS]:
        told = safe(caution.text)
        if caution.rows:
            few = ", ".join(row.name for row in caution.rows[:EXAMPLES])
            more = f" and {len(caution.rows) - EXAMPLES:,} more" if len(caution.rows) > EXAMPLES else ""
            told.append(" ").append_text(safe(f"({few}{more})", "dim"))
        table.add_row(Text(f"  {len(caution.rows):,} \u00d7" if caution.rows else "  all"), told)
    if len(cautions) > FIRST_WARNINGS:
        table.add_row("", Text(f"and {len(cautions) - FIRST_WARNINGS:,} more kinds; --json lists them", style="dim"))
    return Group(Text("To look at before you pay", style="yellow"), table)


def _hanging() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=30, overflow="ellipsis", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _named(row: Row) -> Padding:
    named = safe(row.name)
    if row.id:
        named.truncate(18, overflow="ellipsis")
        named.append(f" (line {row.line})", style="dim")
    return Padding(named, (0, 0, 0, 2))


def _figures(prepared: "Preparation", found: Facts) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, told in _sentences(prepared, found):
        table.add_row(name, told)
    return table


def _sentences(prepared: "Preparation", found: Facts) -> Iterator[tuple[str, Text]]:
    yield "Cost", _cost(prepared, found)
    if found.day_cap_cents is not None and found.day_left_cents is not None:
        told = f"{dollars(found.day_left_cents)} left of the day's {dollars(found.day_cap_cents)}"
        yield "Today", Text(told, style="red" if found.pay and found.day_left_cents < found.price_cents else "")
    if found.pay:
        yield "Time", Text(_time(prepared, found))
        shown = ", ".join(found.names[: 2 if found.pay > 1 else 1]) + (", …" if found.pay > 2 else "")
        yield "Names", safe(shown)
    if prepared.key.state is KeyState.REFUSED:
        yield "Key", Text("the provider refuses it; check VIBEDREAM_API_KEY", style="red")


def _cost(prepared: "Preparation", found: Facts) -> Text:
    if not found.pay:
        return Text("nothing to pay for")
    told = Text(f"{dollars(found.cost_cents)}", style="bold")
    told.append(f" ({found.pay:,} \u00d7 {dollars(found.price_cents)})", style="not bold")
    if prepared.options.max_cost_usd is not None:
        told.append(f", --max-cost {dollars(found.cap_cents)}", style="not bold")
    if found.payable < found.pay:
        first = f"the first {found.payable:,}" if found.payable else "none"
        told.append(f"; pays for {first} of {counted(found.pay, 'row')}", style="yellow")
    return told


def _time(prepared: "Preparation", found: Facts) -> str:
    if found.pace is None or found.eta_seconds is None:
        return "not known yet; the first clips will tell"
    seconds = found.pace.estimate_s(found.payable or found.pay, prepared.options.concurrency)
    pace = f"{length(found.pace.prediction_s)} a clip, {found.pace.most_in_flight:,} at once"
    return f"{about(seconds)} at the pace seen so far ({pace})"


def _problems(invalid: Sequence[Row], refused: Sequence[RowGroup]) -> list[tuple[Row, str]]:
    """In the order of the sheet."""
    found = [(row, " ".join(row.problems)) for row in invalid]
    found += [(group.row, group.error) for group in refused]
    return sorted(found, key=lambda problem: problem[0].position)


def _cautions(prepared: "Preparation") -> Iterator[Caution]:
    """The sheet's and the destination's first, then those of rows that are not delivered yet, by kind."""
    plan = prepared.plan
    for text in dict.fromkeys((*plan.manifest.warnings, *plan.notes)):
        yield Caution(text)
    kinds: dict[str, Caution] = {}
    for group in plan.groups.values():
        own = group.row.warnings if group.step not in {Step.DONE, Step.REPORT} else ()
        for text in (*own, *group.warnings) if own or group.warnings else ():
            kinds.setdefault(_NUMBERS.sub("#", text), Caution(text)).rows.append(group.row)
    yield from sorted(kinds.values(), key=lambda caution: -len(caution.rows))


def _next_attempt(group: RowGroup) -> int:
    """The number of the attempt that would be paid for; one that cost nothing is taken up again."""
    if group.history is None:
        return 1
    latest = group.history.latest
    return latest.number if latest.state in VACANT else latest.number + 1


def _spent_today(prepared: "Preparation") -> int:
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    return next((total.spent_cents for total in prepared.ledger.days(1) if total.day == today), 0)
