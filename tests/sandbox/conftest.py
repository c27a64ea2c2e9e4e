# ruff: noqa: S501 - plain HTTP on this machine: reading certificates takes longer than most of these tests
"""A client that speaks to the stand-in as reelsheet would."""

from collections.abc import Iterator

import httpx
import pytest

from reelsheet.sandbox.process import SandboxProcess

PICTURE = "https://example.com/cat.jpg"


@pytest.fixture
def client(sandbox: SandboxProcess) -> Iterator[httpx.Client]:
    """With the key, without redirects."""
    with httpx.Client(
        base_url=sandbox.api,
        headers={"Authorization": f"Bearer {sandbox.key}"},
        trust_env=False,
        verify=False,
        timeout=5,
    ) as client:
        yield client


@pytest.fixture(scope="session")
def plain() -> Iterator[httpx.Client]:
    """Without a key."""
    with httpx.Client(trust_env=False, verify=False) as client:
        yield client


@pytest.fixture
def submit(client: httpx.Client):
    """Posts one submission: `submit(prompt="…")`."""

    def post(**body) -> httpx.Response:
        return client.post("/api/v1/models/i2v-pro/generate", json={"image": PICTURE} | body)

    return post


@pytest.fixture
def finish(client: httpx.Client):
    """Polls an id until it is no longer processing."""

    def poll(identifier: str) -> dict:
        for _ in range(500):
            state = client.get(f"/api/v1/predictions/{identifier}").json()
            if state["status"] != "processing":
                return state
        raise AssertionError("still processing")

    return poll
