"""Above `approve_above_usd` nothing is spent before a person agrees."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType

from flows import approval
from flows.generate_videos import generate_videos
from flows.reporting.states import NotApproved
from reelsheet.sandbox.process import SandboxProcess

pytestmark = [pytest.mark.usefixtures("prefect", "ledger_url", "impatient"), pytest.mark.slow]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approval, "POLL_INTERVAL_S", 1)


async def paused() -> Any:
    """The flow run that waits for somebody, and the form that it shows."""
    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])))
    async with get_client() as client:
        for _ in range(120):
            if found := await client.read_flow_runs(flow_run_filter=wanted):
                keys = found[0].state.state_details.run_input_keyset
                with suppress(httpx.HTTPStatusError):  # Prefect stores the form after the state
                    told = await client.read_flow_run_input(found[0].id, keys["description"])
                    return found[0], json.loads(told)
            await asyncio.sleep(0.25)
    raise AssertionError("nothing waits")


async def answer(flow_run: Any, **words: Any) -> None:
    async with get_client() as client:
        result = await client.resume_flow_run(flow_run.id, run_input=words)
    assert result.status.value == "ACCEPT", result


async def test_an_approved_run_goes_on_and_the_plan_is_its_description(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    going = asyncio.create_task(generate_videos(sheet("a", "b"), destination, approve_above_usd=1.0))
    flow_run, told = await paused()
    assert sandbox.charges() == []
    assert "2 clips at \\$0\\.54 each come to **\\$1\\.08**" in told
    await answer(flow_run, decision="approve")
    summary = await going
    assert (summary["succeeded"], summary["cost_usd"], summary["exit_code"]) == (2, 1.08, 0)


async def test_a_run_that_is_cut_spends_no_more_than_was_agreed_to(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    going = asyncio.create_task(generate_videos(sheet("a", "b", "c"), destination, approve_above_usd=1.0))
    flow_run, _ = await paused()
    await answer(flow_run, decision="cut", spend_at_most_usd=0.6)
    summary = await going
    assert (summary["succeeded"], summary["skipped"], summary["cost_usd"], summary["exit_code"]) == (1, 2, 0.54, 4)


async def test_a_cut_without_an_amount_is_asked_again(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    going = asyncio.create_task(generate_videos(sheet("a", "b"), destination, approve_above_usd=1.0))
    flow_run, _ = await paused()
    await answer(flow_run, decision="cut")
    for _ in range(40):
        await asyncio.sleep(0.25)
        flow_run, told = await paused()
        if "give the amount" in told:
            break
    await answer(flow_run, decision="cut", spend_at_most_usd=0)
    summary = await going
    assert (summary["skipped"], summary["cost_usd"]) == (2, 0.0)
    assert sandbox.charges() == []


async def test_a_refused_run_is_cancelled_and_costs_nothing(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    going = asyncio.create_task(generate_videos(sheet("a", "b"), destination, approve_above_usd=1.0, return_state=True))
    flow_run, _ = await paused()
    await answer(flow_run, decision="refuse")
    state = await going
    assert (state.type, state.name) == (StateType.CANCELLED, "Refused")
    assert state.message == "A person refused to spend $1.08; nothing was spent."
    assert sandbox.charges() == []


async def test_a_run_that_nobody_answers_ends_by_itself(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval, "DEFAULT_HOURS", 3 / 3600)
    state = await generate_videos(sheet("a", "b"), destination, approve_above_usd=1.0, return_state=True)
    assert (state.type, state.name) == (StateType.FAILED, "NotApproved")
    assert str(state.message).startswith("Nobody approved spending $1.08 within")
    async with get_client() as client:
        kept = await client.read_flow_run(state.state_details.flow_run_id)
    assert (kept.state_type, kept.state_name) == (StateType.FAILED, "NotApproved")
    with pytest.raises(NotApproved):
        await generate_videos(sheet("a", "b"), destination, approve_above_usd=1.0)
    assert sandbox.charges() == []


async def test_below_the_amount_nobody_is_asked(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    summary = await generate_videos(sheet("a", "b"), destination, approve_above_usd=1.08)
    assert summary["exit_code"] == 0
    capped = await generate_videos(sheet("c", "d", "e"), destination, approve_above_usd=0.6, max_cost_usd=0.6)
    assert capped["cost_usd"] == 0.54, "what may be spent counts, not what all rows would cost"
