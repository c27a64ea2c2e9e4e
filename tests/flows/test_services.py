"""Prefect's services are all there, or their process ends, so that somebody starts it again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio
from flows.services import ends_the_process

class Service:
    async def start(self):
        {body}

async def main():
    running = asyncio.create_task(ends_the_process(Service.start)(Service()))
    await asyncio.sleep(0.2)
    running.cancel()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("body", "code"),
    [("raise OSError", 1), ("raise ValueError('odd')", 1), ("raise SystemExit(3)", 1), ("await asyncio.sleep(60)", 0)],
)
def test_the_process_ends_where_a_service_does(body: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code
    assert ("Service has ended" in done.stderr) == bool(code)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_services_whose_database_is_away_at_their_start_end(tmp_path: Path) -> None:
    environment = os.environ | {
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://nobody@127.0.0.1:9/none",
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
    }
    done = subprocess.run(
        [sys.executable, "-m", "flows.services"], env=environment, capture_output=True, timeout=200, check=False
    )
    assert done.returncode == 1, done.stderr[-2000:]
