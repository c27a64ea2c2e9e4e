"""The ledger's database is restarted or cut off for a while, at whatever moment: that costs time, not rows."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from reelsheet.ledger import Ledger
from reelsheet.run import ledger_session, submission
from tests.stand_in.database_proxy import DatabaseProxy

PROMPTS = [f"clip {n}" for n in range(6)]


@pytest.fixture(autouse=True)
def waits_for_long(monkeypatch: pytest.MonkeyPatch, bench: Any) -> None:
    monkeypatch.setattr(ledger_session, "AWAY_LIMIT_S", 60.0)
    monkeypatch.setattr(submission, "COMMIT_PAUSES_S", (0.01, 0.01))


@pytest.fixture
def proxy(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseProxy]:
    with DatabaseProxy(postgresql_url) as proxy:
        monkeypatch.setenv("REELSHEET_LEDGER_URL", proxy.url)
        yield proxy


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def back_in_a_while(proxy: DatabaseProxy) -> None:
    await until(lambda: not proxy.is_up)
    await asyncio.sleep(0.5)
    proxy.restore()


def books(url: str, run_id: str) -> tuple[int, int, int]:
    ledger = Ledger.open(url)
    try:
        run = ledger.run(run_id)
        assert run is not None
        return run.confirmed_cents, run.reserved_cents, run.at_risk_cents
    finally:
        ledger.close()


@pytest.mark.parametrize(
    "lost_commit_of",
    ["INSERT INTO attempts", "prediction_id", "completed_at", "INSERT INTO deliveries"],
)
async def test_a_ledger_that_goes_away_at_a_commit_and_comes_back_costs_no_row(
    bench: Any, proxy: DatabaseProxy, postgresql_url: str, lost_commit_of: str
) -> None:
    async def meanwhile(_run: Any) -> None:
        proxy.cut_at_commit_after(lost_commit_of)
        async with asyncio.timeout(5):
            await back_in_a_while(proxy)

    done = await bench.deliver(bench.sheet(PROMPTS), concurrency=3, meanwhile=meanwhile)
    assert (done.statuses(), done.exit_code) == (["succeeded"] * len(PROMPTS), 0)
    assert bench.charged() == dict.fromkeys(PROMPTS, 1)
    assert books(postgresql_url, done.run.run_id) == (54 * len(PROMPTS), 0, 0)


@pytest.mark.parametrize("charges", [0, 2, 5])
async def test_a_ledger_that_is_cut_off_between_two_requests_costs_no_row(
    bench: Any, proxy: DatabaseProxy, postgresql_url: str, charges: int
) -> None:
    async def meanwhile(_run: Any) -> None:
        await until(lambda: sum(bench.charged().values()) >= charges)
        proxy.cut()
        await back_in_a_while(proxy)

    done = await bench.deliver(bench.sheet(PROMPTS), concurrency=2, meanwhile=meanwhile)
    assert (done.statuses(), done.exit_code) == (["succeeded"] * len(PROMPTS), 0)
    assert books(postgresql_url, done.run.run_id) == (54 * len(PROMPTS), 0, 0)


async def test_a_ledger_that_does_not_come_back_stops_the_run_and_the_next_one_goes_on(
    bench: Any, proxy: DatabaseProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_session, "AWAY_LIMIT_S", 0.3)

    async def meanwhile(run: Any) -> None:
        await until(lambda: sum(bench.charged().values()) >= 2)
        proxy.cut()
        await until(lambda: run.stops.is_stopping)
        proxy.restore()

    done = await bench.deliver(bench.sheet(PROMPTS), concurrency=2, meanwhile=meanwhile)
    assert (done.exit_code, done.run.ledger_session.is_lost) == (3, True)
    assert {code for code in done.codes() if code} == {"storage"}
    again = await bench.deliver(bench.sheet(PROMPTS))
    assert (again.statuses(), again.exit_code) == (["succeeded"] * len(PROMPTS), 0)


async def test_a_signal_ends_the_waiting_at_once(bench: Any, proxy: DatabaseProxy) -> None:
    async def meanwhile(run: Any) -> None:
        await until(lambda: sum(bench.charged().values()) >= 1)
        proxy.cut()
        await until(lambda: run.ledger_session._away_since)
        run.stops.interrupt(15)

    done = await bench.deliver(bench.sheet(PROMPTS), concurrency=2, meanwhile=meanwhile)
    proxy.restore()
    assert (done.exit_code, done.run.ledger_session.is_lost) == (143, False)
    assert "storage" not in done.codes()


async def test_a_heartbeat_is_written_as_soon_as_the_ledger_is_back(
    bench: Any, proxy: DatabaseProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others take this process's claims and shards for a dead one's until then."""
    monkeypatch.setattr(ledger_session, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(ledger_session, "AWAY_PAUSE_S", 0.05)
    ends: list[float] = []

    async def meanwhile(run: Any) -> None:
        lease = run.context.ledger.lease
        proxy.cut()
        await until(lambda: run.ledger_session._away_since)
        ends.append(lease._ends_at)
        proxy.restore()
        await until(lambda: lease._ends_at > ends[0])
        assert run.ledger_session.is_just_back or run.ledger_session._away_since is None

    done = await bench.deliver(bench.sheet(PROMPTS[:2]), meanwhile=meanwhile)
    assert done.exit_code == 0
