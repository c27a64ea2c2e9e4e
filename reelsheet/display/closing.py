"""The last lines: what was made, what it cost, where it is, and the command that goes on from there."""

import shlex
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final

from rich.text import Text

from reelsheet.display.terminal import counted, is_live, length, safe, terminal
from reelsheet.money import dollars
from reelsheet.outcomes import Status
from reelsheet.run.row_status import row_status
from reelsheet.run.run import RunMonitor

_COLOURS: Final = {
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.UNDELIVERED: "yellow",
    Status.UNKNOWN: "magenta",
    Status.SKIPPED: "default",
    Status.INVALID: "red",
}


def show_closing(monitor: RunMonitor, summary: Mapping[str, Any], stream: IO[str] | None = None) -> None:
    """How a run ended, on `stream`, by default stdout."""
    import sys

    console = terminal(stream or sys.stdout)
    console.print(_made(summary))
    console.print(_spent(summary))
    if monitor.stops.message and not is_live():  # on a live display, a line above says it
        console.print(safe(monitor.stops.message, "yellow"))
    for name, text in (*_places(monitor), *_next_steps(monitor, summary)):
        console.print(Text.assemble((f"{name:<9}", "bold"), safe(text)), soft_wrap=True)


def _made(summary: Mapping[str, Any]) -> Text:
    line = Text(f"{counted(summary['rows'], 'row')}: ")
    counts = [(status, summary[str(status)], colour) for status, colour in _COLOURS.items()]
    parts = [Text(f"{count:,} {status}", style=colour) for status, count, colour in counts if count]
    if parts and summary["reused"]:
        parts[0].append(f" ({summary['reused']:,} paid for before)", style="default")
    line.append_text(Text(", ").join(parts) if parts else Text("nothing to do"))
    return line.append(f" in {length(summary['seconds'])}")


def _spent(summary: Mapping[str, Any]) -> Text:
    line = Text(f"{_dollars(summary['cost_usd'])} spent in this run")
    if summary["wasted_usd"]:
        line.append(f", {_dollars(summary['wasted_usd'])} of it for clips that failed")
    if summary["at_risk_usd"]:
        at_risk = _dollars(summary["at_risk_usd"])
        line.append(f"; {at_risk} at risk: may have been charged, but no answer came", style="magenta")
    return line


def _dollars(usd: float) -> str:
    return dollars(round(usd * 100))


def _places(monitor: RunMonitor) -> Iterator[tuple[str, str]]:
    files = monitor.files
    if files is None:
        return
    if files.fallback:
        yield "Results", f"{files.fallback} (the destination did not take them)"
        return
    yield "Results", files.results
    yield "Gallery", files.gallery


def _next_steps(monitor: RunMonitor, summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a person can do next, each with its command."""
    retry = f"reelsheet retry {shlex.quote(monitor.context.destination.address)}"
    is_stopping, files = monitor.stops.is_stopping, monitor.files
    gains = []
    if summary["undelivered"]:
        gains.append(f"collects {counted(summary['undelivered'], 'paid clip')} at no cost")
    payable = summary["failed"] + summary["skipped"]
    if payable:
        gains.append(f"pays for another try at {counted(payable, 'row')}")
    if gains and not is_stopping:
        yield "Next", f"{retry}  ({', '.join(gains)})"
    elif is_stopping and summary["skipped"] + summary["undelivered"]:
        yield "Next", "the same command again continues where this one stopped"
    if summary["unknown"]:
        row = next(_unknown(monitor), "ROW")
        yield "Unknown", f"reelsheet resolve {row} --id PREDICTION, or --abandon, as the provider's dashboard shows"
    if summary["invalid"] and files is not None and not files.fallback:
        rows = counted(summary["invalid"], "row")
        yield "Fix", f"{rows} cannot work: correct them in failed.csv, and run that file"


def _unknown(monitor: RunMonitor) -> Iterator[str]:
    run_id = monitor.context.run_id
    for group in monitor.context.plan.groups.values():
        if row_status(group.step, group.history, group.outcome, run_id=run_id).status is Status.UNKNOWN:
            yield group.identity[:8]
