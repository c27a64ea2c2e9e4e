"""Rows on their way: what is paid for first, then, in row order, as fast as the pace allows."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from flows.account_limit import Ceiling, Place
from reelsheet.outcomes import Status
from reelsheet.planning.plan import Step, Work
from reelsheet.redaction import visible
from reelsheet.run.run import Run
from tasks.generate_video import generate_video
from tasks.store_video import store_video

log = logging.getLogger("reelsheet")

COPIES_BESIDE = 512  # rows that only need polling or copying, at once


async def walk(run: Run, todo: Sequence[Work], *, admitted: Callable[[], None] = lambda: None) -> None:
    """Bring every row of `todo` as far as it gets. `admitted` is called when none waits for its turn any more."""
    beside = asyncio.Semaphore(COPIES_BESIDE)
    async with Ceiling.of_account() as ceiling, asyncio.TaskGroup() as rows:
        for work in todo:
            if work.step is not Step.PAY:
                rows.create_task(_beside(run, work, beside))
        for work in todo:
            if work.step is Step.PAY:
                place = await ceiling.take(run)
                if not await run.admit(work):
                    await place.give_back()
                    break
                rows.create_task(_under(run, work, place))
        admitted()


async def _under(run: Run, work: Work, place: Place) -> None:
    try:
        await _generated(run, work)
    finally:
        await place.give_back()
    await _row(run, work)


async def _beside(run: Run, work: Work, beside: asyncio.Semaphore) -> None:
    async with beside:
        if work.step is Step.POLL:
            await _generated(run, work)
        await _row(run, work)


async def _generated(run: Run, work: Work) -> None:
    await _step(run, work, generate_video, run.generate)


async def _row(run: Run, work: Work) -> None:
    if work.step is Step.COPY:
        await run.give_way()
        await _step(run, work, store_video, run.store)
    if work.status in {Status.FAILED, Status.UNDELIVERED, Status.UNKNOWN}:
        log.info("%s: %s", visible(work.row.name), work.error)


async def _step(run: Run, work: Work, task: Any, body: Callable[[str], Awaitable[Any]]) -> None:
    """A step as a task run of its own; by itself where Prefect cannot run it. Its body asks the ledger first."""
    run.task_runs += 1
    try:
        await task(work.row.name, work.identity, run.run_id)
    except Exception as error:  # noqa: BLE001 - Prefect shows what came of the task; the row must not wait for Prefect
        log.info("%s: the task ended with %s; going on without it.", visible(work.row.name), type(error).__name__)
        with suppress(Exception):  # the row's line says it, the neighbours go on
            await body(work.identity)
