"""The life of a run, shared by both flows: prepare, approve, run every row, publish, final state."""

import asyncio
import logging
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

from prefect.runtime import flow_run

from flows import approval, continuation, overlap, sharding
from flows.reporting import artifacts, events, names, progress, states
from flows.signals import StopSignals, stop_signals
from reelsheet.errors import ConfigurationError, LedgerAway, LedgerError, ReelsheetError, WorkerError
from reelsheet.options import Options
from reelsheet.planning.preparation import Preparation
from reelsheet.run.ledger_session import while_away
from reelsheet.run.publish import Published, publish
from reelsheet.run.run import Run
from reelsheet.run.start import start_run
from tasks import this_run
from tasks.prepare_run import prepare_run
from tasks.publish_results import publish_results

log = logging.getLogger("reelsheet")

MAX_CRASHES = 10  # of one flow run; a crash that always comes again must not repeat for ever


async def execute_run(options: Options) -> states.Outcome:
    """Bring every row as far as it gets. Returns the state that Prefect shows; its result is the summary."""
    if not this_run.is_of_deployment():
        return await _execute(options)
    last_run = await overlap.last_run_alive()
    if last_run is not None:
        return states.skipped(last_run)
    return await continuation.until_put_back(partial(_execute, options))


async def _execute(options: Options, signals: StopSignals | None = None) -> states.Outcome:
    try:
        if this_run.count() >= MAX_CRASHES and await continuation.crashes() >= MAX_CRASHES:
            raise ConfigurationError(
                f"This run has crashed {MAX_CRASHES} times; its worker's logs say why. Start a new one."
            )
        preparation: Preparation = await _call(prepare_run, options)
        try:
            approved = await approval.ask(preparation)
            if isinstance(approved, states.Outcome):
                return approved
            if approved is not preparation.options:  # it took a while, and may cost less now
                preparation = await _call(prepare_run, approved)
            with nullcontext(signals) if signals else stop_signals() as signals:  # noqa: PLR1704
                return await _run(preparation, signals)
        finally:
            preparation.close()
    except (LedgerAway, WorkerError) as error:
        if this_run.is_of_deployment():
            raise continuation.PutBack(error) from error
        return states.not_started(error)
    except ReelsheetError as error:
        return states.not_started(error)


async def _run(preparation: Preparation, signals: StopSignals) -> states.Outcome:
    await sharding.check(preparation)
    starting = partial(start_run, preparation, flow_run_id=flow_run.id)
    run = await (while_away(starting) if this_run.is_of_deployment() else starting())
    run.monitor.task_runs += 1  # prepare-run
    heeding = asyncio.create_task(continuation.heed_cancel(run))
    try:
        signals.tell(run.stops.interrupt)
        await names.tag(run.context)
        async with run.session(), progress.shown(run.monitor):
            await run.writer.begin(run.results())
            with suppress(LedgerError):  # the next claim says so
                await run.write_notes()  # of rows that are not to be paid for, also where another goes on
            await sharding.process_all_rows(run)
        if this_run.is_of_deployment():
            await continuation.leave_to_successor(run)
        is_cancelled = run.stops.signal is not None and await continuation.is_cancelled()
        if run.stops.signal is not None and this_run.is_of_deployment() and not is_cancelled:
            await continuation.leave(run)
        if run.ledger_session.is_lost and this_run.is_of_deployment() and not is_cancelled:
            await continuation.leave(run, LedgerAway(run.stops.error))
        return await _publish(run, is_cancelled=is_cancelled)
    finally:
        heeding.cancel()
        run.close()


async def _publish(run: Run, *, is_cancelled: bool) -> states.Outcome:
    run.monitor.task_runs += 1  # publish-results
    try:
        published: Published = await _call(publish_results, run.run_id)
    except Exception as error:  # noqa: BLE001 - what was paid for is written, with Prefect or without it
        log.warning("The results are written without Prefect (%s).", type(error).__name__)
        published = await publish(run)
    await artifacts.create(run.monitor, published)
    events.finished(run.context, published.summary)
    return states.concluded(run.stops, published.summary, is_cancelled=is_cancelled)


async def _call(task: Any, argument: object) -> Any:
    """A task's result; its own exception where it failed."""
    state = await task(argument, return_state=True)
    result = await state.aresult(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return result
