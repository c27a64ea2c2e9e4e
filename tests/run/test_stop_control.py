"""Why a run stops, what it says then, and how waiting ends."""

import asyncio
import signal

import pytest

from reelsheet.errors import Stopped
from reelsheet.outcomes import ErrorCode, RowResult, Status
from reelsheet.run.price_watch import QUOTES, PriceWatch
from reelsheet.run.stop_control import StopControl


@pytest.fixture
def closed():
    return []


@pytest.fixture
def stops(closed):
    return StopControl(closed.append)


def test_the_first_reason_stands_and_closes_the_gate_once(stops, closed):
    stops.stop(ErrorCode.AUTH, "The key is refused.")
    stops.stop(ErrorCode.NO_BALANCE, "No balance.")
    assert (stops.code, stops.error, stops.message) == (ErrorCode.AUTH, "The key is refused.", "The key is refused.")
    assert [type(error) for error in closed] == [Stopped]


def test_only_a_stop_that_this_process_decided_is_published(closed):
    published = []
    stops = StopControl(closed.append, on_stop=lambda *reason: published.append(reason))
    stops.stop_quietly(ErrorCode.AUTH, "Another process was refused.")
    stops.stop(ErrorCode.NO_BALANCE, "No balance.")
    assert published == []


@pytest.mark.parametrize(
    ("arrange", "code", "skipped"),
    [
        (lambda stops: None, 1, ErrorCode.INTERRUPTED),
        (lambda stops: stops.stop_over_budget("The cap is reached."), 4, ErrorCode.OVER_BUDGET),
        (lambda stops: (stops.stop_over_budget("Cap."), stops.stop(ErrorCode.AUTH, "Key.")), 3, ErrorCode.AUTH),
    ],
)
def test_the_gravest_reason_is_the_exit_code_and_why_rows_were_left(stops, arrange, code, skipped):
    arrange(stops)
    assert stops.exit_code([RowResult(Status.SKIPPED)]) == code
    assert stops.skip_reason()[0] is skipped


async def test_a_signal_is_graver_than_any_other_reason(stops):
    stops.stop(ErrorCode.AUTH, "The key is refused.")
    stops.interrupt(signal.SIGTERM)
    stops.interrupt(signal.SIGINT)
    assert stops.exit_code([]) == 143
    assert stops.skip_reason()[0] is ErrorCode.INTERRUPTED


def test_a_row_beyond_the_limit_is_not_missed(stops):
    assert stops.exit_code([RowResult(Status.SUCCEEDED), RowResult(Status.SKIPPED, "", ErrorCode.OVER_LIMIT)]) == 0


async def test_an_interruption_ends_pauses_and_cuts_off_what_is_bounded(stops):
    pausing = asyncio.create_task(stops.pause(60))
    hanging = asyncio.create_task(stops.bounded(asyncio.Event().wait()))
    await asyncio.sleep(0)
    stops.interrupt(signal.SIGINT)
    assert await asyncio.wait_for(hanging, 10) is None
    await asyncio.wait_for(pausing, 10)


async def test_what_is_bounded_gives_its_result(stops):
    assert await stops.bounded(asyncio.sleep(0, "done"), 10) == "done"


def test_the_highest_of_the_latest_quotes_is_reserved_and_remarked_on_once():
    prices = PriceWatch(54)
    assert prices.observe(None) == prices.observe(54) == ""
    assert "0.60" in prices.observe(60)
    assert prices.observe(58) == ""
    assert prices.price_cents == 60
    for _ in range(QUOTES):
        prices.observe(58)
    assert prices.price_cents == 58
