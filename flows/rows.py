"""Every row through the two tasks: paid predictions first, then, in row order, as fast as the pace allows."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from prefect.exceptions import Pause

from flows.account_limit import AccountLimit
from reelsheet.outcomes import Status
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.redaction import visible
from reelsheet.run.run import Run
from tasks.generate_video import generate_video
from tasks.store_video import store_video

log = logging.getLogger("reelsheet")

PAID_AT_ONCE = 512  # rows that are only polled or copied, beside the submissions


async def process_rows(
    run: Run, groups: Sequence[RowGroup], *, on_all_admitted: Callable[[], None] = lambda: None
) -> None:
    """Bring `groups` as far as they get. `on_all_admitted` is called when none waits for its turn any more."""
    paid_places = asyncio.Semaphore(PAID_AT_ONCE)
    async with AccountLimit.open() as limit, asyncio.TaskGroup() as rows:
        for group in groups:
            if group.step is not Step.SUBMIT:
                rows.create_task(_continue(run, group, paid_places))
        for group in groups:
            if group.step is Step.SUBMIT and await run.uploads.ready(group):
                lease = await limit.take(run.stops)
                if not await run.admit(group):
                    await limit.release(lease)
                    break
                rows.create_task(_submit(run, group, partial(limit.release, lease)))
        on_all_admitted()


async def _submit(run: Run, group: RowGroup, give_back: Callable[[], Awaitable[None]]) -> None:
    try:
        await _run_task(run, group, generate_video, run.generate)
    finally:
        await give_back()
    await _store(run, group)


async def _continue(run: Run, group: RowGroup, places: asyncio.Semaphore) -> None:
    async with places:
        if group.step is Step.POLL:
            await _run_task(run, group, generate_video, run.generate)
        await _store(run, group)


async def _store(run: Run, group: RowGroup) -> None:
    if group.step is Step.COPY:
        await run.yield_to_submissions()
        await _run_task(run, group, store_video, run.store)
    if group.status in {Status.FAILED, Status.UNDELIVERED, Status.UNKNOWN}:
        log.info("%s: %s", visible(group.row.name), group.error)


async def _run_task(run: Run, group: RowGroup, task: Any, body: Callable[[str], Awaitable[Any]]) -> None:
    """A step as a task run of its own; without Prefect where that cannot run it. Its body asks the ledger first."""
    run.monitor.task_runs += 1
    run.monitor.has_started_rows = True
    try:
        await task(group.row.name, group.identity, run.run_id)
        return
    except Pause:  # a person has suspended the run in Prefect: it stops as by a signal
        run.stops.interrupt(signal.SIGTERM)
    except Exception as error:  # noqa: BLE001 - Prefect shows how the task ended; the row must not wait for Prefect
        log.info("%s: the task ended with %s; going on without it.", visible(group.row.name), type(error).__name__)
    try:
        await body(group.identity)
    except Exception as unexpected:  # its neighbours go on
        log.exception("%s: unexpected error.", visible(group.row.name))
        run.give_up(group, unexpected)
