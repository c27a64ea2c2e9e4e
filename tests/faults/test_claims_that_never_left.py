"""The ledger goes away between a claim and its POST: what was certainly never sent is given back by its owner."""

import asyncio
import sqlite3

import pytest

from reelsheet.ledger import Ledger, State
from reelsheet.ledger import database as ledger_database
from reelsheet.ledger.claims import Claims
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.run import submission
from reelsheet.run.submission import Submitter
from tests.stand_in.database_proxy import DatabaseProxy

PROMPTS = ["zero", "one", "two", "three"]


@pytest.fixture(autouse=True)
def quick_repeats(monkeypatch):
    monkeypatch.setattr(submission, "COMMIT_PAUSES_S", (0.01, 0.01))


@pytest.fixture
def proxy(postgresql_url, monkeypatch):
    with DatabaseProxy(postgresql_url) as proxy:
        monkeypatch.setenv("REELSHEET_LEDGER_URL", proxy.url)
        yield proxy


def states(url, done):
    ledger = Ledger.open(url)
    try:
        histories = ledger.histories([result.identity for result in done.results])
        at_risk = ledger.run(done.run.run_id).at_risk_cents
        reserved = ledger.run(done.run.run_id).reserved_cents
        return [histories[r.identity].latest.state if r.identity in histories else "" for r in done.results], (
            at_risk + reserved
        )
    finally:
        ledger.close()


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


async def test_a_claim_whose_commit_nobody_heard_of_is_given_back(bench, proxy, postgresql_url, monkeypatch):
    """It stands in the database all the same: the answer to COMMIT was lost, not the COMMIT."""
    first_is_stored = asyncio.Event()
    admit = Submitter.admit

    async def later(self, group):
        if group.order:
            await first_is_stored.wait()
        return await admit(self, group)

    async def meanwhile(run):
        await until(lambda: any(group.step == "done" for group in run.plan.groups.values()))
        proxy.cut_at_commit_after("INSERT INTO attempts")
        first_is_stored.set()
        await until(lambda: run.stops.is_stopping)
        proxy.restore()

    monkeypatch.setattr(Submitter, "admit", later)
    done = await bench.deliver(bench.sheet(PROMPTS), concurrency=1, meanwhile=meanwhile)
    assert done.statuses() == ["succeeded", "skipped", "skipped", "skipped"]
    assert (set(done.codes()[1:]), done.exit_code) == ({"storage"}, 3)
    assert done.summary.at_risk_cents == 0
    assert states(postgresql_url, done) == ([State.COMPLETED, State.REFUSED, "", ""], 0)
    again = await bench.deliver(bench.sheet(PROMPTS))
    assert again.statuses() == ["succeeded"] * 4


@pytest.fixture
def cuts_at_post(monkeypatch):
    """The ledger goes away right after a claim, before its POST is tried."""
    send = Submitter._send

    def arrange(cut):
        cuts = iter([cut])

        async def after_the_cut(self, group, claim, image):
            await asyncio.to_thread(next(cuts, int))
            return await send(self, group, claim, image)

        monkeypatch.setattr(Submitter, "_send", after_the_cut)

    return arrange


async def test_a_post_whose_connection_was_never_made_is_given_back(
    bench, proxy, postgresql_url, cuts_at_post, refusing_port, monkeypatch
):
    monkeypatch.setenv("VIBEDREAM_BASE_URL", f"http://127.0.0.1:{refusing_port}")
    cuts_at_post(proxy.cut)

    async def meanwhile(run):
        await until(lambda: run.stops.is_stopping)
        proxy.restore()

    done = await bench.deliver(bench.sheet(PROMPTS), meanwhile=meanwhile)
    assert (set(done.statuses()), done.summary.at_risk_cents) == ({"skipped"}, 0)
    found, money = states(postgresql_url, done)
    assert set(found) <= {State.REFUSED, ""}
    assert State.REFUSED in found
    assert money == 0


async def test_a_post_that_a_signal_kept_back_is_given_back(bench, proxy, postgresql_url, cuts_at_post):
    cuts_at_post(proxy.cut)

    async def meanwhile(run):
        await until(lambda: not proxy.is_up)
        run.stops.interrupt(15)
        await until(lambda: run.ledger_session._deferred)
        proxy.restore()

    done = await bench.deliver(bench.sheet(["zero"]), meanwhile=meanwhile)
    found, money = states(postgresql_url, done)
    charged = sum(bench.charged().values())
    assert (found, money) == ([State.SUBMITTED if charged else State.REFUSED], 0)


async def test_a_release_that_cannot_be_written_stays_unknown(
    bench, proxy, postgresql_url, cuts_at_post, refusing_port, monkeypatch, expires
):
    monkeypatch.setenv("VIBEDREAM_BASE_URL", f"http://127.0.0.1:{refusing_port}")
    cuts_at_post(proxy.cut)
    done = await bench.deliver(bench.sheet(["zero"]))
    assert (done.statuses(), done.exit_code) == (["skipped"], 3)
    ledger = Ledger.open(postgresql_url)
    expires(ledger, done.run.context.ledger)
    ledger.close()
    monkeypatch.setenv("REELSHEET_LEDGER_URL", postgresql_url)
    again = await bench.deliver(bench.sheet(["zero"]))
    assert (again.statuses(), again.summary.at_risk_cents) == (["unknown"], 54)


async def test_a_sqlite_ledger_that_somebody_locks_takes_the_release_later(
    bench, sqlite_url, cuts_at_post, refusing_port, monkeypatch
):
    monkeypatch.setattr(ledger_database, "BUSY_SECONDS", 0.05)
    monkeypatch.setenv("REELSHEET_LEDGER_URL", sqlite_url)
    monkeypatch.setenv("VIBEDREAM_BASE_URL", f"http://127.0.0.1:{refusing_port}")
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    cuts_at_post(lambda: other.execute("BEGIN IMMEDIATE"))

    async def meanwhile(run):
        await until(lambda: run.stops.is_stopping)
        other.execute("ROLLBACK")

    done = await bench.deliver(bench.sheet(PROMPTS), concurrency=1, meanwhile=meanwhile)
    other.close()
    assert set(done.statuses()) == {"skipped"}
    assert states(sqlite_url, done) == ([State.REFUSED, "", "", ""], 0)


async def test_a_row_that_is_cancelled_while_it_claims_gives_its_claim_back(bench, ledger_url, monkeypatch):
    monkeypatch.setenv("REELSHEET_LEDGER_URL", ledger_url)
    claim, claiming, go_on = Claims.claim, asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(self, *args, **kwargs):
        loop.call_soon_threadsafe(claiming.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        return claim(self, *args, **kwargs)

    submit = Submitter.submit_row

    async def cancelled(self, group):
        row = asyncio.create_task(submit(self, group))
        await claiming.wait()
        row.cancel()
        await asyncio.wait({row})
        go_on.set()
        group.set_outcome(Status.SKIPPED, ErrorCode.INTERRUPTED, "It was cancelled.")

    monkeypatch.setattr(Claims, "claim", slow)
    monkeypatch.setattr(Submitter, "submit_row", cancelled)
    done = await bench.deliver(bench.sheet(["zero"]))
    assert states(ledger_url, done) == ([State.REFUSED], 0)
    assert bench.charged() == {}
