"""The walk that both flows share: prepare, run the rows, write the table, say how it went."""

import asyncio
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from prefect import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from reelsheet import preparation, record, settings
from reelsheet.ledger import RunRecord
from reelsheet.options import Options
from reelsheet.outcomes import RowResult, Status
from reelsheet.plan import Step, Work
from reelsheet.results import Summary, summarise
from reelsheet.run import Run
from tasks.generate_video import generate_video
from tasks.store_video import store_video

log = logging.getLogger("reelsheet")

COPIES_BESIDE = 512  # rows that only need polling or copying, at once


async def deliver(options: Options) -> State[dict[str, Any]]:
    """Bring every row as far as it gets. Returns the state that Prefect shows, with the summary as its data."""
    prepared = preparation.handed_over(options)
    if prepared is None:
        prepared = await preparation.prepare(options, settings.load())
    try:
        run = await preparation.begin(prepared, flow_run_id=flow_run.id)
        try:
            with interruptible(run):
                async with run.going():
                    await record.begin(run)
                    await walk(run)
                return await conclude(run)
        finally:
            run.close()
    finally:
        prepared.close()


async def walk(run: Run) -> None:
    """Every row that needs a step: what is paid for first, for links expire; then in row order, as the pace allows."""
    beside = asyncio.Semaphore(COPIES_BESIDE)
    todo = run.to_do()
    async with asyncio.TaskGroup() as rows:
        for work in todo:
            if work.step is not Step.PAY:
                rows.create_task(one_row_beside(run, work, beside))
        for work in todo:
            if work.step is Step.PAY:
                if not await run.admit(work):
                    break
                rows.create_task(one_row(run, work))


async def one_row(run: Run, work: Work) -> None:
    """A row's steps, each a task run of its own."""
    with suppress(Exception):  # Prefect shows it, the row's line says it, the neighbours go on
        if work.step in {Step.PAY, Step.POLL}:
            run.task_runs += 1
            await generate_video(work.row.name, work.identity, run.run_id)
        if work.step is Step.COPY:
            run.task_runs += 1
            await store_video(work.row.name, work.identity, run.run_id)


async def one_row_beside(run: Run, work: Work, beside: asyncio.Semaphore) -> None:
    async with beside:
        await one_row(run, work)


async def conclude(run: Run) -> State[dict[str, Any]]:
    """The ledger's truth into the table, the books closed, the state that says it."""
    await run.refresh()
    found = run.results()
    exit_code = run.exit_code(found)
    summary = _summary(run, found, exit_code)
    files = await record.finish(run, found, summary)
    if files.fallback and exit_code in {0, 1, 4}:
        exit_code = 3
        summary = _summary(run, found, exit_code)
    run.files = files
    data = summary.as_json()
    await run.in_ledger(run.ledger.write_notes, run.run_id, run.notes())
    await run.in_ledger(run.ledger.finish_run, run.run_id, exit_code=exit_code, summary=data)
    return state_of(run, summary, exit_code, data)


def state_of(run: Run, summary: Summary, exit_code: int, data: dict[str, Any]) -> State[dict[str, Any]]:
    """All delivered → Completed; some not → Incomplete; stopped early → Failed."""
    told = counts(summary)
    if exit_code == 0:
        return Completed(message=told, data=data)
    if exit_code == 1:
        return Completed(name="Incomplete", message=told, data=data)
    why = run.stop_error or run.over_budget or "Interrupted; run the same command again to go on."
    return Failed(name="Stopped", message=f"{why} {told}", data=data)


def counts(summary: Summary) -> str:
    """ "7 rows: 5 succeeded, 1 failed, 1 invalid; $2.70 spent"."""
    parts = [f"{getattr(summary, status)} {status}" for status in Status if getattr(summary, status)]
    risk = f", ${summary.at_risk_cents / 100:,.2f} at risk" if summary.at_risk_cents else ""
    return f"{summary.rows} rows: {', '.join(parts) or 'none'}; ${summary.cost_cents / 100:,.2f} spent{risk}"


def _summary(run: Run, found: list[RowResult], exit_code: int) -> Summary:
    return summarise(
        found,
        run_id=run.run_id,
        started_at=started(run.record),
        finished_at=datetime.now(UTC),
        seconds=time.monotonic() - run.started,
        flow_run_id=run.flow_run_id,
        exit_code=exit_code,
    )


def started(record: RunRecord) -> datetime:
    return datetime.fromtimestamp(record.started_at, UTC)


@contextmanager
def interruptible(run: Run) -> Iterator[None]:
    """SIGINT and SIGTERM end the run in order; a second one at once. Prefect's own handlers come back after."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if run.signal is not None:
            import os

            os._exit(128 + number)
        log.warning("Stopping: answers on their way are awaited, nothing new is sent. Once more stops at once.")
        run.interrupt(number)

    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.getsignal(number)
            loop.add_signal_handler(number, on_signal, int(number))
    except (ValueError, RuntimeError):  # not the main thread: whoever started us passes signals on
        before.clear()
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            with suppress(TypeError, ValueError):
                signal.signal(number, handler)
