"""What a person sees: the plan on one screen, the live display, the closing lines."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from reelsheet.money import dollars
from reelsheet.plan import Step
from reelsheet.redaction import visible

if TYPE_CHECKING:
    from reelsheet.preparation import Preparation
    from reelsheet.run import Run


@contextmanager
def looking() -> Iterator[Callable[[str, int, int], None]]:
    """Progress of the preparation, on one line of stderr."""

    def show(what: str, done: int, of: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\rLooking at {what}: {done} of {of} ")
            sys.stderr.flush()

    yield show
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")


def plan_json(prepared: "Preparation") -> dict[str, Any]:
    """The plan as one object; money in US dollars."""
    plan = prepared.plan
    return {
        "manifest": plan.manifest.source,
        "rows": len(plan.manifest.rows),
        "pay": len(plan.having(Step.PAY)),
        "poll": len(plan.having(Step.POLL)),
        "copy": len(plan.having(Step.COPY)),
        "reuse": len(plan.having(Step.DONE)),
        "report": len(plan.having(Step.REPORT)),
        "duplicates": plan.duplicates,
        "invalid": len(plan.invalid) + len(plan.having(Step.REFUSE)),
        "price_usd": plan.price_cents / 100,
        "cost_usd": plan.cost_cents / 100,
        "cap_usd": prepared.cap_cents / 100,
        "warnings": [*plan.manifest.warnings, *plan.notes],
        "problems": [
            {"row": row.name, "line": row.line, "error": " ".join(row.problems)} for row in plan.invalid
        ]
        + [{"row": work.row.name, "line": work.row.line, "error": work.error} for work in plan.having(Step.REFUSE)],
    }


def plan_text(prepared: "Preparation") -> str:
    """One screen: what a run would pay, reuse and skip."""
    told = plan_json(prepared)
    lines = [f"{told['manifest']}: {told['rows']} rows"]
    for name, words in (
        ("pay", "to pay for"),
        ("poll", "paid for already, to be collected"),
        ("copy", "made already, to be copied"),
        ("reuse", "delivered already"),
        ("report", "unknown or failed before, left alone"),
        ("duplicates", "the same as an earlier row, paid for once"),
        ("invalid", "that cannot work"),
    ):
        if told[name]:
            lines.append(f"  {told[name]:>6} {words}")
    for problem in told["problems"][:10]:
        lines.append(f"         {visible(problem['row'])} (line {problem['line']}): {visible(problem['error'])}")
    if len(told["problems"]) > 10:  # noqa: PLR2004
        lines.append(f"         and {len(told['problems']) - 10} more")
    lines += [f"  note: {visible(warning)}" for warning in told["warnings"]]
    cap = prepared.cap_cents
    more = f"; capped at {dollars(cap)}" if prepared.options.max_cost_usd is not None else ""
    lines.append(f"  {told['pay']} × {dollars(prepared.plan.price_cents)} = {dollars(prepared.plan.cost_cents)}{more}")
    return "\n".join(lines) + "\n"


async def watch(prepared: "Preparation") -> None:
    """The live display until it is cancelled."""
    last = ""
    pause = 0.5 if sys.stderr.isatty() else 5.0
    while True:
        await asyncio.sleep(pause)
        if prepared.run is None:
            continue
        line = progress_line(prepared.run)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K{line}")
        elif line != last:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()
        last = line


def progress_line(run: "Run") -> str:
    """Rows by what they wait for, money, pace."""
    count = Counter(work.step for work in run.plan.works.values())
    spent = sum(
        work.standing.run_cents(run.run_id) for work in run.plan.works.values() if work.standing is not None
    )
    return (
        f"{count[Step.DONE]} of {len(run.plan.works)} stored · {run.gate.pace.in_flight} in flight · "
        f"{dollars(spent)} spent · {time.monotonic() - run.started:.0f} s"
    )


def closing_text(run: "Run", summary: Mapping[str, Any]) -> str:
    """Five lines: what was made, what it cost, where to look."""
    names = ("succeeded", "failed", "undelivered", "unknown", "skipped", "invalid")
    parts = ", ".join(f"{summary[name]} {name}" for name in names if summary[name]) or "nothing to do"
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    lines = [
        f"{summary['rows']} rows: {parts} ({summary['reused']} reused) in {summary['seconds']:.0f} s",
        f"Spent {dollars(round(summary['cost_usd'] * 100))} in this run, "
        f"at risk {dollars(round(summary['at_risk_usd'] * 100))}, wasted {dollars(round(summary['wasted_usd'] * 100))}",
    ]
    if run.files is not None:
        lines.append(f"Results: {run.files.fallback or run.files.results}")
        lines.append(f"Gallery: {run.files.gallery}")
    if run.stop_error or run.over_budget:
        lines.append(run.stop_error or run.over_budget)
    return "\n".join(lines) + "\n"


