"""Rows on their way: what is paid for first, then, in row order, as fast as the pace allows."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from flows.account_limit import Ceiling, Place
from reelsheet.outcomes import Status
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.redaction import visible
from reelsheet.run.run import Run
from tasks.generate_video import generate_video
from tasks.store_video import store_video

log = logging.getLogger("reelsheet")

COPIES_BESIDE = 512  # rows that only need polling or copying, at once


async def process_rows(run: Run, todo: Sequence[RowGroup], *, admitted: Callable[[], None] = lambda: None) -> None:
    """Bring every row of `todo` as far as it gets. `admitted` is called when none waits for its turn any more."""
    beside = asyncio.Semaphore(COPIES_BESIDE)
    async with Ceiling.of_account() as ceiling, asyncio.TaskGroup() as rows:
        for group in todo:
            if group.step is not Step.SUBMIT:
                rows.create_task(_beside(run, group, beside))
        for group in todo:
            if group.step is Step.SUBMIT:
                place = await ceiling.take(run)
                if not await run.admit(group):
                    await place.give_back()
                    break
                rows.create_task(_under(run, group, place))
        admitted()


async def _under(run: Run, group: RowGroup, place: Place) -> None:
    try:
        await _generated(run, group)
    finally:
        await place.give_back()
    await _row(run, group)


async def _beside(run: Run, group: RowGroup, beside: asyncio.Semaphore) -> None:
    async with beside:
        if group.step is Step.POLL:
            await _generated(run, group)
        await _row(run, group)


async def _generated(run: Run, group: RowGroup) -> None:
    await _step(run, group, generate_video, run.generate)


async def _row(run: Run, group: RowGroup) -> None:
    if group.step is Step.COPY:
        await run.yield_to_submissions()
        await _step(run, group, store_video, run.store)
    if group.status in {Status.FAILED, Status.UNDELIVERED, Status.UNKNOWN}:
        log.info("%s: %s", visible(group.row.name), group.error)


async def _step(run: Run, group: RowGroup, task: Any, body: Callable[[str], Awaitable[Any]]) -> None:
    """A step as a task run of its own; by itself where Prefect cannot run it. Its body asks the ledger first."""
    run.task_runs += 1
    try:
        await task(group.row.name, group.identity, run.run_id)
    except Exception as error:  # noqa: BLE001 - Prefect shows what came of the task; the row must not wait for Prefect
        log.info("%s: the task ended with %s; going on without it.", visible(group.row.name), type(error).__name__)
        with suppress(Exception):  # the row's line says it, the neighbours go on
            await body(group.identity)
