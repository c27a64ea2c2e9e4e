"""PostgreSQL restarted, Redis gone: the next run completes the manifest, and nothing is paid for twice."""

import time
from collections import Counter

import psycopg
import pytest

from reelsheet.sandbox.process import SandboxProcess
from tests.deployments.bucket import put_sheet, table
from tests.deployments.stack import Stack

pytestmark = pytest.mark.slow

ROWS = 40


@pytest.mark.timeout(720)
def test_whatever_database_goes_away_the_next_run_finishes_the_night(stack: Stack, provider: SandboxProcess) -> None:
    one = stack
    provider.settings(latency=3, capacity=8)
    one.start_worker()
    one.hurry("heartbeat", 75)

    prompts = [f"restart {n}" for n in range(ROWS)]
    flow_run = begun(one, provider, "restarted", prompts)
    databases_gone(one, seconds=6)
    # Where Prefect could not write down that it had crashed, nobody says so until the rule about heartbeats does.
    one.until(lambda: one.ended(flow_run), 300, "the run that lost PostgreSQL to end")
    finished(one, provider, "restarted", prompts)

    prompts = [f"redis {n}" for n in range(ROWS)]
    flow_run = begun(one, provider, "forgotten", prompts)
    one.redis.kill()
    time.sleep(5)
    one.redis.start()
    one.until(lambda: one.ended(flow_run), 120, "the run that lost Redis to end")
    finished(one, provider, "forgotten", prompts)


def begun(one: Stack, provider: SandboxProcess, name: str, prompts: list[str]) -> str:
    """Start a run and wait until it is in the middle."""
    put_sheet(provider, name, prompts)
    before = len(provider.charges())
    flow_run = again(one, provider, name)
    one.until(lambda: len(provider.charges()) >= before + ROWS // 4, 90, "the middle of the run")
    return flow_run


def again(one: Stack, provider: SandboxProcess, name: str) -> str:
    sheet, destination = f"s3://{provider.bucket}/manifests/{name}.csv", f"s3://{provider.bucket}/{name}"
    return one.run_of_sheet(sheet, destination, "preflight=false")


def databases_gone(one: Stack, seconds: float) -> None:
    """What a restart of PostgreSQL looks like from outside: every connection cut, no new one for a while."""
    server = f"{one.server_url}/postgres"
    with psycopg.connect(server, autocommit=True) as connection:
        for name in one.databases:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')  # type: ignore[call-overload]
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY(%s)", (one.databases,)
        )
        time.sleep(seconds)
        for name in one.databases:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')  # type: ignore[call-overload]


def finished(one: Stack, provider: SandboxProcess, name: str, prompts: list[str]) -> None:
    """The next run leaves every row delivered, and the provider has charged each once."""
    flow_run = again(one, provider, name)
    ended = one.until(lambda: one.ended(flow_run), 90, "the next run to end")
    assert ended["state"]["type"] == "COMPLETED", ended["state"]
    rows = table(provider, name)
    assert Counter(row["status"] for row in rows) == {"succeeded": len(prompts)}, ended["state"]["message"]
    paid = Counter(charge["prompt"] for charge in provider.charges() if charge["prompt"] in prompts)
    assert paid == dict.fromkeys(prompts, 1)
    assert sum(float(row["total_cost_usd"]) for row in rows) == pytest.approx(0.54 * len(prompts))
