"""What a flow run says at its end, and what a caller in Python gets."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from prefect import flow

from flows.generate_videos import generate_videos
from flows.reprocess_failed import reprocess_failed
from reelsheet.errors import ManifestError
from reelsheet.sandbox.process import SandboxProcess

pytestmark = pytest.mark.usefixtures("prefect", "ledger_url")

SUMMARY = {
    "run_id", "rows", "succeeded", "failed", "undelivered", "unknown", "skipped", "invalid", "reused", "cost_usd",
    "at_risk_usd", "wasted_usd", "started_at", "finished_at", "seconds", "flow_run_id", "exit_code",
}  # fmt: skip


async def test_all_delivered_is_completed_and_the_call_returns_the_summary(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    state = await generate_videos(sheet("a", "b", "a"), destination, return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Completed")
    assert state.message == "3 rows: 3 succeeded; $1.08 spent"
    again = await generate_videos(sheet("a", "b", "a"), destination)
    assert set(again) == SUMMARY
    assert (again["succeeded"], again["reused"], again["cost_usd"], again["exit_code"]) == (3, 3, 0.0, 0)
    assert Counter(charge["prompt"] for charge in sandbox.charges()) == {"a": 1, "b": 1}


async def test_some_rows_not_is_completed_and_named_incomplete(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    state = await generate_videos(sheet("a", more="nowhere,x\n"), destination, return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Incomplete")
    assert state.message == "2 rows: 1 succeeded, 1 invalid; $0.54 spent"


async def test_stopped_early_is_failed_with_the_reason_and_the_call_still_returns_the_summary(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    summary = await generate_videos(sheet("a", "b", "c"), destination, max_cost_usd=0.6)
    assert (summary["exit_code"], summary["succeeded"], summary["skipped"]) == (4, 1, 2)
    state = await generate_videos(sheet("a", "b", "c"), destination, max_cost_usd=0.1, return_state=True)
    assert (state.type.value, state.name) == ("FAILED", "Stopped")
    assert "0.1" in str(state.message)
    assert "3 rows: 1 succeeded, 2 skipped" in str(state.message)


async def test_what_cannot_begin_says_so_in_one_sentence_and_raises_for_a_caller(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = await generate_videos("/no/such.csv", destination, return_state=True)
    assert (state.type.value, state.name) == ("FAILED", "NotStarted")
    assert state.message == "There is no file /no/such.csv. Check its name and folder."
    with pytest.raises(ManifestError, match="no file"):
        await generate_videos("/no/such.csv", destination)
    assert "Traceback" not in caplog.text


async def test_a_flow_around_it_gets_the_summary_too(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    @flow
    async def campaign(manifest: str) -> dict[str, Any]:
        return await generate_videos(manifest, destination, max_cost_usd=0)

    assert (await campaign(sheet("a")))["exit_code"] == 4


async def test_what_the_provider_failed_is_paid_for_again_by_reprocess_failed_only(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str
) -> None:
    sandbox.fault("poll", prompt="b", times=1, fail="no")
    manifest = sheet("a", "b")
    first = await generate_videos(manifest, destination)
    again = await generate_videos(manifest, destination)
    assert (first["failed"], again["failed"], again["cost_usd"]) == (1, 1, 0.0)
    mended = await reprocess_failed(destination)
    assert (mended["succeeded"], mended["cost_usd"], mended["exit_code"]) == (2, 0.54, 0)
    assert Counter(charge["prompt"] for charge in sandbox.charges()) == {"a": 1, "b": 2}
