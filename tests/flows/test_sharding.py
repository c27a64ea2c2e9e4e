"""A run whose shards are for workers: what it does where those die, or where there are none."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Completed, Failed, Pending

from flows import sharding
from flows.generate_shard import generate_shard
from flows.generate_videos import generate_videos
from reelsheet.sandbox.process import SandboxProcess
from tasks import this_run


class Clock:
    """Stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sharding, "monotonic", clock)
    monkeypatch.setattr(sharding, "POLL_INTERVAL_S", 0.1)
    return clock


@pytest.fixture
async def server(prefect: None, postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PrefectClient]:
    """A server that knows the shards' deployment, and a process that takes itself for a worker's."""
    monkeypatch.setenv("REELSHEET_LEDGER_URL", postgresql_url)
    monkeypatch.setattr(this_run, "is_of_deployment", lambda: True)
    async with get_client() as client:
        for left in await shard_runs(client):
            await client.delete_flow_run(left.id)
        flow = await client.create_flow(generate_shard)
        deployment = await client.create_deployment(flow, name="worker")
        yield client
        await client.delete_deployment(deployment)


def going(folder: Path, sandbox: SandboxProcess, rows: int) -> "asyncio.Task[Any]":
    """A run of `rows` rows, two to a shard."""
    sheet = folder / "sheet.csv"
    lines = "".join(f"{sandbox.pictures}/morning-mug.jpg,p{n}\n" for n in range(rows))
    sheet.write_text(f"image,prompt\n{lines}", encoding="utf-8")
    return asyncio.create_task(generate_videos(str(sheet), str(folder / "out"), shard_size=2, preflight=False))


async def shard_runs(client: PrefectClient) -> list[FlowRun]:
    found = await client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=["shard"])))
    return sorted(found, key=lambda one: (one.parameters["shard"], one.created))


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await true():
            await asyncio.sleep(0.05)


async def as_a_worker(client: PrefectClient, one: FlowRun) -> None:
    """Do a shard in a process of its own."""
    doing = (
        "import asyncio, sys; from flows.generate_shard import run_shard\n"
        "asyncio.run(run_shard(sys.argv[1], int(sys.argv[2]), flow_run_id=sys.argv[3], concurrency=None))"
    )
    words = (one.parameters["run_id"], str(one.parameters["shard"]), str(one.id))
    surroundings = os.environ | {"PREFECT_API_URL": str(client.api_url), "PREFECT_LOGGING_LEVEL": "ERROR"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", doing, *words, env=surroundings)
    assert await process.wait() == 0
    await client.set_flow_run_state(one.id, Completed(), force=True)


async def test_a_shard_whose_worker_died_before_beginning_it_is_begun_again_by_another(
    tmp_path: Path, sandbox: SandboxProcess, server: PrefectClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "NO_WORKER_LIMIT_S", 1e6)  # there are workers
    run = going(tmp_path, sandbox, 4)

    async def begun(number: int) -> bool:
        return len(await shard_runs(server)) == number

    await until(lambda: begun(2))
    first, second = await shard_runs(server)
    await server.set_flow_run_state(first.id, Pending(name="Submitting"))  # and nobody ever hears of it again
    await as_a_worker(server, second)
    await asyncio.sleep(0.5)
    clock.now += sharding.START_LIMIT_S / 2
    await asyncio.sleep(0.5)
    assert await begun(2), "a slow start is no death"
    clock.now += sharding.START_LIMIT_S
    await until(lambda: begun(3))
    lost, again, _ = await shard_runs(server)
    assert lost.id == first.id
    assert lost.state is not None
    assert lost.state.type is StateType.CRASHED
    await as_a_worker(server, again)
    summary = await run
    assert (summary["succeeded"], summary["cost_usd"]) == (4, 2.16)
    assert Counter(charge["prompt"] for charge in sandbox.charges()) == dict.fromkeys(["p0", "p1", "p2", "p3"], 1)


async def test_where_no_worker_comes_the_run_does_every_shard_itself_after_waiting_once(
    tmp_path: Path, sandbox: SandboxProcess, server: PrefectClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "FINAL_STATES_LIMIT_S", 0.0)
    run = going(tmp_path, sandbox, 6)

    async def begun() -> bool:
        return len(await shard_runs(server)) == 3

    await until(begun)
    await asyncio.sleep(0.5)
    assert sandbox.charges() == []
    clock.now += sharding.NO_WORKER_LIMIT_S + 1
    summary = await asyncio.wait_for(run, 60)
    assert (summary["succeeded"], summary["cost_usd"]) == (6, 3.24)
    assert len(sandbox.charges()) == 6


async def test_a_shard_that_workers_cannot_begin_is_done_by_the_run_itself_which_names_them(
    tmp_path: Path, sandbox: SandboxProcess, server: PrefectClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharding, "FINAL_STATES_LIMIT_S", 0.0)
    monkeypatch.setattr(sharding, "NO_WORKER_LIMIT_S", 1e6)  # there are workers
    dispatchers = []
    follow = sharding.ShardDispatcher.follow

    async def followed(self: sharding.ShardDispatcher) -> None:
        dispatchers.append(self)
        await follow(self)

    monkeypatch.setattr(sharding.ShardDispatcher, "follow", followed)
    run = going(tmp_path, sandbox, 4)
    refused = "The worker on bad-host cannot take part: There is no API key."

    async def begun(number: int) -> bool:
        return len(await shard_runs(server)) == number

    await until(lambda: begun(2))
    first, good = await shard_runs(server)
    await server.set_flow_run_state(first.id, Failed(name="NotStarted", message=refused), force=True)
    await until(lambda: begun(3))
    _, second, _ = await shard_runs(server)
    await server.set_flow_run_state(second.id, Failed(name="NotStarted", message=refused), force=True)
    await as_a_worker(server, good)
    summary = await asyncio.wait_for(run, 60)
    assert (summary["succeeded"], summary["cost_usd"], summary["exit_code"]) == (4, 2.16, 0)
    assert await begun(3), "it is not begun a third time elsewhere"
    assert dispatchers[0].run.monitor.remarks.count(refused) == 1
