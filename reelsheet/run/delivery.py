"""A finished prediction's way into the destination: copied from another destination, or from the provider.

Safe to repeat at any time; costs nothing.
"""

import asyncio
import logging
from dataclasses import replace

import httpx

from reelsheet import messages
from reelsheet.errors import LedgerError
from reelsheet.ledger import Attempt, Delivery
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.pacing.gate import Gate
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.run.context import RunContext
from reelsheet.run.in_flight import InFlight
from reelsheet.run.ledger_session import LedgerSession
from reelsheet.run.polling import Poller
from reelsheet.run.stop_control import StopControl
from reelsheet.run.threads import Threads
from reelsheet.storage import clip_copy
from reelsheet.storage.clip_copy import Clip, ClipError, copy_slot
from reelsheet.storage.destination import copy_between, open_destination

log = logging.getLogger("reelsheet")

WAITING_COPIES_LIMIT = 60  # clips waiting to be copied: above, nothing new is submitted (links expire)
YIELD_LIMIT_S = 1.0  # that a copy waits at most while submissions are about to leave
LINK_TRIES = 3
COPY_GRACE_S = 10.0  # that a copy may take after an interruption
ABORT_LIMIT_S = 2.0  # that its tidying up may take then


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
        self._gate.hold(self._waiting > WAITING_COPIES_LIMIT)

    async def _store(self, group: RowGroup, attempt: Attempt) -> None:
        storing = asyncio.create_task(self._stored(group, attempt))
        await self._stops.bounded(asyncio.shield(storing), grace_s=COPY_GRACE_S)
        if not storing.done():
            storing.cancel()
            await asyncio.wait({storing}, timeout=ABORT_LIMIT_S)
        if not storing.done() or storing.cancelled():
            group.set_outcome(Status.UNDELIVERED, ErrorCode.INTERRUPTED, messages.INTERRUPTED_PAID)
            return
        deliveries = storing.result()
        if deliveries is None:
            return
        try:
            await self._session.call(self._session.ledger.record_deliveries, attempt, deliveries)
        except LedgerError as error:  # the object says itself whose it is
            self._session.fail(error)
        group.add_deliveries(deliveries)
        group.advance(Step.DONE)

    async def _stored(self, group: RowGroup, attempt: Attempt) -> list[Delivery] | None:
        """The deliveries of every output; None (and said so) where there is none."""
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
                    group.set_outcome(Status.UNDELIVERED, error.code, str(error))
                    if error.systemic:
                        self._stops.stop(ErrorCode.STORAGE, str(error))
                    return None
                group.links = ()  # ask the provider for a fresh link
        return None

    async def _from_provider(self, group: RowGroup, attempt: Attempt) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for output, link in enumerate(group.links):
            clip = await clip_copy.copy(
                link,
                self._destination,
                self._context.object_key(group, attempt, output),
                client=self._assets,
                metadata=_metadata(attempt, output),
            )
            deliveries.append(self._delivery(attempt, output, len(group.links), clip))
        return deliveries

    def _delivery(self, attempt: Attempt, output: int, outputs: int, clip: Clip) -> Delivery:
        return Delivery(
            attempt.number, self._destination.address, output, outputs, clip.key,
            clip.bytes, clip.sha256, clip.width, clip.height, clip.duration_s,
        )  # fmt: skip

    async def _from_elsewhere(self, group: RowGroup, attempt: Attempt) -> list[Delivery] | None:
        """Fill this destination from another one that has the clip; None where none can."""
        assert group.history is not None  # noqa: S101 - what is copied was attempted
        here = self._destination
        for stored in group.history.elsewhere(here.address):
            try:
                other = open_destination(stored[0].destination)
                deliveries = []
                for delivery in stored:
                    key = self._context.object_key(group, attempt, delivery.output)
                    metadata = _metadata(attempt, delivery.output)
                    metadata |= {"sha256": delivery.sha256} if delivery.sha256 else {}
                    copied = await self._threads.call(copy_between, other, delivery.key, here, key, metadata)
                    deliveries.append(replace(delivery, destination=here.address, key=key, bytes=copied.size_bytes))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the other place, the provider has the clip
                log.info("Not copied from %s (%s); asking the provider.", stored[0].destination, type(error).__name__)
                continue
            return deliveries
        return None


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
