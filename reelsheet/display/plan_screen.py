"""The plan: what a run would pay for, reuse and leave alone, for people on one screen and for scripts as one object."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from reelsheet.display.terminal import safe, show
from reelsheet.ledger import VACANT, State
from reelsheet.ledger.pace_history import ObservedPace
from reelsheet.manifest.rows import Row
from reelsheet.money import dollars
from reelsheet.outcomes import ErrorCode, iso, utc
from reelsheet.planning.plan import RowGroup, Step, object_key
from reelsheet.provider.client import KeyState
from reelsheet.redaction import clean
from reelsheet.words import about, counted, length, listed

if TYPE_CHECKING:
    from reelsheet.planning.preparation import Preparation

PROBLEMS_SHOWN: Final = 8
WARNINGS_SHOWN: Final = 6
EXAMPLES: Final = 3
PROMPT_SHOWN: Final = 400  # characters of a rendered prompt
ROWS_IN_JSON: Final = 20  # of one warning
_ENDINGS: Final = {None: "was killed", 3: "stopped early", 4: "stopped at a cap"}  # of unfinished runs, by exit code
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
    """What the plan comes to, counted once for the screen and the JSON. The counts are clips."""

    pay: int
    poll: int
    copy: int
    reuse: int
    failed: int
    unknown: int
    left_alone: int  # beside the failed and the unknown ones
    over_limit: int
    problems: list[Problem]
    warnings: list[WarningKind]
    affordable: int  # of `pay`, under the tighter of the two caps
    pace: ObservedPace | None
    eta_s: float | None  # for what is affordable
    names: list[str]
    prompts: list[tuple[Row, str]]  # that a template made, of rows to be paid for


def facts_of(prepared: "Preparation") -> Facts:
    plan, options = prepared.plan, prepared.options
    steps: dict[Step, list[RowGroup]] = {step: [] for step in Step}
    over_limit = 0
    for group in plan.groups.values():
        if group.error_code == ErrorCode.OVER_LIMIT:
            over_limit += 1
        elif not group.is_skipped:
            steps[group.step].append(group)
    states = [group.history.latest.state for group in steps[Step.REPORT] if group.history is not None]
    failed, unknown = states.count(State.FAILED), states.count(State.UNKNOWN) + states.count(State.CLAIMED)
    problems = [Problem(row, " ".join(row.problems)) for row in plan.invalid]
    problems += [Problem(group.row, group.error) for group in steps[Step.REFUSE]]
    pace = prepared.ledger.observed_pace(is_play_money=prepared.settings.is_play_money)
    pay, affordable = steps[Step.SUBMIT], prepared.affordable
    return Facts(
        pay=len(pay),
        poll=len(steps[Step.POLL]),
        copy=len(steps[Step.COPY]),
        reuse=len(steps[Step.DONE]),
        failed=failed,
        unknown=unknown,
        left_alone=len(steps[Step.REPORT]) - failed - unknown,
        over_limit=over_limit,
        problems=sorted(problems, key=lambda problem: problem.row.position),
        warnings=list(_warning_kinds(prepared)),
        affordable=affordable,
        pace=pace,
        eta_s=pace.estimate_s(affordable or len(pay), options.concurrency) if pace is not None else None,
        names=[object_key(options, plan.manifest, group, _next_attempt(group), 0) for group in pay[:EXAMPLES]],
        prompts=[(group.row, group.row.prompt or "") for group in pay if group.row.is_rendered],
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


def plan_json(prepared: "Preparation") -> dict[str, Any]:
    """The plan as one object; money in US dollars. pay to not_chosen add up to rows."""
    plan, facts, day_left_cents = prepared.plan, facts_of(prepared), prepared.day_left_cents
    left_out_rows, left_out_cents = plan.left_out_rows, plan.left_out_cents
    return {
        "manifest": plan.manifest.source,
        "destination": prepared.destination.address if prepared.destination else None,
        "rows": len(plan.manifest.rows),
        "pay": facts.pay,
        "poll": facts.poll,
        "copy": facts.copy,
        "reuse": facts.reuse,
        "report": facts.failed + facts.unknown + facts.left_alone,
        "duplicates": plan.duplicates,
        "invalid": len(facts.problems),
        "limited": facts.over_limit,
        "hidden": left_out_rows[ErrorCode.HIDDEN],
        "not_chosen": left_out_rows[ErrorCode.NOT_CHOSEN],
        "where": list(prepared.options.where),
        "chosen": plan.chosen_rows,
        "failed": facts.failed,
        "unknown": facts.unknown,
        "price_usd": plan.price_cents / 100,
        "cost_usd": plan.cost_cents / 100,
        "hidden_usd": left_out_cents[ErrorCode.HIDDEN] / 100,
        "not_chosen_usd": left_out_cents[ErrorCode.NOT_CHOSEN] / 100,
        "cap_usd": prepared.cap_cents / 100,
        "daily_cap_left_usd": None if day_left_cents is None else day_left_cents / 100,
        "left_out": facts.pay - facts.affordable,
        "eta_seconds": None if facts.eta_s is None else round(facts.eta_s, 1),
        "seconds_per_clip": None if facts.pace is None else round(facts.pace.prediction_s, 1),
        "at_once": None if facts.pace is None else facts.pace.most_in_flight,
        "key": str(prepared.key.state),
        "continues": _continued_json(prepared),
        "names": facts.names,
        "prompts": [{"row": row.name, "line": row.line, "prompt": prompt} for row, prompt in facts.prompts[:EXAMPLES]],
        "warnings": [
            {"warning": kind.text, "count": len(kind.rows), "rows": [row.name for row in kind.rows[:ROWS_IN_JSON]]}
            for kind in facts.warnings
        ],
        "problems": [{"row": row.name, "line": row.line, "error": error} for row, error in facts.problems],
    }


def show_plan(prepared: "Preparation", stream: IO[str] | None = None) -> None:
    """The plan on one screen of `stream`, by default stderr."""
    if not prepared.plan.manifest.rows:
        show(Group(_title(prepared), *(safe(text) for text in prepared.plan.manifest.warnings), Text()), stream)
        return
    facts = facts_of(prepared)
    parts: list[RenderableType] = [_title(prepared), *_chosen(prepared), *_continued(prepared)]
    parts += [Text(), _counts(prepared, facts)]
    if facts.problems:
        parts += [Text(), _problems(facts.problems)]
    if facts.warnings:
        parts += [Text(), _warnings(facts.warnings)]
    if facts.prompts:
        parts += [Text(), _prompts(facts.prompts)]
    show(Group(*parts, Text(), _figures(prepared, facts), Text()), stream)


def _title(prepared: "Preparation") -> Text:
    title = Text(style="bold")
    title.append_text(safe(prepared.plan.manifest.source))
    title.append(f": {counted(len(prepared.plan.manifest.rows), 'row')}")
    if prepared.destination is not None:
        title.append(" → ").append_text(safe(prepared.destination.address))
    return title


def _chosen(prepared: "Preparation") -> Iterator[Text]:
    """How many rows --where chose."""
    where, rows = prepared.options.where, prepared.plan.manifest.rows
    if where:
        conditions = " and ".join(clean(condition, limit=80) for condition in where)
        yield Text(f"{prepared.plan.chosen_rows:,} of {counted(len(rows), 'row')} chosen by --where {conditions}")


def _continued(prepared: "Preparation") -> Iterator[Text]:
    """Names the unfinished run of the same command."""
    run = prepared.continues
    if run is None:
        return
    ended = "is still running" if run.alive else _ENDINGS.get(run.exit_code, "was interrupted")
    paid = ": what that run paid for is not paid for again" if run.spent_cents else ""
    yield Text(
        f"Continues run {run.run_id} of {utc(run.started_at):%Y-%m-%d %H:%M} UTC, which {ended}{paid}. "
        "--new-run begins another run.",
        style="yellow",
    )


def _continued_json(prepared: "Preparation") -> dict[str, Any] | None:
    run = prepared.continues
    if run is None:
        return None
    return {
        "run_id": run.run_id,
        "started_at": iso(utc(run.started_at)),
        "alive": run.alive,
        "exit_code": run.exit_code,
    }


def _counts(prepared: "Preparation", facts: Facts) -> Table:
    hidden, not_chosen = ErrorCode.HIDDEN, ErrorCode.NOT_CHOSEN
    left_out_rows, left_out_cents = prepared.plan.left_out_rows, prepared.plan.left_out_cents
    lines = (
        (facts.pay, "to pay for", "bold", ""),
        (facts.poll, "paid for already, to be fetched", "", "no cost"),
        (facts.copy, "made already, to be copied", "", "no cost"),
        (facts.reuse, "delivered already", "", "no cost"),
        (prepared.plan.duplicates, "the same as an earlier row", "", "paid for once, delivered to each"),
        (facts.failed, "failed before, left alone", "yellow", "`reelsheet retry` pays for another attempt"),
        (facts.unknown, "may have been charged, left alone", "yellow", "`reelsheet resolve` settles it"),
        (facts.left_alone, "left alone", "", ""),
        (facts.over_limit, "left out", "", f"--limit {prepared.options.limit}"),
        (left_out_rows[hidden], "hidden, left out", "yellow",
         f"{dollars(left_out_cents[hidden])}; --include-hidden runs them"),
        (left_out_rows[not_chosen], "not chosen, left out", "",
         f"{dollars(left_out_cents[not_chosen])}; --where chooses rows"),
        (len(facts.problems), "cannot work", "red", "costs nothing"),
    )  # fmt: skip
    table = Table.grid(Column(justify="right"), Column(), Column(overflow="fold", style="dim"), padding=(0, 2))
    for count, words, style, note in lines:
        if count:
            table.add_row(Text(f"  {count:,}", style=style), Text(words, style=style), note)
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
            names = listed([row.name for row in kind.rows], EXAMPLES)
            text.append(" ").append_text(safe(f"({names})", "dim"))
        table.add_row(Text(f"  {len(kind.rows):,} \u00d7" if kind.rows else "  -"), text)
    if len(kinds) > WARNINGS_SHOWN:
        table.add_row("", Text(f"and {len(kinds) - WARNINGS_SHOWN:,} more kinds; --json lists them", style="dim"))
    return Group(Text("Warnings", style="yellow"), table)


def _prompts(prompts: list[tuple[Row, str]]) -> RenderableType:
    """What a template makes of the first rows."""
    table = _list()
    for row, prompt in prompts[:EXAMPLES]:
        table.add_row(Padding(safe(row.name), (0, 0, 0, 2)), safe(clean(prompt, limit=PROMPT_SHOWN)))
    if len(prompts) > EXAMPLES:
        table.add_row("", Text(f"\u2026 and {len(prompts) - EXAMPLES:,} more", style="dim"))
    return Group(Text("Prompts", style="bold"), table)


def _list() -> Table:
    """A name or a count, and a text that may take several lines."""
    first = Column(max_width=30, overflow="ellipsis", no_wrap=True)
    return Table.grid(first, Column(overflow="fold"), padding=(0, 2))


def _figures(prepared: "Preparation", facts: Facts) -> Table:
    table = Table.grid(Column(style="bold"), Column(overflow="fold"), padding=(0, 2))
    table.add_row("Cost", _cost(prepared, facts))
    day_cap_cents, day_left_cents = prepared.settings.daily_cap_cents, prepared.day_left_cents
    if day_cap_cents is not None and day_left_cents is not None:
        is_short = facts.pay and day_left_cents < prepared.plan.price_cents
        text = f"{dollars(day_left_cents)} left of the day's {dollars(day_cap_cents)}"
        table.add_row("Today", Text(text, style="red" if is_short else ""))
    if facts.pay:
        table.add_row("Time", _time(facts))
        names = ", ".join(facts.names[: 2 if facts.pay > 1 else 1]) + (", …" if facts.pay > 2 else "")
        table.add_row("Names", safe(names))
    if prepared.key.state is KeyState.REFUSED:
        table.add_row("Key", Text("the provider refuses it; check VIBEDREAM_API_KEY", style="red"))
    return table


def _cost(prepared: "Preparation", facts: Facts) -> Text:
    if not facts.pay:
        return Text("nothing to pay for")
    text = Text(dollars(prepared.plan.cost_cents), style="bold")
    text.append(f" ({facts.pay:,} \u00d7 {dollars(prepared.plan.price_cents)})", style="not bold")
    if prepared.options.max_cost_usd is not None:
        text.append(f", --max-cost {dollars(prepared.cap_cents)}", style="not bold")
    if facts.affordable < facts.pay:
        first = f"the first {facts.affordable:,}" if facts.affordable else "none"
        text.append(f"; pays for {first} of {counted(facts.pay, 'row')}", style="yellow")
    return text


def _time(facts: Facts) -> str:
    if facts.pace is None or facts.eta_s is None:
        return "not known yet; the first clips will tell"
    pace = f"{length(facts.pace.prediction_s)} a clip, {facts.pace.most_in_flight:,} at once"
    return f"{about(facts.eta_s)} at the pace so far ({pace})"
