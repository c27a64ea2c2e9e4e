"""Client and sandbox against the examples of the provider's own API page, field by field.

The files beside this one hold them: three are the page's examples, `processing.json` follows its table of fields.
"""

import json
import re
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from reelsheet.outcomes import ErrorCode
from reelsheet.provider.classification import SubmitOutcome
from reelsheet.provider.client import Provider
from reelsheet.provider.estimate import estimate_seconds
from reelsheet.provider.prediction import Phase
from reelsheet.settings import Settings

KEY = "your-api-key"
ID = "550e8400-e29b-41d4-a716-446655440000"
EXAMPLE = {
    "image": "https://example.com/your-image.jpg",
    "prompt": "A beautiful sunset over mountains with golden light",
}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def recorded(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A request and its response."""
    pair = json.loads((Path(__file__).parent / "recorded" / f"{name}.json").read_text())
    return pair["request"], pair["response"]


# The client


@dataclass(slots=True)
class Page:
    """A server that gives one recorded answer, and writes down what it was asked."""

    address: str = ""
    answer: dict[str, Any] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def page() -> Iterator[Page]:
    found = Page()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.asked.append({"method": self.command, "path": self.path, "headers": dict(self.headers), "body": body})
            content = json.dumps(found.answer["body"]).encode()
            self.send_response(found.answer["status"])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 - http.server's own name

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
async def provider(page):
    async with Provider(Settings(api_key=KEY, base_url=page.address)) as client:
        yield client


def assert_asked(page: Page, request: dict[str, Any]) -> None:
    [asked] = page.asked
    assert (asked["method"], asked["path"]) == (request["method"], request["path"])
    sent = {name.lower(): value for name, value in asked["headers"].items()}
    for name, value in request["headers"].items():
        assert sent[name.lower()] == value
    assert (json.loads(asked["body"]) if asked["body"] else None) == request.get("body")
    assert set(sent) <= {
        *("host", "accept", "accept-encoding", "connection", "user-agent", "authorization", "content-type"),
        "content-length",
    }


async def test_a_submission_is_the_page_s_and_its_answer_is_understood(page, provider):
    request, page.answer = recorded("submit")
    answer = await provider.submit(**EXAMPLE, expansion=False, before_send=lambda: None)
    assert_asked(page, request)
    assert (answer.outcome, answer.prediction_id, answer.price_cents) == (SubmitOutcome.ACCEPTED, ID, 54)
    assert estimate_seconds(answer.estimate) == 5


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_what_a_row_does_not_say_is_not_sent(page, provider, status):
    _, response = recorded("submit")
    page.answer = response | {"status": status}
    answer = await provider.submit(image=EXAMPLE["image"], prompt=None, expansion=None, before_send=lambda: None)
    assert json.loads(page.asked[0]["body"]) == {"image": EXAMPLE["image"]}
    assert answer.outcome is SubmitOutcome.ACCEPTED


async def test_a_completed_prediction_is_understood(page, provider):
    request, page.answer = recorded("completed")
    result = await provider.poll(ID)
    assert_asked(page, request)
    assert result.phase is Phase.COMPLETED
    assert result.outputs == (f"https://assets.vibedream.ai/outputs/{ID}/1736942400000-0.mp4",)
    assert result.completed_at == datetime(2025, 1, 15, 12, 0, 30, tzinfo=UTC)
    assert result.generation_s == 30


async def test_a_failed_prediction_is_understood(page, provider):
    request, page.answer = recorded("failed")
    result = await provider.poll(ID)
    assert_asked(page, request)
    assert (result.phase, result.error_code) == (Phase.FAILED, ErrorCode.MODERATED)
    assert result.message == "Your request was flagged by content moderation. Please modify your prompt."


async def test_a_prediction_that_goes_on_is_understood(page, provider):
    request, page.answer = recorded("processing")
    result = await provider.poll(ID)
    assert_asked(page, request)
    assert (result.phase, result.message, result.outputs) == (Phase.RUNNING, "", ())


# The sandbox


def assert_alike(found: dict[str, Any], example: dict[str, Any]) -> None:
    """The same fields in the same order, and in each a value of the example's form."""
    assert list(found) == list(example)
    for name, value in example.items():
        got = found[name]
        assert type(got) is type(value), name
        if name == "id":
            assert str(uuid.UUID(got)) == got
        elif name in {"createdAt", "completedAt"} and value is not None:
            assert MOMENT.fullmatch(got)
        elif name == "estimatedTime":
            assert re.fullmatch(r"\d+ seconds", got)
        elif name == "statusUrl":
            assert got.endswith(f"/api/v1/predictions/{found['id']}")
        elif name == "outputs" and value is not None:
            assert all(re.search(rf"/outputs/{found['id']}/\d{{13}}-\d+\.mp4$", output) for output in got)
        elif name != "error":
            assert got == value


@pytest.fixture
def ask(sandbox):
    """Sends a recorded request to the sandbox, with its key and for `identifier`."""

    def send(request: dict[str, Any], identifier: str = ID) -> httpx.Response:
        with httpx.Client(base_url=sandbox.api, trust_env=False) as client:
            return client.request(
                request["method"],
                request["path"].replace(ID, identifier),
                headers=request["headers"] | {"Authorization": f"Bearer {sandbox.key}"},
                json=request.get("body"),
            )

    return send


def until(ask, request: dict[str, Any], identifier: str, status: str) -> dict[str, Any]:
    for _ in range(1000):
        found = ask(request, identifier).json()
        if found["status"] == status:
            return found
    raise AssertionError(found)


def test_the_sandbox_answers_a_submission_as_the_page_shows(ask):
    request, response = recorded("submit")
    answer = ask(request)
    assert answer.status_code == response["status"]
    assert_alike(answer.json(), response["body"])


@pytest.mark.parametrize("name", ["processing", "completed", "failed"])
def test_the_sandbox_answers_a_poll_as_the_page_shows(ask, sandbox, name):
    request, response = recorded(name)
    if name == "failed":
        sandbox.settings(fail_rate=1.0)
    sandbox.settings(latency=30 if name == "processing" else 0.05)
    identifier = ask(recorded("submit")[0]).json()["id"]
    assert_alike(until(ask, request, identifier, name), response["body"])


def test_the_sandbox_knows_a_refused_key_from_a_prediction_that_is_not_there(sandbox):
    """What doctor relies on: 401 and 404, and neither costs anything."""
    with httpx.Client(base_url=sandbox.api, trust_env=False) as client:
        path = f"/api/v1/predictions/{ID}"
        assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get(path, headers={"Authorization": f"Bearer {sandbox.key}"}).status_code == 404
    assert sandbox.charges() == []


async def test_the_client_and_the_sandbox_agree(sandbox):
    async with Provider(Settings(api_key=sandbox.key, base_url=sandbox.api)) as client:
        answer = await client.submit(**EXAMPLE, expansion=True, before_send=lambda: None)
        assert answer.outcome is SubmitOutcome.ACCEPTED
        assert sandbox.charges()[0]["body"] == EXAMPLE | {"enable_prompt_expansion": True}
        assert (await client.poll(answer.prediction_id)).phase in {Phase.RUNNING, Phase.COMPLETED}
