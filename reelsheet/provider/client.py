"""The provider's REST API: one POST that costs money, one GET that does not.

Nothing is repeated here and no redirect is followed. The key goes to the API's own origin and nowhere else.
"""

import asyncio
import json
import ssl
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple, Self
from urllib.parse import quote, unquote, urljoin

import httpx

from reelsheet.errors import ConfigurationError
from reelsheet.provider.classification import Refusal, SubmitOutcome, SubmitResult, classify_response, refusal
from reelsheet.provider.error_body import ErrorBody, excerpt, json_object, read_error
from reelsheet.provider.prediction import Phase, PollResult, read_prediction
from reelsheet.redaction import clean, register_secret, silence_http_loggers
from reelsheet.settings import Settings
from reelsheet.surroundings import network
from reelsheet.surroundings import problems as wrong
from reelsheet.surroundings.problems import Problem, UnusableSurroundings
from reelsheet.web.retry_after import retry_after

BODY_LIMIT_BYTES = 1 << 20  # of a response that are read at the most, packed or unpacked
LINK_LIMIT = 8192  # characters of an output's address
CONNECT_TIMEOUT_S = 10.0
POLL_TIMEOUT_S = 30.0
KEY_PAUSES_S = (0.0, 0.5, 1.0)  # before each question about the key, until the API itself answers
_NO_PREDICTION = "00000000-0000-0000-0000-000000000000"
IDLE_CONNECTIONS = 10  # kept; httpcore looks at each of them for each request, and at each request for each of them
IDLE_POST_S = 2.0  # a kept connection that the server closes just then makes a POST ambiguous

NETWORK_ERRORS = (httpx.TransportError, httpx.InvalidURL, TimeoutError, OSError)


class LeaseLost(Exception):
    """Raised by `before_send`: the claim may no longer be ours, so the request was not sent."""


class KeyState(StrEnum):
    """What the provider says of the API key."""

    GOOD = "good"
    REFUSED = "refused"
    UNTESTED = "untested"
    SILENT = "silent"  # connections are taken, and nothing is answered


class KeyCheck(NamedTuple):
    """The API key's state, and the provider's or the network's words where it is not good."""

    state: KeyState = KeyState.UNTESTED
    message: str = ""


class _Response(NamedTuple):
    status: int
    headers: httpx.Headers
    body: bytes
    complete: bool

    @property
    def retry_after_s(self) -> float | None:
        return retry_after(self.headers, now=lambda: datetime.now(UTC))

    def classify(self) -> SubmitResult:
        return classify_response(
            self.status, self.headers, self.body, complete=self.complete, retry_after_s=self.retry_after_s
        )

    def error(self) -> tuple[ErrorBody, Refusal]:
        """What it says, and what it is about where it is a 4xx."""
        error = read_error(json_object(self.body) if self.complete else None, self.body, self.headers)
        return error, refusal(self.status, error, self.retry_after_s)


class Provider:
    """A client for one account. Use as an async context manager."""

    def __init__(self, settings: Settings, *, connections: int = 100) -> None:
        self._base = settings.base_url
        self._model = settings.model
        self._secret = settings.api_key.get_secret_value().strip() if settings.api_key else ""
        if not (self._secret.isascii() and self._secret.isprintable()):
            raise ConfigurationError(
                "VIBEDREAM_API_KEY contains characters that no API key has; copy it from the provider's page again."
            )
        register_secret(self._secret)
        silence_http_loggers()
        self._submit_timeout_s = settings.submit_timeout
        self._posts = self._client(self._submit_timeout_s, connections=None, idle_s=IDLE_POST_S)
        self._gets = self._client(POLL_TIMEOUT_S, connections=connections, idle_s=5.0)

    def _client(self, timeout_s: float, *, connections: int | None, idle_s: float) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers={
                "authorization": f"Bearer {self._secret}",
                "accept": "application/json",
                "accept-encoding": "identity",
                "user-agent": "reelsheet",
            },
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S, pool=None),
            limits=httpx.Limits(
                max_connections=connections, max_keepalive_connections=IDLE_CONNECTIONS, keepalive_expiry=idle_s
            ),
            follow_redirects=False,
            verify=_trusted_certificates(),
            # Over http, which is this machine only, a proxy would see the key.
            trust_env=self._base.startswith("https://"),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._posts.aclose()
        await self._gets.aclose()

    async def submit(
        self, *, image: str, prompt: str | None, expansion: bool | None, before_send: Callable[[], None]
    ) -> SubmitResult:
        """The POST, once. `before_send` runs right before the first byte leaves and may raise LeaseLost."""
        fields: dict[str, Any] = {"image": image}
        if prompt:
            fields["prompt"] = prompt
        if expansion is not None:
            fields["enable_prompt_expansion"] = expansion
        sent = False

        async def trace(event: str, info: Any) -> None:
            nonlocal sent
            if event.endswith("send_request_headers.started") and info["request"].method == b"POST":
                before_send()  # not for a proxy's CONNECT, which comes before and costs nothing
                sent = True

        try:
            request = self._posts.build_request(
                "POST",
                f"{self._base}/api/v1/models/{quote(self._model, safe='')}/generate",
                content=json.dumps(fields).encode(),  # ASCII, so that no character can fail
                headers={"content-type": "application/json"},
                extensions={"trace": trace},
            )
            # httpx limits each read; a response that drips must not hold the claim for ever.
            response = await _exchange(self._posts, request, self._submit_timeout_s + CONNECT_TIMEOUT_S)
        except NETWORK_ERRORS as error:
            return SubmitResult(SubmitOutcome.UNKNOWN if sent else SubmitOutcome.NOT_SENT, message=_describe(error))
        result = response.classify()
        if self._contains_key(result.prediction_id):  # ids are written down
            return replace(result, outcome=SubmitOutcome.UNKNOWN, prediction_id="")
        return result

    async def poll(self, prediction_id: str) -> PollResult:
        """One GET. Never raises for what the network or the provider do."""
        try:
            response = await self._get(prediction_id)
        except NETWORK_ERRORS as error:
            return PollResult(Phase.BLIP, _describe(error))
        status = response.status
        if status == 200 and response.complete:
            return read_prediction(prediction_id, response.body, self._link)
        body, about = response.error()
        words = body.message or excerpt(response.body)
        message = f"HTTP {status}" + (f": {words}" if words else "")
        match about:
            case Refusal.KEY:
                return PollResult(Phase.KEY_REFUSED, message)
            case Refusal.BALANCE:
                return PollResult(Phase.NO_BALANCE, message)
            case Refusal.RATE:
                return PollResult(Phase.THROTTLED, message, retry_after_s=response.retry_after_s)
            case Refusal.ROW if body.is_page:
                pass  # a firewall or a proxy knows nothing of predictions
            case Refusal.ROW if status in {404, 410}:
                return PollResult(Phase.MISSING, message, gone=status == 410)
            case Refusal.ROW if status in {400, 403, 422}:
                return PollResult(Phase.REJECTED, message)
        return PollResult(Phase.BLIP, message, retry_after_s=response.retry_after_s)

    async def check_key(self) -> KeyCheck:
        """Asks for a prediction that cannot exist: 401 refuses the key, 404 accepts it; costs nothing.

        Raises UnusableSurroundings where a proxy refuses, TLS trusts nobody there, or the address is not the API's.
        """
        problems = []
        for pause_s in KEY_PAUSES_S:
            await asyncio.sleep(pause_s)
            answer = await self._ask_about_key()
            if isinstance(answer, KeyCheck):
                return answer
            problems = [answer]
        raise UnusableSurroundings(problems)

    async def _ask_about_key(self) -> KeyCheck | Problem:
        """A problem is an answer that is not the API's, which a gateway may give for a moment."""
        try:
            try:
                response = await self._get(_NO_PREDICTION, CONNECT_TIMEOUT_S)
            except TimeoutError:  # no ConnectTimeout: a POST might not be answered either, and be charged
                response = await self._get(_NO_PREDICTION)
        except httpx.ProxyError as error:
            raise UnusableSurroundings([network.refused_by_proxy(self._base, error)]) from None
        except NETWORK_ERRORS as error:
            if problem := network.untrusted(self._base, error):
                raise UnusableSurroundings([problem]) from None
            is_silent = isinstance(error, TimeoutError | httpx.ReadTimeout)
            return KeyCheck(KeyState.SILENT if is_silent else KeyState.UNTESTED, _describe(error))
        body, about = response.error()
        if problem := self._wrong_address(response, body):
            return problem
        if about is Refusal.KEY:
            return KeyCheck(KeyState.REFUSED, body.message)
        if response.status in {404, 200, 410} and not body.is_page:
            return KeyCheck(KeyState.GOOD)
        words = f", {body.message}" if body.is_page else ""
        return KeyCheck(KeyState.UNTESTED, f"HTTP {response.status}{words}")

    def _wrong_address(self, response: _Response, body: ErrorBody) -> Problem | None:
        """What proves that no POST, and no poll, could be understood there. An error may come in any shape."""
        address = network.shown(self._base)
        if 300 <= response.status < 400:
            location = response.headers.get("location", "")
            target = location.partition("/api/v1/")[0] or location
            return wrong.PROVIDER_REDIRECTS(
                address=address, status=response.status, target=network.shown(target) or "no address"
            )
        if 200 <= response.status < 300 and body.is_page:
            return wrong.PROVIDER_ELSEWHERE(address=address, page=body.message)
        return None

    async def _get(self, prediction_id: str, limit_s: float = POLL_TIMEOUT_S + CONNECT_TIMEOUT_S) -> _Response:
        request = self._gets.build_request("GET", f"{self._base}/api/v1/predictions/{quote(prediction_id, safe='')}")
        return await _exchange(self._gets, request, limit_s)

    def _link(self, output: object) -> str:
        """An output's address in full; "" for what is none, or would carry the key to another host."""
        if not isinstance(output, str) or len(output) > LINK_LIMIT or self._contains_key(output):
            return ""
        try:
            return urljoin(f"{self._base}/", output.strip()) if output.strip() else ""
        except ValueError:
            return ""

    def _contains_key(self, text: str) -> bool:
        return bool(self._secret) and self._secret in unquote(text)


@cache
def _trusted_certificates() -> ssl.SSLContext:
    """What httpx trusts by itself, read once: it takes 30 ms."""
    return httpx.create_ssl_context()


async def _exchange(client: httpx.AsyncClient, request: httpx.Request, timeout_s: float) -> _Response:
    """Sends a request and reads its response, within `timeout_s` in all."""
    async with asyncio.timeout(timeout_s):
        response = await client.send(request, stream=True)
        try:
            return _Response(response.status_code, response.headers, *await _read_body(response))
        finally:
            await response.aclose()


async def _read_body(response: httpx.Response) -> tuple[bytes, bool]:
    """At most BODY_LIMIT_BYTES, and whether that is the complete body: not cut off, longer, or impossible to unpack.

    httpx would unpack each piece at once, a thousand times its size: here the limit holds while unpacking.
    """
    packing = response.headers.get("content-encoding", "").strip().lower()
    if packing not in {"", "identity", "gzip", "x-gzip", "deflate"}:
        return b"", False
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32) if packing not in {"", "identity"} else None
    body = bytearray()
    received = 0
    try:
        async for part in response.aiter_raw():
            received += len(part)
            body += part if unpacker is None else unpacker.decompress(part, BODY_LIMIT_BYTES + 1 - len(body))
            if max(received, len(body)) > BODY_LIMIT_BYTES:
                return bytes(body[:BODY_LIMIT_BYTES]), False
    except (httpx.TransportError, zlib.error):
        return bytes(body), False
    return bytes(body), unpacker is None or unpacker.eof or not received


def _describe(error: BaseException) -> str:
    """A network error in words for people."""
    match error:
        case httpx.ConnectTimeout():
            return "no connection in time"
        case TimeoutError() | httpx.TimeoutException():
            return "no answer in time"
        case httpx.ConnectError():
            return clean(f"no connection ({error})") if str(error) else "no connection"
        case httpx.RemoteProtocolError() | httpx.ReadError() | httpx.WriteError() | httpx.CloseError():
            return "the connection was dropped"
    return type(error).__name__
