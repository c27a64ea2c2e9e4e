"""A large run in parts: who does which rows, in this process or on other machines, and what became of them.

One ledger, one budget, one table: a shard is no run of its own. It claims in the name of the run, so that the
run's cap holds over all of them, and what it has to say of a row goes to the ledger, where the run's own
process reads it.
"""

import asyncio
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from reelsheet import messages
from reelsheet.errors import ConfigurationError, LedgerError
from reelsheet.ledger import Attempt, Ledger, Note
from reelsheet.ledger import shards as book
from reelsheet.manifest.identity import identity_of
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning.plan import Plan, RowGroup, Step, step_of
from reelsheet.provider.classification import SubmitOutcome, SubmitResult
from reelsheet.run.run import Run
from reelsheet.run.submission import NO_ANSWER_STREAK
from reelsheet.settings import Settings

NOTES_SECONDS = 3.0  # between two looks at what stopped the others
OPEN = (Step.SUBMIT, Step.POLL, Step.COPY)


class Shard(Run):
    """A part of a run in a process of its own: it writes no table, and learns from the ledger why others stopped."""

    def __init__(self, *, number: int, granted: Mapping[str, int], **parts: Any) -> None:
        super().__init__(**parts)
        self.number = number
        self._told: set[asyncio.Task[None]] = set()
        for group in self.plan.groups.values():
            group.step = step_of(group, self.destination.address, None, _replacing(granted))

    def stop(self, code: ErrorCode, error: str) -> None:
        """Submit nothing more, here and in the run's other processes."""
        first = self.stop_code is None
        super().stop(code, error)
        if first:
            self._tell(self.in_ledger(book.mark_stop, self.ledger, self.run_id, self.number, code, error))

    def answered(self, group: RowGroup, attempt: Attempt, answer: SubmitResult) -> None:
        super().answered(group, attempt, answer)
        if answer.outcome is SubmitOutcome.UNKNOWN and not self.stopping:
            self._tell(self._streak_everywhere(answer.message))

    async def _streak_everywhere(self, told: str) -> None:
        """Five submissions in a row without an answer stop the run, whichever machines they left from."""
        streak = await self.in_ledger(book.no_answers, self.ledger, self.run_id, NO_ANSWER_STREAK)
        if streak >= NO_ANSWER_STREAK:
            self.stop(ErrorCode.PROVIDER_DOWN, messages.provider_down(told))

    async def _keep_table(self) -> None:
        """In place of the table: its words to the ledger, the others' stop from it."""
        while True:
            await self._look_up()
            await asyncio.sleep(NOTES_SECONDS)

    async def _look_up(self) -> None:
        try:
            await self.in_ledger(self.ledger.write_notes, self.run_id, self.notes())
            stop = await self.in_ledger(book.stop_of, self.ledger, self.run_id)
        except LedgerError:
            return  # the next look, or the next claim, will say so
        if stop is not None and self.stop_code is None:
            super().stop(ErrorCode(stop[0]), stop[1])

    async def leave(self) -> None:
        """Say what became of every row and give the shard back: finished, or for another process."""
        if self._told:
            await asyncio.gather(*self._told, return_exceptions=True)
        await self.in_ledger(self.ledger.write_notes, self.run_id, self.notes())
        done = book.finish if self.signal is None else book.give_back
        await self.in_ledger(done, self.ledger, self.run_id, self.number)

    def _tell(self, telling: Any) -> None:
        task = asyncio.get_running_loop().create_task(telling)
        self._told.add(task)


async def attach(
    run_id: str, number: int, settings: Settings, *, flow_run_id: str | None, concurrency: int | None = None
) -> Shard | None:
    """Take a shard of a run that another process began; None where somebody living has it, or it is done.

    Raises ConfigurationError where this machine is not set up like the run's. The shard's ledger is its own to close.
    """
    ledger = await asyncio.to_thread(Ledger.open, settings.ledger_url)
    try:
        return await asyncio.to_thread(_attach, ledger, run_id, number, settings, flow_run_id, concurrency)
    except BaseException:
        ledger.close()
        raise


def _attach(
    ledger: Ledger, run_id: str, number: int, settings: Settings, flow_run_id: str | None, concurrency: int | None
) -> Shard | None:
    from reelsheet.storage.destination import open_destination

    if ledger.is_sqlite:
        raise ConfigurationError(SQLITE_REFUSED)
    record = ledger.run(run_id)
    if record is None or record.run_id != run_id:
        raise ConfigurationError(
            f"The ledger at {ledger.shown} knows no run {run_id}: every worker needs the same REELSHEET_LEDGER_URL."
        )
    if settings.api_key is None:
        raise ConfigurationError("This worker has no API key: set VIBEDREAM_API_KEY where it runs.")
    if not book.take(ledger, run_id, number, flow_run_id):
        ledger.close()
        return None
    plan = _unpack(book.content(ledger, run_id, number), settings)
    first, last = min(plan.groups.values(), key=_order), max(plan.groups.values(), key=_order)
    book.forget_notes(ledger, run_id, first.order, last.order)
    for identity, history in ledger.histories(plan.groups).items():
        plan.groups[identity].history = history
    options = Options.from_record(record.options)
    return Shard(
        number=number,
        granted=ledger.permissions(run_id),
        record=record,
        plan=plan,
        options=replace(options, concurrency=concurrency),
        settings=settings,
        ledger=ledger,
        destination=open_destination(record.destination),
    )


SQLITE_REFUSED = (
    "Several machines cannot share a SQLite ledger: set REELSHEET_LEDGER_URL=postgresql://… for every worker, "
    "or raise shard_size above the number of rows. Nothing was spent."
)


# The division


def ranges(groups: Sequence[RowGroup], size: int, rows: int) -> list[tuple[int, int]]:
    """Positions 0 to `rows` - 1 in ranges, both ends included, each with at most `size` first rows of `works`.

    An identity belongs to the range of its first row, wherever its duplicates are.
    """
    firsts = sorted(group.order for group in groups)[::size]
    if not firsts:
        return []
    starts = [0, *firsts[1:]]
    ends = [start - 1 for start in starts[1:]] + [rows - 1]
    return list(zip(starts, ends, strict=True))


def within(groups: Sequence[RowGroup], first: int, last: int) -> list[RowGroup]:
    return [group for group in groups if first <= group.order <= last]


def chunks(groups: Sequence[RowGroup], size: int) -> list[list[RowGroup]]:
    """Parts for one process: what is paid for first, for links expire; then in row order."""
    ordered = sorted(groups, key=lambda group: (group.step is Step.SUBMIT, group.order))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


async def divide(run: Run) -> list[book.ShardRecord]:
    """Lay the run's shards out in the ledger with their rows; a run that goes on keeps its division.

    A shard that a living process has is left to it; one that is finished but has rows to do again is opened again.
    """
    await _forget_the_gone(run)
    todo = run.to_do()
    drawn = ranges(todo, run.options.shard_size, len(run.manifest.rows))
    found = await run.in_ledger(book.lay_out, run.ledger, run.run_id, drawn)
    await run.in_ledger(book.clear_stops, run.ledger, run.run_id)
    for shard in found:
        rows = within(todo, shard.first_position, shard.last_position)
        if shard.alive or (shard.finished and not rows):
            continue
        if shard.finished:
            await run.in_ledger(book.begin_try, run.ledger, run.run_id, shard.number)
        content = _pack(run.manifest, rows) if rows else None
        await run.in_ledger(book.fill, run.ledger, run.run_id, shard.number, content)
    return await run.in_ledger(book.shards, run.ledger, run.run_id)


async def _forget_the_gone(run: Run) -> None:
    """A delivery whose object is gone is no delivery: shards ask the ledger, not the bucket."""
    here = run.destination.address
    gone = [
        (here, one.key)
        for group in run.plan.having(Step.COPY)
        if group.history is not None
        for one in group.history.delivered(here)
    ]
    if gone:
        await run.in_ledger(run.ledger.forget_deliveries, gone)


async def take_in(run: Run, *, leave: AbstractSet[str] = frozenset()) -> None:
    """What the run's other processes did since: standings and their words, into this process's table.

    Identities in `leave` are this process's own.
    """
    opened = {
        identity: group for identity, group in run.plan.groups.items() if group.step in OPEN and identity not in leave
    }
    histories = await run.in_ledger(run.ledger.histories, list(opened))
    notes = await run.in_ledger(run.ledger.notes, run.run_id)
    granted = await run.in_ledger(run.ledger.permissions, run.run_id)
    for identity, group in opened.items():
        if group.error_code is ErrorCode.OVER_LIMIT:
            continue
        group.history = histories.get(identity)
        group.step = step_of(group, run.destination.address, None, _replacing(granted))
        note = notes.get(group.order)
        if note is not None:
            _hear(run, group, note)
        if group.history is not None or note is not None:
            run.touched.add(identity)


def _hear(run: Run, group: RowGroup, note: Note) -> None:
    group.warnings.extend(warning for warning in note.warnings if warning not in group.warnings)
    if group.step is Step.DONE or not note.status:
        return
    code = ErrorCode(note.error_code) if note.error_code else None
    group.set_outcome(Status(note.status), code, note.error)
    if code is ErrorCode.OVER_BUDGET:
        run.stop_over_budget(note.error)


def _replacing(granted: Mapping[str, int]) -> Callable[[RowGroup], bool]:
    def may_replace(group: RowGroup) -> bool:
        return group.history is not None and granted.get(group.identity) == group.history.latest.number

    return may_replace


def _order(group: RowGroup) -> int:
    return group.order


# A shard's rows on their way to another machine


def _pack(manifest: Manifest, groups: Sequence[RowGroup]) -> bytes:
    told = {
        "source": manifest.source,
        "columns": manifest.columns,
        "roles": manifest.roles,
        "works": [
            {
                "identity": group.identity,
                "positions": group.positions,
                "line": group.row.line,
                "cells": group.row.cells,
                "image": group.row.image,
                "prompt": group.row.prompt,
                "expansion": group.row.expansion,
                "take": group.row.take,
                "id": group.row.id,
                "warnings": group.warnings,
                "fingerprint": group.fingerprint,
            }
            for group in groups
        ],
    }
    return zlib.compress(json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode())


def _unpack(content: bytes | None, settings: Settings) -> Plan:
    """Raises ConfigurationError where this machine would ask another provider, or for another model."""
    if content is None:
        raise ConfigurationError("The rows of this part of the run are not in the ledger; start the whole run again.")
    told = json.loads(zlib.decompress(content))
    groups: dict[str, RowGroup] = {}
    for one in told["works"]:
        row = Row(
            position=one["positions"][0], line=one["line"], cells=tuple(one["cells"]), image=one["image"],
            prompt=one["prompt"], expansion=one["expansion"], take=one["take"], id=one["id"],
        )  # fmt: skip
        if identity_of(row, settings) != one["identity"]:
            raise ConfigurationError(
                "This worker is set up for another provider or model than the run: "
                "give every worker the same VIBEDREAM_BASE_URL and REELSHEET_MODEL."
            )
        groups[one["identity"]] = RowGroup(
            one["identity"], row, list(one["positions"]), warnings=list(one["warnings"]), fingerprint=one["fingerprint"]
        )
    manifest = Manifest(
        told["source"], tuple(told["columns"]), tuple(group.row for group in groups.values()), told["roles"]
    )
    return Plan(manifest, groups, settings.price_cents)


__all__ = ["OPEN", "SQLITE_REFUSED", "Shard", "attach", "chunks", "divide", "ranges", "take_in", "within"]
