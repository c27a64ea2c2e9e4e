"""A deployment's run that has to stop here puts itself back, and the next worker takes it up.

Only a person's cancel ends it. Where Prefect's server cannot be asked, a signal is a stop: the run stays Running, and
the rule about heartbeats schedules it again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect import State
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import Abort
from prefect.runtime import flow_run
from prefect.states import AwaitingRetry
from prefect.utilities.engine import propose_state

from flows import bad_workers
from flows.reporting.states import Outcome, cancelled, not_started
from flows.signals import StopSignals, stop_signals
from reelsheet.errors import LedgerError, ReelsheetError
from reelsheet.run.run import Run
from tasks import this_run

log = logging.getLogger("reelsheet")

SERVER_LIMIT_S = 5.0  # for one question to Prefect's server after a signal
TABLE_LIMIT_S = 3.0
CANCEL_GRACE_S = 24.0  # for answers on their way after a cancel: Prefect's worker kills the process after 30 s
MAX_TROUBLES = 30  # of one flow run, a minute and more apart; then its end says why
TROUBLE_PAUSE = timedelta(minutes=1)
STOPPED = "Stopped by a signal (an update, a drained machine); another worker continues it."


class PutBack(Exception):
    """This process can do nothing more for the run; another one can. `trouble`: why, where it was no signal."""

    def __init__(self, trouble: ReelsheetError | None = None) -> None:
        super().__init__(str(trouble or STOPPED))
        self.trouble = trouble


async def until_put_back(body: Callable[[StopSignals], Awaitable[Outcome]]) -> Outcome:
    """The outcome of a deployment's run. `body` is cancelled by a signal, until it takes care of signals itself."""
    with stop_signals() as signals:
        running = asyncio.ensure_future(body(signals))
        signals.tell(lambda _number: running.cancel())
        trouble: ReelsheetError | None = None
        try:
            return await running
        except PutBack as put_back:
            trouble = put_back.trouble
        except asyncio.CancelledError:
            if signals.number is None:
                raise
        if trouble is not None and await _count(_is_trouble) >= MAX_TROUBLES:
            return not_started(trouble)
        await _put_back(trouble)
        return cancelled()


async def leave(run: Run, trouble: ReelsheetError | None = None) -> None:
    """What this process knows of the rows, for the next one and for people. Raises PutBack."""
    await run.refresh()
    with suppress(LedgerError):
        await run.write_notes(is_last=True)
    try:
        async with asyncio.timeout(TABLE_LIMIT_S):
            await run.writer.checkpoint(run.results)
    except Exception as error:  # noqa: BLE001 - the next worker writes it again
        log.warning("The table could not be written before the end (%s).", type(error).__name__)
    raise PutBack(trouble)


async def leave_to_successor(run: Run) -> None:
    """Raises Abort where this run was taken for lost and another process goes on with it or has delivered every row."""
    with suppress(LedgerError):
        record = await run.ledger_session.call(run.context.ledger.run, run.run_id)
        if record is None or record.owner == run.context.record.owner:
            return
        if record.alive or record.exit_code == 0:
            raise Abort("Another process continues this run.")


async def crashes() -> int:
    """How often this flow run has crashed, as far as Prefect's server can say; a polite stop is no crash."""
    return await _count(lambda state: state.is_crashed())


def _is_trouble(state: State[Any]) -> bool:
    return (state.message or "").startswith(bad_workers.PUT_BACK)


async def _count(is_meant: Callable[[State[Any]], bool]) -> int:
    """How many of this flow run's states are meant; 0 where Prefect's server does not say."""
    try:
        async with get_client() as client:
            return sum(map(is_meant, await client.read_flow_run_states(UUID(flow_run.id))))
    except Exception as error:  # noqa: BLE001 - the run is not held up by it
        log.info("Prefect did not say what the run has been through (%s).", type(error).__name__)
        return 0


async def is_cancelled() -> bool:
    """True where somebody cancelled this flow run in Prefect, which ends those of deployments only."""
    if not this_run.is_of_deployment():
        return False
    try:
        async with asyncio.timeout(SERVER_LIMIT_S), get_client() as client:
            state = (await client.read_flow_run(UUID(flow_run.id))).state
            return state is not None and (state.is_cancelling() or state.is_cancelled())
    except Exception as error:  # noqa: BLE001 - where the server cannot be asked, it is a stop
        log.info("Prefect did not say whether the run was cancelled (%s).", type(error).__name__)
    return False


async def heed_cancel(run: Run) -> None:
    """After a cancel, give up answers before Prefect's worker kills this process, so that each is recorded."""
    await run.stops.interrupted.wait()
    if await is_cancelled():
        await asyncio.sleep(CANCEL_GRACE_S)
        run.in_flight.cancel_all()


async def _put_back(trouble: ReelsheetError | None) -> None:
    """Leave this flow run to the next worker, or suspended. Abort ends the process with 0; returns after a cancel."""
    assert flow_run.id is not None  # noqa: S101 - a deployment's run has one
    message, moment = STOPPED, datetime.now(UTC)
    if trouble is not None:
        message = bad_workers.put_back(trouble)
        moment += TROUBLE_PAUSE
        log.warning("%s", message)
    again: State[Any] = AwaitingRetry(message=message, scheduled_time=moment)
    try:
        async with asyncio.timeout(SERVER_LIMIT_S), get_client() as client:
            is_left = await _stays_suspended(client)
            if not is_left:
                is_left = (await propose_state(client, again, flow_run_id=UUID(flow_run.id))).is_scheduled()
    except Exception as error:
        log.warning("Prefect's server did not take the run back (%s).", type(error).__name__)
        raise Abort(message) from error
    if is_left:
        raise Abort(message)


async def _stays_suspended(client: PrefectClient) -> bool:
    """True where a person has suspended this flow run, and resumes it when they like.

    The state is set once more, as heartbeats may have come after it: without another event, the run is taken for lost.
    """
    state = (await client.read_flow_run(UUID(flow_run.id))).state
    if state is None or state.name != "Suspended":
        return False
    await client.set_flow_run_state(UUID(flow_run.id), state.fresh_copy(), force=True)
    return True
