"""PostgreSQL restarted, Redis gone: the next run completes the manifest, and nothing is paid for twice."""

import csv
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import psycopg
import pytest

from reelsheet.sandbox.process import SandboxProcess

pytestmark = pytest.mark.slow

ROWS = 40


@pytest.fixture
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(clips="tiny", latency=3, capacity=8, cache=tmp_path_factory.mktemp("clips")) as process:
        yield process


@pytest.mark.timeout(720)
def test_whatever_database_goes_away_the_next_run_finishes_the_night(
    stack: Callable[..., Any], provider: SandboxProcess
) -> None:
    one = stack(**provider.environment())
    one.up(workers=1)
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


def begun(one: Any, provider: SandboxProcess, name: str, prompts: list[str]) -> str:
    """Start a run and wait until it is in the middle."""
    lines = "".join(f"{provider.pictures}/morning-mug.jpg,{prompt}\n" for prompt in prompts)
    store(provider).put_object(Bucket=provider.bucket, Key=f"{name}.csv", Body=f"image,prompt\n{lines}".encode())
    before = len(provider.charges())
    flow_run = again(one, provider, name)
    one.until(lambda: len(provider.charges()) >= before + ROWS // 4, 90, "the middle of the run")
    return flow_run


def again(one: Any, provider: SandboxProcess, name: str) -> str:
    known = {found["id"] for found in one.runs_of("generate-videos")}
    one.prefect(
        "deployment", "run", "generate-videos/on-demand", "--param", "preflight=false",
        "--param", f"manifest=s3://{provider.bucket}/{name}.csv",
        "--param", f"destination=s3://{provider.bucket}/{name}",
    )  # fmt: skip
    (flow_run,) = [found["id"] for found in one.runs_of("generate-videos") if found["id"] not in known]
    return str(flow_run)


def databases_gone(one: Any, seconds: float) -> None:
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


def finished(one: Any, provider: SandboxProcess, name: str, prompts: list[str]) -> None:
    """The next run leaves every row delivered, and the provider has charged each once."""
    flow_run = again(one, provider, name)
    ended = one.until(lambda: one.ended(flow_run), 90, "the next run to end")
    assert ended["state"]["type"] == "COMPLETED", ended["state"]
    body = store(provider).get_object(Bucket=provider.bucket, Key=f"{name}/results.csv")["Body"].read().decode()
    rows = list(csv.DictReader(io.StringIO(body, newline="")))
    assert Counter(row["status"] for row in rows) == {"succeeded": len(prompts)}, ended["state"]["message"]
    paid = Counter(charge["prompt"] for charge in provider.charges() if charge["prompt"] in prompts)
    assert paid == dict.fromkeys(prompts, 1)
    assert sum(float(row["total_cost_usd"]) for row in rows) == pytest.approx(0.54 * len(prompts))


def store(provider: SandboxProcess) -> Any:
    told = provider.environment()
    return boto3.client(
        "s3", endpoint_url=told["AWS_ENDPOINT_URL_S3"], aws_access_key_id=told["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"], region_name=told["AWS_DEFAULT_REGION"],
    )  # fmt: skip
