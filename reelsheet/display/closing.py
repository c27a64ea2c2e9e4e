"""The last lines: what was made, what it cost, where it is, and the command that goes on from there."""

import shlex
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, Final

from rich.text import Text

from reelsheet.display.terminal import counted, is_live, length, safe, terminal
from reelsheet.ledger import State
from reelsheet.money import dollars
from reelsheet.outcomes import Status

if TYPE_CHECKING:
    from reelsheet.run.run import Run

_COLOURS: Final = {
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.UNDELIVERED: "yellow",
    Status.UNKNOWN: "magenta",
    Status.SKIPPED: "default",
    Status.INVALID: "red",
}


def show_closing(run: "Run", summary: Mapping[str, Any], stream: IO[str] | None = None) -> None:
    """What became of a run, on `stream`, by default stdout."""
    import sys

    console = terminal(stream or sys.stdout)
    console.print(_made(summary))
    console.print(_spent(summary))
    if (run.stop_error or run.over_budget) and not is_live():  # where it is, a line above says it
        console.print(safe(run.stop_error or run.over_budget, "yellow"))
    places = list(_places(run))
    following = list(_following(run, summary))
    for name, told in (*places, *following):
        console.print(Text.assemble((f"{name:<9}", "bold"), safe(told)), soft_wrap=True)


def _made(summary: Mapping[str, Any]) -> Text:
    told = Text(f"{counted(summary['rows'], 'row')}: ")
    counts = [(status, summary[str(status)], colour) for status, colour in _COLOURS.items()]
    parts = [Text(f"{count:,} {status}", style=colour) for status, count, colour in counts if count]
    if parts and summary["reused"]:
        parts[0].append(f" ({summary['reused']:,} paid for before)", style="default")
    told.append_text(Text(", ").join(parts) if parts else Text("nothing to do"))
    return told.append(f" in {length(summary['seconds'])}")


def _spent(summary: Mapping[str, Any]) -> Text:
    told = Text(f"{_dollars(summary['cost_usd'])} spent in this run")
    if summary["wasted_usd"]:
        told.append(f", {_dollars(summary['wasted_usd'])} of it for clips that failed")
    if summary["at_risk_usd"]:
        told.append(f"; {_dollars(summary['at_risk_usd'])} at risk, perhaps charged without an answer", style="magenta")
    return told


def _dollars(usd: float) -> str:
    return dollars(round(usd * 100))


def _places(run: "Run") -> Iterator[tuple[str, str]]:
    if run.files is None:
        return
    if run.files.fallback:
        yield "Results", f"{run.files.fallback} (the destination did not take them)"
        return
    yield "Results", run.files.results
    yield "Gallery", run.files.gallery


def _following(run: "Run", summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a person can do next, each with its command."""
    retry = f"reelsheet retry {shlex.quote(run.destination.address)}"
    gains = []
    if summary["undelivered"]:
        gains.append(f"collects {counted(summary['undelivered'], 'paid clip')} at no cost")
    again = summary["failed"] + summary["skipped"]
    if again:
        gains.append(f"pays for another try at {counted(again, 'row')}")
    if gains and not run.stopping:
        yield "Next", f"{retry}  ({', '.join(gains)})"
    elif run.stopping and summary["skipped"] + summary["undelivered"]:
        yield "Next", "the same command again goes on where this one stopped"
    if summary["unknown"]:
        unknown = next(_unknown(run), "ROW")
        yield "Unknown", f"reelsheet resolve {unknown} --id PREDICTION, or --abandon, as the provider's dashboard shows"
    if summary["invalid"] and run.files is not None and not run.files.fallback:
        yield "Mend", f"{counted(summary['invalid'], 'row')} cannot work: correct them in failed.csv, and run that file"


def _unknown(run: "Run") -> Iterator[str]:
    for group in run.plan.groups.values():
        if group.history is not None and group.history.latest.state in {State.UNKNOWN, State.CLAIMED}:
            yield group.identity[:8]
