"""A large run in shards: as subflows in this process, or as deployment runs on whatever workers there are."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import arun_deployment
from prefect.exceptions import PrefectException
from prefect.runtime import deployment
from prefect.states import Crashed

from flows.reporting import states
from flows.rows import process_rows
from flows.signals import interruptible, ours_again
from reelsheet import messages, settings
from reelsheet.errors import ConfigurationError, LedgerError, ReelsheetError
from reelsheet.ledger import shards as book
from reelsheet.ledger.shards import ShardRecord
from reelsheet.outcomes import ErrorCode
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.planning.preparation import Preparation
from reelsheet.run import shards
from reelsheet.run.run import Run

log = logging.getLogger("reelsheet")

DEPLOYMENT = "generate-shard/worker"
LOOK_SECONDS = 2.0
TABLE_SECONDS = 5.0
PATIENCE_SECONDS = 90.0  # without a shard at work elsewhere before this process takes one itself
BEGIN_SECONDS = 180.0  # from a worker's taking a shard up to its first step; an image may have to be pulled
LEDGER_SECONDS = 120.0  # without the ledger, before the run is stopped
SHOWN_SECONDS = 15.0
CRASHES = 5  # of one shard
FAILURES = 2
UNDER_A_CEILING = 8  # shards at once that share a ceiling
PAGE = 200  # flow runs that Prefect tells of in one answer

monotonic = time.monotonic  # a test's own clock, where it has one

Unreachable = (httpx.HTTPError, PrefectException, OSError)


async def check(prepared: Preparation) -> None:
    """Raises ConfigurationError where this run would be shared by machines that cannot share its ledger."""
    many = len(prepared.plan.having(*shards.OPEN)) > prepared.options.shard_size
    if many and prepared.ledger.is_sqlite and await _workers_take_part():
        raise ConfigurationError(shards.SQLITE_REFUSED)


async def all_rows(run: Run) -> None:
    """Every row that needs a step, in as many parts as `shard_size` makes of them."""
    todo = run.to_do()
    before = await _shards(run)  # of an earlier life of this run
    many = len(todo) > run.options.shard_size or any(shard.alive for shard in before)
    if many and await _workers_take_part():
        await _over_workers(run)
        return
    if before:
        await run.in_ledger(book.forget, run.ledger, run.run_id)
    if many:
        await _in_this_process(run, todo)
    else:
        await process_rows(run, _free_first(todo))


def _free_first(todo: list[RowGroup]) -> list[RowGroup]:
    return shards.chunks(todo, len(todo))[0] if todo else []


# In this process


@dataclass(slots=True)
class Part:
    """A shard that its subflow finds again in the same process."""

    run: Run
    todo: list[RowGroup]
    admitted: Callable[[], None]


_parts: dict[tuple[str, int], Part] = {}


async def _in_this_process(run: Run, todo: list[RowGroup]) -> None:
    """One subflow after another; the next begins when the last row of the one before has been let go."""
    async with asyncio.TaskGroup() as going:
        for number, part in enumerate(shards.chunks(todo, run.options.shard_size), 1):
            run.task_runs += 1  # Prefect counts a subflow among its parent's tasks
            admitted = asyncio.Event()
            subflow = going.create_task(_subflow(run, number, part, admitted.set))
            subflow.add_done_callback(lambda _, event=admitted: event.set())  # type: ignore[misc]
            await admitted.wait()


async def _subflow(run: Run, number: int, todo: list[RowGroup], admitted: Callable[[], None]) -> None:
    from flows.generate_shard import generate_shard

    key = (run.run_id, number)
    _parts[key] = Part(run, todo, admitted)
    try:
        await generate_shard(run.run_id, number)
    except Exception as error:  # noqa: BLE001 - rows do not wait for Prefect
        log.warning("Shard %d goes on without Prefect (%s).", number, type(error).__name__)
        left = {group.identity for group in run.to_do()}
        await process_rows(run, [group for group in todo if group.identity in left], admitted=admitted)
    finally:
        ours_again()
        _parts.pop(key, None)


# One shard, wherever it is


async def one_shard(run_id: str, number: int, *, flow_run_id: str | None, concurrency: int | None) -> states.Outcome:
    """The body of `generate-shard`."""
    part = _parts.get((run_id, number))
    if part is not None:
        ours_again()
        await process_rows(part.run, part.todo, admitted=part.admitted)
        return _told(part.run, part.todo)
    try:
        shard = await shards.attach(run_id, number, settings.load(), flow_run_id=flow_run_id, concurrency=concurrency)
    except ReelsheetError as error:
        return states.not_begun(error)
    if shard is None:
        told = "Another process has it, or had it."
        return states.Outcome(type=StateType.COMPLETED, name="Elsewhere", message=told, data={})
    try:
        with interruptible(shard):
            async with shard.session():
                await process_rows(shard, _free_first(shard.to_do()))
            await shard.refresh()
            await shard.leave()
        return _told(shard, list(shard.plan.groups.values()))
    finally:
        shard.close()
        shard.ledger.close()


def _told(run: Run, groups: list[RowGroup]) -> states.Outcome:
    """A shard's own state: only for people; the run reads the ledger."""
    done = sum(group.step is Step.DONE for group in groups)
    message = f"{done} of {len(groups)} delivered"
    data = {"delivered": done, "of": len(groups)}
    if run.signal is not None or run.stop_code is not None:
        why = run.stop_error or states.INTERRUPTED
        return states.Outcome(type=StateType.FAILED, name="Stopped", message=f"{why} {message}", data=data)
    name = None if done == len(groups) else "Incomplete"
    return states.Outcome(type=StateType.COMPLETED, name=name, message=message, data=data)


# On workers


async def _workers_take_part() -> bool:
    """True inside a worker, where the server knows the shards' deployment."""
    if not deployment.id:
        return False
    try:
        async with get_client() as client:
            await client.read_deployment_by_name(DEPLOYMENT)
    except Unreachable:  # not known there, or no answer: this process can do every row itself
        return False
    return True


@dataclass(slots=True)
class DispatchedShard:
    """What this process knows of a shard that it has given away."""

    flow_run: UUID | None = None
    pending: float | None = None  # since when a worker has it that has not begun it
    stuck: int = 0
    crashes: int = 0
    failures: int = 0
    given_up: bool = False


@dataclass(slots=True)
class ShardDispatcher:
    """A run's shards on workers, as this process sees them."""

    run: Run
    client: PrefectClient
    hands: dict[int, DispatchedShard]
    at_once: int
    concurrency: int | None  # of each
    moved: float  # when a shard was last at work elsewhere
    own: "asyncio.Task[None] | None" = None  # the shard that this process does itself
    own_number: int | None = None
    own_rows: frozenset[str] = frozenset()
    silent: bool = False  # the server does not answer just now
    told: bool = False  # the others know why this process stopped
    ledger_down: float | None = None  # since when


async def _over_workers(run: Run) -> None:
    """Give the shards away, watch them by the ledger and by Prefect, take in what they did."""
    found = await shards.divide(run)
    ceiling = run.options.concurrency
    at_once = len(found) if ceiling is None else min(len(found), ceiling, UNDER_A_CEILING)
    share = None if ceiling is None else ceiling // at_once
    async with get_client() as client:
        fan = ShardDispatcher(
            run, client, {shard.number: DispatchedShard() for shard in found}, at_once, share, monotonic()
        )
        table = asyncio.create_task(_keep_taking_in(fan))
        try:
            while not run.interrupted.is_set() and not _over(fan, found):
                try:
                    await _once(fan, found)
                    found = await _shards(run)
                    fan.ledger_down = None
                except LedgerError as error:
                    if not _be_patient(fan, error):
                        break
                with suppress(TimeoutError):
                    await asyncio.wait_for(run.interrupted.wait(), LOOK_SECONDS)
            with suppress(LedgerError):
                if run.signal is not None:
                    await _tell_the_others(fan, ErrorCode.INTERRUPTED, states.INTERRUPTED)
            await _until_shown(fan)
        finally:
            table.cancel()
            await asyncio.gather(table, *([fan.own] if fan.own else []), return_exceptions=True)
    with suppress(LedgerError):  # the end of the run says so
        await shards.take_in(run)
        if all(shard.finished for shard in found):
            await run.in_ledger(book.forget, run.ledger, run.run_id)


def _be_patient(fan: ShardDispatcher, error: LedgerError) -> bool:
    """A ledger that is restarted comes back; False where it did not in time, and the run is stopped."""
    now = monotonic()
    if fan.ledger_down is None:
        fan.ledger_down = now
        log.warning("%s", error)
    if now - fan.ledger_down < LEDGER_SECONDS:
        return True
    fan.run.stop(ErrorCode.STORAGE, messages.ledger_down(error))
    return False


def _over(fan: ShardDispatcher, found: list[ShardRecord]) -> bool:
    return all(shard.finished or fan.hands[shard.number].given_up for shard in found)


async def _once(fan: ShardDispatcher, found: list[ShardRecord]) -> None:
    """One look at every shard: begin it, begin it again where its worker died, or leave it alone."""
    run = fan.run
    await _share_stops(fan)
    children = await _children(fan)
    waiting = sum(not shard.finished and _is_on_its_way(fan, shard, children) for shard in found)
    if any(shard.alive and shard.number != fan.own_number for shard in found) or fan.silent:
        fan.moved = monotonic()
    for shard in found:
        hand = fan.hands[shard.number]
        if shard.finished or shard.alive or hand.given_up:
            continue
        child = children.get(hand.flow_run) if hand.flow_run else None
        if hand.flow_run is not None and child is None and not fan.silent:  # somebody deleted it
            await run.in_ledger(book.begin_try, run.ledger, run.run_id, shard.number)
            hand.flow_run = None
        elif hand.flow_run is None:
            if waiting < fan.at_once:
                waiting += await _begin(fan, shard)
        elif child is not None and (shard.owner is not None or _is_final(child) or _is_stuck(hand, child)):
            await _begin_again(fan, shard, child)
    await _end_own(fan)
    if fan.own is None and monotonic() - fan.moved > PATIENCE_SECONDS:
        await _take_one(fan, run, found)


def _is_on_its_way(fan: ShardDispatcher, shard: ShardRecord, children: dict[UUID, FlowRun]) -> bool:
    child = children.get(fan.hands[shard.number].flow_run or UUID(int=0))
    return shard.alive or (child is not None and not _is_final(child))


def _is_stuck(hand: DispatchedShard, child: FlowRun) -> bool:
    """A worker took it up and died before it began, which nobody reports. Waits twice as long each time."""
    if child.state is None or child.state.type is not StateType.PENDING:
        hand.pending = None
        return False
    hand.pending = hand.pending or monotonic()
    patience: float = BEGIN_SECONDS * 2**hand.stuck
    return monotonic() - hand.pending > patience


async def _share_stops(fan: ShardDispatcher) -> None:
    """What stopped one process stops the others: submitting, not collecting."""
    run = fan.run
    if run.stop_code is not None:
        await _tell_the_others(fan, run.stop_code, run.stop_error)
    else:
        stop = await run.in_ledger(book.stop_of, run.ledger, run.run_id)
        if stop is not None:
            run.stop(ErrorCode(stop[0]), stop[1])


async def _tell_the_others(fan: ShardDispatcher, code: ErrorCode, error: str) -> None:
    if not fan.told:
        fan.told = True
        await fan.run.in_ledger(book.mark_stop, fan.run.ledger, fan.run.run_id, None, code, error)


async def _begin(fan: ShardDispatcher, shard: ShardRecord) -> bool:
    """A deployment run for a shard; the same one again where an earlier life of this run began it already."""
    run = fan.run
    again = shard.tries or await run.in_ledger(book.begin_try, run.ledger, run.run_id, shard.number)
    try:
        child = await arun_deployment(
            DEPLOYMENT,
            client=fan.client,
            parameters={"run_id": run.run_id, "shard": shard.number, "concurrency": fan.concurrency},
            timeout=0,
            flow_run_name=f"{run.run_id} shard {shard.number}",
            idempotency_key=f"{run.run_id}-{shard.number}-{again}",
            tags=["reelsheet", "shard", f"run:{run.run_id}"],
        )
    except Unreachable as error:
        _say_silent(fan, error)
        return False
    fan.hands[shard.number].flow_run = child.id
    return True


async def _begin_again(fan: ShardDispatcher, seen: ShardRecord, child: FlowRun) -> None:
    """Its process is gone, or ended without finishing it: another takes it up. The ledger knows what was paid."""
    run, hand = fan.run, fan.hands[seen.number]
    shard = next(one for one in await _shards(run) if one.number == seen.number)
    if shard.finished or shard.alive:
        return  # it moved on while we looked
    reason = child.state.message if child.state is not None else ""
    never_began = shard.owner is None and not _is_final(child)
    if not _is_final(child):
        reason = "its worker is gone"
        with suppress(*Unreachable):
            await fan.client.set_flow_run_state(child.id, Crashed(message="The worker is gone."), force=True)
    if child.state is not None and child.state.type is StateType.CANCELLED:
        _give_up(fan, seen.number, "it was cancelled")
        return
    if never_began:
        hand.stuck, hand.pending = hand.stuck + 1, None
    elif child.state is not None and child.state.type is StateType.FAILED and child.state.name != "Stopped":
        hand.failures += 1
    else:
        hand.crashes += 1
    if hand.failures >= FAILURES or hand.crashes >= CRASHES:
        _give_up(fan, seen.number, reason or "its workers ended without finishing it")
        return
    log.warning("Shard %d is begun again: %s", seen.number, reason)
    await run.in_ledger(book.begin_try, run.ledger, run.run_id, seen.number)
    hand.flow_run = None


def _give_up(fan: ShardDispatcher, number: int, reason: str) -> None:
    fan.hands[number].given_up = True
    fan.run.stop(ErrorCode.INTERRUPTED, f"Part {number} of this run could not be finished: {reason}")


async def _take_one(fan: ShardDispatcher, run: Run, found: list[ShardRecord]) -> None:
    """No worker has begun anything for a while (they may all be waiting for this very run): do one here."""
    for shard in found:
        if shard.finished or shard.alive or fan.hands[shard.number].given_up:
            continue
        if await run.in_ledger(book.take, run.ledger, run.run_id, shard.number, run.flow_run_id):
            log.warning("No worker is free; shard %d is done here.", shard.number)
            todo = shards.within(run.to_do(), shard.first_position, shard.last_position)
            fan.own_number, fan.own_rows = shard.number, frozenset(group.identity for group in todo)
            fan.own = asyncio.create_task(_own(run, shard.number, todo))
            return


async def _end_own(fan: ShardDispatcher) -> None:
    """Room for the next; a shard that could not be finished here is given back."""
    if fan.own is None or not fan.own.done() or fan.own_number is None:
        return
    if fan.own.exception() is not None:
        await fan.run.in_ledger(book.give_back, fan.run.ledger, fan.run.run_id, fan.own_number)
    fan.own, fan.own_number, fan.own_rows = None, None, frozenset()


async def _own(run: Run, number: int, todo: list[RowGroup]) -> None:
    await _subflow(run, number, shards.chunks(todo, len(todo) or 1)[0] if todo else [], lambda: None)
    await run.in_ledger(run.ledger.write_notes, run.run_id, run.notes())
    await run.in_ledger(book.finish, run.ledger, run.run_id, number)


async def _children(fan: ShardDispatcher) -> dict[UUID, FlowRun]:
    """The shards' flow runs as the server knows them; {} where it does not answer."""
    ids = [hand.flow_run for hand in fan.hands.values() if hand.flow_run is not None]
    found: dict[UUID, FlowRun] = {}
    try:
        for start in range(0, len(ids), PAGE):
            wanted = FlowRunFilter(id=FlowRunFilterId(any_=ids[start : start + PAGE]))
            found |= {child.id: child for child in await fan.client.read_flow_runs(flow_run_filter=wanted, limit=PAGE)}
    except Unreachable as error:
        _say_silent(fan, error)
        return {}
    fan.silent = False
    return found


def _say_silent(fan: ShardDispatcher, error: Exception) -> None:
    if not fan.silent:
        log.warning("Prefect's server does not answer (%s); what is under way goes on.", type(error).__name__)
    fan.silent = True


async def _keep_taking_in(fan: ShardDispatcher) -> None:
    """The table of this process stays true while others work."""
    pause = TABLE_SECONDS
    while True:
        await asyncio.sleep(pause)
        begun = time.monotonic()
        with suppress(ReelsheetError):
            await shards.take_in(fan.run, leave=fan.own_rows)
        pause = max(TABLE_SECONDS, 20 * (time.monotonic() - begun))


async def _until_shown(fan: ShardDispatcher) -> None:
    """The shards' own states first, so that the run does not seem to end before its parts."""
    until = time.monotonic() + SHOWN_SECONDS
    while time.monotonic() < until and not fan.silent and fan.run.signal is None:
        if all(_is_final(child) for child in (await _children(fan)).values()):
            return
        await asyncio.sleep(0.5)


async def _shards(run: Run) -> list[ShardRecord]:
    return await run.in_ledger(book.shards, run.ledger, run.run_id)


def _is_final(child: FlowRun) -> bool:
    return child.state is not None and child.state.is_final()
