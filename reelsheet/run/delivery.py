"""A finished prediction's way into the destination: copied from another destination, or from the provider.

Safe to repeat at any time; costs nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import httpx

from reelsheet import messages
from reelsheet.errors import LedgerError
from reelsheet.ledger import Attempt, Delivery, Ledger
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.pacing.gate import Gate
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.run.context import RunContext
from reelsheet.run.in_flight import InFlight
from reelsheet.run.ledger_session import LedgerSession
from reelsheet.run.polling import Poller
from reelsheet.run.stop_control import StopControl
from reelsheet.run.threads import Threads
from reelsheet.storage import clip_copy, object_names
from reelsheet.storage.clip_copy import Clip, ClipError, copy_slot
from reelsheet.storage.destination import copy_between, open_destination
from reelsheet.storage.errors import ObjectConflict

T = TypeVar("T")

log = logging.getLogger("reelsheet")

WAITING_COPIES_LIMIT = 60  # clips waiting to be copied: above, nothing new is submitted (links expire)
YIELD_LIMIT_S = 1.0  # that a copy waits at most while submissions are about to leave
LINK_TRIES = 3
COPY_GRACE_S = 10.0  # that a copy may take after an interruption
ABORT_LIMIT_S = 2.0  # that its tidying up may take then
FAILED_STREAK = 5  # copies in a row that failed for a reason that is not the clip's, before the run stops


class Courier:
    """Copies the clips of one run."""

    def __init__(
        self,
        context: RunContext,
        *,
        poller: Poller,
        assets: httpx.AsyncClient,
        gate: Gate,
        stops: StopControl,
        session: LedgerSession,
        threads: Threads,
        in_flight: InFlight,
    ) -> None:
        self._context, self._destination = context, context.destination
        self._poller, self._assets, self._gate = poller, assets, gate
        self._stops, self._session, self._threads, self._in_flight = stops, session, threads, in_flight
        self._waiting = 0
        self._failed_streak = 0

    async def yield_to_submissions(self) -> None:
        """Before a copy: a clip waits at no cost, and an empty place at the provider does not."""
        if self._waiting <= WAITING_COPIES_LIMIT:
            await self._in_flight.wait_all_sent(YIELD_LIMIT_S)

    async def store(self, group: RowGroup, attempt: Attempt) -> None:
        """Copy every output and record the delivery; what does not succeed is said of the row."""
        self._count_waiting(1)
        try:
            async with copy_slot():
                if self._stops.interrupted.is_set():
                    group.set_outcome(Status.UNDELIVERED, ErrorCode.INTERRUPTED, messages.INTERRUPTED_PAID)
                else:
                    await self._store(group, attempt)
        finally:
            self._count_waiting(-1)

    def _count_waiting(self, change: int) -> None:
        self._waiting += change
        # After one that failed, those under way show whether anything can be stored: buy nothing meanwhile.
        is_in_doubt = self._failed_streak > 0 and self._waiting > 0
        self._gate.hold(is_in_doubt or self._waiting > WAITING_COPIES_LIMIT)

    async def _store(self, group: RowGroup, attempt: Attempt) -> None:
        storing = asyncio.create_task(self._stored(group, attempt))
        await self._stops.bounded(asyncio.wait({storing}), grace_s=COPY_GRACE_S)
        if not storing.done():
            storing.cancel()
            await asyncio.wait({storing}, timeout=ABORT_LIMIT_S)
        if not storing.done() or storing.cancelled():
            group.set_outcome(Status.UNDELIVERED, ErrorCode.INTERRUPTED, messages.INTERRUPTED_PAID)
            return
        try:
            deliveries = storing.result()
        except ClipError as error:
            self._failed(group, error)
            return
        except Exception as error:  # from whatever library, or a fault of ours: the next rows may meet it too
            log.exception("Unexpected error in a copy.")
            self._failed(group, ClipError(ErrorCode.STORAGE, messages.copy_failed(error)))
            return
        if deliveries is None:
            return
        self._failed_streak = 0
        record = partial(_record, self._session.ledger, attempt, deliveries)
        try:
            await self._session.call(record)
        except LedgerError as error:
            self._session.defer_write(attempt.identity, record)
            self._session.fail(error)
        group.add_deliveries(deliveries)
        group.advance(Step.DONE)

    def _failed(self, group: RowGroup, error: ClipError) -> None:
        """The row's sentence; and nothing more is bought where the next clips could not be stored either."""
        group.set_outcome(Status.UNDELIVERED, error.code, str(error))
        if error.code is not ErrorCode.STORAGE or isinstance(error.__cause__, ObjectConflict):
            return  # the clip's own trouble, or its name's
        self._failed_streak += 1
        if error.systemic:
            self._stops.stop(ErrorCode.STORAGE, str(error))
        elif self._failed_streak >= FAILED_STREAK:
            self._stops.stop(ErrorCode.STORAGE, messages.copies_failed(self._failed_streak, str(error)))

    async def _stored(self, group: RowGroup, attempt: Attempt) -> list[Delivery] | None:
        """The deliveries of every output; None (and said so) where the provider gives no link. Raises ClipError."""
        deliveries = await self._from_elsewhere(group, attempt)
        if deliveries is not None:
            return deliveries
        for number in range(1, LINK_TRIES + 1):
            if not group.links and not await self._poller.fresh_links(group, attempt):
                return None
            try:
                return await self._from_provider(group, attempt)
            except ClipError as error:
                if not error.expired or number == LINK_TRIES:
                    raise
                group.links = ()  # ask the provider for a fresh link
        return None

    async def _from_provider(self, group: RowGroup, attempt: Attempt) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for output, link in enumerate(group.links):
            copy = partial(
                clip_copy.copy, link, self._destination, client=self._assets, metadata=_metadata(attempt, output)
            )
            clip = await self._under_a_free_name(group, attempt, output, copy)
            deliveries.append(self._delivery(attempt, output, len(group.links), clip))
        return deliveries

    async def _under_a_free_name(
        self, group: RowGroup, attempt: Attempt, output: int, copy: Callable[[str], Awaitable[T]]
    ) -> T:
        """`copy` to the output's key. Where that is another clip's (of another ledger, say), to one of its own."""
        key = self._context.object_key(group, attempt, output)
        try:
            return await copy(key)
        except (ClipError, ObjectConflict) as error:
            if attempt.prediction_id is None or not isinstance(error.__cause__ or error, ObjectConflict):
                raise
            own_key = object_names.of_prediction(key, attempt.prediction_id)
            copied = await copy(own_key)
            group.warnings.append(messages.name_was_taken(key, own_key))
            return copied

    def _delivery(self, attempt: Attempt, output: int, outputs: int, clip: Clip) -> Delivery:
        return Delivery(
            attempt.number, self._destination.address, output, outputs, clip.key,
            clip.bytes, clip.sha256, clip.width, clip.height, clip.duration_s,
        )  # fmt: skip

    async def _from_elsewhere(self, group: RowGroup, attempt: Attempt) -> list[Delivery] | None:
        """Fill this destination from another one that has the clip; None where none can."""
        assert group.history is not None  # noqa: S101 - what is copied was attempted
        for stored in group.history.elsewhere(self._destination.address):
            try:
                return [await self._copied_from(delivery, group, attempt) for delivery in stored]
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the other place, the provider has the clip
                log.info("Not copied from %s (%s); asking the provider.", stored[0].destination, type(error).__name__)
        return None

    async def _copied_from(self, delivery: Delivery, group: RowGroup, attempt: Attempt) -> Delivery:
        """One output, from where it is delivered already."""
        other, here = open_destination(delivery.destination), self._destination
        metadata = _metadata(attempt, delivery.output)
        metadata |= {"sha256": delivery.sha256} if delivery.sha256 else {}

        async def copy(key: str) -> Delivery:
            copied = await self._threads.call(copy_between, other, delivery.key, here, key, metadata)
            return replace(delivery, destination=here.address, key=key, bytes=copied.size_bytes)

        return await self._under_a_free_name(group, attempt, delivery.output, copy)


def _record(ledger: Ledger, attempt: Attempt, deliveries: Sequence[Delivery]) -> Attempt:
    ledger.record_deliveries(attempt, deliveries)
    return attempt


def _metadata(attempt: Attempt, output: int) -> dict[str, str]:
    """What a stored clip says of itself, so that another ledger can recognise it."""
    return {
        "identity": attempt.identity,
        "attempt": str(attempt.number),
        "output": str(output),
        "prediction-id": attempt.prediction_id or "",
        "cost-cents": str(attempt.paid_cents),
        "run-id": attempt.run_id,
    }
