"""OpenStack Swift over http and https, started once; see scripts/swift-up."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "swift-up"


@pytest.fixture(scope="session")
def swift() -> Iterator[dict[str, str]]:
    """Its addresses, key and secret. If it cannot be set up, the test is skipped; in CI it fails."""
    # signals of the terminal are for pytest; the servers end with the pipe
    with subprocess.Popen(
        [sys.executable, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            message = f"OpenStack Swift could not be set up (scripts/swift-up ended with {process.wait()}); see above."
            if os.environ.get("CI", "").lower() in {"1", "true"}:
                pytest.fail(message)
            pytest.skip(message)
        yield json.loads(line)
        process.stdin.close()
        process.wait(30)


@pytest.fixture(params=["http", "https"])
def stranger(request: pytest.FixtureRequest, swift: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket there; the environment points reelsheet at it."""
    for name, value in {
        "AWS_ENDPOINT_URL_S3": swift[request.param],
        "AWS_ACCESS_KEY_ID": swift["key"],
        "AWS_SECRET_ACCESS_KEY": swift["secret"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CA_BUNDLE": swift["ca"],
    }.items():
        monkeypatch.setenv(name, value)
    name = f"clips-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name
