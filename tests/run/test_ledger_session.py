"""Writes that the ledger did not take: each is repeated until it is taken, whoever gets to it first."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from reelsheet.errors import LedgerAway
from reelsheet.ledger import Attempt, State
from reelsheet.run import ledger_session
from reelsheet.run.ledger_session import LedgerSession, UnrecordedId, while_away
from reelsheet.run.stop_control import StopControl

ATTEMPT = Attempt(1, "row", 1, State.SUBMITTED, "owner", "run", "2026-01-15", 54)


@contextmanager
def session() -> Iterator[LedgerSession]:
    opened = LedgerSession(SimpleNamespace(is_sqlite=True), "run", StopControl(lambda _reason: None))
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


class AwayFor:
    """A ledger that does not answer for so many seconds. Each question to it takes one of them."""

    def __init__(self, seconds: float) -> None:
        self.now = 1000.0
        self.back_at = self.now + seconds

    def ask(self) -> str:
        if self.now < self.back_at:
            self.now += 1
            raise LedgerAway("The ledger does not answer.")
        return "answer"

    async def step(self) -> str:
        return self.ask()


@pytest.mark.parametrize("is_run_begun", [True, False])
async def test_a_ledger_that_is_away_is_waited_for_for_two_minutes_and_no_longer(
    is_run_begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_session, "AWAY_PAUSE_S", 0.0)

    async def asked(ledger: AwayFor) -> str:
        monkeypatch.setattr(ledger_session, "monotonic", lambda: ledger.now)
        with session() as opened:
            return await (opened.call(ledger.ask) if is_run_begun else while_away(ledger.step))

    assert await asked(AwayFor(115)) == "answer"
    away = AwayFor(1e6)
    with pytest.raises(LedgerAway):
        await asked(away)
    assert away.now - 1000 == pytest.approx(120, abs=1)
