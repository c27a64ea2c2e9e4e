"""Kills, signals, two runs at once: nobody pays twice, nothing is lost, the table is there."""

import asyncio
import signal

import pytest

from reelsheet.ledger.claims import Claims
from reelsheet.run.run import Run
from tests.faults import children
from tests.faults.children import Stage

OK = "a calm push in"

# Where a run is killed: (object, attribute, before or after the call).
STAGES = {
    "before the run is registered": ("reelsheet.ledger.runs.Runs", "open_run", "before"),
    "after the run is registered": ("reelsheet.ledger.runs.Runs", "open_run", "after"),
    "before the manifest is written": ("reelsheet.results.publication.ResultsWriter", "begin", "before"),
    "before the claim": ("reelsheet.ledger.claims.Claims", "claim", "before"),
    "after the claim": ("reelsheet.ledger.claims.Claims", "claim", "after"),
    "before the POST": ("reelsheet.provider.client.Provider", "submit", "before"),
    "after the POST, before its answer is kept": ("reelsheet.provider.client.Provider", "submit", "after"),
    "before the id is committed": ("reelsheet.ledger.claims.Claims", "record_id", "before"),
    "after the id is committed": ("reelsheet.ledger.claims.Claims", "record_id", "after"),
    "before a poll": ("reelsheet.provider.client.Provider", "poll", "before"),
    "after a poll": ("reelsheet.provider.client.Provider", "poll", "after"),
    "before the verdict is kept": ("reelsheet.ledger.claims.Claims", "record_completed", "before"),
    "after the verdict is kept": ("reelsheet.ledger.claims.Claims", "record_completed", "after"),
    "before the copy": ("reelsheet.storage.clip_copy", "copy", "before"),
    "after the copy": ("reelsheet.storage.clip_copy", "copy", "after"),
    "before the delivery is kept": ("reelsheet.ledger.claims.Claims", "record_deliveries", "before"),
    "after the delivery is kept": ("reelsheet.ledger.claims.Claims", "record_deliveries", "after"),
    "before the results are written": ("reelsheet.results.publication.ResultsWriter", "finish_tables", "before"),
    "after the results are written": ("reelsheet.results.publication.ResultsWriter", "finish_pages", "after"),
    "before the run is closed": ("reelsheet.ledger.runs.Runs", "finish_run", "before"),
}
MAYBE_PAID = {
    "after the claim",
    "before the POST",
    "after the POST, before its answer is kept",
    "before the id is committed",
}


@pytest.mark.parametrize("stage", STAGES)
async def test_a_run_killed_at_any_stage_is_finished_by_the_same_command_without_a_second_charge(bench, stage):
    sheet = bench.sheet([f"prompt {n}" for n in range(4)])
    nth = 1 if "run" in stage or "manifest" in stage or "results" in stage else 2
    if "copy" in stage or "delivery" in stage:
        nth = 4  # the last: while others are copied the next may be on its way
    child = children.start(bench, sheet, Stage(*STAGES[stage], nth), concurrency=1)
    assert await child.end() == -signal.SIGKILL
    done = await bench.deliver(sheet)
    unknown = done.statuses().count("unknown")
    assert unknown == (1 if stage in MAYBE_PAID else 0), done.results
    assert done.statuses().count("succeeded") == 4 - unknown
    books = bench.charged()
    assert all(count == 1 for count in books.values())
    assert sum(r.total_cost_cents for r in done.results) == 54 * (4 - unknown)
    assert sum(r.at_risk_cents for r in done.results) == 54 * unknown
    third = await bench.deliver(sheet)
    assert third.statuses() == done.statuses()
    assert third.summary.cost_cents == 0


@pytest.mark.charges(2)
@pytest.mark.parametrize(
    "stage", ["after the id is committed", "after the delivery is kept", "before the results are written"]
)
async def test_permission_to_pay_again_is_not_used_twice_by_the_same_command_after_a_kill(bench, stage):
    sheet = bench.sheet([f"prompt {n}" for n in range(3)])
    await bench.deliver(sheet)
    nth = 1 if "results" in stage else 2
    child = children.start(bench, sheet, Stage(*STAGES[stage], nth), fresh=True)
    assert await child.end() == -signal.SIGKILL
    done = await bench.deliver(sheet, fresh=True)
    assert set(done.statuses()) <= {"succeeded", "unknown"}
    assert max(bench.charged().values()) == 2
    assert [r.attempt for r in done.results] == [2, 2, 2]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_two_hundred_kills_at_random_moments_cost_nothing_twice(bench):
    import random

    chance = random.Random(20260115)
    sheets = [bench.sheet([f"prompt {n} of sheet {k}" for n in range(90)], name=f"sheet-{k}.csv") for k in range(10)]
    killed = 0
    for n in range(200):
        child = children.start(bench, sheets[n // 20])
        await asyncio.sleep(chance.uniform(0.05, 0.5))
        child.process.kill()
        killed += await child.end() == -signal.SIGKILL
    assert killed >= 100
    for sheet in sheets:
        done = await bench.deliver(sheet)
        assert set(done.statuses()) <= {"succeeded", "unknown"}
        lost = sum(1 for r in done.results if r.status == "unknown")
        assert done.summary.at_risk_cents == 54 * lost
    assert all(count == 1 for count in bench.charged().values())


async def _stopping(run: Run, number: int) -> None:
    while run.gate.pace.in_flight == 0:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    run.stops.interrupt(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_lets_posts_in_flight_be_recorded_and_the_run_be_resumed(bench, number):
    bench.sandbox.fault("submit", times=-1, delay=0.5)
    sheet = bench.sheet([f"prompt {n}" for n in range(8)])
    first = await bench.deliver(sheet, meanwhile=lambda run: _stopping(run, int(number)))
    assert first.exit_code == 128 + number
    assert len(first.table()) == 8
    charged = sum(bench.charged().values())
    with_id = sum(1 for r in first.results if r.prediction_id)
    assert with_id == charged  # every POST on its way was answered and recorded
    assert "unknown" not in first.statuses()
    bench.sandbox.clear_faults()
    second = await bench.deliver(sheet)
    assert second.statuses() == ["succeeded"] * 8


@pytest.mark.parametrize("runs", [2, 5])
async def test_runs_at_once_pay_once_and_all_tell_the_truth(bench, runs):
    bench.sandbox.settings(latency=0.3)
    sheet = bench.sheet([f"prompt {n}" for n in range(6)])
    done = await asyncio.gather(
        *(bench.deliver(sheet, destination=str(bench.folder / f"dest-{n}")) for n in range(runs))
    )
    assert all(one.statuses() == ["succeeded"] * 6 for one in done)
    assert sum(one.summary.cost_cents for one in done) == 6 * 54
    assert all(count == 1 for count in bench.charged().values())


async def test_two_runs_into_one_destination_at_once_pay_once(bench):
    bench.sandbox.settings(latency=0.3)
    sheet = bench.sheet([f"prompt {n}" for n in range(6)])
    done = await asyncio.gather(*(bench.deliver(sheet) for _ in range(2)))
    assert all(one.statuses() == ["succeeded"] * 6 for one in done)
    assert sum(one.summary.cost_cents for one in done) == 6 * 54


async def test_a_prefect_retry_is_the_same_run_with_the_same_cap(bench):
    sheet = bench.sheet([f"prompt {n}" for n in range(4)])
    first = await bench.deliver(sheet, flow_run_id="flow-1", max_cost_usd=1.08)
    second = await bench.deliver(sheet, flow_run_id="flow-1", max_cost_usd=1.08)
    assert first.run.run_id == second.run.run_id
    assert sum(bench.charged().values()) == 2
    assert second.exit_code == 4


async def test_a_stalled_claimant_that_wakes_up_does_not_post(bench, monkeypatch):
    from reelsheet.run import submission as module

    now = module.awake_and_asleep
    slept = {"by": 0.0}
    monkeypatch.setattr("reelsheet.run.submission.awake_and_asleep", lambda: now() + slept["by"])
    claim = Claims.claim

    def stall(self, *args, **kwargs):
        found = claim(self, *args, **kwargs)
        slept["by"] = 0.0 if slept["by"] else 3600.0  # the first claim is followed by an hour of sleep
        return found

    monkeypatch.setattr(Claims, "claim", stall)
    done = await bench.deliver(bench.sheet([OK]), concurrency=1)
    assert done.statuses() == ["succeeded"]
    assert sum(bench.posted().values()) == 1


async def test_a_ledger_that_cannot_take_the_id_keeps_it_elsewhere_and_nothing_is_paid_again(
    bench, monkeypatch, caplog
):
    from reelsheet.errors import LedgerError

    record = Claims.record_id

    def full(self, *args):
        raise LedgerError("The ledger cannot be written (disk full).")

    monkeypatch.setattr(Claims, "record_id", full)
    monkeypatch.setattr(asyncio, "sleep", _short(asyncio.sleep))
    sheet = bench.sheet([OK, "second", "third", "fourth", "fifth", "sixth"])
    first = await bench.deliver(sheet)
    assert first.exit_code == 3
    paid = sum(bench.charged().values())
    assert 1 <= paid <= 3
    assert first.statuses().count("succeeded") == paid  # polled and copied from memory
    assert "PAID" in caplog.text
    monkeypatch.setattr(Claims, "record_id", record)
    second = await bench.deliver(sheet)
    assert set(second.statuses()) == {"succeeded"}
    assert all(count == 1 for count in bench.charged().values())


def _short(sleep):
    async def quickly(seconds, *args):
        await sleep(min(seconds, 0.05), *args)

    return quickly


async def test_a_ledger_that_cannot_take_a_claim_sends_nothing(bench, monkeypatch):
    from reelsheet.errors import LedgerError

    def full(self, *args, **kwargs):
        raise LedgerError("The ledger cannot be written (disk full).")

    monkeypatch.setattr(Claims, "claim", full)
    done = await bench.deliver(bench.sheet([OK, "second"]))
    assert set(done.statuses()) == {"skipped"}
    assert done.exit_code == 3
    assert sum(bench.posted().values()) == 0
