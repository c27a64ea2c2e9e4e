"""Above `shard_size` a run without workers goes through subflows in its own process."""

import csv
import io
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId

from flows.generate_videos import generate_videos
from reelsheet.sandbox.process import SandboxProcess

pytestmark = pytest.mark.usefixtures("prefect", "ledger_url")


async def children(flow_run_id: str) -> list[Any]:
    wanted = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[uuid.UUID(flow_run_id)]))
    async with get_client() as client:
        return await client.read_flow_runs(flow_run_filter=wanted)


def table(destination: str) -> list[dict[str, str]]:
    bucket, _, prefix = destination.removeprefix("s3://").partition("/")
    body = boto3.client("s3").get_object(Bucket=bucket, Key=f"{prefix}/results.csv")["Body"].read()
    return list(csv.DictReader(io.StringIO(body.decode(), newline="")))


async def test_every_shard_is_a_flow_run_and_every_identity_belongs_to_one(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    prompts = [f"p{n}" for n in range(12)]
    summary = await generate_videos(sheet(*prompts, "p0", "p5"), destination, shard_size=5)
    assert (summary["rows"], summary["succeeded"], summary["cost_usd"]) == (14, 14, 6.48)
    assert Counter(charge["prompt"] for charge in sandbox.charges()) == dict.fromkeys(prompts, 1)
    found = await children(summary["flow_run_id"])
    assert sorted(child.name for child in found) == [f"{summary['run_id']} shard {n}" for n in (1, 2, 3)]
    assert {child.state.type.value for child in found} == {"COMPLETED"}
    assert [row["prompt"] for row in table(destination)] == [*prompts, "p0", "p5"]


async def test_one_budget_over_all_shards(sandbox: SandboxProcess, sheet: Callable[..., str], destination: str) -> None:
    summary = await generate_videos(sheet(*(f"p{n}" for n in range(9))), destination, shard_size=3, max_cost_usd=2.2)
    assert (summary["succeeded"], summary["skipped"], summary["cost_usd"], summary["exit_code"]) == (4, 5, 2.16, 4)
    assert len(sandbox.charges()) == 4


async def test_a_refused_key_stops_every_shard(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    sandbox.fault("submit", answer={"status": 401, "body": "no"}, times=100)
    summary = await generate_videos(sheet(*(f"p{n}" for n in range(40))), destination, shard_size=10)
    assert (summary["exit_code"], summary["skipped"], summary["cost_usd"]) == (3, 40, 0.0)
    assert sum(sandbox.activity()["posts"].values()) <= 5
    assert {row["error_code"] for row in table(destination)} == {"auth"}


async def test_a_run_of_one_shard_has_no_children(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    summary = await generate_videos(sheet("a", "b"), destination, shard_size=2)
    assert await children(summary["flow_run_id"]) == []
