"""Which runs a scheduled run does not begin beside, and that it ends as Skipped and names it."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Cancelling, Completed, Crashed, Failed, Late, Paused, Pending, Running, State

from flows import overlap
from flows.generate_videos import generate_videos

pytestmark = pytest.mark.usefixtures("prefect", "ledger_url")


@pytest.fixture
async def client(prefect: None) -> AsyncIterator[PrefectClient]:
    async with get_client() as client:
        yield client


@pytest.fixture
async def deployment_id(client: PrefectClient, tmp_path: Path) -> uuid.UUID:
    """A nightly deployment; its sheet does not exist."""
    parameters = {"manifest": str(tmp_path / "none.csv"), "destination": str(tmp_path / "out")}
    flow_id = await client.create_flow(generate_videos)
    return await client.create_deployment(flow_id, name=f"nightly-{uuid.uuid4().hex[:8]}", parameters=parameters)


@pytest.fixture
async def nights(client: PrefectClient, deployment_id: uuid.UUID) -> list[FlowRun]:
    """Two runs that Prefect's scheduler has made, the earlier first."""
    start = datetime.now(UTC) - timedelta(days=2)
    schedule = {"schedule": {"interval": 86_400, "anchor_date": start.isoformat()}, "active": True}
    (await client.request("POST", f"/deployments/{deployment_id}/schedules", json=[schedule])).raise_for_status()
    wanted = {"start_time": start.isoformat(), "end_time": datetime.now(UTC).isoformat(), "min_runs": 2, "max_runs": 2}
    (await client.request("POST", f"/deployments/{deployment_id}/schedule", json=wanted)).raise_for_status()
    found = await client.read_flow_runs(limit=200)
    made = [run for run in found if run.deployment_id == deployment_id]
    return sorted(made, key=lambda run: run.expected_start_time or start)


async def last_run_alive(this: FlowRun, monkeypatch: pytest.MonkeyPatch) -> uuid.UUID | None:
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(this.id))
    found = await overlap.last_run_alive()
    return found.id if found else None


@pytest.mark.parametrize(
    ("state", "is_alive"),
    [(Pending(), True), (Pending(name="Submitting"), True), (Running(), True), (Paused(timeout_seconds=600), True),
     (Cancelling(), True), (Completed(), False), (Failed(name="Stopped"), False), (Crashed(), False), (Late(), False)],
    ids=lambda value: getattr(value, "name", None),
)  # fmt: skip
async def test_a_run_that_is_under_way_is_not_repeated(
    client: PrefectClient, nights: list[FlowRun], state: State[Any], is_alive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = nights
    if state.is_cancelling():
        await client.set_flow_run_state(first.id, Running(), force=True)
    await client.set_flow_run_state(first.id, state, force=True)
    await client.set_flow_run_state(second.id, Running(), force=True)
    assert await last_run_alive(second, monkeypatch) == (first.id if is_alive else None)
    assert await last_run_alive(first, monkeypatch) is None, "of two that begin together, one goes on"


async def test_a_run_that_was_put_back_is_under_way(
    client: PrefectClient, nights: list[FlowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = nights
    for state in (Running(), AwaitingRetry()):
        await client.set_flow_run_state(first.id, state, force=True)
    assert await last_run_alive(second, monkeypatch) == first.id


async def test_a_run_that_goes_on_after_it_began_is_never_skipped(
    client: PrefectClient, nights: list[FlowRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = nights
    await client.set_flow_run_state(first.id, Running(), force=True)
    for state in (Running(), AwaitingRetry(), Running()):
        await client.set_flow_run_state(second.id, state, force=True)
    assert await last_run_alive(second, monkeypatch) is None


async def test_a_run_that_a_person_starts_goes_on_beside_the_last(
    client: PrefectClient, nights: list[FlowRun], deployment_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.set_flow_run_state(nights[0].id, Running(), force=True)
    by_hand = await client.create_flow_run_from_deployment(deployment_id)
    assert await last_run_alive(by_hand, monkeypatch) is None


async def test_it_ends_as_skipped_and_names_the_run(client: PrefectClient, nights: list[FlowRun]) -> None:
    first, second = nights
    await client.set_flow_run_state(first.id, Running(), force=True)
    await asyncio.create_task(run_flow(generate_videos, flow_run=second, return_type="state"))  # type: ignore[arg-type]
    state = (await client.read_flow_run(second.id)).state
    assert state is not None
    assert (state.type.value, state.name) == ("COMPLETED", "Skipped")
    assert first.name in str(state.message)
    assert str(first.id) in str(state.message)


async def test_a_silent_server_holds_no_run_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> PrefectClient:
        raise OSError

    monkeypatch.setattr(overlap, "get_client", silent)
    assert await overlap.last_run_alive() is None
