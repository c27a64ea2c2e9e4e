"""The last lines: what was made, what it cost, where it is, and the command that goes on from there."""

import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import IO, Any, Final, NamedTuple

from rich.console import Console
from rich.text import Text

from reelsheet.display.terminal import safe, terminal
from reelsheet.display.waiting import is_live
from reelsheet.money import dollars
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.results import gallery_link
from reelsheet.results.run_copy import usual_folder
from reelsheet.run.row_status import row_status
from reelsheet.run.run import RunMonitor
from reelsheet.words import counted, length

_BLANK: Final = Text(" " * 9)  # before what belongs to the line above
_COLOURS: Final = {
    Status.SUCCEEDED: "green",
    Status.FAILED: "red",
    Status.UNDELIVERED: "yellow",
    Status.UNKNOWN: "magenta",
    Status.SKIPPED: "default",
    Status.INVALID: "red",
}


class _Step(NamedTuple):
    """What a person can do next: a command to be pasted (or "") and what it is good for."""

    name: str
    command: str
    words: str


def show_closing(monitor: RunMonitor, summary: Mapping[str, Any], stream: IO[str] | None = None) -> None:
    """How a run ended, on `stream`, by default stdout. No word, address or command is broken."""
    import sys

    console = terminal(stream or sys.stdout)
    _print_words(console, _made(monitor, summary))
    if not summary["rows"]:
        return
    _print_words(console, _spent(summary))
    if monitor.stops.message and not is_live():  # on a live display, a line above says it
        _print_words(console, safe(monitor.stops.message, "yellow"))
    for name, address in _places(monitor):
        _print_whole(console, name, safe(address))
    if (link := monitor.files.link if monitor.files else None) is not None:
        # `safe` would mask what makes it open: a person asked for the link, and it is theirs
        _print_whole(console, "Link", Text(link.url))
        _print_words(console, Text(gallery_link.about(link, datetime.now(UTC), monitor.context.run_id)), _BLANK)
    for step in (*_review(monitor, summary), *_next_steps(monitor, summary)):
        _print_step(console, step)


def _print_words(console: Console, text: Text, head: Text | None = None) -> None:
    """`text` after `head`, with line breaks between words; lines after the first stand below the text."""
    head = Text() if head is None else head
    lines = [Text()]
    for word in text.split(" "):
        if lines[-1] and head.cell_len + lines[-1].cell_len + 1 + word.cell_len > console.width:
            lines.append(Text())
        lines[-1].append_text(Text(" ") if lines[-1] else Text()).append_text(word)
    for number, line in enumerate(lines):
        console.print(Text.assemble(" " * head.cell_len if number else head, line), soft_wrap=True)


def _print_whole(console: Console, name: str, text: Text) -> None:
    """One line, however long it is: what is copied from it is complete."""
    console.print(Text.assemble(_head(name), text), soft_wrap=True)


def _print_step(console: Console, step: _Step) -> None:
    """One line where it fits; else the command has a line of its own."""
    words = safe(step.words)
    if not step.command:
        return _print_words(console, words, _head(step.name))
    command = safe(step.command)
    if _BLANK.cell_len + command.cell_len + words.cell_len + len("  ()") <= console.width:
        return _print_whole(console, step.name, Text.assemble(command, "  (", words, ")"))
    _print_whole(console, step.name, command)
    return _print_words(console, words, _BLANK)


def _head(name: str) -> Text:
    return Text(f"{name:<{_BLANK.cell_len}}", style="bold")


def _made(monitor: RunMonitor, summary: Mapping[str, Any]) -> Text:
    """What became of the rows; with --where, of those that it chose."""
    line = Text(f"{counted(summary['rows'], 'row')}: ")
    if monitor.context.options.where and monitor.chosen is not None:
        line = Text(f"{monitor.chosen.rows:,} of {counted(summary['rows'], 'row')} chosen: ")
        summary = monitor.chosen.as_json()
    counts = [(status, summary[str(status)], colour) for status, colour in _COLOURS.items()]
    parts = [Text(f"{count:,} {status}", style=colour) for status, count, colour in counts if count]
    if parts and summary["reused"]:
        parts[0].append(f" ({summary['reused']:,} without paying again)", style="default")
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


def _review(monitor: RunMonitor, summary: Mapping[str, Any]) -> Iterator[_Step]:
    """How to have the clips on this machine, and how to have some made again."""
    address, run_id = monitor.context.destination.address, monitor.context.run_id
    if not summary["succeeded"] or monitor.stops.is_stopping or monitor.files is None or monitor.files.fallback:
        return
    if address.startswith("s3://"):
        yield _Step("Copy", f"reelsheet fetch {shlex.quote(address)}", "clips, results and gallery onto this machine")
    yield _Step(
        "Review",
        f"reelsheet retry review-{run_id}.csv --where review=redo",
        "makes again what you mark Redo in the gallery; its Download review saves this file",
    )


def _next_steps(monitor: RunMonitor, summary: Mapping[str, Any]) -> Iterator[_Step]:
    """What a person can do next, each with its command."""
    address = shlex.quote(monitor.context.destination.address)
    is_stopping, files = monitor.stops.is_stopping, monitor.files
    gains = []
    if summary["undelivered"]:
        gains.append(f"collects {counted(summary['undelivered'], 'paid clip')} at no cost")
    left_out, groups = monitor.context.plan.left_out_rows, monitor.context.plan.groups.values()
    limited = sum(len(group.positions) for group in groups if group.error_code is ErrorCode.OVER_LIMIT)
    payable = max(0, summary["failed"] + summary["skipped"] - left_out.total() - limited)
    if payable:
        gains.append(f"pays for another try at {counted(payable, 'row')}")
    if gains and not is_stopping:
        yield _Step("Next", f"reelsheet retry {address}", ", ".join(gains))
    elif is_stopping and summary["skipped"] + summary["undelivered"]:
        yield _Step("Next", "", "the same command again continues where this one stopped")
    yield from _left_out(limited, left_out[ErrorCode.HIDDEN], left_out[ErrorCode.NOT_CHOSEN])
    if summary["unknown"]:
        row, others = next(_unknown(monitor), "ROW"), summary["unknown"] - 1
        yield _Step("Unknown", f"reelsheet resolve {row} --id PREDICTION", "as the provider's dashboard shows it")
        yield _Step("", f"reelsheet resolve {row} --abandon", "where the dashboard shows none: it was never charged")
        if others:
            yield _Step("", "reelsheet status", f"names {counted(others, 'other unknown row')}")
    if summary["invalid"] and files is not None and not files.fallback:
        yield from _fix(monitor, counted(summary["invalid"], "row"), files.folder)


def _fix(monitor: RunMonitor, rows: str, results: str) -> Iterator[_Step]:
    """How rows whose cells are wrong come to be made: `results` is the folder with their table."""
    context = monitor.context
    address, table = context.destination.address, f"{results}/failed.csv"
    first = f"{rows} cannot work; first correct the cells in this table"
    if address.startswith("s3://"):
        table, first = f"{usual_folder(address)}/failed.csv", "first correct its cells"
        yield _Step("Fix", f"reelsheet fetch {shlex.quote(address)}", f"{rows} cannot work; this brings {table}")
    files = (group.row.picture.folder for group in context.plan.groups.values() if group.row.picture is not None)
    folder = context.options.pictures or next(files, None)
    pictures = "" if folder is None else f" --pictures {shlex.quote(folder)}"
    command = f"reelsheet run {shlex.quote(table)} --to {shlex.quote(address)}{pictures}"
    yield _Step("" if address.startswith("s3://") else "Fix", command, first)


def _left_out(limited: int, hidden: int, not_chosen: int) -> Iterator[_Step]:
    """Rows that this run was not asked to make."""
    if limited:
        yield _Step("Left out", "", f"{counted(limited, 'row')} by --limit; the same command without it goes on")
    if hidden:
        yield _Step("Hidden", "", f"{counted(hidden, 'hidden row')} left out; --include-hidden runs them")
    if not_chosen:
        yield _Step("Left out", "", f"{counted(not_chosen, 'row')} not chosen by --where")


def _unknown(monitor: RunMonitor) -> Iterator[str]:
    run_id = monitor.context.run_id
    for group in monitor.context.plan.groups.values():
        if row_status(group.step, group.history, group.outcome, run_id=run_id).status is Status.UNKNOWN:
            yield group.identity[:8]
