"""A run's timeline in Prefect: prepare, each row's two steps, publish; and nothing for rows that need no work."""

import json
import uuid
from collections.abc import Callable

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterFlowRunId

from flows.generate_videos import generate_videos
from reelsheet.sandbox.process import SandboxProcess
from reelsheet.storage.destination import open_destination

pytestmark = pytest.mark.usefixtures("prefect", "ledger_url")


async def timeline(flow_run_id: str) -> set[str]:
    """The names of a flow run's task runs."""
    wanted = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[uuid.UUID(flow_run_id)]))
    async with get_client() as client:
        return {run.name for run in await client.read_task_runs(task_run_filter=wanted)}


async def test_the_timeline_shows_the_steps_of_the_pipeline_by_their_names(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    manifest = sheet("a", "a", name="spring.csv")
    first = await generate_videos(manifest, destination)
    names = await timeline(first["flow_run_id"])
    assert {"prepare", "publish"} <= names
    assert {name.rpartition(" · ")[2] for name in names - {"prepare", "publish"}} == {"generate", "store"}
    assert len(names) == 4, "one task run for each paid step of an identity"
    again = await generate_videos(manifest, destination)
    assert await timeline(again["flow_run_id"]) == {"prepare", "publish"}


async def test_a_sheet_that_cannot_be_read_is_a_prepare_step_that_failed_with_the_sentence(
    sandbox: SandboxProcess, destination: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = await generate_videos("/no/such.csv", destination, return_state=True)
    assert state.name == "NotStarted"
    assert "Traceback" not in caplog.text


async def test_the_results_are_written_where_prefect_cannot_run_the_last_step(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*_arguments: object, **_options: object) -> None:
        raise httpx.ConnectError("no server")

    monkeypatch.setattr("flows.lifecycle.publish_results", unreachable)
    summary = await generate_videos(sheet("a"), destination)
    assert summary["exit_code"] == 0
    written = open_destination(destination).read(f"runs/{summary['run_id']}/summary.json")
    assert written is not None
    assert json.loads(written)["succeeded"] == 1
