"""What can wait gives way to submissions that are about to leave."""

import asyncio

from reelsheet.run.in_flight import InFlight


async def test_a_copy_waits_until_every_admitted_submission_has_left():
    in_flight = InFlight()
    in_flight.admitted("a")
    in_flight.admitted("b")
    waiting = asyncio.create_task(in_flight.wait_all_sent(60.0))
    in_flight.sent("a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    in_flight.sent("b")
    await asyncio.wait_for(waiting, 10)


async def test_it_waits_only_so_long():
    in_flight = InFlight()
    in_flight.admitted("a")
    await asyncio.wait_for(in_flight.wait_all_sent(0.01), 10)


async def test_where_nothing_is_about_to_leave_it_does_not_even_yield():
    in_flight = InFlight()
    in_flight.sent("never admitted")
    steps = in_flight.wait_all_sent(60.0).__await__()
    assert next(steps, "over") == "over"
