"""Processes that run one sheet at once, on SQLite and on PostgreSQL: paid once, and every one of them tells the truth."""

import asyncio
import signal
from collections import Counter

import pytest

from tests.faults import children
from tests.faults.children import Stage

BEFORE_THE_POST = Stage("reelsheet.provider.client.Provider", "submit", "before")


async def deliver(bench, sheet, **options):
    """One process's run of the sheet; its rows."""
    return await children.start(bench, sheet, **options).rows()


@pytest.fixture
def ledger(ledger_url, monkeypatch):
    monkeypatch.setenv("REELSHEET_LEDGER_URL", ledger_url)


@pytest.mark.parametrize("runs", [2, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("same_destination", [True, False])
async def test_each_row_is_paid_for_by_one_of_them_and_delivered_by_all(bench, ledger, runs, same_destination):
    bench.sandbox.settings(latency=1.0)
    sheet = bench.sheet([f"prompt {n}" for n in range(8)])
    places = [str(bench.folder / ("dest" if same_destination else f"dest-{n}")) for n in range(runs)]
    done = await asyncio.gather(*(deliver(bench, sheet, destination=place) for place in places))
    assert all(row[0] == "succeeded" for rows in done for row in rows), done
    assert set(bench.charged().values()) == {1}
    paid = Counter(at for rows in done for at, row in enumerate(rows) if row[1])
    assert paid == dict.fromkeys(range(8), 1)
    for rows in done:
        for _, cents, reused, prediction, _ in rows:
            assert (cents, reused) in {(54, False), (0, True)}
            assert prediction
    assert len({tuple(row[3] for row in rows) for rows in done}) == 1  # one prediction, whoever asked


async def test_what_a_killed_one_was_sending_is_unknown_to_the_next_at_once(bench, ledger):
    sheet = bench.sheet(["only"])
    assert await children.start(bench, sheet, BEFORE_THE_POST).end() == -signal.SIGKILL
    [row] = await deliver(bench, sheet)
    assert row[:2] == ["unknown", 0]
    assert "while it was sending this row" in row[4]
    assert sum(bench.charged().values()) == 0


@pytest.mark.charges(2)
async def test_permission_to_pay_again_is_used_by_one_of_them(bench, ledger):
    sheet = bench.sheet([f"prompt {n}" for n in range(4)])
    await deliver(bench, sheet)
    done = await asyncio.gather(*(deliver(bench, sheet, fresh=True) for _ in range(3)))
    assert set(bench.charged().values()) == {2}
    assert sum(row[1] for rows in done for row in rows) == 4 * 54
    assert all(row[0] == "succeeded" for rows in done for row in rows)


async def test_a_cap_of_the_day_holds_between_them(bench, ledger, monkeypatch):
    monkeypatch.setenv("REELSHEET_DAILY_CAP_USD", "2.70")
    sheets = [bench.sheet([f"prompt {k} {n}" for n in range(4)], name=f"{k}.csv") for k in range(3)]
    done = await asyncio.gather(*(deliver(bench, sheet) for sheet in sheets))
    assert sum(row[1] for rows in done for row in rows) == 270
    assert sum(bench.charged().values()) == 5
