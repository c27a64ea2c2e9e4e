"""A large run in parts: who does which rows, in this process or on other machines, and what happened to them.

One ledger, one budget, one table: a shard is no run of its own. It claims in the name of the run, so that the
run's cap holds over all of them, and what it has to say of a row goes to the ledger, where the run's own
process reads it.
"""

import asyncio
import json
import zlib
from collections.abc import Coroutine, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import astuple, replace
from typing import Any

from reelsheet import messages
from reelsheet.errors import ConfigurationError, LedgerError, ReelsheetError, WorkerError
from reelsheet.ledger import Ledger, Note
from reelsheet.ledger.shards import ShardRecord
from reelsheet.manifest.identity import identity_of, is_of_api
from reelsheet.manifest.picture_file import PictureFile
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.manifest.table import text_frame
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning import permissions
from reelsheet.planning.plan import OPEN, Plan, RowGroup, RowOutcome, Step
from reelsheet.provider.classification import SubmitResult
from reelsheet.run.context import RunContext
from reelsheet.run.run import Run
from reelsheet.run.submission import NO_ANSWER_STREAK
from reelsheet.settings import Settings
from reelsheet.storage.destination import open_destination
from reelsheet.surroundings.work import demand_for_work

ROWS_AT_ONCE = 100  # of a shard, as far as open files are concerned
NOTES_INTERVAL_S = 3.0  # between two looks at what stopped the others

SQLITE_REFUSED = (
    "Several machines cannot share a SQLite ledger: set REELSHEET_LEDGER_URL=postgresql://… for every worker, "
    "or raise shard_size above the number of rows. Nothing was spent."
)


class Shard:
    """A part of a run in a process of its own: `run` writes no table, and hears from the ledger why others stopped."""

    def __init__(self, context: RunContext, number: int) -> None:
        self.number = number
        self.run = Run(context, keep=self._keep, on_stop=self._publish_stop, on_no_answer=self._count_no_answers)
        self._ledger, self._run_id = context.ledger, context.run_id
        self._publishing: set[asyncio.Task[None]] = set()
        may_repay = permissions.from_grants(context.ledger.permissions(context.run_id))
        for group in context.plan.groups.values():
            group.replan(context.destination.address, None, may_repay=may_repay(group))

    async def leave(self) -> None:
        """Say what happened to every row and give the shard back: finished, or for another process."""
        if self._publishing:
            await asyncio.gather(*self._publishing, return_exceptions=True)
        await self.run.write_notes(is_last=True)
        shards = self._ledger.shards
        is_done = self.run.stops.signal is None and not self.run.ledger_session.is_lost
        await self._call(shards.finish if is_done else shards.give_back, self.number)

    def close(self) -> None:
        """Give back threads and the ledger, which is the shard's own."""
        self.run.close()
        self._ledger.close()

    async def _keep(self) -> None:
        """In place of the table: this process's notes to the ledger, the others' stop from it."""
        while True:
            with suppress(LedgerError):  # the next time, or the next claim, will say so
                await self.run.write_notes()
                stop = await self._call(self._ledger.shards.stop_of)
                if stop is not None:
                    self.run.stops.stop_quietly(ErrorCode(stop.code), stop.error)
            await asyncio.sleep(NOTES_INTERVAL_S)

    def _publish_stop(self, code: ErrorCode, error: str) -> None:
        """Submit nothing more in the run's other processes either."""
        self._publish(self._call(self._ledger.shards.mark_stop, self.number, code, error))

    def _count_no_answers(self, result: SubmitResult) -> None:
        if not self.run.stops.is_stopping:
            self._publish(self._stop_after_streak(result.message))

    async def _stop_after_streak(self, message: str) -> None:
        """Five submissions in a row without an answer stop the run, whichever machines they left from."""
        streak = await self._call(self._ledger.unanswered_streak, NO_ANSWER_STREAK)
        if streak >= NO_ANSWER_STREAK:
            self.run.stops.stop(ErrorCode.PROVIDER_DOWN, messages.provider_down(message))

    async def _call(self, function: Any, *arguments: Any) -> Any:
        return await self.run.ledger_session.call(function, self._run_id, *arguments)

    def _publish(self, writing: Coroutine[Any, Any, None]) -> None:
        self._publishing.add(asyncio.get_running_loop().create_task(writing))


async def attach(
    run_id: str, number: int, settings: Settings, *, flow_run_id: str | None, concurrency: int | None = None
) -> Shard | None:
    """Take a shard of a run that another process began; None where somebody living has it, or it is done.

    Raises ReelsheetError where this machine cannot do it: it is not set up like the run's, or has no access.
    """
    await asyncio.to_thread(demand_for_work, settings, at_once=concurrency or ROWS_AT_ONCE)
    ledger = await asyncio.to_thread(Ledger.open, settings.ledger_url)
    try:
        context = await asyncio.to_thread(_attach, ledger, run_id, number, settings, flow_run_id, concurrency)
        if context is None:
            ledger.close()
            return None
        return await asyncio.to_thread(Shard, context, number)  # it asks the ledger
    except BaseException:
        ledger.close()
        raise


def _attach(
    ledger: Ledger, run_id: str, number: int, settings: Settings, flow_run_id: str | None, concurrency: int | None
) -> RunContext | None:
    if ledger.is_sqlite:
        raise ConfigurationError(SQLITE_REFUSED)
    record = ledger.run(run_id)
    if record is None or record.run_id != run_id:
        raise WorkerError(messages.other_ledger(ledger.shown, run_id))
    if settings.api_key is None:
        raise WorkerError(messages.NO_KEY)
    destination = open_destination(record.destination)
    destination.probe()
    if not ledger.shards.take(run_id, number, flow_run_id):
        return None
    try:
        plan = _unpack(ledger.shards.stored_rows(run_id, number), settings)
    except ReelsheetError:
        ledger.shards.give_back(run_id, number)
        raise
    orders = [group.order for group in plan.groups.values()]
    ledger.forget_notes(run_id, min(orders), max(orders))
    for identity, history in ledger.histories(plan.groups).items():
        plan.groups[identity].history = history
    options = replace(Options.from_record(record.options), concurrency=concurrency)
    return RunContext(record, plan, options, settings, ledger, destination)


# The division


def ranges(groups: Sequence[RowGroup], size: int, rows: int) -> list[tuple[int, int]]:
    """Positions 0 to `rows` - 1 in ranges, both ends included, each with at most `size` first rows of `groups`.

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


def paid_first(groups: Sequence[RowGroup]) -> list[RowGroup]:
    """What is paid for comes first, for links expire; then in row order."""
    return sorted(groups, key=lambda group: (group.step is Step.SUBMIT, group.order))


def chunks(groups: Sequence[RowGroup], size: int) -> list[list[RowGroup]]:
    """Parts for one process, in the order of `paid_first`."""
    ordered = paid_first(groups)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


async def divide(run: Run) -> list[ShardRecord]:
    """Lay the run's shards out in the ledger with their rows; a run that goes on keeps its division.

    A shard that a living process has is left to it; one that is finished but has rows to do again is opened again.
    """
    call, ledger, run_id = run.ledger_session.call, run.context.ledger.shards, run.run_id
    manifest = run.context.manifest
    await _forget_missing(run)
    todo = run.to_do()
    drawn = ranges(todo, run.context.options.shard_size, len(manifest.rows))
    records = await call(ledger.lay_out, run_id, drawn)
    await call(ledger.clear_stops, run_id)
    for shard in records:
        groups = within(todo, shard.first_position, shard.last_position)
        if shard.alive or (shard.finished and not groups):
            continue
        if shard.finished:
            await call(ledger.begin_try, run_id, shard.number)
        content = _pack(manifest, groups) if groups else None
        await call(ledger.store_rows, run_id, shard.number, content)
    return await call(ledger.of_run, run_id)


async def _forget_missing(run: Run) -> None:
    """A delivery whose object is gone is no delivery: shards ask the ledger, not the bucket."""
    here = run.context.destination.address
    missing = [
        delivery.key
        for group in run.plan.at_step(Step.COPY)
        if group.history is not None
        for delivery in group.history.delivered(here)
    ]
    if missing:
        await run.ledger_session.call(run.context.ledger.forget_deliveries, here, missing)


async def take_in(run: Run, *, leave: AbstractSet[str] = frozenset()) -> None:
    """What the run's other processes did since: histories and their notes, into this process's plan.

    Identities in `leave` are this process's own.
    """
    call, ledger, run_id = run.ledger_session.call, run.context.ledger, run.run_id
    open_groups = [group for group in run.plan.groups.values() if group.step in OPEN and group.identity not in leave]
    histories = await call(ledger.histories, [group.identity for group in open_groups])
    notes = await call(ledger.notes, run_id)
    may_repay = permissions.from_grants(await call(ledger.permissions, run_id))
    for group in open_groups:
        if group.error_code is ErrorCode.OVER_LIMIT or group.left_out is not None:
            continue
        group.history = histories.get(group.identity)
        group.replan(run.context.destination.address, None, may_repay=may_repay(group))
        note = notes.get(group.order)
        if note is not None:
            group.warnings.extend(warning for warning in note.warnings if warning not in group.warnings)
            _apply_note(run, group, note)
        if group.history is not None or note is not None:
            run.monitor.touched.add(group.identity)


def _apply_note(run: Run, group: RowGroup, note: Note) -> None:
    if group.step is Step.DONE or not note.status:
        return
    code = ErrorCode(note.error_code) if note.error_code else None
    group.set_outcome(Status(note.status), code, note.error)
    if code is ErrorCode.OVER_BUDGET:
        run.stops.stop_over_budget(note.error)


# A shard's rows on their way to another machine


_ROW = ("line", "image", "prompt", "expansion", "take", "id")  # and its cells and position


def _pack(manifest: Manifest, groups: Sequence[RowGroup]) -> bytes:
    table = manifest.table.loc[[group.row.position for group in groups]]
    packed = {
        "source": manifest.source,
        "columns": manifest.columns,
        "roles": manifest.roles,
        "groups": [
            {
                "identity": group.identity,
                "positions": group.positions,
                "row": {name: getattr(group.row, name) for name in _ROW},
                "picture": astuple(group.row.picture) if group.row.picture else None,
                "image_input": group.image_input,
                "cells": cells,
                "warnings": group.warnings,
                "fingerprint": group.fingerprint,
                "held": astuple(group.held) if group.held else None,
            }
            for group, cells in zip(groups, table.itertuples(index=False, name=None), strict=True)
        ],
    }
    return zlib.compress(json.dumps(packed, ensure_ascii=False, separators=(",", ":")).encode())


def _unpack(content: bytes | None, settings: Settings) -> Plan:
    """Raises ConfigurationError where this machine would ask another provider, or for another model."""
    if content is None:
        raise ConfigurationError("The rows of this part of the run are not in the ledger; start the whole run again.")
    packed = json.loads(zlib.decompress(content))
    groups: dict[str, RowGroup] = {}
    for one in packed["groups"]:
        identity, positions = one["identity"], one["positions"]
        picture = PictureFile(*one["picture"]) if one.get("picture") else None
        row = Row(position=positions[0], picture=picture, **one["row"])
        held = _outcome(one["held"])
        if not is_of_api(identity, settings.base_url) or (held is None and identity_of(row, settings) != identity):
            raise WorkerError(messages.OTHER_API)
        groups[identity] = RowGroup(
            identity,
            row,
            positions,
            held=held,
            warnings=one["warnings"],
            fingerprint=one["fingerprint"],
            image_input=one.get("image_input", ""),
        )
    rows = tuple(group.row for group in groups.values())
    records = [one["cells"] for one in packed["groups"]]
    table = text_frame(packed["columns"], records, index=[row.position for row in rows])
    return Plan(Manifest(packed["source"], table, rows, packed["roles"]), groups, settings.price_cents)


def _outcome(packed: list[str] | None) -> RowOutcome | None:
    if packed is None:
        return None
    status, code, error = packed
    return RowOutcome(Status(status), ErrorCode(code), error)
