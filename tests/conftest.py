"""Servers on loopback that tests share; nothing here leaves this machine."""

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.client import BaseClient

if TYPE_CHECKING:
    from reelsheet.sandbox.process import SandboxProcess


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees this machine's settings, credentials or ledger."""
    import os

    for name in list(os.environ):
        if name.startswith(("AWS_", "REELSHEET_", "VIBEDREAM_")) and name != "AWS_CA_BUNDLE":
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A simulated S3 (moto's server) on a free port of this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> BaseClient:
    """A boto3 client; the environment points reelsheet at the same simulated S3."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return boto3.client("s3")


@pytest.fixture
def bucket(s3: BaseClient) -> str:
    """The name of a new, empty bucket."""
    name = f"clips-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def sandbox_process(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SandboxProcess]":
    """The stand-in provider and a simulated S3, started once: small clips, quick, no limits."""
    from reelsheet.sandbox.process import SandboxProcess  # noqa: PLC0415 - only tests that need it pay for it

    with SandboxProcess(clips="tiny", latency=0.05, cache=tmp_path_factory.mktemp("clips")) as process:
        yield process


@pytest.fixture
def sandbox(sandbox_process: "SandboxProcess", monkeypatch: pytest.MonkeyPatch) -> "SandboxProcess":
    """The stand-in with empty books and no faults; the environment points reelsheet at it."""
    sandbox_process.reset()
    for name, value in sandbox_process.environment().items():
        monkeypatch.setenv(name, value)
    return sandbox_process
