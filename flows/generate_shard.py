"""One part of a large run: its rows, in the process of the run or in one of its own."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from prefect.runtime import flow_run
from pydantic import Field

from flows import continuation
from flows.form import form
from flows.reporting import names, states
from flows.rows import process_rows
from flows.signals import StopSignals, reinstall_handlers, stop_signals
from reelsheet import settings
from reelsheet.errors import LedgerError, ReelsheetError
from reelsheet.planning.plan import RowGroup
from reelsheet.run import shards
from reelsheet.run.ledger_session import while_away
from reelsheet.run.run import Run
from tasks import this_run

RunId = Annotated[str, Field(min_length=1, max_length=64, description="The run that this is a part of.")]
Number = Annotated[int, Field(ge=1, description="Which part of it, counted from 1.")]
Concurrency = Annotated[
    int | None,
    Field(ge=1, le=10_000, description="At most so many predictions in flight in this part; empty: no limit."),
]


@dataclass(frozen=True, slots=True)
class LocalShard:
    """A shard whose run is in this very process."""

    run: Run
    groups: list[RowGroup]
    on_all_admitted: Callable[[], None]


local_shards: dict[tuple[str, int], LocalShard] = {}  # by run id and number


@form("generate-shard", run_name=names.shard_name)
async def generate_shard(run_id: RunId, shard: Number, concurrency: Concurrency = None) -> states.Outcome:
    """Bring a shard's rows as far as they get, in the name and under the cap of its run.

    Running it again does no work twice: the ledger says which process has it, and what happened to each row.
    """
    return await run_shard(run_id, shard, flow_run_id=flow_run.id, concurrency=concurrency)


async def run_shard(run_id: str, number: int, *, flow_run_id: str | None, concurrency: int | None) -> states.Outcome:
    """The body of `generate-shard`."""
    local = local_shards.get((run_id, number))
    if local is not None:
        reinstall_handlers()
        await process_rows(local.run, local.groups, on_all_admitted=local.on_all_admitted)
        return states.shard_concluded(local.run.stops, local.groups)
    body = partial(_run_attached, run_id, number, flow_run_id, concurrency)
    if this_run.is_of_deployment():
        return await continuation.until_put_back(body)
    with stop_signals() as signals:
        return await body(signals)


async def _run_attached(
    run_id: str, number: int, flow_run_id: str | None, concurrency: int | None, signals: StopSignals
) -> states.Outcome:
    try:
        loaded = settings.load()
        attach = partial(shards.attach, run_id, number, loaded, flow_run_id=flow_run_id, concurrency=concurrency)
        attached = await while_away(attach)
    except ReelsheetError as error:
        return states.shard_not_started(error)
    if attached is None:
        return states.shard_elsewhere()
    run = attached.run
    heeding = asyncio.create_task(continuation.heed_cancel(run))
    try:
        signals.tell(run.stops.interrupt)
        async with run.session():
            await process_rows(run, shards.paid_first(run.to_do()))
        await run.refresh()
        with suppress(LedgerError):  # its run sees that nobody has it
            await attached.leave()
        if run.stops.signal is not None and this_run.is_of_deployment() and not await continuation.is_cancelled():
            raise continuation.PutBack
        return states.shard_concluded(run.stops, list(run.plan.groups.values()))
    finally:
        heeding.cancel()
        attached.close()
