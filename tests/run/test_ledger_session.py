"""Writes that the ledger did not take: each is repeated until it is taken, whoever gets to it first."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from reelsheet.ledger import Attempt, State
from reelsheet.run.ledger_session import LedgerSession, UnrecordedId

ATTEMPT = Attempt(1, "row", 1, State.SUBMITTED, "owner", "run", "2026-01-15", 54)


@contextmanager
def session() -> Iterator[LedgerSession]:
    opened = LedgerSession(SimpleNamespace(is_sqlite=True), "run", SimpleNamespace())
    try:
        yield opened
    finally:
        opened.close()


def counting(written: list[str], name: str) -> Callable[[], Attempt]:
    def write() -> Attempt:
        written.append(name)
        return ATTEMPT

    return write


async def test_a_heartbeat_and_a_verdict_may_write_the_same_deferred_answer_at_once() -> None:
    with session() as opened:
        written: list[str] = []
        for identity in ("row", "other"):
            opened.defer_write(identity, counting(written, identity))
            opened.unrecorded_ids[identity] = UnrecordedId(identity, 1, "prediction", 54)
        verdict = opened.record_verdict(lambda attempt: attempt, ATTEMPT, to=State.COMPLETED)
        await asyncio.gather(opened.flush_deferred(), verdict, opened.flush_deferred())
        assert set(written) == {"row", "other"}
        assert not opened.unrecorded_ids


async def test_an_answer_that_is_deferred_during_a_flush_is_still_to_be_written() -> None:
    with session() as opened:
        written: list[str] = []

        def first() -> Attempt:
            opened.defer_write("row", counting(written, "second"))
            return ATTEMPT

        opened.defer_write("row", first)
        await opened.flush_deferred()
        await opened.flush_deferred()
        assert written == ["second"]
