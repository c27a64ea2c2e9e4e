"""Waiting for another run's claims costs one look for all of them, however many rows wait."""

import asyncio
from types import SimpleNamespace

import pytest

from reelsheet.errors import LedgerError
from reelsheet.ledger import Attempt, IdentityHistory, State
from reelsheet.run.in_flight import OtherClaims


def history(identity, state):
    return IdentityHistory((Attempt(1, identity, 1, state, "o", "r", "2026-01-15", 54),))


class Book:
    """Standings as scripted; how often it was asked, and for how many."""

    def __init__(self, *scenes):
        self.scenes = list(scenes)
        self.asked = []

    def histories(self, identities):
        self.asked.append(len(identities))
        scene = self.scenes.pop(0) if len(self.scenes) > 1 else self.scenes[0]
        if isinstance(scene, Exception):
            raise scene
        return {identity: history(identity, scene) for identity in identities}


def waiting_on(book):
    async def call(function, *arguments):
        return function(*arguments)

    async def pause(_seconds):
        await asyncio.sleep(0)

    session = SimpleNamespace(ledger=book, call=call)
    return OtherClaims(session, SimpleNamespace(pause=pause, interrupted=asyncio.Event()))


async def test_a_thousand_rows_are_looked_at_together():
    book = Book(State.CLAIMED, State.CLAIMED, State.SUBMITTED)
    others = waiting_on(book)
    found = await asyncio.gather(*(others.settled(f"row{n}") for n in range(1000)))
    assert {one.latest.state for one in found} == {State.SUBMITTED}
    assert book.asked == [1000, 1000, 1000]


async def test_one_row_waited_for_twice_is_one_row():
    others = waiting_on(Book(State.REFUSED))
    first, second = await asyncio.gather(*(others.settled("row") for _ in range(2)))
    assert first is second
    assert first.is_free


async def test_a_ledger_that_is_down_is_told_to_every_row():
    others = waiting_on(Book(LedgerError("down")))
    found = await asyncio.gather(*(others.settled(f"row{n}") for n in range(3)), return_exceptions=True)
    assert [str(one) for one in found] == ["down"] * 3


async def test_whoever_comes_later_is_looked_at_as_well():
    others = waiting_on(Book(State.SUBMITTED))
    await others.settled("first")
    assert (await others.settled("second")).latest.identity == "second"


async def test_one_that_gives_up_waiting_does_not_disturb_the_others():
    book = Book(State.CLAIMED)
    others = waiting_on(book)
    waiting = [asyncio.create_task(others.settled("row")) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    book.scenes = [State.COMPLETED]
    assert (await waiting[1]).latest.state == State.COMPLETED
    with pytest.raises(asyncio.CancelledError):
        waiting[0].result()
