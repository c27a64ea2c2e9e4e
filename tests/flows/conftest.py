"""A Prefect server of its own for this folder, and manifests against the stand-in provider."""

import gc
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from reelsheet.sandbox.process import SandboxProcess


@pytest.fixture(scope="session")
def prefect() -> Iterator[None]:
    """Prefect's API in another process, with its database and results in a temporary folder."""
    os.environ.update({"PREFECT_SERVER_ANALYTICS_ENABLED": "0", "DO_NOT_TRACK": "1"})
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module", autouse=True)
def nothing_of_prefect_goes_on() -> Iterator[None]:
    """End Prefect's threads in this process with each module: they would draw random numbers beside other tests."""
    yield
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for service in (EventsWorker, APILogWorker):
        service.drain_all(timeout=30, at_exit=False)
    gc.collect()  # what Prefect's client and boto3 left open is found here, and not in a later test


@pytest.fixture
def ledger_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("REELSHEET_LEDGER_URL", url)
    return url


@pytest.fixture
def destination(sandbox: "SandboxProcess") -> str:
    """A new, empty prefix of the sandbox's bucket."""
    return f"s3://{sandbox.bucket}/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def sheet(tmp_path: Path, sandbox: "SandboxProcess") -> Callable[..., str]:
    """A function: prompts (and more lines) to the path of a manifest."""

    def write(*prompts: str, name: str = "spring.csv", campaign: str | None = None, more: str = "") -> str:
        extra, cell = ("", "") if campaign is None else (",campaign", f",{campaign}")
        lines = "".join(f"{sandbox.pictures}/morning-mug.jpg,{prompt}{cell}\n" for prompt in prompts)
        path = tmp_path / name
        path.write_text(f"image,prompt{extra}\n{lines}{more}", encoding="utf-8")
        return str(path)

    return write


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Prefect's client and boto3 leave sockets to the garbage collector, which may run in a later test."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
