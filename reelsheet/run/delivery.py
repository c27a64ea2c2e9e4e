"""A finished prediction's way into the destination: copied from another destination, or from the provider.

Safe to repeat at any time; costs nothing.
"""

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from reelsheet import messages
from reelsheet.errors import LedgerError
from reelsheet.ledger import Attempt, Delivery, IdentityHistory
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.run.polling import fresh_links

if TYPE_CHECKING:
    from reelsheet.run.run import Run
    from reelsheet.storage.clip_copy import Clip, ClipError

log = logging.getLogger("reelsheet")

LINK_TRIES = 3
COPY_GRACE = 10.0  # seconds that a copy may take after an interruption
ABORT_SECONDS = 2.0  # and its tidying up


async def store(run: "Run", group: RowGroup, attempt: Attempt) -> None:
    """Copy every output, record the delivery; what does not succeed is said of the row."""
    storing = asyncio.create_task(_stored(run, group, attempt))
    await run.bounded(asyncio.shield(storing), grace=COPY_GRACE)
    if not storing.done():
        storing.cancel()
        await asyncio.wait({storing}, timeout=ABORT_SECONDS)
    if not storing.done() or storing.cancelled():
        group.set_outcome(Status.UNDELIVERED, ErrorCode.INTERRUPTED, messages.interrupted_paid())
        return
    found = storing.result()
    if found is None:
        return
    try:
        await run.in_ledger(run.ledger.record_deliveries, attempt, found)
    except LedgerError as error:  # the object says itself whose it is
        run.stop(ErrorCode.STORAGE, messages.ledger_down(error))
    assert group.history is not None  # noqa: S101 - `Run.store` looked
    others = [one for one in group.history.deliveries if (one.attempt, one.destination) != _place(found[0])]
    group.history = IdentityHistory(group.history.attempts, (*others, *found))
    group.step, group.status = Step.DONE, None


def _place(delivery: Delivery) -> tuple[int, str]:
    return delivery.attempt, delivery.destination


async def _stored(run: "Run", group: RowGroup, attempt: Attempt) -> list[Delivery] | None:
    """The deliveries of every output; None (and said so) where there is none."""
    from reelsheet.storage.clip_copy import ClipError

    found = await _from_elsewhere(run, group, attempt)
    if found is not None:
        return found
    for number in range(1, LINK_TRIES + 1):
        if not group.links and not await fresh_links(run, group, attempt):
            return None
        try:
            return await _copied(run, group, attempt)
        except ClipError as error:
            if not error.expired or number == LINK_TRIES:
                _say(run, group, error)
                return None
            group.links = ()  # ask the provider for a fresh link
    return None


async def _copied(run: "Run", group: RowGroup, attempt: Attempt) -> list[Delivery]:
    from reelsheet.storage import clip_copy

    found: list[Delivery] = []
    for output, link in enumerate(group.links):
        clip = await clip_copy.copy(
            link,
            run.destination,
            run.key(group, attempt, output),
            client=run.assets,
            metadata=_metadata(attempt, output),
        )
        found.append(_delivery(run, attempt, output, len(group.links), clip))
    return found


def _delivery(run: "Run", attempt: Attempt, output: int, outputs: int, clip: "Clip") -> Delivery:
    return Delivery(
        attempt.number, run.destination.address, output, outputs, clip.key,
        clip.bytes, clip.sha256, clip.width, clip.height, clip.duration_s,
    )  # fmt: skip


async def _from_elsewhere(run: "Run", group: RowGroup, attempt: Attempt) -> list[Delivery] | None:
    """Fill this destination from another one that has the clip; None where none can."""
    from reelsheet.storage.destination import copy_between, open_destination

    assert group.history is not None  # noqa: S101 - `Run.store` looked
    here = run.destination
    for stored in group.history.elsewhere(here.address):
        try:
            other = open_destination(stored[0].destination)
            found = []
            for one in stored:
                key = run.key(group, attempt, one.output)
                metadata = _metadata(attempt, one.output) | ({"sha256": one.sha256} if one.sha256 else {})
                copied = await run.in_thread(copy_between, other, one.key, here, key, metadata)
                found.append(replace(one, destination=here.address, key=key, bytes=copied.size_bytes))
        except Exception as error:  # noqa: BLE001 - whatever ails the other place, the provider still has it
            log.info("Not copied from %s (%s); asking the provider.", stored[0].destination, type(error).__name__)
            continue
        return found
    return None


def _say(run: "Run", group: RowGroup, error: "ClipError") -> None:
    group.set_outcome(Status.UNDELIVERED, error.code, str(error))
    if error.systemic:
        run.stop(ErrorCode.STORAGE, str(error))


def _metadata(attempt: Attempt, output: int) -> dict[str, str]:
    return {
        "identity": attempt.identity,
        "attempt": str(attempt.number),
        "output": str(output),
        "prediction-id": attempt.prediction_id or "",
        "cost-cents": str(attempt.paid_cents),
        "run-id": attempt.run_id,
    }
