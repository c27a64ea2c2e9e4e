"""One wish, one payment: a command that is repeated while its run is unfinished pays for nothing that that run paid."""

import asyncio
import csv
import os
import signal
import time

import pytest

from reelsheet.ledger import Ledger
from tests.faults import children
from tests.faults.children import Stage

AFTER_THE_SECOND_ID = Stage("reelsheet.ledger.claims.Claims", "record_id", "after", 2)
PROMPTS = [f"prompt {n}" for n in range(4)]


@pytest.fixture(autouse=True)
def on_each_database(ledger_url, monkeypatch):
    monkeypatch.setenv("REELSHEET_LEDGER_URL", ledger_url)
    return ledger_url


ONE, OTHER = ("sqlite", "run --fresh"), ("postgresql", "retry")
EVERY = [
    *[("sqlite", name) for name in ("run --fresh", "run --retry-unknown", "run --fresh --retry-unknown", "retry")],
    *[("postgresql", name) for name in ("run --fresh", "retry", "retry --fresh", "redo")],
]
on_sqlite = pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)


def commands(*commands):
    """For each of these databases and commands."""
    return pytest.mark.parametrize(("ledger_url", "command"), commands, indirect=True)


@pytest.fixture
async def command(request, bench):
    """A command for rows that nobody has paid for yet: what `bench.deliver` and `children.start` take."""
    sheet = bench.sheet(PROMPTS)
    flags = {"fresh": "--fresh" in request.param, "retry_unknown": "--retry-unknown" in request.param}
    if request.param.startswith("run"):
        return {"source": sheet, **flags}
    await bench.deliver(sheet, max_cost_usd=0)  # a results table in which every row is skipped
    table = bench.destination / "results.csv"
    if request.param == "redo":
        say_redo(table, bench.folder / "kept.csv")
        table = bench.folder / "kept.csv"
    return {"source": table, "verb": "retry", **flags}


def say_redo(table, marked):
    """A person writes redo into every row."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with marked.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"review": "redo"} for row in rows)


async def repeat(bench, command, **more):
    command = dict(command)
    return await bench.deliver(command.pop("source"), **command, **more)


def killed(bench, command, stage=AFTER_THE_SECOND_ID, **more):
    command = dict(command)
    return children.start(bench, command.pop("source"), stage, **command, **more).end()


def paid_once(bench):
    assert bench.charged() == dict.fromkeys(PROMPTS, 1)


@pytest.mark.slow
@commands(ONE, OTHER)
async def test_after_a_kill(bench, command):
    assert await killed(bench, command, concurrency=1) == -signal.SIGKILL
    done = await repeat(bench, command)
    assert done.statuses() == ["succeeded"] * 4
    paid_once(bench)


@pytest.mark.slow
@commands(ONE, OTHER)
async def test_after_a_kill_when_every_row_is_done_and_the_command_has_not_ended(bench, command):
    """Whoever started it was told that it was killed, and repeats it."""
    ended = Stage("reelsheet.ledger.runs.Runs", "conclude_run", "before")
    assert await killed(bench, command, ended) == -signal.SIGKILL
    assert (await repeat(bench, command)).exit_code == 0
    paid_once(bench)


@commands(*EVERY)
async def test_after_a_cap(bench, command):
    assert (await repeat(bench, command, max_cost_usd=1.08)).exit_code == 4
    assert (await repeat(bench, command, max_cost_usd=0.54)).exit_code == 4
    assert (await repeat(bench, command)).exit_code == 0
    paid_once(bench)


@commands(ONE, OTHER)
async def test_after_the_key_was_refused(bench, command):
    bench.sandbox.fault("submit", nth=3, answer={"status": 401})
    assert (await repeat(bench, command, concurrency=1)).exit_code == 3
    assert (await repeat(bench, command)).exit_code == 0
    paid_once(bench)


@commands(ONE, OTHER)
async def test_after_a_signal(bench, command):
    async def stopping(run):
        while not bench.sandbox.charges():
            await asyncio.sleep(0.02)
        run.stops.interrupt(signal.SIGINT)

    bench.sandbox.settings(latency=0.5)
    assert (await repeat(bench, command, meanwhile=stopping, concurrency=2)).exit_code == 130
    assert (await repeat(bench, command)).exit_code == 0
    paid_once(bench)


@pytest.mark.slow
@commands(ONE, OTHER)
async def test_beside_the_first_one_that_is_still_alive(bench, command):
    bench.sandbox.settings(latency=1.0)
    command = dict(command)
    source = command.pop("source")
    runs = [children.start(bench, source, **command) for _ in range(3)]
    for rows in await asyncio.gather(*(run.rows() for run in runs)):
        assert [row[0] for row in rows] == ["succeeded"] * 4
    paid_once(bench)


@pytest.mark.charges(2)
async def test_when_it_is_finished_the_same_command_is_another_wish(bench):
    sheet = bench.sheet(PROMPTS)
    await bench.deliver(sheet, fresh=True, max_cost_usd=1.08)
    await bench.deliver(sheet, fresh=True)
    paid_once(bench)
    done = await bench.deliver(sheet, fresh=True)
    assert [row.attempt for row in done.results] == [2] * 4


@pytest.mark.charges(2)
@pytest.mark.parametrize("verb", ["run", "retry"])
@on_sqlite
async def test_a_redo_that_was_stopped_goes_on_although_its_table_was_written_again(bench, verb):
    await bench.deliver(bench.sheet(PROMPTS))
    table = bench.destination / "results.csv"
    say_redo(table, table)
    wish = {"source": table, "verb": verb, "destination": str(bench.destination)}
    for _ in range(2):
        assert (await repeat(bench, wish, max_cost_usd=0.54)).exit_code == 4
    for _ in range(2):
        done = await repeat(bench, wish)
        assert [row.attempt for row in done.results] == [2] * 4


@on_sqlite
async def test_redo_on_a_row_that_was_never_tried_is_one_order_however_often_the_table_is_given(bench):
    await bench.deliver(bench.sheet(PROMPTS), max_cost_usd=0)
    kept = bench.folder / "kept.csv"
    say_redo(bench.destination / "results.csv", kept)
    for verb in ("retry", "retry", "run"):
        await bench.deliver(kept, verb=verb, destination=str(bench.destination))
    paid_once(bench)


@pytest.mark.charges(2)
@on_sqlite
async def test_new_run_begins_another_wish_on_purpose(bench):
    sheet = bench.sheet(PROMPTS)
    await bench.deliver(sheet, fresh=True, max_cost_usd=1.08)
    done = await bench.deliver(sheet, fresh=True, new_run=True)
    assert [row.attempt for row in done.results] == [2, 2, 1, 1]


@on_sqlite
async def test_a_row_that_the_unfinished_retry_tried_and_the_provider_failed_is_not_tried_by_its_repetition(bench):
    """Each was skipped first, so that the retry had nothing to replace."""
    bench.sandbox.fault("submit", prompt=PROMPTS[0], fail="the queue broke down")
    await bench.deliver(bench.sheet(PROMPTS), max_cost_usd=0)
    for _ in range(3):
        stopped = await bench.deliver(bench.destination, verb="retry", max_cost_usd=0.54)
        assert stopped.statuses()[0] == "failed"
    done = await bench.deliver(bench.destination, verb="retry")
    assert done.statuses() == ["failed", "succeeded", "succeeded", "succeeded"]
    paid_once(bench)


@pytest.mark.charges(2)
@on_sqlite
async def test_fresh_and_then_also_retry_unknown_submits_only_the_lost_row_again(bench):
    bench.sandbox.fault("submit", prompt=PROMPTS[1], charged=True, close="after", times=1)
    sheet = bench.sheet(PROMPTS)
    assert (await bench.deliver(sheet, fresh=True, max_cost_usd=1.62)).exit_code == 4
    done = await bench.deliver(sheet, fresh=True, retry_unknown=True)
    assert done.statuses() == ["succeeded"] * 4
    assert bench.charged() == dict.fromkeys(PROMPTS, 1) | {PROMPTS[1]: 2}


@pytest.mark.charges(2)
@on_sqlite
async def test_rows_that_are_new_in_the_sheet_are_a_new_wish(bench):
    await bench.deliver(bench.sheet([*PROMPTS, "old"], name="old.csv"))
    sheet = bench.sheet(PROMPTS[:2])
    await bench.deliver(sheet, fresh=True, max_cost_usd=0.54)
    bench.sheet([*PROMPTS[:2], "old"])
    await bench.deliver(sheet, fresh=True)
    assert bench.charged() == {PROMPTS[0]: 2, PROMPTS[1]: 2, "old": 2, PROMPTS[2]: 1, PROMPTS[3]: 1}


@on_sqlite
async def test_another_spelling_of_the_sheet_or_the_destination_is_the_same_wish(bench, monkeypatch):
    sheet = bench.sheet(PROMPTS)
    linked = bench.folder / "linked.csv"
    linked.symlink_to(sheet)
    monkeypatch.chdir(bench.folder)
    for source, destination in ((sheet, "dest"), (linked, "dest/"), ("./sheet.csv", str(bench.destination))):
        await bench.deliver(source, destination=destination, fresh=True, max_cost_usd=0.54)
    await bench.deliver(sheet, fresh=True)
    paid_once(bench)


async def test_a_portion_in_between_does_not_begin_the_wish_again(bench):
    sheet = bench.sheet(PROMPTS)
    assert (await bench.deliver(sheet, fresh=True, max_cost_usd=0.54)).exit_code == 4
    assert (await bench.deliver(sheet, fresh=True, limit=1)).exit_code == 0
    assert (await bench.deliver(sheet, fresh=True)).exit_code == 0
    paid_once(bench)


@pytest.mark.charges(2)
@pytest.mark.parametrize("ahead_s", [7_200.0, -7_200.0])
async def test_clocks_that_are_hours_apart_change_nothing(bench, monkeypatch, ahead_s):
    """A finished run on a machine whose clock is ahead, then an unfinished one here: the latter is continued."""
    sheet = bench.sheet(PROMPTS)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + ahead_s)
    await bench.deliver(sheet, fresh=True)
    monkeypatch.setattr(time, "time", clock)
    stopped = await bench.deliver(sheet, fresh=True, max_cost_usd=1.08)
    monkeypatch.setattr(time, "time", lambda: clock() - ahead_s)
    done = await bench.deliver(sheet, fresh=True)
    assert [row.attempt for row in done.results] == [2] * 4
    monkeypatch.setattr(time, "time", clock)
    ledger = Ledger.open(os.environ["REELSHEET_LEDGER_URL"])
    assert [run.run_id for run in ledger.recent_runs(2)] == [done.run.run_id, stopped.run.run_id]
    ledger.close()


# --limit


@pytest.mark.charges(2)
async def test_a_limit_reaches_every_failed_row_before_it_pays_for_one_again(bench):
    bench.sandbox.fault("submit", fail="the queue broke down", times=99)
    await bench.deliver(bench.sheet(PROMPTS))
    tried = []
    for _ in PROMPTS:
        before = bench.charged()
        await bench.deliver(bench.destination, verb="retry", limit=1)
        tried += (bench.charged() - before).elements()
    assert sorted(tried) == PROMPTS


@on_sqlite
async def test_a_limit_takes_rows_that_were_never_tried_before_those_that_were(bench):
    bench.sandbox.fault("submit", prompt=PROMPTS[0], answer={"status": 422}, times=99)
    sheet = bench.sheet(PROMPTS)
    for n in range(4):
        await bench.deliver(sheet, limit=1)
        assert list(bench.posted().values()) == [1] * (n + 1)
    done = await bench.deliver(sheet, limit=1)
    assert done.codes() == ["rejected", "", "", ""]


@on_sqlite
async def test_a_limit_comes_to_every_paid_row_whose_clip_cannot_be_copied_yet(bench):
    bench.sandbox.fault("asset", answer={"status": 404}, times=999)
    sheet = bench.sheet(PROMPTS[:3])
    await bench.deliver(sheet)
    tried = [(await bench.deliver(sheet, limit=1)).codes() for _ in range(4)]
    assert sorted(codes.index("asset_unavailable") for codes in tried[:3]) == [0, 1, 2]
    assert tried[3] == tried[0]


@on_sqlite
async def test_a_limit_passes_over_pictures_that_cannot_be_sent(bench, monkeypatch):
    """Nothing is claimed for them, so that no attempt tells of the try."""
    from reelsheet.images import preflight

    address = preflight.provider_address

    async def unsigned(image):
        raise OSError("no credentials to sign with")

    monkeypatch.setattr(preflight, "provider_address", unsigned)
    sheet = bench.sheet(PROMPTS[:2])
    assert (await bench.deliver(sheet, limit=1)).statuses() == ["invalid", "skipped"]
    monkeypatch.setattr(preflight, "provider_address", address)
    assert (await bench.deliver(sheet, limit=1)).statuses() == ["skipped", "succeeded"]


@on_sqlite
async def test_what_a_sandbox_charges_never_counts_as_real_money(bench, monkeypatch):
    monkeypatch.setenv("REELSHEET_DAILY_CAP_USD", "1.08")
    done = await bench.deliver(bench.sheet(PROMPTS))
    assert done.exit_code == 4
    ledger = Ledger.open(os.environ["REELSHEET_LEDGER_URL"])
    assert (ledger.days(), ledger.today().spent_cents, ledger.observed_pace()) == ([], 0, None)
    assert ledger.today(is_play_money=True).confirmed_cents == 108
    assert ledger.observed_pace(is_play_money=True) is not None
    ledger.close()
