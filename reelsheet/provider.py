"""The provider's REST API: one POST that costs money, one GET that does not.

Nothing is repeated here and no redirect is followed; the key goes to the API's own origin and nowhere else.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urljoin

import httpx

from reelsheet.acceptance import Answer, Proof, judge
from reelsheet.outcomes import ErrorCode
from reelsheet.redaction import clean
from reelsheet.retry_after import retry_after
from reelsheet.settings import Settings

BODY_LIMIT = 1 << 20  # bytes of an answer that are read at the most
CONNECT_SECONDS = 10.0
POLL_SECONDS = 30.0
OUTPUTS_LIMIT = 16

COMPLETED = frozenset({"completed", "complete", "succeeded", "success", "done", "finished"})
FAILED = frozenset(
    {"failed", "error", "errored", "cancelled", "canceled", "rejected", "expired", "timeout", "timed_out", "nsfw",
     "moderated", "aborted"}
)  # fmt: skip
RUNNING = frozenset({"processing", "queued", "pending", "starting", "started", "running", "in_progress", "in_queue"})
_MODERATION = re.compile(r"\b(moderat\w*|nsfw|safety|content[ _-]polic\w+|flagged|prohibited|sensitive)\b", re.IGNORECASE)


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
class Look:
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
        self._secret = settings.api_key.get_secret_value() if settings.api_key else ""
        headers = {"authorization": f"Bearer {self._secret}", "accept": "application/json", "user-agent": "reelsheet"}
        # A kept connection that the server closes just then makes a POST ambiguous: keep those for a moment only.
        self._posts = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(settings.submit_timeout, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=connections, keepalive_expiry=2.0),
            follow_redirects=False,
        )
        self._gets = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(POLL_SECONDS, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,
        )
        self._submit_timeout = settings.submit_timeout

    async def __aenter__(self) -> "Provider":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._posts.aclose()
        await self._gets.aclose()

    async def submit(
        self, *, image: str, prompt: str | None, expansion: bool | None, may_leave: Callable[[], None]
    ) -> Answer:
        """The POST, once. `may_leave` runs right before the first byte leaves and may raise LeaseLost."""
        asked: dict[str, Any] = {"image": image}
        if prompt:
            asked["prompt"] = prompt
        if expansion is not None:
            asked["enable_prompt_expansion"] = expansion
        left = False

        async def watch(event: str, _info: Any) -> None:
            nonlocal left
            if event.endswith("send_request_headers.started"):
                may_leave()
                left = True

        import asyncio

        url = f"{self._base}/api/v1/models/{quote(self._model, safe='')}/generate"
        try:
            request = self._posts.build_request(
                "POST",
                url,
                content=json.dumps(asked, ensure_ascii=False).encode(),
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
                return Answer(Proof.NOT_SENT, told=clean(_fault(error), (self._secret,)))
            return Answer(Proof.UNKNOWN, told=clean(_fault(error), (self._secret,)))
        return judge(response.status_code, response.headers, body, whole=whole, retry_after=_pause(response))

    async def look(self, prediction_id: str) -> Look:
        """One poll. Never raises for what the network or the provider do."""
        url = f"{self._base}/api/v1/predictions/{quote(prediction_id, safe='')}"
        try:
            status, headers, body, whole = await self._get(url)
        except (httpx.TransportError, httpx.InvalidURL, TimeoutError, OSError) as error:
            return Look(Phase.BLIP, told=clean(_fault(error), (self._secret,)))
        if status == 200 and whole:
            return self._read(prediction_id, body)
        told = judge(status, headers, body, whole=whole, retry_after=None).told
        said = f"HTTP {status}" + (f": {told}" if told else "")
        if status == 429:
            return Look(Phase.THROTTLED, told=said, retry_after=_pause_of(headers))
        if status in {401, 403}:
            return Look(Phase.KEY_REFUSED, told=said)
        if status in {404, 410}:
            return Look(Phase.MISSING, told=said, gone=status == 410)
        if status in {400, 422}:
            return Look(Phase.REJECTED, told=said)
        return Look(Phase.BLIP, told=said, retry_after=_pause_of(headers))

    async def check_key(self) -> tuple[Key, str]:
        """Look at a prediction that cannot exist: 401 refuses the key, 404 accepts it; costs nothing."""
        url = f"{self._base}/api/v1/predictions/00000000-0000-0000-0000-000000000000"
        try:
            status, headers, body, whole = await self._get(url)
        except (httpx.TransportError, httpx.InvalidURL, TimeoutError, OSError) as error:
            return Key.UNTESTED, clean(_fault(error), (self._secret,))
        if status in {401, 403}:
            return Key.REFUSED, judge(status, headers, body, whole=whole, retry_after=None).told
        if status in {404, 200, 410}:
            return Key.GOOD, ""
        return Key.UNTESTED, f"HTTP {status}"

    async def _get(self, url: str) -> tuple[int, httpx.Headers, bytes, bool]:
        import asyncio

        async with asyncio.timeout(POLL_SECONDS + CONNECT_SECONDS):
            response = await self._gets.send(self._gets.build_request("GET", url), stream=True)
            try:
                body, whole = await _body(response)
            finally:
                await response.aclose()
        return response.status_code, response.headers, body, whole

    def _read(self, asked: str, body: bytes) -> Look:
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            return Look(Phase.BLIP, told="an answer that is no JSON")
        if not isinstance(data, dict):
            return Look(Phase.BLIP, told="an answer that is no object")
        if data.get("id") != asked:
            return Look(Phase.BLIP, told="an answer about another prediction")
        status = data.get("status")
        word = status.strip().casefold().replace("-", "_").replace(" ", "_") if isinstance(status, str) else ""
        if word in COMPLETED:
            outputs = data.get("outputs")
            found = [outputs] if isinstance(outputs, str) else outputs if isinstance(outputs, list) else []
            links = [urljoin(f"{self._base}/", o.strip()) for o in found if isinstance(o, str) and o.strip()]
            done = _moment(data.get("completedAt"))
            made = _moment(data.get("createdAt"))
            took = (done - made).total_seconds() if done and made else None
            return Look(
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
            moderated = word in {"nsfw", "moderated"} or bool(_MODERATION.search(said))
            code = ErrorCode.MODERATED if moderated else ErrorCode.GENERATION_FAILED
            if not said and word != "failed":
                said = f"status {word}"
            return Look(Phase.FAILED, told=said, error_code=code, completed_at=_moment(data.get("completedAt")))
        named = "" if word in RUNNING else f"an unknown status {clean(str(status))[:60]!r}"
        return Look(Phase.RUNNING, told=named)


async def _body(response: httpx.Response) -> tuple[bytes, bool]:
    """At most BODY_LIMIT bytes; False where the body was cut off or is longer."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in response.aiter_bytes():
            parts.append(part)
            size += len(part)
            if size > BODY_LIMIT:
                return b"".join(parts)[:BODY_LIMIT], False
    except (httpx.TransportError, httpx.DecodingError):
        return b"".join(parts), False
    return b"".join(parts), True


def _pause(response: httpx.Response) -> float | None:
    return _pause_of(response.headers)


def _pause_of(headers: httpx.Headers) -> float | None:
    return retry_after(headers, now=lambda: datetime.now(UTC))


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


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
