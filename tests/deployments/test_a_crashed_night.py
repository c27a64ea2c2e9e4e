"""400 rows in 8 shards on the real PostgreSQL and Redis; a worker is killed, the server restarted; one charge each."""

import os
import signal
import time
from collections import Counter
from typing import Any

import psycopg
import pytest

from reelsheet.sandbox.process import SandboxProcess
from tests.deployments.bucket import put_sheet, table
from tests.deployments.processes import is_running
from tests.deployments.stack import Stack

ROWS, SHARD = 400, 50
SHOTS = os.environ.get("REELSHEET_TEST_SHOTS")  # a folder for pictures of the UI, where somebody wants to look

pytestmark = pytest.mark.slow


@pytest.mark.timeout(400)
def test_a_killed_worker_and_a_restarted_server_leave_every_row_delivered_and_paid_for_once(
    stack: Stack, provider: SandboxProcess
) -> None:
    night = stack
    provider.settings(latency=6, latency_sigma=0.3)  # slow enough to be killed in the middle
    prompts = [f"shot {n}" for n in range(ROWS)]
    workers = [night.start_worker(), night.start_worker()]
    flow_run = night.run_of_sheet(
        put_sheet(provider, "night", prompts), f"s3://{provider.bucket}/night", f"shard_size={SHARD}", "preflight=false"
    )

    victim = night.until(
        lambda: busy_worker(night, workers), 120, "a worker with shards at work, without the run itself"
    )
    lost, killed = kill_between_posts(night, victim)
    night.start_worker()  # compose would: restart: unless-stopped
    night.stop("server")
    time.sleep(1)
    night.start("server")
    night.healthy()

    ended = night.until(lambda: night.ended(flow_run), 170, "the run to end")
    look_at(night, flow_run)
    assert lost >= 1
    assert ended["state"]["type"] == "COMPLETED", ended["state"]
    assert ended["state"]["message"].startswith(f"{ROWS} rows: {ROWS} succeeded; $216.00 spent")
    assert Counter(charge["prompt"] for charge in provider.charges()) == dict.fromkeys(prompts, 1)
    rows = table(provider, "night")
    assert [row["prompt"] for row in rows] == prompts
    assert {row["status"] for row in rows} == {"succeeded"}
    assert sum(float(row["cost_usd"]) for row in rows) == pytest.approx(0.54 * ROWS)
    assert len({row["video_uri"] for row in rows}) == ROWS
    begun = [shard for shard in night.runs_of("generate-shard") if shard["run_count"]]  # some found no server to start
    left_alone = [shard for shard in begun if not was_killed(shard, killed)]
    assert len(begun) - len(left_alone) >= lost
    assert len(left_alone) == ROWS // SHARD, "only what was killed at work was begun again"


def busy_worker(night: Stack, workers: list[str]) -> tuple[str, list[str]] | None:
    """(worker, owners of its shards) where it has two shards that have submitted, and not the run itself."""
    with psycopg.connect(night.ledger_url) as connection:
        try:
            parents = {pid for (pid,) in connection.execute("SELECT o.pid FROM runs r JOIN owners o ON o.id = r.owner")}
            at_work = connection.execute(
                "SELECT s.owner, o.pid, count(a.id) FROM shards s JOIN owners o ON o.id = s.owner"
                " LEFT JOIN attempts a ON a.owner = s.owner WHERE s.finished_at IS NULL GROUP BY 1, 2"
            ).fetchall()
        except psycopg.errors.UndefinedTable:
            return None
    for name in workers:
        tree = set(night.family(name))
        owners = [owner for owner, pid, submitted in at_work if pid in tree and submitted >= SHARD // 5]
        if not parents & tree and len(owners) >= 2:
            return name, owners
    return None


def was_killed(shard: dict[str, Any], killed: list[int]) -> bool:
    """Whether a flow run's process was among them; a worker whose server is away cannot say which process it is."""
    process = shard["infrastructure_pid"]
    return shard["state"]["type"] == "CRASHED" if process is None else int(process.rpartition(":")[2]) in killed


def kill_between_posts(night: Stack, victim: tuple[str, list[str]]) -> tuple[int, list[int]]:
    """SIGKILL the worker and all it started, once none of its answers is on the way.

    Answers (shards that it was at, processes that were killed).

    An answer on its way would be lost, and its row `unknown`, as another test shows. So the ledger takes no claims of
    this worker any more, as if it were away, and those that it has already taken get their answers.
    """
    name, _ = victim
    os.kill(night.processes[name].pid, signal.SIGSTOP)  # it starts nothing more
    family = night.family(name)
    owners = "SELECT id FROM owners WHERE expires_at > 0 AND pid = ANY(%s)"
    claims = f"SELECT 1 FROM attempts WHERE state = 'claimed' AND owner IN ({owners})"  # noqa: S608 - our own words
    shards = f"SELECT count(*) FROM shards WHERE finished_at IS NULL AND owner IN ({owners})"  # noqa: S608 - the same
    with psycopg.connect(night.ledger_url, autocommit=True) as connection:
        connection.execute(NO_CLAIMS.format(pids=",".join(map(str, family))))  # type: ignore[call-overload]
        night.until(lambda: connection.execute(claims, (family,)).fetchone() is None, 60, "the answers on their way")
        pids = [pid for pid in family if is_running(pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        lost = connection.execute(shards, (family,)).fetchone()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        night.processes.pop(name).wait(10)
        connection.execute("DROP FUNCTION no_claims CASCADE")
    assert lost is not None
    return int(lost[0]), pids


NO_CLAIMS = """
CREATE FUNCTION no_claims() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF EXISTS (SELECT FROM owners WHERE id = NEW.owner AND pid IN ({pids})) THEN
        RAISE read_only_sql_transaction;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER no_claims BEFORE INSERT OR UPDATE ON attempts
    FOR EACH ROW WHEN (NEW.state = 'claimed') EXECUTE FUNCTION no_claims();
"""


def look_at(night: Stack, flow_run_id: str) -> None:
    """The run's page in Prefect's UI, where somebody wants to see it."""
    if not SHOTS:
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1500, "height": 1300})
        for name, path in {"run": f"/runs/flow-run/{flow_run_id}", "artifacts": "/artifacts", "runs": "/runs"}.items():
            page.goto(night.api.removesuffix("/api") + path)
            page.wait_for_timeout(6000)
            page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)
        browser.close()
