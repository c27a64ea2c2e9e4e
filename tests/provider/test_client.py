"""The POST on the wire: what leaves, when it may leave, and what each accident proves. Real sockets throughout."""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from reelsheet.errors import ConfigurationError
from reelsheet.provider.classification import SubmitOutcome
from reelsheet.provider.client import KeyState, LeaseLost, Provider
from reelsheet.provider.prediction import Phase
from reelsheet.settings import Settings
from reelsheet.surroundings.problems import UnusableSurroundings

ACCEPTED = json.dumps({"id": "p-1", "status": "processing", "costCents": 54}).encode()
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, "Wire"], Awaitable[None]]


class Wire:
    """A server of one behaviour; it keeps every byte that it was sent, by connection."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.heard: list[bytearray] = []
        self.url = ""
        self.tasks: set[asyncio.Task] = set()

    @property
    def posts(self) -> int:
        return sum(bytes(heard).count(b"POST /") for heard in self.heard)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append(bytearray())
        self.tasks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.handler(reader, writer, self)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """One request, headers and body."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        body = await reader.readexactly(length)
        self.heard[-1] += head + body
        return body


@contextlib.asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[Wire]:
    wire = Wire(handler)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield wire
        for task in wire.tasks:
            task.cancel()
        await asyncio.gather(*wire.tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def client(url: str, **told: object) -> AsyncIterator[Provider]:
    given = {"api_key": "vdk-test-key", "base_url": url, "submit_timeout": 0.5} | told
    async with Provider(Settings(**given)) as provider:
        yield provider


def response(body: bytes = ACCEPTED, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def submit(provider: Provider, before_send: Callable[[], None] = lambda: None, **asked: object):
    return await provider.submit(
        **{"image": "https://x/y.jpg", "prompt": "p", "expansion": None} | asked, before_send=before_send
    )


async def answers(reader, writer, wire):
    while True:
        await wire.request(reader)
        writer.write(response())
        await writer.drain()


async def test_only_what_the_row_sets_is_asked_for():
    bodies = []

    async def handler(reader, writer, wire):
        bodies.append(json.loads(await wire.request(reader)))
        writer.write(response())
        await writer.drain()

    async with served(handler) as wire, client(wire.url) as provider:
        await submit(provider, prompt=None)
        await submit(provider, prompt="Grüße \ud800 \U0001f600", expansion=False)
    assert bodies[0] == {"image": "https://x/y.jpg"}
    assert bodies[1]["enable_prompt_expansion"] is False
    assert bodies[1]["prompt"].startswith("Grüße")


async def test_the_claim_is_looked_at_when_the_connection_stands_and_nothing_has_left():
    """However long connecting took: the check is the last thing before the first byte."""
    order = []

    async def handler(reader, writer, wire):
        order.append("connected")
        await wire.request(reader)
        order.append("heard")
        writer.write(response())
        await writer.drain()

    async def slow_to_accept(*_):
        pass

    def before_send():
        order.append("asked")
        assert all(not heard for heard in wire.heard)

    async with served(handler) as wire, client(wire.url) as provider:
        answer = await submit(provider, before_send)
    assert answer.outcome is SubmitOutcome.ACCEPTED
    assert order.index("asked") < order.index("heard")


async def test_a_lost_lease_sends_not_a_single_byte_and_the_connection_is_not_used_again():
    async with served(answers) as wire, client(wire.url) as provider:

        def too_late():
            raise LeaseLost

        with pytest.raises(LeaseLost):
            await submit(provider, too_late)
        await asyncio.sleep(0.05)
        assert [bytes(heard) for heard in wire.heard] in ([b""], [])
        assert (await submit(provider)).outcome is SubmitOutcome.ACCEPTED
        assert wire.posts == 1


async def test_a_lost_lease_on_a_kept_connection_sends_nothing_either():
    async with served(answers) as wire, client(wire.url) as provider:
        await submit(provider)

        def too_late():
            raise LeaseLost

        with pytest.raises(LeaseLost):
            await submit(provider, too_late)
        await asyncio.sleep(0.05)
        assert wire.posts == 1
        await submit(provider)
        assert wire.posts == 2


@pytest.mark.parametrize("where", ["a closed port", "no such host"])
async def test_no_connection_proves_that_nothing_was_sent(where):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}" if where == "a closed port" else "https://nowhere.invalid"
    async with client(url) as provider:
        answer = await submit(provider)
    assert answer.outcome is SubmitOutcome.NOT_SENT


async def test_a_tls_handshake_that_fails_proves_that_nothing_was_sent():
    async def plain(reader, writer, wire):
        wire.heard[-1] += await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with served(plain) as wire, client(wire.url.replace("http", "https")) as provider:
        answer = await submit(provider)
    assert answer.outcome is SubmitOutcome.NOT_SENT
    assert wire.posts == 0


def reset(writer):
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def closes(reader, writer, wire):
    await wire.request(reader)


async def resets(reader, writer, wire):
    await wire.request(reader)
    reset(writer)


async def closes_unread(reader, writer, wire):
    await reader.read(10)


async def hangs(reader, writer, wire):
    await wire.request(reader)
    await asyncio.sleep(5)


async def drips(reader, writer, wire):
    await wire.request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.1)


async def cuts(reader, writer, wire):
    await wire.request(reader)
    writer.write(response(b'{"status": "proc', length=200))
    await writer.drain()


async def babbles(reader, writer, wire):
    await wire.request(reader)
    writer.write(b"\x00\x01garbage\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize("accident", [closes, resets, closes_unread, hangs, cuts, babbles])
async def test_whatever_happens_after_the_first_byte_proves_nothing_and_is_not_repeated(accident):
    async with served(accident) as wire, client(wire.url) as provider:
        answer = await submit(provider)
    assert answer.outcome is SubmitOutcome.UNKNOWN
    assert wire.posts <= 1
    assert len(wire.heard) == 1


async def test_an_answer_that_drips_for_ever_does_not_hold_the_claim_for_ever(monkeypatch):
    monkeypatch.setattr("reelsheet.provider.client.CONNECT_TIMEOUT_S", 0.2)
    async with served(drips) as wire, client(wire.url) as provider:
        assert (await submit(provider)).outcome is SubmitOutcome.UNKNOWN


async def test_a_kept_connection_that_the_server_closed_under_the_post_proves_nothing():
    """The server's FIN and our POST cross: it may have read it."""

    async def once(reader, writer, wire):
        await wire.request(reader)
        writer.write(response())
        await writer.drain()
        await wire.request(reader)  # read the second one, and go

    async with served(once) as wire, client(wire.url) as provider:
        assert (await submit(provider)).outcome is SubmitOutcome.ACCEPTED
        assert (await submit(provider)).outcome is SubmitOutcome.UNKNOWN
        assert wire.posts == 2  # two different submissions, each sent once


async def test_a_kept_connection_that_was_closed_long_ago_is_replaced_before_anything_is_sent():
    async def once(reader, writer, wire):
        await wire.request(reader)
        writer.write(response())
        await writer.drain()

    async with served(once) as wire, client(wire.url) as provider:
        await submit(provider)
        await asyncio.sleep(0.05)
        assert (await submit(provider)).outcome is SubmitOutcome.ACCEPTED
        assert len(wire.heard) == 2


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent"]
)
async def test_a_redirect_is_never_followed_on_post(status):
    async with served(answers) as elsewhere:

        async def redirects(reader, writer, wire):
            await wire.request(reader)
            writer.write(response(b"", status, f"location: {elsewhere.url}/api/v1/models/i2v-pro/generate"))
            await writer.drain()

        async with served(redirects) as wire, client(wire.url) as provider:
            answer = await submit(provider)
        assert answer.outcome is SubmitOutcome.UNKNOWN
        assert elsewhere.heard == []


async def test_an_early_refusal_is_heard_though_the_body_was_not_read():
    """Some servers answer 413 and close while the request is still being written."""

    async def early(reader, writer, wire):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(b'{"error": "too large"}', "413 Payload Too Large", "connection: close"))
        await writer.drain()

    async with served(early) as wire, client(wire.url) as provider:
        answer = await submit(provider, prompt="x" * 3_000_000)
    assert answer.outcome in {
        SubmitOutcome.REJECTED,
        SubmitOutcome.UNKNOWN,
    }  # a reset may destroy the answer on its way


@pytest.mark.parametrize("refuses", [True, False])
async def test_a_proxys_own_connection_is_no_submission(monkeypatch, refuses):
    """CONNECT goes before the POST; where the proxy refuses it, nothing was sent to the provider."""

    async def proxy(reader, writer, wire):
        wire.heard[-1] += await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n" if refuses else b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()
        await reader.read(1)  # and hang up under the TLS handshake

    asked = []
    async with served(proxy) as wire:
        monkeypatch.setenv("HTTPS_PROXY", wire.url)
        async with client("https://api.example.com") as provider:
            answer = await submit(provider, lambda: asked.append(1))
    assert bytes(wire.heard[0]).startswith(b"CONNECT api.example.com:443")
    assert answer.outcome is SubmitOutcome.NOT_SENT
    assert asked == []


@pytest.mark.parametrize("key", ["sché", "a\nb", "tab\tbed"])
async def test_a_key_that_cannot_be_one_is_said_before_anything_is_sent(key):
    with pytest.raises(ConfigurationError, match="VIBEDREAM_API_KEY"):
        Provider(Settings(api_key=key, base_url="http://127.0.0.1:1"))


async def test_white_space_around_a_key_is_no_part_of_it():
    async with served(answers) as wire, client(wire.url, api_key=" vdk-test-key\n") as provider:
        await submit(provider)
    assert b"Bearer vdk-test-key\r\n" in wire.heard[0]


async def test_an_id_that_is_the_key_itself_is_not_written_down():
    async def echoes(reader, writer, wire):
        await wire.request(reader)
        writer.write(response(json.dumps({"id": "vdk-test-key"}).encode()))
        await writer.drain()

    async with served(echoes) as wire, client(wire.url) as provider:
        answer = await submit(provider)
    assert (answer.outcome, answer.prediction_id) == (SubmitOutcome.UNKNOWN, "")


async def test_httpx_still_tells_of_the_moment_before_the_first_byte():
    """The lease check hangs on this event; should a release of httpx or httpcore rename it, this fails first."""
    events = []

    async def trace(name, info):
        events.append((name, info.get("request")))

    async with served(answers) as wire, httpx.AsyncClient() as web:
        await web.post(wire.url, content=b"x", extensions={"trace": trace})
    names = [name for name, _ in events]
    assert names.index("connection.connect_tcp.complete") < names.index("http11.send_request_headers.started")
    assert next(r for n, r in events if n == "http11.send_request_headers.started").method == b"POST"


class TestLooks:
    """Polls, which cost nothing."""

    @pytest.mark.parametrize(
        ("status", "phase"),
        [
            ("401 Unauthorized", Phase.KEY_REFUSED), ("403 Forbidden", Phase.KEY_REFUSED), ("402 Payment", Phase.NO_BALANCE),
            ("404 Not Found", Phase.MISSING), ("410 Gone", Phase.MISSING), ("400 Bad", Phase.REJECTED),
            ("422 Bad", Phase.REJECTED), ("429 Slow", Phase.THROTTLED), ("408 T", Phase.BLIP), ("425 E", Phase.BLIP),
            ("500 X", Phase.BLIP), ("502 X", Phase.BLIP), ("503 X", Phase.BLIP), ("302 Found", Phase.BLIP),
            ("204 No Content", Phase.BLIP),
        ],
    )  # fmt: skip
    async def test_every_status_has_its_meaning(self, status, phase):
        async def handler(reader, writer, wire):
            await wire.request(reader)
            writer.write(response(b"", status, "location: http://127.0.0.1:1/"))
            await writer.drain()

        async with served(handler) as wire, client(wire.url) as provider:
            assert (await provider.poll("p-1")).phase is phase

    @pytest.mark.parametrize(
        ("told", "phase"),
        [
            ({"status": "processing"}, Phase.RUNNING), ({"status": "In-Progress"}, Phase.RUNNING),
            ({"status": "queued_v2"}, Phase.RUNNING), ({"status": None}, Phase.RUNNING),
            ({"status": " COMPLETED "}, Phase.COMPLETED), ({"status": "succeeded"}, Phase.COMPLETED),
            ({"status": "canceled"}, Phase.FAILED), ({"status": "nsfw"}, Phase.FAILED),
            ({"status": "timed-out"}, Phase.FAILED), ({"id": "another", "status": "completed"}, Phase.BLIP),
            ({"id": None, "status": "completed"}, Phase.BLIP),
        ],
    )  # fmt: skip
    async def test_every_word_for_a_state_has_its_meaning(self, told, phase):
        async def handler(reader, writer, wire):
            await wire.request(reader)
            writer.write(response(json.dumps({"id": "p-1", "outputs": ["/a.mp4"]} | told).encode()))
            await writer.drain()

        async with served(handler) as wire, client(wire.url) as provider:
            result = await provider.poll("p-1")
        assert result.phase is phase
        if phase is Phase.COMPLETED:
            assert result.outputs == (f"{wire.url}/a.mp4",)

    @pytest.mark.parametrize(
        ("status", "key"), [("404 No", KeyState.GOOD), ("401 No", KeyState.REFUSED), ("500 No", KeyState.UNTESTED)]
    )
    async def test_the_key_is_tried_on_a_prediction_that_cannot_exist(self, status, key):
        async def handler(reader, writer, wire):
            await wire.request(reader)
            writer.write(response(b"{}", status))
            await writer.drain()

        async with served(handler) as wire, client(wire.url) as provider:
            assert (await provider.check_key()).state is key
        assert b"GET /api/v1/predictions/00000000-" in wire.heard[0]

    @pytest.mark.parametrize(
        ("status", "headers", "body", "said"),
        [
            ("301 Moved", "location: https://api.test/api/v1/predictions/0?key=vdk-test-key", b"",
             "redirects to https://api.test (HTTP 301)"),
            ("302 Found", "location: /sign-in", b"<html>", "redirects to /sign-in (HTTP 302)"),
            ("303 See Other", "location: http://[", b"", "(HTTP 303)"),
            ("307 Temporary", "location: /api/v1/models", b"", "redirects to /api/v1/models (HTTP 307)"),
            ("307 Temporary", "location: //elsewhere.test/vdk-test-key", b"", "elsewhere.test"),
            ("308 Permanent", "x: y", b"{}", "redirects to no address (HTTP 308)"),
            ("200 OK", "content-type: text/html", b"<title>Sign in to Hotel WLAN</title>", "Sign in to Hotel WLAN"),
            ("203 From a proxy", "x: y", b"\n<!doctype html><p>Welcome", "answers with a web page"),
        ],
    )  # fmt: skip
    async def test_an_address_that_is_not_the_apis_is_told_with_its_setting(
        self, status, headers, body, said, monkeypatch
    ):
        monkeypatch.setattr("reelsheet.provider.client.KEY_PAUSES_S", (0.0, 0.0, 0.0))

        async def handler(reader, writer, wire):
            await wire.request(reader)
            writer.write(response(body, status, headers))
            await writer.drain()

        async with served(handler) as wire, client(wire.url) as provider:
            with pytest.raises(UnusableSurroundings, match="VIBEDREAM_BASE_URL: ") as caught:
                await provider.check_key()
        assert said in str(caught.value)
        assert wire.url in str(caught.value)
        assert "vdk-test-key" not in str(caught.value)
        assert sum(bytes(heard).count(b"GET /") for heard in wire.heard) == 3

    @pytest.mark.parametrize(
        ("status", "headers", "body", "key"),
        [
            ("404 Not Found", "content-type: text/html", b"<h1>no such prediction</h1>", KeyState.UNTESTED),
            ("404 Not Found", "content-type: text/plain", b"no such prediction", KeyState.GOOD),
            ("403 Forbidden", "content-type: text/html", b"<title>Attention</title>", KeyState.UNTESTED),
            ("503 Busy", "content-type: text/html", b"<h1>back soon</h1>", KeyState.UNTESTED),
            ("200 OK", "content-type: text/html", b'{"error": "not found"}', KeyState.GOOD),
            ("200 OK", "content-type: application/json", b"null", KeyState.GOOD),
        ],
    )
    async def test_an_error_in_any_shape_may_be_the_apis(self, status, headers, body, key):
        async def handler(reader, writer, wire):
            await wire.request(reader)
            writer.write(response(body, status, headers))
            await writer.drain()

        async with served(handler) as wire, client(wire.url) as provider:
            assert (await provider.check_key()).state is key

    @pytest.mark.parametrize(
        ("error", "key"),
        [
            (TimeoutError(), KeyState.SILENT),
            (httpx.ReadTimeout(""), KeyState.SILENT),
            (httpx.ConnectTimeout(""), KeyState.UNTESTED),
            (httpx.ReadError(""), KeyState.UNTESTED),
        ],
    )
    async def test_only_silence_on_a_connection_is_told_apart(self, error, key, monkeypatch):
        async def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(Provider, "_get", fail)
        async with client("https://api.test") as provider:
            assert (await provider.check_key()).state is key

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (
                httpx.ProxyError("407 Proxy Authentication Required"),
                "HTTPS_PROXY: the proxy http://proxy.test:3128 refuses",
            ),
            (ssl.SSLCertVerificationError(1, "self-signed certificate"), "SSL_CERT_FILE: the certificate of "),
        ],
    )
    async def test_what_is_in_the_way_of_every_row_is_told_with_its_setting(self, error, said, monkeypatch):
        async def fail(*_: object) -> None:
            raise error

        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:3128")
        monkeypatch.setattr(Provider, "_get", fail)
        async with client("https://api.test") as provider:
            with pytest.raises(UnusableSurroundings) as caught:
                await provider.check_key()
        assert str(caught.value).startswith(said)
