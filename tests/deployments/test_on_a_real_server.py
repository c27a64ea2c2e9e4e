"""Bootstrap, events, automations and cancelling on a real server with PostgreSQL and Redis."""

import csv
import io
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import psycopg
import pytest

from reelsheet.sandbox.process import SandboxProcess

pytestmark = pytest.mark.slow


@pytest.fixture
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(clips="tiny", latency=0.5, cache=tmp_path_factory.mktemp("clips")) as process:
        yield process


def bucket_of(provider: SandboxProcess) -> Any:
    told = provider.environment()
    return boto3.client(
        "s3", endpoint_url=told["AWS_ENDPOINT_URL_S3"], aws_access_key_id=told["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"], region_name=told["AWS_DEFAULT_REGION"],
    )  # fmt: skip


def put_sheet(provider: SandboxProcess, name: str, *prompts: str) -> str:
    lines = "".join(f"{provider.pictures}/morning-mug.jpg,{prompt}\n" for prompt in prompts)
    bucket_of(provider).put_object(
        Bucket=provider.bucket, Key=f"manifests/{name}", Body=f"image,prompt\n{lines}".encode()
    )
    return f"s3://{provider.bucket}/manifests/{name}"


def table(provider: SandboxProcess, prefix: str) -> list[dict[str, str]]:
    body = bucket_of(provider).get_object(Bucket=provider.bucket, Key=f"{prefix}/results.csv")["Body"].read()
    return list(csv.DictReader(io.StringIO(body.decode(), newline="")))


@pytest.mark.timeout(540)
def test_a_stack_is_made_twice_starts_runs_by_events_survives_crashes_and_can_be_cancelled(
    stack: Callable[..., Any], provider: SandboxProcess
) -> None:
    """One stack for five questions: it takes most of a minute to come up."""
    one = stack(**provider.environment())
    one.up(workers=1)
    bootstrap_is_repeatable(one)
    a_manifest_that_arrives_is_made(one, provider)
    a_run_that_its_worker_never_began_is_begun_by_another(one, provider)
    a_cancelled_run_keeps_what_it_has(one, provider)
    a_crashed_run_goes_on_and_pays_nothing_twice(one, provider)


def bootstrap_is_repeatable(one: Any) -> None:
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


def a_manifest_that_arrives_is_made(one: Any, provider: SandboxProcess) -> None:
    manifest = put_sheet(provider, "arrived.csv", "a", "b", "c")
    one.call("/events", [{
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "reelsheet.manifest.arrived",
        "resource": {"prefect.resource.id": manifest},
        "payload": {"destination": f"s3://{provider.bucket}/arrived"},
    }])  # fmt: skip
    flow_run = one.until(lambda: one.runs_of("generate-videos"), 60, "the event to start a run")[0]
    assert flow_run["parameters"]["manifest"] == manifest
    assert flow_run["parameters"]["max_cost_usd"] == 50
    ended = one.until(lambda: one.ended(flow_run["id"]), 60, "the run to end")
    assert (ended["state"]["type"], ended["state"]["message"]) == ("COMPLETED", "3 rows: 3 succeeded; $1.62 spent")
    assert [row["status"] for row in table(provider, "arrived")] == ["succeeded"] * 3
    finished = one.until(lambda: events_of(one, "reelsheet.run.finished"), 30, "its event")
    assert finished[0]["payload"]["succeeded"] == 3


def a_run_that_its_worker_never_began_is_begun_by_another(one: Any, provider: SandboxProcess) -> None:
    """A worker that dies between taking a run up and starting its process leaves it Pending."""
    one.hurry("nobody began", 10)
    manifest = put_sheet(provider, "pending.csv", "d", "e")
    one.prefect(
        "deployment", "run", "generate-videos/on-demand", "--param", f"manifest={manifest}",
        "--param", f"destination=s3://{provider.bucket}/pending", "--start-in", "1 hour",
    )  # fmt: skip
    flow_run = one.runs_of("generate-videos")[-1]
    assert flow_run["parameters"]["manifest"] == manifest
    one.call(f"/flow_runs/{flow_run['id']}/set_state", {"state": {"type": "PENDING"}, "force": True})
    ended = one.until(lambda: completed(one, flow_run["id"]), 120, "another worker to begin the run")
    assert ended["state"]["message"] == "2 rows: 2 succeeded; $1.08 spent"


def events_of(one: Any, event: str) -> list[dict[str, Any]]:
    return list(one.call("/events/filter", {"filter": {"event": {"name": [event]}}, "limit": 10})["events"])


def begun(one: Any, provider: SandboxProcess, name: str, *prompts: str) -> dict[str, Any]:
    """A run of a new sheet whose first predictions are on their way."""
    manifest = put_sheet(provider, f"{name}.csv", *prompts)
    known = {found["id"] for found in one.runs_of("generate-videos")}
    one.prefect(
        "deployment", "run", "generate-videos/on-demand", "--param", f"manifest={manifest}",
        "--param", f"destination=s3://{provider.bucket}/{name}", "--param", "preflight=false",
    )  # fmt: skip
    (flow_run,) = [found for found in one.runs_of("generate-videos") if found["id"] not in known]
    before = len(provider.charges())
    one.until(lambda: len(provider.charges()) >= before + len(prompts) // 2, 60, "half of it to be sent")
    return dict(flow_run)


def a_cancelled_run_keeps_what_it_has(one: Any, provider: SandboxProcess) -> None:
    provider.settings(latency=30)
    flow_run = begun(one, provider, "cancelled", *(f"cancel {n}" for n in range(6)))
    one.prefect("flow-run", "cancel", flow_run["id"])
    ended = one.until(lambda: one.ended(flow_run["id"]), 60, "the cancelled run to end")
    assert ended["state"]["type"] == "CANCELLED", ended["state"]
    one.until(
        lambda: {row["status"] for row in table(provider, "cancelled")} <= {"undelivered", "skipped"}, 30, "a table"
    )
    assert all(row["error_code"] == "interrupted" for row in table(provider, "cancelled"))


def a_crashed_run_goes_on_and_pays_nothing_twice(one: Any, provider: SandboxProcess) -> None:
    """The worker and all it started are killed; the rule about heartbeats, hurried, and the rule about crashes."""
    provider.settings(latency=8)
    one.hurry("heartbeat", 40)
    prompts = [f"crash {n}" for n in range(8)]
    flow_run = begun(one, provider, "crashed", *prompts)
    with psycopg.connect(one.ledger_url) as ledger:
        one.until(lambda: no_claims(ledger), 30, "a moment without an answer on its way")
    for pid in one.family("worker-1"):
        os.kill(pid, signal.SIGKILL)
    one.processes.pop("worker-1").wait(10)
    one.start("worker", "worker-2", "--name", "worker-2")
    ended = one.until(lambda: one.ended(flow_run["id"]) and completed(one, flow_run["id"]), 150, "another worker")
    assert ended["state"]["message"] == "8 rows: 8 succeeded; $4.32 spent"
    assert ended["run_count"] >= 2
    paid = Counter(charge["prompt"] for charge in provider.charges() if charge["prompt"].startswith("crash"))
    assert paid == dict.fromkeys(prompts, 1)
    with psycopg.connect(one.ledger_url) as ledger:
        runs = ledger.execute("SELECT count(*) FROM runs WHERE flow_run_id = %s", (flow_run["id"],)).fetchone()
    assert runs == (1,), "the same run in the books"


def completed(one: Any, flow_run_id: str) -> dict[str, Any] | None:
    found: dict[str, Any] = one.call(f"/flow_runs/{flow_run_id}")
    return found if found["state"]["type"] == "COMPLETED" else None


def no_claims(ledger: Any) -> bool:
    time.sleep(0.5)
    found = ledger.execute("SELECT count(*) FROM attempts WHERE state = 'claimed'").fetchone()
    ledger.commit()
    return bool(found == (0,))
