"""One stack for all tests here: it takes most of a minute to come up."""

import os
import shutil
from collections.abc import Iterator

import pytest

from reelsheet.sandbox.process import SandboxProcess
from tests.deployments.stack import POSTGRES, Stack


@pytest.fixture(scope="session")
def provider_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(clips="tiny", cache=tmp_path_factory.mktemp("clips")) as process:
        yield process


@pytest.fixture(scope="session")
def stack_of_all(provider_of_all: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    import psycopg

    missing = "" if shutil.which("redis-server") else "no redis-server on PATH"
    try:
        psycopg.connect(POSTGRES, connect_timeout=3).close()
    except psycopg.OperationalError as error:
        missing = f"no PostgreSQL at {POSTGRES}: {error}"
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing)
    if missing:
        pytest.skip(f"the deployment was not run ({missing})")
    one = Stack(tmp_path_factory.mktemp("stack"), provider_of_all.environment())
    try:
        one.up(workers=0)
        yield one
    finally:
        one.close()


@pytest.fixture
def provider(provider_of_all: SandboxProcess) -> SandboxProcess:
    """The stand-in without charges; a test says how long its clips take."""
    provider_of_all.reset()
    return provider_of_all


@pytest.fixture
def stack(stack_of_all: Stack, provider: SandboxProcess) -> Iterator[Stack]:
    """The stack without workers and with the waits of `automations.yaml`; skipped without PostgreSQL or Redis."""
    stack_of_all.healthy()
    yield stack_of_all
    stack_of_all.end_workers()
    stack_of_all.restore_waits()
