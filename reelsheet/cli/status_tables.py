"""`status --all` and `status --by`: the runs of a ledger, and what was spent for each value of a column."""

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import date
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from reelsheet import settings
from reelsheet.cli import print_json, print_message
from reelsheet.cli.status import row_counts, state_of
from reelsheet.errors import UsageError
from reelsheet.money import dollars, usd
from reelsheet.outcomes import Status, iso, utc

if TYPE_CHECKING:
    from reelsheet.ledger import Ledger, RunRecord

WIDE: Final = 100  # columns of a window that has room for the time beside the run's id, which begins with it
MONEY: Final = {"cost_usd": "confirmed_cents", "reserved_usd": "reserved_cents", "at_risk_usd": "at_risk_cents"}
PAID_OR_RISKED: Final = ("confirmed_cents", "at_risk_cents")
NO_VALUE: Final = "(no value)"
NOT_FOUND: Final = "(not found: the run's table is gone)"

Line = Mapping[str, Any]  # what a table says of a run or a value, with its money in cents


def show(run_id: str | None, *, all_runs: bool, by: str | None, since: str | None, as_csv: bool, as_json: bool) -> int:
    """The list of runs, or the sums by a column, in one of three forms on stdout."""
    from reelsheet.ledger import Ledger

    if all_runs == (by is not None):
        raise UsageError(
            "--all and --by COLUMN are two different tables; give one of them."
            if all_runs
            else "--since and --csv belong to a table: add --by COLUMN, or --all."
        )
    if run_id is not None:
        raise UsageError(f"{'--all lists' if all_runs else '--by sums up'} all runs; leave out {run_id!r}.")
    if as_csv and as_json:
        raise UsageError("--csv and --json are two forms of one table; give one of them.")
    if all_runs and since is not None:
        raise UsageError("--since belongs to --by COLUMN; --all lists all runs.")
    first_day = _day(since)
    current = settings.load()
    with closing(Ledger.open(current.ledger_url)) as ledger:
        if by is None:
            _show_runs(ledger, as_csv=as_csv, as_json=as_json)
        else:
            _show_costs(ledger, by, first_day, is_play_money=current.is_play_money, as_csv=as_csv, as_json=as_json)
    return 0


def _day(since: str | None) -> str:
    if since is None:
        return ""
    try:
        return date.fromisoformat(since.strip()).isoformat()
    except ValueError:
        raise UsageError(f"--since takes a day like 2026-01-31, not {since!r}.") from None


def _show_runs(ledger: "Ledger", *, as_csv: bool, as_json: bool) -> None:
    from reelsheet.display.terminal import terminal

    runs = [_run(record, ledger) for record in ledger.recent_runs(limit=None)]
    totals = {
        is_play_money: _sum(MONEY.values(), [run for run in runs if run["play_money"] == is_play_money])
        for is_play_money in sorted({run["play_money"] for run in runs} or {False})
    }
    if as_json:
        sums = [{"play_money": is_play_money} | _json(total) for is_play_money, total in totals.items()]
        print_json({"ledger": ledger.shown, "runs": [_json(run) for run in runs], "totals": sums})
    elif as_csv:
        names = ("run_id", "started_at", "sheet", "state", "rows", "delivered")
        _write_csv(names, names, runs)
    elif not runs:
        sys.stdout.write(f"No runs yet in the ledger at {ledger.shown}.\n")
    else:
        is_wide = terminal(sys.stdout).width >= WIDE
        head = ["run", *["started (UTC)"] * is_wide, "sheet", "state", "rows", "delivered", "cost", "at risk"]
        lines = []
        for run in runs:
            started = [run["started_at"][:16].replace("T", " ")] * is_wide
            counts = [f"{run[name]:,}" for name in ("rows", "delivered")]
            lines.append([run["run_id"], *started, run["sheet"], run["state"], *counts, *_dollars(run, PAID_OR_RISKED)])
        ends = [
            [_total_label(is_play_money=play), *[""] * (len(head) - 3), *_dollars(total, PAID_OR_RISKED)]
            for play, total in totals.items()
        ]
        _print_table(head, lines, ends, numbers=4, shrinks=head.index("sheet"))


def _run(record: "RunRecord", ledger: "Ledger") -> Line:
    """What the list says of a run."""
    summary = record.summary if record.finished_at is not None else None
    if summary is not None and str(Status.SUCCEEDED) in summary:
        delivered = summary[str(Status.SUCCEEDED)]
    else:
        delivered = row_counts(record, ledger).get(str(Status.SUCCEEDED), 0)
    return {
        "run_id": record.run_id,
        "started_at": iso(utc(record.started_at)),
        "verb": record.verb,
        "sheet": PurePosixPath(record.source.split("?")[0]).name or record.source,
        "destination": record.destination,
        "state": state_of(record),
        "exit_code": record.exit_code,
        "rows": record.rows,
        "delivered": delivered,
        "play_money": settings.is_loopback_url(str(record.options.get("base_url") or "")),
        **{name: getattr(record, name) for name in MONEY.values()},
    }


def _show_costs(ledger: "Ledger", column: str, since: str, *, is_play_money: bool, as_csv: bool, as_json: bool) -> None:
    from reelsheet.display.waiting import Waiting
    from reelsheet.run.costs import Kind, costs_by_column

    with Waiting("Reading the tables of the runs"):
        costs = costs_by_column(ledger, column, since=since, is_play_money=is_play_money)
    for problem in costs.problems:
        print_message(f"Some rows' values are not known: {problem}")
    lines: list[dict[Any, Any]] = costs.lines.to_dict("records")
    total = _sum(("clips", *MONEY.values()), lines)
    if as_json:
        values = [line | {"value": line["value"] if line["kind"] == Kind.VALUE else None} for line in lines]
        print_json(
            {
                "column": column,
                "since": since or None,
                "ledger": ledger.shown,
                "play_money": is_play_money,
                "values": [_json(line) for line in values],
                "total": _json(total),
            }
        )
        return
    words = {Kind.NO_VALUE: NO_VALUE, Kind.NOT_FOUND: NOT_FOUND}
    named = [line | {"value": words.get(line["kind"], line["value"])} for line in lines]
    if as_csv:
        _write_csv((column, "clips"), ("value", "clips"), named)
        return
    shown = {"cost": "confirmed_cents", "reserved": "reserved_cents", "at risk": "at_risk_cents"}
    if not total["reserved_cents"]:
        del shown["reserved"]
    label = _total_label(is_play_money=is_play_money) + (f" since {since}" if since else "")
    cells = [
        [line["value"], f"{line['clips']:,}", *_dollars(line, shown.values())]
        for line in (*named, total | {"value": label})
    ]
    _print_table([column, "clips", *shown], cells[:-1], cells[-1:], numbers=1 + len(shown), shrinks=0)


def _total_label(*, is_play_money: bool) -> str:
    return "total, sandbox" if is_play_money else "total"


def _sum(names: Iterable[str], lines: Iterable[Line]) -> dict[str, int]:
    return {name: sum(int(line[name]) for line in lines) for name in names}


def _dollars(line: Line, names: Iterable[str]) -> list[str]:
    return [dollars(int(line[name])) for name in names]


def _json(line: Line) -> dict[str, Any]:
    """A line with its money as numbers of US dollars."""
    others = {name: value for name, value in line.items() if name not in MONEY.values()}
    return others | {name: int(line[source]) / 100 for name, source in MONEY.items()}


def _write_csv(head: Sequence[str], names: Sequence[str], lines: Iterable[Line]) -> None:
    """On stdout, with no cell that a spreadsheet would calculate, and no total: its columns add up."""
    from reelsheet.results.table import inert

    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(inert, (*head, *MONEY)))
    for line in lines:
        writer.writerow([inert(str(line[name])) for name in names] + [usd(int(line[name])) for name in MONEY.values()])
    sys.stdout.write(buffer.getvalue())


def _print_table(
    head: Sequence[str], lines: Iterable[Sequence[str]], ends: Sequence[Sequence[str]], *, numbers: int, shrinks: int
) -> None:
    """For people. `numbers`: how many of the last columns hold such; `shrinks`: the place of one that may be folded."""
    from rich.table import Column, Table

    from reelsheet.display.terminal import safe, show

    columns = [
        Column(
            safe(name),
            justify="left" if place < len(head) - numbers else "right",
            no_wrap=place != shrinks,
            overflow="fold",
            min_width=8 if place == shrinks else len(name),
        )
        for place, name in enumerate(head)
    ]
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for line in lines:
        table.add_row(*map(safe, line))
    table.add_row()
    for line in ends:
        table.add_row(*(safe(cell, "bold") for cell in line))
    show(table, sys.stdout)
