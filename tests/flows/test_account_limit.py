"""An account-wide limit that somebody set in Prefect holds over everything that submits."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

from flows import account_limit
from flows.generate_videos import generate_videos
from reelsheet.sandbox.process import SandboxProcess

pytestmark = [pytest.mark.usefixtures("prefect", "ledger_url"), pytest.mark.slow]


@pytest.fixture
async def two_at_once(prefect: None) -> AsyncIterator[None]:
    async with get_client() as client:
        await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=account_limit.NAME, limit=2))
        yield
        await client.delete_global_concurrency_limit_by_name(account_limit.NAME)


async def test_two_runs_share_the_limit(
    sandbox: SandboxProcess,
    sheet: Callable[..., str],
    destination: str,
    two_at_once: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(account_limit, "LONGEST_WAIT_S", 0.3)
    sandbox.settings(latency=0.5)
    both = await asyncio.gather(
        generate_videos(sheet("a", "b", "c", name="one.csv"), destination),
        generate_videos(sheet("d", "e", "f", name="two.csv"), f"{destination}-2"),
    )
    assert [summary["succeeded"] for summary in both] == [3, 3]
    assert sandbox.activity()["most_in_flight"] <= 2
    async with get_client() as client:
        limit = await client.read_global_concurrency_limit_by_name(account_limit.NAME)
    assert limit.active_slots == 0, "every place is given back"


async def test_without_the_limit_nothing_is_asked_per_row(
    sandbox: SandboxProcess, sheet: Callable[..., str], destination: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import PrefectClient

    asked: list[object] = []
    monkeypatch.setattr(PrefectClient, "increment_concurrency_slots_with_lease", lambda *a, **k: asked.append(a))
    summary = await generate_videos(sheet("a", "b"), destination)
    assert (summary["succeeded"], asked) == (2, [])
