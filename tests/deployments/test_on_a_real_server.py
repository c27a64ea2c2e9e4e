"""Bootstrap, events, automations and cancelling on a real server with PostgreSQL and Redis."""

import os
import signal
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from reelsheet.sandbox.process import SandboxProcess
from tests.deployments.bucket import put_sheet, table
from tests.deployments.stack import Stack

pytestmark = pytest.mark.slow


@pytest.mark.timeout(540)
def test_a_stack_is_made_twice_starts_runs_by_events_survives_crashes_and_can_be_cancelled(
    stack: Stack, provider: SandboxProcess
) -> None:
    provider.settings(latency=0.5)
    worker = stack.start_worker()
    bootstrap_is_repeatable(stack)
    a_manifest_that_arrives_is_made(stack, provider)
    a_run_that_its_worker_never_began_is_begun_by_another(stack, provider)
    a_cancelled_run_keeps_what_it_has(stack, provider)
    a_crashed_run_goes_on_and_pays_nothing_twice(stack, provider, worker)


def bootstrap_is_repeatable(one: Stack) -> None:
    before = one.automations()
    said = one.run("bootstrap", 180)
    assert "automation created" not in said
    assert "work pool reelsheet (process) created" not in said
    after = one.automations()
    rules = {name for name in before if name.startswith("reelsheet · ")}
    assert {name: before[name]["id"] for name in rules if "arrived" not in name} == {
        name: after[name]["id"] for name in rules if "arrived" not in name
    }
    assert "reelsheet · a manifest arrived" in after
    assert not any("budget" in name for name in after), "without a webhook nothing notifies"
    deployments = one.call("/deployments/filter", {"limit": 50})
    assert sorted(found["name"] for found in deployments) == [
        "morning-after", "nightly", "on-demand", "on-demand", "worker",
    ]  # fmt: skip
    nightly = next(found for found in deployments if found["name"] == "nightly")
    assert nightly["global_concurrency_limit"] is None
    assert nightly["schedules"][0]["schedule"]["timezone"] == "Europe/Berlin"
    form = nightly["parameter_openapi_schema"]["properties"]
    assert form["max_cost_usd"]["description"].startswith("The most that this run may spend")


def a_manifest_that_arrives_is_made(one: Stack, provider: SandboxProcess) -> None:
    manifest = put_sheet(provider, "arrived", "abc")
    one.call("/events", [{
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "reelsheet.manifest.arrived",
        "resource": {"prefect.resource.id": manifest},
        "payload": {"destination": f"s3://{provider.bucket}/arrived"},
    }])  # fmt: skip
    flow_run = one.until(lambda: run_of(one, manifest), 60, "the event to start a run")
    assert flow_run["parameters"]["max_cost_usd"] == 50
    ended = one.until(lambda: one.ended(flow_run["id"]), 60, "the run to end")
    assert (ended["state"]["type"], ended["state"]["message"]) == ("COMPLETED", "3 rows: 3 succeeded; $1.62 spent")
    assert [row["status"] for row in table(provider, "arrived")] == ["succeeded"] * 3
    one.until(lambda: 3 in [event["payload"]["succeeded"] for event in finished_runs(one)], 30, "its event")


def a_run_that_its_worker_never_began_is_begun_by_another(one: Stack, provider: SandboxProcess) -> None:
    """A worker that dies between taking a run up and starting its process leaves it Pending."""
    one.hurry("nobody began", 10)
    manifest = put_sheet(provider, "pending", "de")
    one.prefect(
        "deployment", "run", "generate-videos/on-demand", "--param", f"manifest={manifest}",
        "--param", f"destination=s3://{provider.bucket}/pending", "--start-in", "1 hour",
    )  # fmt: skip
    flow_run = one.until(lambda: run_of(one, manifest), 10, "the run")
    one.call(f"/flow_runs/{flow_run['id']}/set_state", {"state": {"type": "PENDING"}, "force": True})
    ended = one.until(lambda: completed(one, flow_run["id"]), 120, "another worker to begin the run")
    assert ended["state"]["message"] == "2 rows: 2 succeeded; $1.08 spent"


def run_of(one: Stack, manifest: str) -> dict[str, Any] | None:
    return next((run for run in one.runs_of("generate-videos") if run["parameters"]["manifest"] == manifest), None)


def finished_runs(one: Stack) -> list[dict[str, Any]]:
    """The events of runs that are finished."""
    asked = {"filter": {"event": {"name": ["reelsheet.run.finished"]}}, "limit": 50}
    return list(one.call("/events/filter", asked)["events"])


def begun(one: Stack, provider: SandboxProcess, name: str, prompts: list[str]) -> str:
    """A run of a new sheet whose first predictions are on their way."""
    before = len(provider.charges())
    flow_run = one.run_of_sheet(put_sheet(provider, name, prompts), f"s3://{provider.bucket}/{name}", "preflight=false")
    one.until(lambda: len(provider.charges()) >= before + len(prompts) // 2, 60, "half of it to be sent")
    return flow_run


def a_cancelled_run_keeps_what_it_has(one: Stack, provider: SandboxProcess) -> None:
    provider.settings(latency=30)
    flow_run = begun(one, provider, "cancelled", [f"cancel {n}" for n in range(6)])
    one.prefect("flow-run", "cancel", flow_run)
    ended = one.until(lambda: one.ended(flow_run), 60, "the cancelled run to end")
    assert ended["state"]["type"] == "CANCELLED", ended["state"]
    one.until(
        lambda: {row["status"] for row in table(provider, "cancelled")} <= {"undelivered", "skipped"}, 30, "a table"
    )
    assert all(row["error_code"] == "interrupted" for row in table(provider, "cancelled"))


def a_crashed_run_goes_on_and_pays_nothing_twice(one: Stack, provider: SandboxProcess, worker: str) -> None:
    """The worker and all it started are killed; the rule about heartbeats, hurried, and the rule about crashes."""
    provider.settings(latency=8)
    one.hurry("heartbeat", 40)
    prompts = [f"crash {n}" for n in range(8)]
    flow_run = begun(one, provider, "crashed", prompts)
    with psycopg.connect(one.ledger_url) as ledger:
        one.until(lambda: no_claims(ledger), 30, "a moment without an answer on its way")
    for pid in one.family(worker):
        os.kill(pid, signal.SIGKILL)
    one.processes.pop(worker).wait(10)
    one.start_worker()
    ended = one.until(lambda: one.ended(flow_run) and completed(one, flow_run), 150, "another worker")
    assert ended["state"]["message"] == "8 rows: 8 succeeded; $4.32 spent"
    assert ended["run_count"] >= 2
    paid = Counter(charge["prompt"] for charge in provider.charges() if charge["prompt"].startswith("crash"))
    assert paid == dict.fromkeys(prompts, 1)
    with psycopg.connect(one.ledger_url) as ledger:
        runs = ledger.execute("SELECT count(*) FROM runs WHERE flow_run_id = %s", (flow_run,)).fetchone()
    assert runs == (1,), "the same run in the books"


def completed(one: Stack, flow_run_id: str) -> dict[str, Any] | None:
    found: dict[str, Any] = one.call(f"/flow_runs/{flow_run_id}")
    return found if found["state"]["type"] == "COMPLETED" else None


def no_claims(ledger: Any) -> bool:
    time.sleep(0.5)
    found = ledger.execute("SELECT count(*) FROM attempts WHERE state = 'claimed'").fetchone()
    ledger.commit()
    return bool(found == (0,))
