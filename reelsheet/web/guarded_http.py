"""The one guarded HTTP client, for everything whose address comes from outside: pictures, finished clips, manifests.

    open_url     a streaming GET whose redirects are followed by hand, each hop judged like the first
    stream       its body, under caps on size, silence, rate and time
    read         both, for a small body that is wanted whole

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
from http import HTTPStatus
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

CONNECT_TIMEOUT: Final = 10.0
KEPT: Final = 10  # idle connections: httpcore looks at each of them for each, twice a request
RATE_WINDOW: Final = 30.0  # seconds over which the minimum rate is measured
FLOOR: Final = 16_000  # bytes a second
_PASSING: Final = frozenset({408, 425, 429})  # 4xx that may go away by themselves
_UNENCODED: Final = frozenset({"", "identity", "none", "binary", "utf-8", "aws-chunked"})  # labels on bytes left as is
_NEVER_SENT: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_EXCERPT_BYTES: Final = 2_000
_EXCERPT_SECONDS: Final = 5.0


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
    """A whole body. `url` is where it was found in the end, without signatures."""

    content: bytes
    url: str
    content_type: str
    status: int
    headers: httpx.Headers


def guarded_client(
    *,
    allow_private: bool,
    connections: int = 100,
    timeout: float = 30.0,
    lookup: addresses.Lookup = addresses.system_lookup,
) -> httpx.AsyncClient:
    """A client that only reaches permitted addresses. `timeout`: seconds of silence; `lookup` resolves names."""
    silence_http_loggers()
    backend = _GuardedBackend(allow_private=allow_private, lookup=lookup)
    return httpx.AsyncClient(
        transport=_GuardedTransport(backend, connections=connections),
        timeout=httpx.Timeout(timeout, connect=CONNECT_TIMEOUT, pool=None),
        follow_redirects=False,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={
            "accept": "*/*",
            "accept-encoding": "identity",
            "user-agent": f"reelsheet/{__version__}",
        },
    )


@asynccontextmanager
async def open_url(
    client: httpx.AsyncClient,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    max_hops: int = 5,
    patience: float | None = 60.0,
) -> AsyncIterator[httpx.Response]:
    """GET `url`, its body unread. Only 2xx is yielded; anything else raises FetchError.

    At most `max_hops` redirects are followed, each judged like the first address; `patience` is how long, in seconds,
    all of them may take until the last one's headers are there (None: the caller has a limit of its own).
    """
    response = await _answered(client, url, headers or {}, max_hops, patience)
    try:
        if not response.is_success:
            raise await _refusal(response)
        yield response
    finally:
        await response.aclose()


async def stream(
    response: httpx.Response,
    *,
    limit: int,
    idle: float = 30.0,
    floor: int = FLOOR,
    deadline: float = 3600.0,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[bytes]:
    """The body's bytes as they come. Raises FetchError: encoded, too_large, timeout, too_slow, cut.

    `limit` in bytes, on what is declared and on what comes; `idle` seconds without a byte; `floor` bytes a second over
    RATE_WINDOW seconds of waiting for the server (the time that the caller takes counts for the deadline only);
    `deadline` seconds from the first call, by `clock`.
    """
    url = response.url
    _check_encoding(response)
    declared = declared_length(response)
    if declared is not None and declared > limit:
        told = f"{_place(url)} declares {size(declared)}, more than the {size(limit)} allowed."
        raise FetchError(told, Reason.TOO_LARGE, permanent=True)
    pace = _Pace(url, floor=floor, idle=idle, deadline=deadline, clock=clock)
    counted = 0
    chunks = response.aiter_raw()
    while chunk := await pace.next(chunks):
        counted += len(chunk)
        if counted > limit:
            told = f"{_place(url)} sends more than the {size(limit)} allowed."
            raise FetchError(told, Reason.TOO_LARGE, permanent=True)
        yield chunk
    if declared is not None and counted != declared:
        raise FetchError(f"{_place(url)} declared {declared:,} bytes and sent {counted:,}.", Reason.CUT)


async def read(
    url: str,
    *,
    allow_private: bool,
    limit: int,
    deadline: float = 60.0,
    client: httpx.AsyncClient | None = None,
) -> Fetched:
    """The whole of a small body, of at most `limit` bytes, within `deadline` seconds; else FetchError."""
    if client is None:
        async with guarded_client(allow_private=allow_private) as own:
            return await read(url, allow_private=allow_private, limit=limit, deadline=deadline, client=own)
    try:
        async with asyncio.timeout(deadline), open_url(client, url, patience=None) as response:
            body = bytearray()
            async with aclosing(stream(response, limit=limit, deadline=deadline, floor=0)) as chunks:
                async for chunk in chunks:
                    body += chunk
            return Fetched(
                bytes(body),
                clean_url(str(response.url)),
                response.headers.get("content-type", ""),
                response.status_code,
                response.headers,
            )
    except TimeoutError:
        raise FetchError(f"{_place(url)} did not send everything within {deadline:,.4g} s.", Reason.TOO_SLOW) from None


def declared_length(response: httpx.Response) -> int | None:
    """Content-Length in bytes; None when absent or no number."""
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def size(count: int) -> str:
    """Bytes for people: "2.1 MB"."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} GB"


class _Pace:
    """How long one body may take: in silence, at its rate, and in all."""

    def __init__(self, url: httpx.URL, *, floor: int, idle: float, deadline: float, clock: Callable[[], float]) -> None:
        self._url, self._floor, self._idle, self._clock = url, floor, idle, clock
        self._within, self._end = deadline, clock() + deadline
        self._waited, self._bytes = 0.0, 0  # in the current window; the caller's own time does not count

    async def next(self, chunks: AsyncIterator[bytes]) -> bytes:
        """The next chunk that is not empty; b"" at the end."""
        while True:
            before = self._clock()
            chunk = await self._chunk(chunks, self._end - before)
            if chunk is None:
                return b""
            self._count(len(chunk), self._clock() - before)
            if chunk:
                return chunk

    async def _chunk(self, chunks: AsyncIterator[bytes], left: float) -> bytes | None:
        if left <= 0:
            raise self._late()
        try:
            async with asyncio.timeout(min(self._idle, left)):
                return await anext(chunks, None)
        except TimeoutError:
            if left <= self._idle:
                raise self._late() from None
            raise FetchError(f"{_place(self._url)} sent nothing for {self._idle:,.4g} s.", Reason.TIMEOUT) from None
        except (httpx.HTTPError, OSError) as error:
            raise _broken(error, _place(self._url)) from error

    def _late(self) -> FetchError:
        return FetchError(f"{_place(self._url)} did not send everything within {self._within:,.4g} s.", Reason.TOO_SLOW)

    def _count(self, length: int, seconds: float) -> None:
        self._bytes += length
        self._waited += seconds
        if self._waited < RATE_WINDOW:
            return
        rate = self._bytes / self._waited
        if rate < self._floor:
            raise FetchError(
                f"{_place(self._url)} sends only {rate:,.0f} bytes a second, too slow to wait for.", Reason.TOO_SLOW
            )
        self._waited, self._bytes = 0.0, 0


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
        deadline = time.monotonic() + (CONNECT_TIMEOUT if timeout is None else timeout)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                found = await addresses.resolve(host, port, allow_private=self._allow_private, lookup=self._lookup)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("no answer from the name server") from error
        for position, ip in enumerate(found):
            # Each address has its share of the time that is left, so that a dead IPv6 route does not take all of it.
            share = max(0.05, deadline - time.monotonic()) / (len(found) - position)
            try:
                return await self._inner.connect_tcp(ip, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if position == len(found) - 1:
                    raise
        raise httpcore.ConnectError("no address")

    async def connect_unix_socket(
        self,
        path: str,  # noqa: ARG002 - httpcore's signature
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        raise BlockedAddress("A socket of this machine is never opened.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's own transport over a pool with the guarded backend, which its constructor has no argument for."""

    def __init__(self, backend: _GuardedBackend, *, connections: int) -> None:
        roots = _roots()
        super().__init__(verify=roots, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=roots,
            max_connections=connections,
            max_keepalive_connections=KEPT,
            keepalive_expiry=15.0,
            network_backend=backend,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, with its Location taken out of the client's sight: judging a hop is `open_url`'s business."""
        response = await super().handle_async_request(request)
        location = response.headers.pop("location", None)
        if location is not None:
            response.extensions["location"] = location
        return response


def _roots() -> ssl.SSLContext:
    """This machine's certificate authorities (SSL_CERT_FILE and SSL_CERT_DIR included) and certifi's."""
    return _roots_of(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=8)
def _roots_of(*_environment: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()  # reads the two variables itself
    context.load_verify_locations(cafile=certifi.where())
    return context


async def _answered(
    client: httpx.AsyncClient, url: str, headers: Mapping[str, str], max_hops: int, patience: float | None
) -> httpx.Response:
    """The first answer that is no redirect."""
    sent = {name: value for name, value in headers.items() if name.lower() not in _NEVER_SENT}
    target = _web_address(url)
    try:
        async with asyncio.timeout(patience):
            for _ in range(max_hops + 1):
                response = await _send(client, target, sent)
                location = _location(response)
                if location is None:
                    return response
                await response.aclose()
                target = _next_hop(response.url, location)
    except TimeoutError:
        raise FetchError(f"{_place(target)} did not answer within {patience:,.4g} s.", Reason.TIMEOUT) from None
    raise FetchError(f"{_place(url)} redirects more than {max_hops} times.", Reason.REDIRECTS, permanent=True)


async def _send(client: httpx.AsyncClient, target: httpx.URL, headers: Mapping[str, str]) -> httpx.Response:
    try:
        return await client.send(client.build_request("GET", target, headers=headers), stream=True)
    except BlockedAddress as error:
        raise FetchError(str(error), Reason.BLOCKED, permanent=True) from error
    except addresses.UnknownHost as error:
        raise FetchError(str(error), Reason.DNS, permanent=error.permanent) from error
    except (httpx.HTTPError, OSError) as error:
        raise _broken(error, _place(target)) from error


def _location(response: httpx.Response) -> str | None:
    """Where a redirect leads, as it says; None for any other answer."""
    found = response.extensions.get("location", response.headers.get("location"))
    return found if found and response.status_code in _REDIRECTS else None


def _next_hop(here: httpx.URL, location: str) -> httpx.URL:
    try:
        target = _web_address(urljoin(str(here), location.strip()))
    except ValueError as error:
        raise FetchError(
            f"{_place(here)} redirects to no address that can be opened.", Reason.BLOCKED, permanent=True
        ) from error
    if here.scheme == "https" and target.scheme == "http":
        raise FetchError(
            f"{_place(here)} redirects from https to http, which is not followed.", Reason.REDIRECTS, permanent=True
        )
    return target


def _web_address(url: str) -> httpx.URL:
    """`url` if it is one that may be asked for at all; its host is judged when it is connected to."""
    try:
        parts = urlsplit(url)
        target = httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:  # an IPv4 address in octal lands here as well
        raise FetchError(f"{_place(url)} is no address that can be opened.", Reason.BLOCKED, permanent=True) from error
    if target.scheme not in {"http", "https"} or not target.host:
        raise FetchError(
            f"{_place(url)} is no web address; only http:// and https:// are opened.", Reason.BLOCKED, permanent=True
        )
    if target.userinfo or parts.username or parts.password:
        raise FetchError(
            f"{_place(url)} carries a user name or password; use a link without one.", Reason.BLOCKED, permanent=True
        )
    return target.copy_with(fragment=None)


def _check_encoding(response: httpx.Response) -> None:
    labels = {label.strip().lower() for label in response.headers.get("content-encoding", "").split(",")}
    if not labels <= _UNENCODED:
        told = clean(", ".join(sorted(labels)), limit=40)
        raise FetchError(
            f"{_place(response.url)} sends its content compressed ({told}), though asked not to.", Reason.ENCODED
        )


async def _refusal(response: httpx.Response) -> FetchError:
    """What an answer that is no 2xx means; the first words of its body are kept."""
    status = response.status_code
    body = b""
    with suppress(httpx.HTTPError, OSError, FetchError):
        async with asyncio.timeout(_EXCERPT_SECONDS):
            _check_encoding(response)
            async for chunk in response.aiter_raw():
                body += chunk[:_EXCERPT_BYTES]
                if len(body) >= _EXCERPT_BYTES:
                    break
    return FetchError(
        f"{_place(response.url)} answered {status} ({_phrase(status)}).",
        Reason.HTTP,
        status=status,
        permanent=400 <= status < 500 and status not in _PASSING,
        retry_after=retry_after(response.headers, now=lambda: datetime.now(UTC)),
        excerpt=clean(body.decode("utf-8", "replace"), limit=200),
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "no known status"


def _broken(error: Exception, place: str) -> FetchError:
    """What a failure of the client library means."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            why = clean(getattr(cause, "verify_message", "") or cause.reason or "no details", limit=80)
            return FetchError(f"{place} has no trustworthy certificate ({why}); its https must be mended.", Reason.TLS)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return FetchError(f"{place} did not answer in time.", Reason.TIMEOUT)
    if isinstance(error, httpx.ConnectError):
        return FetchError(f"{place} could not be connected to.", Reason.CONNECT)
    return FetchError(f"{place} broke the connection off.", Reason.CUT)


def _place(url: str | httpx.URL) -> str:
    """An address for people: no signature, no password, not too long."""
    return clean(clean_url(str(url)), limit=200)
