"""A worker, and the processes of the runs that it starts, execute nothing of the folder that it is started in."""

import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL

from flows.generate_shard import generate_shard
from flows.generate_videos import generate_videos
from reelsheet.sandbox.process import SandboxProcess
from tests.security.trap import Trap

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect", "ledger_url")]
PROGRAM = str(Path(sys.executable).with_name("reelsheet"))


async def scheduled(client: PrefectClient, flow: Any, pool: str, parameters: dict[str, Any]) -> uuid.UUID:
    """A run of `flow` that waits for a worker of `pool`."""
    deployment_id = await client.create_deployment(
        await client.create_flow(flow), name=pool, entrypoint=f"{flow.fn.__module__}.{flow.fn.__name__}",
        work_pool_name=pool, pull_steps=[],
    )  # fmt: skip
    return (await client.create_flow_run_from_deployment(deployment_id, parameters=parameters)).id


async def test_a_worker_a_run_and_a_shard(sandbox: SandboxProcess, destination: str, tmp_path: Path) -> None:
    trap, pool = Trap(tmp_path), f"pool-{uuid.uuid4().hex[:8]}"
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(f"image,prompt\n{sandbox.pictures}/morning-mug.jpg,a\n", encoding="utf-8")
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        run = await scheduled(client, generate_videos, pool, {"manifest": str(sheet), "destination": destination})
        shard = await scheduled(client, generate_shard, pool, {"run_id": "no-such-run", "shard": 1})
        done = subprocess.run(  # noqa: ASYNC221 - nothing else is to be done
            [PROGRAM, "worker", "--pool", pool, "--run-once"], cwd=trap.folder, capture_output=True, timeout=150, text=True,
            check=False,
            env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "HOME": str(tmp_path)},
        )  # fmt: skip
        states = [(await client.read_flow_run(flow_run_id)).state for flow_run_id in (run, shard)]
    assert [state.name for state in states if state] == ["Completed", "NotStarted"], done.stderr
    assert trap.sprung() == []
