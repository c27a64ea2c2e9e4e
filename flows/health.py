"""What is wrong with a stack that seems to work: automations that listen no more, runs that wait for nobody."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

# What Prefect's services listen to in Redis: topic and group. Without the first two no automation fires.
LISTENERS = (
    ("events", "reactive-triggers"),
    ("actions", "actions"),
    ("events", "event-persister"),
    ("events", "task-run-recorder"),
)
SILENT_S = 120.0  # a listener asks Redis every second
WAITING_LIMIT = timedelta(minutes=15)  # a run that is due is taken up and begun within this time
PAGE = 200
LIMIT_S = 10.0  # for all questions to the server
DEPLOYMENT = "generate-shard/worker"
RULES = "reelsheet · "  # begins the name of each of our automations


async def silent_listeners() -> list[str]:
    """Which of Prefect's services listen no more, in sentences. Raises where Redis does not answer."""
    from prefect_redis.client import get_async_redis_client
    from prefect_redis.messaging import _stream_key
    from redis.exceptions import ResponseError

    problems = []
    client = get_async_redis_client()
    try:
        for topic, group in LISTENERS:
            try:
                consumers = await client.xinfo_consumers(_stream_key(topic), group)
            except ResponseError:  # there is no such group
                problems.append(f"Prefect's service {group} does not listen.")
                continue
            # Before Redis 7.2, `idle` counted from the last event that was there to be read.
            idle_s = min((one["idle"] / 1000 for one in consumers if "inactive" in one), default=0.0)
            if idle_s > SILENT_S:
                problems.append(f"Prefect's service {group} has not listened for {idle_s:.0f} s.")
    finally:
        await client.aclose()
    return problems


async def problems_of_server(api: str, *, api_key: str | None, auth_string: str | None) -> list[str]:
    """What Prefect's server knows to be wrong, in sentences: automations that are off, runs that wait for nobody.

    [] where reelsheet is not registered there.
    """
    async with asyncio.timeout(LIMIT_S), PrefectClient(api, api_key=api_key, auth_string=auth_string) as client:
        try:
            await client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound:
            return []
        return [*await _rules(client), *_waiting(await _due(client), datetime.now(UTC))]


async def _rules(client: PrefectClient) -> list[str]:
    rules = [rule for rule in await client.read_automations() if rule.name.startswith(RULES)]
    if not rules:
        return [
            "The server has none of reelsheet's automations, so no crashed run continues: run deployments/bootstrap."
        ]
    return [f"The automation {rule.name!r} is switched off." for rule in rules if not rule.enabled]


async def _due(client: PrefectClient) -> Sequence[FlowRun]:
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING]))
    return await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=states), sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=PAGE
    )


def _waiting(runs: Sequence[FlowRun], now: datetime) -> Iterator[str]:
    for run in runs:
        since: Any = run.next_scheduled_start_time or run.expected_start_time
        if run.state is not None and run.state.type is StateType.PENDING:
            since = run.state.timestamp
        if run.state is not None and since is not None and now - since > WAITING_LIMIT:
            minutes = (now - since).total_seconds() / 60
            yield f"The run {run.name} has been {run.state.name} for {minutes:.0f} minutes; no worker begins it."
