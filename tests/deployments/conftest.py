"""The fixture `stack`."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deployments.stack import POSTGRES, Stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """A function that creates a stack. Without PostgreSQL or Redis the test is skipped; in CI it fails."""
    import psycopg

    made: list[Stack] = []

    def make(**extra: str) -> Stack:
        missing = "" if shutil.which("redis-server") else "no redis-server on PATH"
        try:
            psycopg.connect(POSTGRES, connect_timeout=3).close()
        except psycopg.OperationalError as error:
            missing = f"no PostgreSQL at {POSTGRES}: {error}"
        if missing and os.environ.get("CI") == "true":
            pytest.fail(missing)
        if missing:
            pytest.skip(f"the deployment was not run ({missing})")
        made.append(Stack(tmp_path, extra))
        return made[-1]

    yield make
    for one in made:
        one.close()
