"""What the caps still pay for, asked before a row's picture is uploaded."""

import asyncio
from types import SimpleNamespace

import pytest

from reelsheet import settings
from reelsheet.run import caps
from reelsheet.run.in_flight import InFlight
from reelsheet.run.ledger_session import LedgerSession
from reelsheet.run.price_watch import PriceWatch
from reelsheet.run.stop_control import StopControl


@pytest.fixture
def room(ledger, registers, monkeypatch):
    """Of a run that may spend the price of one clip."""
    monkeypatch.setattr(caps, "LOOK_S", 0.01)
    registers(ledger, "r1", cap_cents=54)
    stops, in_flight = StopControl(lambda _reason: None), InFlight()
    session = LedgerSession(ledger, "r1", stops)
    context = SimpleNamespace(ledger=ledger, run_id="r1", settings=settings.Settings())
    found = caps.Caps(context, session=session, stops=stops, in_flight=in_flight, prices=PriceWatch(54))
    yield SimpleNamespace(caps=found, stops=stops, in_flight=in_flight, ledger=ledger)
    session.close()


async def test_of_rows_that_wait_for_room_one_gets_it_and_then_the_next(room):
    for identity in "ab":
        room.in_flight.admitted(identity)
    asked = {asyncio.create_task(room.caps.has_room(identity), name=identity) for identity in "ab"}
    done, waiting = await asyncio.wait(asked, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    for first in done:
        assert first.result()
        room.in_flight.sent(first.get_name())  # refused, at no cost
    assert all(await asyncio.wait_for(asyncio.gather(*waiting), 10))


async def test_room_that_a_row_on_its_way_may_take_is_waited_for(room):
    room.in_flight.admitted("first")
    asked = asyncio.create_task(room.caps.has_room("second"))
    await asyncio.wait({asked}, timeout=0.1)
    assert not asked.done()
    room.in_flight.sent("first")  # it came to nothing
    assert await asyncio.wait_for(asked, 10)


async def test_where_no_room_will_ever_be_the_run_stops(room):
    room.ledger.claim("a" * 64, run_id="r1", price_cents=54)
    assert not await asyncio.wait_for(room.caps.has_room("second"), 10)
    assert "cap of $0.54" in room.stops.over_budget


async def test_a_row_that_takes_the_room_while_it_is_looked_for_counts(room, monkeypatch):
    read = room.caps._left

    async def read_slowly():
        left = await read()
        if room.in_flight.count_unsent(besides=set()):
            room.ledger.claim("a" * 64, run_id="r1", price_cents=54)
            room.in_flight.sent("first")
        return left

    monkeypatch.setattr(room.caps, "_left", read_slowly)
    room.in_flight.admitted("first")
    assert not await asyncio.wait_for(room.caps.has_room("second"), 10)
    assert room.stops.over_budget
