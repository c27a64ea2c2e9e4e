"""The one guarded HTTP client, for everything whose address comes from outside: pictures, finished clips, manifests.

    open_url     a streaming GET whose redirects are followed by hand, each hop judged like the first
    stream       its body, under caps on size, silence, rate and time
    read         both, for a small body that is wanted complete

The client connects to the very address that was judged, keeps the name for `Host` and for the certificate, always
verifies TLS, sends no key and no cookie, and uses no proxy of the environment: behind one, nobody could say where the
bytes really go.
"""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final
from urllib.parse import urljoin, urlsplit

import certifi
import httpcore
import httpx

from reelsheet import __version__
from reelsheet.errors import BlockedAddress, ReelsheetError
from reelsheet.redaction import clean, clean_url, silence_http_loggers
from reelsheet.web import addresses
from reelsheet.web.retry_after import retry_after
from reelsheet.web.wide_reads import WideReads

CONNECT_TIMEOUT_S: Final = 10.0
IDLE_CONNECTIONS: Final = 10  # httpcore compares each of them with every other, twice a request
MAX_REDIRECTS: Final = 5
RATE_WINDOW_S: Final = 30.0  # over which the minimum rate is measured
MIN_BYTES_PER_S: Final = 16_000
_TRANSIENT: Final = frozenset({408, 425, 429})  # 4xx that may go away by themselves
_UNENCODED: Final = frozenset({"", "identity", "none", "binary", "utf-8", "aws-chunked"})  # labels on bytes left as is
_HEADER_BYTES: Final = 64_000  # real answers have a few thousand
_NEVER_SENT: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_EXCERPT_BYTES: Final = 2_000
_EXCERPT_TIMEOUT_S: Final = 5.0


class Reason(StrEnum):
    """Why nothing, or not everything, was fetched."""

    BLOCKED = "blocked"  # an address that is never opened, or no web address at all
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    TOO_SLOW = "too_slow"
    TOO_LARGE = "too_large"
    REDIRECTS = "redirects"  # too many, or from https to http
    HTTP = "http"  # answered, with `status`
    ENCODED = "encoded"
    CUT = "cut"


class FetchError(ReelsheetError):
    """A sentence; `permanent` when asking the same address again cannot help; `retry_after` in seconds."""

    def __init__(
        self,
        message: str,
        reason: Reason,
        *,
        status: int | None = None,
        permanent: bool = False,
        retry_after: float | None = None,
        excerpt: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.permanent = permanent
        self.retry_after = retry_after
        self.excerpt = excerpt  # the first words of an error page, cleaned


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete body. `url` is where the redirects ended, without signatures."""

    content: bytes
    url: str
    content_type: str


def guarded_client(
    *,
    allow_private: bool,
    connections: int = 100,
    timeout_s: float = 30.0,
    lookup: addresses.Lookup = addresses.system_lookup,
) -> httpx.AsyncClient:
    """A client that only reaches permitted addresses. `timeout_s`: of silence; `lookup` resolves names."""
    silence_http_loggers()
    backend = _GuardedBackend(allow_private=allow_private, lookup=lookup)
    return httpx.AsyncClient(
        transport=_GuardedTransport(backend, connections=connections),
        timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S, pool=None),
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"accept": "*/*", "accept-encoding": "identity", "user-agent": f"reelsheet/{__version__}"},
    )


@asynccontextmanager
async def open_url(
    client: httpx.AsyncClient,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_s: float | None = 60.0,
) -> AsyncIterator[httpx.Response]:
    """GET `url`, its body unread. Only 2xx is yielded; anything else raises FetchError.

    Each redirect is judged like the first address; `timeout_s` is how long all of them may take until the last one's
    headers are there (None: the caller has a limit of its own).
    """
    response = await _follow_redirects(client, url, headers or {}, timeout_s)
    try:
        if not response.is_success:
            raise await _status_error(response)
        yield response
    finally:
        await response.aclose()


async def stream(
    response: httpx.Response,
    *,
    limit_bytes: int,
    idle_s: float = 30.0,
    min_bytes_per_s: int = MIN_BYTES_PER_S,
    deadline_s: float = 3600.0,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[bytes]:
    """The body's bytes as they come. Raises FetchError: encoded, too_large, timeout, too_slow, cut.

    `limit_bytes` holds for what is declared and for what comes; `idle_s` for the time without a byte;
    `min_bytes_per_s` over RATE_WINDOW_S of waiting for the server (the time that the caller takes counts for the
    deadline only); `deadline_s` from the first call, by `clock`.
    """
    url = response.url
    _check_encoding(response)
    declared = declared_length(response)
    if declared is not None and declared > limit_bytes:
        too_large = f"{_place(url)} declares {size(declared)}, more than the {size(limit_bytes)} allowed."
        raise FetchError(too_large, Reason.TOO_LARGE, permanent=True)
    timer = _BodyTimer(url, min_bytes_per_s=min_bytes_per_s, idle_s=idle_s, deadline_s=deadline_s, clock=clock)
    received = 0
    chunks = response.aiter_raw()
    while chunk := await timer.next_chunk(chunks):
        received += len(chunk)
        if received > limit_bytes:
            too_large = f"{_place(url)} sends more than the {size(limit_bytes)} allowed."
            raise FetchError(too_large, Reason.TOO_LARGE, permanent=True)
        yield chunk
    if declared is not None and received != declared:
        raise FetchError(f"{_place(url)} declared {declared:,} bytes and sent {received:,}.", Reason.CUT)


async def read(
    url: str,
    *,
    allow_private: bool,
    limit_bytes: int,
    deadline_s: float = 60.0,
    client: httpx.AsyncClient | None = None,
) -> Fetched:
    """A small body, complete; else FetchError. Without a `client`, one is made for this one request."""
    if client is None:
        async with guarded_client(allow_private=allow_private) as own:
            return await read(
                url, allow_private=allow_private, limit_bytes=limit_bytes, deadline_s=deadline_s, client=own
            )
    try:
        async with asyncio.timeout(deadline_s), open_url(client, url, timeout_s=None) as response:
            chunks = stream(response, limit_bytes=limit_bytes, deadline_s=deadline_s, min_bytes_per_s=0)
            async with aclosing(chunks):
                body = b"".join([chunk async for chunk in chunks])
            return Fetched(body, clean_url(str(response.url)), response.headers.get("content-type", ""))
    except TimeoutError:
        raise _too_late(_place(url), deadline_s) from None


def declared_length(response: httpx.Response) -> int | None:
    """Content-Length in bytes; None when absent or no number."""
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def size(count: int) -> str:
    """Bytes for people: "2.1 MB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count} bytes"


class _BodyTimer:
    """Limits how long one body may take: in silence, at its rate, and in all."""

    def __init__(
        self, url: httpx.URL, *, min_bytes_per_s: int, idle_s: float, deadline_s: float, clock: Callable[[], float]
    ) -> None:
        self._url, self._min_bytes_per_s, self._idle_s, self._clock = url, min_bytes_per_s, idle_s, clock
        self._deadline_s, self._ends_at = deadline_s, clock() + deadline_s
        self._waited_s, self._bytes = 0.0, 0  # in the current window; the caller's own time does not count

    async def next_chunk(self, chunks: AsyncIterator[bytes]) -> bytes:
        """The next chunk that is not empty; b"" at the end."""
        while True:
            before = self._clock()
            chunk = await self._wait(chunks, self._ends_at - before)
            if chunk is None:
                return b""
            self._check_rate(len(chunk), self._clock() - before)
            if chunk:
                return chunk

    async def _wait(self, chunks: AsyncIterator[bytes], left_s: float) -> bytes | None:
        if left_s <= 0:
            raise _too_late(_place(self._url), self._deadline_s)
        try:
            async with asyncio.timeout(min(self._idle_s, left_s)):
                return await anext(chunks, None)
        except TimeoutError:
            if left_s <= self._idle_s:
                raise _too_late(_place(self._url), self._deadline_s) from None
            raise FetchError(f"{_place(self._url)} sent nothing for {self._idle_s:,.4g} s.", Reason.TIMEOUT) from None
        except (httpx.HTTPError, OSError) as error:
            raise _transport_error(error, _place(self._url)) from error

    def _check_rate(self, length: int, seconds: float) -> None:
        self._bytes += length
        self._waited_s += seconds
        if self._waited_s < RATE_WINDOW_S:
            return
        rate = self._bytes / self._waited_s
        if rate < self._min_bytes_per_s:
            slow = f"{_place(self._url)} sends only {rate:,.0f} bytes a second, too slow to wait for."
            raise FetchError(slow, Reason.TOO_SLOW)
        self._waited_s, self._bytes = 0.0, 0


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves, judges every answer, and connects to what was judged; a name never reaches the system again."""

    def __init__(self, *, allow_private: bool, lookup: addresses.Lookup) -> None:
        self._allow_private = allow_private
        self._lookup = lookup
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        deadline = time.monotonic() + (CONNECT_TIMEOUT_S if timeout is None else timeout)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                ips = await addresses.resolve(host, port, allow_private=self._allow_private, lookup=self._lookup)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("no answer from the name server") from error
        for position, ip in enumerate(ips):
            # Each address has its share of the time that is left, so that a dead IPv6 route does not take all of it.
            share = max(0.05, deadline - time.monotonic()) / (len(ips) - position)
            try:
                return WideReads(await self._inner.connect_tcp(ip, port, share, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if position == len(ips) - 1:
                    raise
        raise httpcore.ConnectError("no address")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport over a pool with the guarded backend, which its constructor has no argument for."""

    def __init__(self, backend: _GuardedBackend, *, connections: int) -> None:
        roots = _roots(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        super().__init__(verify=roots, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=roots,
            max_connections=connections,
            max_keepalive_connections=IDLE_CONNECTIONS,
            keepalive_expiry=15.0,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The response with its Location where httpx does not look: `open_url` judges each hop itself."""
        response = await super().handle_async_request(request)
        if sum(len(name) + len(value) for name, value in response.headers.raw) > _HEADER_BYTES:
            await response.aclose()
            raise httpx.RemoteProtocolError("its headers are too long")
        location = response.headers.pop("location", None)
        if location is not None:
            response.extensions["location"] = location
        return response


@lru_cache(maxsize=8)
def _roots(*_cert_variables: str | None) -> ssl.SSLContext:
    """This machine's certificate authorities and certifi's. The arguments are SSL_CERT_FILE and SSL_CERT_DIR."""
    context = ssl.create_default_context()  # reads the two variables itself
    context.load_verify_locations(cafile=certifi.where())
    return context


async def _follow_redirects(
    client: httpx.AsyncClient, url: str, headers: Mapping[str, str], timeout_s: float | None
) -> httpx.Response:
    """The first response that is no redirect."""
    sent = {name: value for name, value in headers.items() if name.lower() not in _NEVER_SENT}
    target = _web_address(url)
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(MAX_REDIRECTS + 1):
                response = await _send(client, target, sent)
                location = _location(response)
                if location is None:
                    return response
                await response.aclose()
                target = _next_hop(response.url, location)
    except TimeoutError:
        raise FetchError(f"{_place(target)} did not answer within {timeout_s:,.4g} s.", Reason.TIMEOUT) from None
    raise FetchError(f"{_place(url)} redirects more than {MAX_REDIRECTS} times.", Reason.REDIRECTS, permanent=True)


async def _send(client: httpx.AsyncClient, target: httpx.URL, headers: Mapping[str, str]) -> httpx.Response:
    try:
        return await client.send(client.build_request("GET", target, headers=headers), stream=True)
    except BlockedAddress as error:
        raise _blocked(str(error)) from error
    except addresses.UnknownHost as error:
        raise FetchError(str(error), Reason.DNS, permanent=error.permanent) from error
    except (httpx.HTTPError, OSError) as error:
        raise _transport_error(error, _place(target)) from error


def _location(response: httpx.Response) -> str | None:
    """Where a redirect leads, as it says; None for any other response."""
    location = response.extensions.get("location", response.headers.get("location"))
    return location if location and response.status_code in _REDIRECTS else None


def _next_hop(here: httpx.URL, location: str) -> httpx.URL:
    try:
        target = _web_address(urljoin(str(here), location.strip()))
    except ValueError as error:
        raise _blocked(f"{_place(here)} redirects to no address that can be opened.") from error
    if here.scheme == "https" and target.scheme == "http":
        downgrade = f"{_place(here)} redirects from https to http, which is not followed."
        raise FetchError(downgrade, Reason.REDIRECTS, permanent=True)
    return target


def _web_address(url: str) -> httpx.URL:
    """`url` if it is one that may be asked for at all; its host is judged when it is connected to."""
    try:
        parts, target = urlsplit(url), httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:  # an IPv4 address in octal lands here as well
        raise _blocked(f"{_place(url)} is no address that can be opened.") from error
    try:
        host = target.host
    except ValueError as error:  # "xn--…" that httpx does not take, as of emoji; others may
        raise FetchError(f"{_place(url)} has a host name that reelsheet cannot open.", Reason.DNS) from error
    if target.scheme not in {"http", "https"} or not host:
        raise _blocked(f"{_place(url)} is no web address; only http:// and https:// are opened.")
    if target.userinfo or parts.username or parts.password:
        raise _blocked(f"{_place(url)} carries a user name or password; use a link without one.")
    return target.copy_with(fragment=None)


def _check_encoding(response: httpx.Response) -> None:
    labels = {label.strip().lower() for label in response.headers.get("content-encoding", "").split(",")}
    if not labels <= _UNENCODED:
        encoding = clean(", ".join(sorted(labels)), limit=40)
        packed = f"{_place(response.url)} sends its content compressed ({encoding}), though asked not to."
        raise FetchError(packed, Reason.ENCODED)


async def _status_error(response: httpx.Response) -> FetchError:
    """What a status other than 2xx means; the first words of the body are kept."""
    status = response.status_code
    body = b""
    with suppress(httpx.HTTPError, OSError, FetchError):
        async with asyncio.timeout(_EXCERPT_TIMEOUT_S):
            _check_encoding(response)
            async for chunk in response.aiter_raw():
                body += chunk[:_EXCERPT_BYTES]
                if len(body) >= _EXCERPT_BYTES:
                    break
    phrase = httpx.codes.get_reason_phrase(status).lower() or "no known status"
    return FetchError(
        f"{_place(response.url)} answered {status} ({phrase}).",
        Reason.HTTP,
        status=status,
        permanent=400 <= status < 500 and status not in _TRANSIENT,
        retry_after=retry_after(response.headers, now=lambda: datetime.now(UTC)),
        excerpt=clean(body.decode("utf-8", "replace"), limit=200),
    )


def _transport_error(error: Exception, place: str) -> FetchError:
    """What an exception of the HTTP library means."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            why = clean(getattr(cause, "verify_message", "") or cause.reason or "no details", limit=80)
            return FetchError(f"{place} has no trustworthy certificate ({why}); its https must be fixed.", Reason.TLS)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return FetchError(f"{place} did not answer in time.", Reason.TIMEOUT)
    if isinstance(error, httpx.ConnectError):
        return FetchError(f"{place} could not be connected to.", Reason.CONNECT)
    return FetchError(f"{place} broke the connection off.", Reason.CUT)


def _blocked(message: str) -> FetchError:
    return FetchError(message, Reason.BLOCKED, permanent=True)


def _too_late(place: str, deadline_s: float) -> FetchError:
    return FetchError(f"{place} did not send everything within {deadline_s:,.4g} s.", Reason.TOO_SLOW)


def _place(url: str | httpx.URL) -> str:
    """An address for people: no signature, no password, not too long."""
    return clean(clean_url(str(url)), limit=200)
