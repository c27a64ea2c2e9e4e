"""What can wait gives way to submissions that are about to leave."""

import asyncio

from reelsheet.run.submission import InFlight


async def test_a_copy_waits_until_every_admitted_submission_has_left():
    posts = InFlight()
    posts.leaving("a")
    posts.leaving("b")
    waiting = asyncio.create_task(posts.all_left(60.0))
    posts.left("a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    posts.left("b")
    await asyncio.wait_for(waiting, 10)


async def test_it_waits_only_so_long():
    posts = InFlight()
    posts.leaving("a")
    await asyncio.wait_for(posts.all_left(0.01), 10)


async def test_where_nothing_is_about_to_leave_it_does_not_even_yield():
    posts = InFlight()
    posts.left("never admitted")
    steps = posts.all_left(60.0).__await__()
    assert next(steps, "over") == "over"
