"""Automations that listen no more and runs that wait for nobody are noticed."""

import asyncio
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import AwaitingRetry, Late, Pending, Scheduled, State, Submitting
from redis import Redis

from flows import health
from tests.deployments.processes import free_port

NOW = datetime(2026, 1, 15, 6, tzinfo=UTC)


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    """A Redis of its own."""
    program = shutil.which("redis-server")
    if program is None and os.environ.get("CI") != "true":
        pytest.skip("no redis-server on PATH")
    assert program is not None
    port = free_port()
    monkeypatch.setenv("PREFECT_REDIS_MESSAGING_URL", f"redis://127.0.0.1:{port}/0")
    words = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(tmp_path), "--save", ""]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process, Redis(port=port) as client:
        for _ in range(400):
            if answers(client):
                break
            process.poll()
            asyncio.run(asyncio.sleep(0.02))
        yield client
        process.terminate()


def answers(client: Redis) -> bool:
    from redis.exceptions import ConnectionError as NotThere

    try:
        return bool(client.ping())
    except NotThere:
        return False


def listens(client: Redis, topic: str, group: str) -> None:
    client.xgroup_create(topic, group, mkstream=True)
    client.xreadgroup(group, "one", {topic: ">"}, count=1)


def test_services_that_listen_are_fine_and_each_that_does_not_is_named(redis: Redis) -> None:
    named = asyncio.run(health.silent_listeners())
    assert [group for _, group in health.LISTENERS] == [problem.split()[2] for problem in named]
    for topic, group in health.LISTENERS:
        listens(redis, topic, group)
    assert asyncio.run(health.silent_listeners()) == []
    redis.xgroup_destroy("events", "reactive-triggers")
    assert asyncio.run(health.silent_listeners()) == ["Prefect's service reactive-triggers does not listen."]


@pytest.mark.parametrize(
    ("consumers", "said"),
    [
        ([{"idle": 900_000, "inactive": 900_000}], "has not listened for 900 s"),
        ([{"idle": 900_000, "inactive": 900_000}, {"idle": 1_000, "inactive": 900_000}], ""),
        ([{"idle": 900_000}], ""),  # of an older Redis: nothing may have happened
    ],
)
def test_a_service_that_asks_redis_no_more_is_named(
    monkeypatch: pytest.MonkeyPatch, consumers: list[dict[str, int]], said: str
) -> None:
    class Answers:
        async def xinfo_consumers(self, _stream: str, _group: str) -> list[dict[str, int]]:
            return consumers

        async def aclose(self) -> None:
            pass

    monkeypatch.setattr("prefect_redis.client.get_async_redis_client", Answers)
    problems = asyncio.run(health.silent_listeners())
    assert len(problems) == (len(health.LISTENERS) if said else 0)
    assert all(said in problem for problem in problems)


def test_the_health_check_of_the_services_fails_and_says_why(redis: Redis) -> None:
    words = [sys.executable, "-m", "flows.services", "--check"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, "reactive-triggers does not listen" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(
    ("state", "minutes", "is_named"),
    [
        (Late(), 16, True),
        (Late(), 5, False),
        (AwaitingRetry(), 20, True),
        (Scheduled(), -600, False),  # tomorrow night's
        (Pending(), 30, True),
        (Submitting(), 16, True),
        (Submitting(), 3, False),
    ],
)
def test_a_run_that_nobody_begins_is_named(state: State[None], minutes: int, is_named: bool) -> None:
    due = NOW - timedelta(minutes=minutes)
    state = state.model_copy(update={"timestamp": due})
    run = FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="tonight", state=state, next_scheduled_start_time=due)
    said = list(health._waiting([run], NOW))
    assert bool(said) is is_named
    assert not is_named or said[0].startswith(f"The run tonight has been {state.name} for {minutes} minutes")
