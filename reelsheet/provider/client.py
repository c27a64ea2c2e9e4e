"""The provider's REST API: one POST that costs money, one GET that does not.

Nothing is repeated here and no redirect is followed; the key goes to the API's own origin and nowhere else.
"""

import asyncio
import json
import ssl
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, Self
from urllib.parse import quote, unquote, urljoin

import httpx

from reelsheet.errors import ConfigurationError
from reelsheet.outcomes import ErrorCode
from reelsheet.provider.classification import MODERATION, SubmitOutcome, SubmitResult, classify_response
from reelsheet.redaction import clean, register_secret, silence_http_loggers
from reelsheet.settings import Settings
from reelsheet.web.retry_after import retry_after

BODY_LIMIT = 1 << 20  # bytes of an answer that are read at the most, packed or unpacked
LINK_LIMIT = 8192  # characters of an output's address
CONNECT_SECONDS = 10.0
POLL_SECONDS = 30.0
OUTPUTS_LIMIT = 16
KEPT = 10  # idle connections: httpcore looks at each of them, twice a request, and at each for each

COMPLETED = frozenset({"completed", "complete", "succeeded", "success", "done", "finished"})
FAILED = frozenset(
    {"failed", "error", "errored", "cancelled", "canceled", "rejected", "expired", "timeout", "timed_out", "nsfw",
     "moderated", "aborted"}
)  # fmt: skip
RUNNING = frozenset({"processing", "queued", "pending", "starting", "started", "running", "in_progress", "in_queue"})


class LeaseLost(Exception):
    """Raised by `may_leave`: the claim is no longer surely ours, so the request was not sent."""


class Key(StrEnum):
    """What the free look at a prediction that cannot exist says of the key."""

    GOOD = "good"
    REFUSED = "refused"
    UNTESTED = "untested"


class Phase(StrEnum):
    """A poll's answer."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    MISSING = "missing"  # 404, 410
    KEY_REFUSED = "key_refused"
    REJECTED = "rejected"  # 400, 422: a bug or a changed API
    THROTTLED = "throttled"
    BLIP = "blip"  # nothing to be learnt


@dataclass(frozen=True, slots=True)
class PollResult:
    """One poll. `took` is the provider's own seconds from creation to completion, where it says so."""

    phase: Phase
    told: str = ""
    outputs: tuple[str, ...] = ()
    more_outputs: int = 0  # beyond OUTPUTS_LIMIT
    error_code: ErrorCode = ErrorCode.GENERATION_FAILED
    completed_at: datetime | None = None
    took: float | None = None
    retry_after: float | None = None
    gone: bool = False


class Provider:
    """A client for one account. Use as an async context manager."""

    def __init__(self, settings: Settings, *, connections: int = 100) -> None:
        self._base = settings.base_url
        self._model = settings.model
        self._secret = settings.api_key.get_secret_value().strip() if settings.api_key else ""
        if not (self._secret.isascii() and self._secret.isprintable()):
            raise ConfigurationError(
                "VIBEDREAM_API_KEY holds signs that no key has; copy it from the provider's page once more."
            )
        register_secret(self._secret)
        silence_http_loggers()
        headers = {
            "authorization": f"Bearer {self._secret}",
            "accept": "application/json",
            "accept-encoding": "identity",
            "user-agent": "reelsheet",
        }
        proxied = self._base.startswith("https://")  # over http, which is this machine, a proxy would see the key
        # A kept connection that the server closes just then makes a POST ambiguous: keep those for a moment only.
        self._posts = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(settings.submit_timeout, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=KEPT, keepalive_expiry=2.0),
            follow_redirects=False,
            verify=_roots(),
            trust_env=proxied,
        )
        self._gets = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(POLL_SECONDS, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=KEPT),
            follow_redirects=False,
            verify=_roots(),
            trust_env=proxied,
        )
        self._submit_timeout = settings.submit_timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._posts.aclose()
        await self._gets.aclose()

    async def submit(
        self, *, image: str, prompt: str | None, expansion: bool | None, may_leave: Callable[[], None]
    ) -> SubmitResult:
        """The POST, once. `may_leave` runs right before the first byte leaves and may raise LeaseLost."""
        asked: dict[str, Any] = {"image": image}
        if prompt:
            asked["prompt"] = prompt
        if expansion is not None:
            asked["enable_prompt_expansion"] = expansion
        left = False

        async def watch(event: str, info: Any) -> None:
            nonlocal left
            if event.endswith("send_request_headers.started") and info["request"].method == b"POST":
                may_leave()  # a proxy's CONNECT, which comes before, costs nothing
                left = True

        url = f"{self._base}/api/v1/models/{quote(self._model, safe='')}/generate"
        try:
            request = self._posts.build_request(
                "POST",
                url,
                content=json.dumps(asked).encode(),  # in ASCII, so that no sign can fail
                headers={"content-type": "application/json"},
                extensions={"trace": watch},
            )
            # httpx times single reads; a drip must not hold the claim for ever.
            async with asyncio.timeout(self._submit_timeout + CONNECT_SECONDS):
                response = await self._posts.send(request, stream=True)
                try:
                    body, whole = await _body(response)
                finally:
                    await response.aclose()
        except LeaseLost:
            raise
        except (httpx.TransportError, httpx.InvalidURL, TimeoutError, OSError) as error:
            if not left:
                return SubmitResult(SubmitOutcome.NOT_SENT, told=clean(_fault(error), (self._secret,)))
            return SubmitResult(SubmitOutcome.UNKNOWN, told=clean(_fault(error), (self._secret,)))
        answer = classify_response(
            response.status_code, response.headers, body, whole=whole, retry_after=_pause(response)
        )
        if self._tells_the_key(answer.prediction_id):  # ids are written down
            return replace(answer, proof=SubmitOutcome.UNKNOWN, prediction_id="")
        return answer

    async def look(self, prediction_id: str) -> PollResult:
        """One poll. Never raises for what the network or the provider do."""
        url = f"{self._base}/api/v1/predictions/{quote(prediction_id, safe='')}"
        try:
            status, headers, body, whole = await self._get(url)
        except (httpx.TransportError, httpx.InvalidURL, TimeoutError, OSError) as error:
            return PollResult(Phase.BLIP, told=clean(_fault(error), (self._secret,)))
        if status == 200 and whole:
            return self._read(prediction_id, body)
        told = classify_response(status, headers, body, whole=whole, retry_after=None).told
        said = f"HTTP {status}" + (f": {told}" if told else "")
        if status == 429:
            return PollResult(Phase.THROTTLED, told=said, retry_after=_pause_of(headers))
        if status in {401, 403}:
            return PollResult(Phase.KEY_REFUSED, told=said)
        if status in {404, 410}:
            return PollResult(Phase.MISSING, told=said, gone=status == 410)
        if status in {400, 422}:
            return PollResult(Phase.REJECTED, told=said)
        return PollResult(Phase.BLIP, told=said, retry_after=_pause_of(headers))

    async def check_key(self) -> tuple[Key, str]:
        """Look at a prediction that cannot exist: 401 refuses the key, 404 accepts it; costs nothing."""
        url = f"{self._base}/api/v1/predictions/00000000-0000-0000-0000-000000000000"
        try:
            async with asyncio.timeout(CONNECT_SECONDS):  # nobody waits long for what is only good to know
                status, headers, body, whole = await self._get(url)
        except (httpx.TransportError, httpx.InvalidURL, TimeoutError, OSError) as error:
            return Key.UNTESTED, clean(_fault(error), (self._secret,))
        if status in {401, 403}:
            return Key.REFUSED, classify_response(status, headers, body, whole=whole, retry_after=None).told
        if status in {404, 200, 410}:
            return Key.GOOD, ""
        return Key.UNTESTED, f"HTTP {status}"

    async def _get(self, url: str) -> tuple[int, httpx.Headers, bytes, bool]:
        async with asyncio.timeout(POLL_SECONDS + CONNECT_SECONDS):
            response = await self._gets.send(self._gets.build_request("GET", url), stream=True)
            try:
                body, whole = await _body(response)
            finally:
                await response.aclose()
        return response.status_code, response.headers, body, whole

    def _read(self, asked: str, body: bytes) -> PollResult:
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return PollResult(Phase.BLIP, told="an answer that is no JSON")
        if not isinstance(data, dict):
            return PollResult(Phase.BLIP, told="an answer that is no object")
        if data.get("id") != asked:
            return PollResult(Phase.BLIP, told="an answer about another prediction")
        status = data.get("status")
        word = status.strip().casefold().replace("-", "_").replace(" ", "_") if isinstance(status, str) else ""
        if word in COMPLETED:
            outputs = data.get("outputs")
            found = [outputs] if isinstance(outputs, str) else outputs if isinstance(outputs, list) else []
            links = [link for output in found if (link := self._link(output))]
            done = _moment(data.get("completedAt"))
            made = _moment(data.get("createdAt"))
            took = (done - made).total_seconds() if done and made else None
            return PollResult(
                Phase.COMPLETED,
                outputs=tuple(links[:OUTPUTS_LIMIT]),
                more_outputs=max(0, len(links) - OUTPUTS_LIMIT),
                completed_at=done,
                took=took,
            )
        if word in FAILED:
            error = data.get("error")
            if isinstance(error, dict):
                error = error.get("message") or error.get("detail")
            said = clean(error, (self._secret,)) if isinstance(error, str) else ""
            moderated = word in {"nsfw", "moderated"} or bool(MODERATION.search(said))
            code = ErrorCode.MODERATED if moderated else ErrorCode.GENERATION_FAILED
            if not said and word != "failed":
                said = f"status {word}"
            return PollResult(Phase.FAILED, told=said, error_code=code, completed_at=_moment(data.get("completedAt")))
        shown = clean(status)[:60] if isinstance(status, str) else type(status).__name__
        named = "" if word in RUNNING else f"an unknown status {shown!r}"
        return PollResult(Phase.RUNNING, told=named)

    def _link(self, output: object) -> str:
        """An output's address in full; "" for what is none, or would carry the key to another host."""
        if not isinstance(output, str) or len(output) > LINK_LIMIT or self._tells_the_key(output):
            return ""
        try:
            return urljoin(f"{self._base}/", output.strip()) if output.strip() else ""
        except ValueError:
            return ""

    def _tells_the_key(self, text: str) -> bool:
        return bool(self._secret) and self._secret in unquote(text)


@cache
def _roots() -> ssl.SSLContext:
    """What httpx trusts by itself, read once: it takes 30 ms."""
    return httpx.create_ssl_context()


async def _body(response: httpx.Response) -> tuple[bytes, bool]:
    """At most BODY_LIMIT bytes; False where the body was cut off, is longer or cannot be unpacked.

    httpx would unpack each piece whole, a thousand times its size: here the limit holds while unpacking.
    """
    packing = response.headers.get("content-encoding", "").strip().lower()
    if packing not in {"", "identity", "gzip", "x-gzip", "deflate"}:
        return b"", False
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32) if packing not in {"", "identity"} else None
    body = bytearray()
    came = 0
    try:
        async for part in response.aiter_raw():
            came += len(part)
            body += part if unpacking is None else unpacking.decompress(part, BODY_LIMIT + 1 - len(body))
            if max(came, len(body)) > BODY_LIMIT:
                return bytes(body[:BODY_LIMIT]), False
    except (httpx.TransportError, zlib.error):
        return bytes(body), False
    return bytes(body), unpacking is None or unpacking.eof or not came


def _pause(response: httpx.Response) -> float | None:
    return _pause_of(response.headers)


def _pause_of(headers: httpx.Headers) -> float | None:
    return retry_after(headers, now=lambda: datetime.now(UTC))


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # no time, or one before the year 1
        return None
    return moment if 2000 <= moment.year < 9999 else None  # the last moment of all does not come back from a float


def _fault(error: BaseException) -> str:
    """The network's trouble in words for people."""
    if isinstance(error, httpx.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ConnectError):
        return f"no connection ({error})" if str(error) else "no connection"
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError | httpx.CloseError):
        return "the connection was dropped"
    return type(error).__name__


def now() -> float:
    """Seconds since 1970 UTC."""
    return time.time()
