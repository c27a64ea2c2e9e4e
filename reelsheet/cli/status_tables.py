"""`status --all` and `status --by`: the runs of a ledger, and what was spent for each value of a column."""

import csv
import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
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
    from reelsheet.run.costs import Costs

WIDE: Final = 100  # columns of a window that has room for the time beside the run's id, which begins with it
MONEY: Final = {"cost_usd": "confirmed_cents", "reserved_usd": "reserved_cents", "at_risk_usd": "at_risk_cents"}
NO_VALUE: Final = "(no value)"
NOT_FOUND: Final = "(not found: the run's table is gone)"

Cents = Mapping[str, int]  # by the names of MONEY


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of a table for people."""

    name: str
    is_number: bool = False
    may_shrink: bool = False


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

    records = ledger.recent_runs(limit=None)
    runs = [_run(record, ledger) for record in records]
    totals = {
        is_play_money: _sum([run for run in runs if run["play_money"] == is_play_money])
        for is_play_money in sorted({run["play_money"] for run in runs} or {False})
    }
    if as_json:
        shown = [run | _usd(run, as_number=True) for run in runs]
        sums = [{"play_money": play, **_usd(total, as_number=True)} for play, total in totals.items()]
        print_json({"ledger": ledger.shown, "runs": [_without_cents(run) for run in shown], "totals": sums})
        return
    if as_csv:
        names = ("run_id", "started_at", "sheet", "state", "rows", "delivered")
        _write_csv([*names, *MONEY], [[*(str(run[name]) for name in names), *_usd(run).values()] for run in runs])
        return
    if not runs:
        sys.stdout.write(f"No runs yet in the ledger at {ledger.shown}.\n")
        return
    is_wide = terminal(sys.stdout).width >= WIDE
    columns = [_Column("run"), *([_Column("started (UTC)")] if is_wide else []), _Column("sheet", may_shrink=True)]
    columns += [_Column("state"), *(_Column(name, is_number=True) for name in ("rows", "delivered", "cost", "at risk"))]
    lines = [
        [
            run["run_id"], *([run["started_at"][:16].replace("T", " ")] if is_wide else []), run["sheet"], run["state"],
            f"{run['rows']:,}", f"{run['delivered']:,}", dollars(run["confirmed_cents"]), dollars(run["at_risk_cents"]),
        ]
        for run in runs
    ]  # fmt: skip
    blank = [""] * (len(columns) - 3)
    ends = [
        [
            _total_label(is_play_money=play),
            *blank,
            dollars(cents["confirmed_cents"]),
            dollars(cents["at_risk_cents"]),
        ]
        for play, cents in totals.items()
    ]
    _print_table(columns, lines, ends)


def _run(record: "RunRecord", ledger: "Ledger") -> dict[str, Any]:
    """What the list says of a run, with money in cents."""
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
    total = _total(costs)
    words = {Kind.VALUE: "", Kind.NO_VALUE: NO_VALUE, Kind.NOT_FOUND: NOT_FOUND}
    if as_json:
        values = [
            {"value": line["value"] if line["kind"] == Kind.VALUE else None, "kind": str(line["kind"]),
             "clips": line["clips"], **_usd(line, as_number=True)}
            for line in lines
        ]  # fmt: skip
        print_json(
            {
                "column": column,
                "since": since or None,
                "ledger": ledger.shown,
                "play_money": is_play_money,
                "values": values,
                "total": {"clips": total["clips"], **_usd(total, as_number=True)},
            }
        )
        return
    if as_csv:
        _write_csv(
            [column, "clips", *MONEY],
            [[words[line["kind"]] or line["value"], str(line["clips"]), *_usd(line).values()] for line in lines],
        )
        return
    has_reserved = bool(total["reserved_cents"])
    names = [name for name in MONEY.values() if name != "reserved_cents" or has_reserved]
    heads = {"confirmed_cents": "cost", "reserved_cents": "reserved", "at_risk_cents": "at risk"}
    columns = [_Column(column, may_shrink=True), _Column("clips", is_number=True)]
    columns += [_Column(heads[name], is_number=True) for name in names]

    def cells(name: str, line: Mapping[str, Any]) -> list[str]:
        return [name, f"{line['clips']:,}", *(dollars(int(line[name])) for name in names)]

    label = _total_label(is_play_money=is_play_money) + (f" since {since}" if since else "")
    _print_table(columns, [cells(words[line["kind"]] or line["value"], line) for line in lines], [cells(label, total)])


def _total_label(*, is_play_money: bool) -> str:
    return "total, sandbox" if is_play_money else "total"


def _total(costs: "Costs") -> dict[str, int]:
    return {name: int(costs.lines[name].sum()) for name in ("clips", *MONEY.values())}


def _sum(runs: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    rows = list(runs)
    return {name: sum(run[name] for run in rows) for name in MONEY.values()}


def _usd(cents: Mapping[str, Any], *, as_number: bool = False) -> dict[str, Any]:
    """The money of one line under the names of JSON and CSV."""
    write: Callable[[int], Any] = (lambda amount: amount / 100) if as_number else usd
    return {name: write(int(cents[source])) for name, source in MONEY.items()}


def _without_cents(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in MONEY.values()}


def _write_csv(header: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """On stdout, with no cell that a spreadsheet would calculate, and no total: its columns add up."""
    from reelsheet.results.table import inert

    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([[inert(cell) for cell in line] for line in (header, *lines)])
    sys.stdout.write(buffer.getvalue())


def _print_table(columns: Sequence[_Column], lines: Sequence[Sequence[str]], ends: Sequence[Sequence[str]]) -> None:
    from rich.table import Column, Table

    from reelsheet.display.terminal import safe, show

    table = Table(
        *[
            Column(
                safe(column.name),
                justify="right" if column.is_number else "left",
                no_wrap=not column.may_shrink,
                overflow="fold",
                min_width=8 if column.may_shrink else len(column.name),
            )
            for column in columns
        ],
        box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold",
    )  # fmt: skip
    for line in lines:
        table.add_row(*map(safe, line))
    for number, line in enumerate(ends):
        if not number:
            table.add_row()
        table.add_row(*(safe(cell, "bold") for cell in line))
    show(table, sys.stdout)
