"""A large run in shards: given to workers, followed by the ledger and by Prefect, and their results taken in."""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import arun_deployment
from prefect.exceptions import PrefectException
from prefect.states import Crashed

from flows import continuation
from flows.bad_workers import is_not_started
from flows.local_shards import process_in_order, process_shard
from flows.reporting.states import INTERRUPTED
from flows.rows import process_rows
from reelsheet.errors import ConfigurationError, LedgerError, ReelsheetError
from reelsheet.ledger.shards import ShardRecord, Shards
from reelsheet.outcomes import ErrorCode
from reelsheet.planning.plan import OPEN
from reelsheet.planning.preparation import Preparation
from reelsheet.run import shards
from reelsheet.run.run import Run
from tasks import this_run

log = logging.getLogger("reelsheet")

DEPLOYMENT = "generate-shard/worker"
POLL_INTERVAL_S = 2.0
TAKE_IN_INTERVAL_S = 5.0
TAKE_IN_SHARE = 20  # and at least so many times what the last one took
NO_WORKER_LIMIT_S = 90.0  # without a shard at work elsewhere, before this process does one itself
START_LIMIT_S = 180.0  # from a worker's taking a shard up to its first step; an image may have to be pulled
FINAL_STATES_LIMIT_S = 15.0  # for the shards' own states at the end
MAX_CRASHES = 5  # of one shard, before this process does it itself
MAX_FAILURES = 2  # likewise
SHARDS_UNDER_LIMIT = 8  # shards at once that share --concurrency
PAGE = 200  # flow runs in one answer of Prefect's

monotonic = time.monotonic  # a test's own clock, where it has one

UNREACHABLE = (httpx.HTTPError, PrefectException, OSError)


async def check(preparation: Preparation) -> None:
    """Raises ConfigurationError where this run would be shared by machines that cannot share its ledger."""
    is_large = len(preparation.plan.at_step(*OPEN)) > preparation.options.shard_size
    if is_large and preparation.ledger.is_sqlite and await _workers_take_part():
        raise ConfigurationError(shards.SQLITE_REFUSED)


async def process_all_rows(run: Run) -> None:
    """Every row that needs a step, in as many shards as `shard_size` makes of them."""
    groups = run.to_do()
    earlier = await _records(run)  # of an earlier life of this run
    is_large = len(groups) > run.context.options.shard_size or any(shard.alive for shard in earlier)
    if is_large and await _workers_take_part():
        await _dispatch(run)
        return
    if earlier:
        await _in_ledger(run, run.context.ledger.shards.delete)
    if is_large:
        await process_in_order(run, groups)
    else:
        await process_rows(run, shards.paid_first(groups))


async def _workers_take_part() -> bool:
    """True inside a worker, where the server knows the shards' deployment."""
    if not this_run.is_of_deployment():
        return False
    try:
        async with get_client() as client:
            await client.read_deployment_by_name(DEPLOYMENT)
    except UNREACHABLE:  # not known there, or no answer: this process can do every row itself
        return False
    return True


async def _dispatch(run: Run) -> None:
    """Give the shards away, follow them, and take in what they did."""
    await run.uploads.finish()
    records = await shards.divide(run)
    limit = run.context.options.concurrency
    at_once = len(records) if limit is None else min(len(records), limit, SHARDS_UNDER_LIMIT)
    async with get_client() as client:
        dispatcher = ShardDispatcher(run, client, records, at_once, None if limit is None else limit // at_once)
        await dispatcher.follow()
    with suppress(LedgerError):  # the end of the run says so
        await shards.take_in(run)
        if all(shard.finished for shard in dispatcher.records):
            await _in_ledger(run, run.context.ledger.shards.delete)


@dataclass(slots=True)
class DispatchedShard:
    """What this process knows of a shard that it has given away."""

    flow_run_id: UUID | None = None
    pending_since: float | None = None  # a worker has taken it and has not started it
    stuck: int = 0  # how often it was taken and never started
    crashes: int = 0
    failures: int = 0
    is_for_here: bool = False  # workers could not do it: this process does
    given_up: bool = False

    def is_stuck(self, child: FlowRun) -> bool:
        """A worker took it and died before it started, which nobody reports. Waits twice as long each time."""
        if child.state is None or child.state.type is not StateType.PENDING:
            self.pending_since = None
            return False
        self.pending_since = self.pending_since or monotonic()
        limit_s: float = START_LIMIT_S * 2**self.stuck
        return monotonic() - self.pending_since > limit_s

    def count_end(self, child: FlowRun, *, never_started: bool) -> None:
        if never_started:
            self.stuck, self.pending_since = self.stuck + 1, None
        elif child.state is not None and child.state.type is StateType.FAILED and child.state.name != "Stopped":
            self.failures += 1
        else:
            self.crashes += 1
        self.is_for_here = self.failures >= MAX_FAILURES or self.crashes >= MAX_CRASHES


@dataclass(slots=True)
class OwnShard:
    """The shard that this process does itself."""

    number: int
    identities: frozenset[str]
    task: "asyncio.Task[None]"


@dataclass(slots=True)
class ShardDispatcher:
    """A run's shards on workers, as the run's own process sees them. `concurrency` is each shard's."""

    run: Run
    client: PrefectClient
    records: list[ShardRecord]
    at_once: int
    concurrency: int | None
    ledger: Shards = field(init=False)
    shards: dict[int, DispatchedShard] = field(init=False)
    own: OwnShard | None = None
    last_active: float = field(init=False)  # when a shard was last at work elsewhere
    server_is_silent: bool = False
    stop_is_published: bool = False

    def __post_init__(self) -> None:
        self.ledger = self.run.context.ledger.shards
        self.shards = {record.number: DispatchedShard() for record in self.records}
        self.last_active = monotonic()

    async def follow(self) -> None:
        """Until every shard is finished or given up, or the run is interrupted."""
        stops = self.run.stops
        taking_in = asyncio.create_task(self._keep_taking_in())
        try:
            while not stops.interrupted.is_set() and not self._all_ended():
                try:
                    await self._reconcile()
                    self.records = await _records(self.run)
                except LedgerError as error:  # it was waited for
                    self.run.ledger_session.fail(error)
                    break
                await stops.pause(POLL_INTERVAL_S)
            with suppress(LedgerError):
                if stops.signal is not None and await continuation.is_cancelled():
                    await self._publish_stop(ErrorCode.INTERRUPTED, INTERRUPTED)
            await self._wait_for_final_states()
        finally:
            taking_in.cancel()
            await asyncio.gather(taking_in, *([self.own.task] if self.own else []), return_exceptions=True)

    def _all_ended(self) -> bool:
        return all(record.finished or self.shards[record.number].given_up for record in self.records)

    async def _reconcile(self) -> None:
        """Look at every shard once: start it, start it again where its worker died, or leave it alone."""
        await self._share_stops()
        if self.run.ledger_session.is_just_back:  # the shards' processes seem dead until they have renewed their leases
            self.last_active = monotonic()
            return
        children = await self._children()
        underway = sum(not record.finished and self._is_underway(record, children) for record in self.records)
        own_number = self.own.number if self.own else None
        if self.server_is_silent or any(one.alive and one.number != own_number for one in self.records):
            self.last_active = monotonic()
        for record in self.records:
            shard = self.shards[record.number]
            if record.finished or record.alive or shard.given_up or shard.is_for_here:
                continue
            child = children.get(shard.flow_run_id) if shard.flow_run_id else None
            if shard.flow_run_id is not None and child is None and not self.server_is_silent:  # it was deleted
                await _in_ledger(self.run, self.ledger.begin_try, record.number)
                shard.flow_run_id = None
            elif shard.flow_run_id is None:
                if underway < self.at_once:
                    underway += await self._start(record)
            elif child is not None and (record.owner is not None or _is_final(child) or shard.is_stuck(child)):
                await self._start_again(record, child)
        await self._end_own()
        if self.own is None:
            await self._do_one_here()

    def _is_underway(self, record: ShardRecord, children: dict[UUID, FlowRun]) -> bool:
        flow_run_id = self.shards[record.number].flow_run_id
        child = children.get(flow_run_id) if flow_run_id else None
        return record.alive or (child is not None and not _is_final(child))

    async def _share_stops(self) -> None:
        """What stopped one process stops the others: submitting, not polling and copying."""
        stops = self.run.stops
        if stops.code is None:
            stop = await _in_ledger(self.run, self.ledger.stop_of)
            if stop is not None:
                stops.stop(ErrorCode(stop.code), stop.error)
        elif not self.run.ledger_session.is_lost:
            await self._publish_stop(stops.code, stops.error)

    async def _publish_stop(self, code: ErrorCode, error: str) -> None:
        if not self.stop_is_published:
            self.stop_is_published = True
            await _in_ledger(self.run, self.ledger.mark_stop, None, code, error)

    async def _start(self, record: ShardRecord) -> bool:
        """A deployment run for a shard; the same one again where an earlier life of this run started it already."""
        run_id, number = self.run.run_id, record.number
        tries = record.tries or await _in_ledger(self.run, self.ledger.begin_try, number)
        try:
            child = await arun_deployment(
                DEPLOYMENT,
                client=self.client,
                parameters={"run_id": run_id, "shard": number, "concurrency": self.concurrency},
                timeout=0,
                flow_run_name=f"{run_id} shard {number}",
                idempotency_key=f"{run_id}-{number}-{tries}",
                tags=["reelsheet", "shard", f"run:{run_id}"],
            )
        except UNREACHABLE as error:
            self._note_silence(error)
            return False
        self.shards[number].flow_run_id = child.id
        return True

    async def _start_again(self, seen: ShardRecord, child: FlowRun) -> None:
        """Its process is gone, or ended without finishing it: another takes it. The ledger knows what was paid."""
        shard = self.shards[seen.number]
        record = next(one for one in await _records(self.run) if one.number == seen.number)
        if record.finished or record.alive:
            return  # it moved on meanwhile
        reason = child.state.message if child.state is not None else ""
        never_started = record.owner is None and not _is_final(child)
        if not _is_final(child):
            reason = "its worker is gone"
            with suppress(*UNREACHABLE):
                await self.client.set_flow_run_state(child.id, Crashed(message="The worker is gone."), force=True)
        if child.state is not None and child.state.type is StateType.CANCELLED:
            reason, shard.given_up = "it was cancelled", True
        else:
            shard.count_end(child, never_started=never_started)
        if shard.given_up:
            self._give_up(seen.number, reason)
            return
        if is_not_started(child):
            self._remark(reason)
        log.warning("Shard %d is %s: %s", seen.number, "done here" if shard.is_for_here else "started again", reason)
        await _in_ledger(self.run, self.ledger.begin_try, seen.number)
        shard.flow_run_id = None

    def _give_up(self, number: int, reason: str | None) -> None:
        self.shards[number].given_up = True
        error = f"Part {number} of this run could not be finished: {reason or 'its workers ended without finishing it'}"
        self.run.stops.stop(ErrorCode.INTERRUPTED, error)

    def _remark(self, problem: str | None) -> None:
        """Name a worker that is not set up like the run, once for each problem."""
        remarks = self.run.monitor.remarks
        if problem and problem not in remarks:
            remarks.append(problem)

    async def _do_one_here(self) -> None:
        """One that workers could not do; or any, where none has started anything for a while.

        They may all be waiting for this very run.
        """
        is_idle = monotonic() - self.last_active > NO_WORKER_LIMIT_S
        for record in self.records:
            shard = self.shards[record.number]
            if record.finished or record.alive or shard.given_up or not (is_idle or shard.is_for_here):
                continue
            if await _in_ledger(self.run, self.ledger.take, record.number, self.run.context.record.flow_run_id):
                log.warning("Shard %d is done here, as no worker could do it.", record.number)
                groups = shards.within(self.run.to_do(), record.first_position, record.last_position)
                task = asyncio.create_task(self._process_own(record.number, shards.paid_first(groups)))
                self.own = OwnShard(record.number, frozenset(group.identity for group in groups), task)
                return

    async def _process_own(self, number: int, groups: list[Any]) -> None:
        await process_shard(self.run, number, groups)
        await self.run.write_notes(is_last=True)
        await _in_ledger(self.run, self.ledger.finish, number)

    async def _end_own(self) -> None:
        """Room for the next; a shard that could not be finished here is given back."""
        if self.own is not None and self.own.task.done():
            error = self.own.task.exception()
            if error is not None:
                await _in_ledger(self.run, self.ledger.give_back, self.own.number)
            if error is not None and self.shards[self.own.number].is_for_here:
                self._give_up(self.own.number, f"unexpected error ({type(error).__name__}).")
            self.own = None

    async def _children(self) -> dict[UUID, FlowRun]:
        """The shards' flow runs as the server knows them; {} where it does not answer."""
        ids = [shard.flow_run_id for shard in self.shards.values() if shard.flow_run_id is not None]
        children: dict[UUID, FlowRun] = {}
        try:
            for start in range(0, len(ids), PAGE):
                wanted = FlowRunFilter(id=FlowRunFilterId(any_=ids[start : start + PAGE]))
                page = await self.client.read_flow_runs(flow_run_filter=wanted, limit=PAGE)
                children |= {child.id: child for child in page}
        except UNREACHABLE as error:
            self._note_silence(error)
            return {}
        self.server_is_silent = False
        return children

    def _note_silence(self, error: Exception) -> None:
        if not self.server_is_silent:
            log.warning("Prefect's server does not answer (%s); what is under way goes on.", type(error).__name__)
        self.server_is_silent = True

    async def _keep_taking_in(self) -> None:
        """The table of this process stays true while others work."""
        pause_s = TAKE_IN_INTERVAL_S
        while True:
            await asyncio.sleep(pause_s)
            began = time.monotonic()
            with suppress(ReelsheetError):
                await shards.take_in(self.run, leave=self.own.identities if self.own else frozenset())
            pause_s = max(TAKE_IN_INTERVAL_S, TAKE_IN_SHARE * (time.monotonic() - began))

    async def _wait_for_final_states(self) -> None:
        """The shards' own states first, so that the run does not seem to end before its parts."""
        until = time.monotonic() + FINAL_STATES_LIMIT_S
        while time.monotonic() < until and not self.server_is_silent and self.run.stops.signal is None:
            if all(_is_final(child) for child in (await self._children()).values()):
                return
            await asyncio.sleep(0.5)


async def _records(run: Run) -> list[ShardRecord]:
    return await _in_ledger(run, run.context.ledger.shards.of_run)  # type: ignore[no-any-return]


async def _in_ledger(run: Run, function: Any, *arguments: Any) -> Any:
    """A method of `Ledger.shards`, for this run, in a thread."""
    return await run.ledger_session.call(function, run.run_id, *arguments)


def _is_final(child: FlowRun) -> bool:
    return child.state is not None and child.state.is_final()
