"""The life of a run, shared by both flows: prepare, approve, run every row, publish, final state."""

import logging
from typing import Any

from prefect.runtime import flow_run

from flows import approval, sharding
from flows.reporting import artifacts, events, names, progress, states
from flows.signals import interruptible
from reelsheet.errors import ConfigurationError, ReelsheetError
from reelsheet.options import Options
from reelsheet.planning.preparation import Preparation
from reelsheet.run.publish import Published, publish
from reelsheet.run.run import Run
from reelsheet.run.start import start_run
from tasks.prepare_run import prepare_run
from tasks.publish_results import publish_results

log = logging.getLogger("reelsheet")

MAX_STARTS = 10  # of one flow run; a crash that always comes again must not repeat for ever


async def execute_run(options: Options) -> states.Outcome:
    """Bring every row as far as it gets. Returns the state that Prefect shows; its result is the summary."""
    try:
        if (flow_run.run_count or 0) > MAX_STARTS:
            raise ConfigurationError(
                f"This run has crashed {MAX_STARTS} times; its worker's logs say why. Start a new one."
            )
        preparation: Preparation = await _call(prepare_run, options)
        try:
            approved = await approval.ask(preparation)
            if isinstance(approved, states.Outcome):
                return approved
            if approved is not preparation.options:  # it took a while, and may cost less now
                preparation = await _call(prepare_run, approved)
            return await _run(preparation)
        finally:
            preparation.close()
    except ReelsheetError as error:
        return states.not_started(error)


async def _run(preparation: Preparation) -> states.Outcome:
    await sharding.check(preparation)
    run = await start_run(preparation, flow_run_id=flow_run.id)
    run.monitor.task_runs += 1  # prepare-run
    try:
        await names.tag(run.context)
        with interruptible(run.stops):
            async with run.session(), progress.shown(run.monitor):
                await run.writer.begin(run.results())
                await sharding.process_all_rows(run)
            return await _publish(run)
    finally:
        run.close()


async def _publish(run: Run) -> states.Outcome:
    run.monitor.task_runs += 1  # publish-results
    try:
        published: Published = await _call(publish_results, run.run_id)
    except Exception as error:  # noqa: BLE001 - what was paid for is written, with Prefect or without it
        log.warning("The results are written without Prefect (%s).", type(error).__name__)
        published = await publish(run)
    await artifacts.create(run.monitor, published)
    events.finished(run.context, published.summary)
    is_cancelled = run.stops.signal is not None and await states.is_cancelling()
    return states.concluded(run.stops, published.summary, is_cancelled=is_cancelled)


async def _call(task: Any, argument: object) -> Any:
    """A task's result; its own exception where it failed."""
    state = await task(argument, return_state=True)
    result = await state.aresult(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return result
