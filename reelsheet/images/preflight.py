"""Every picture of a sheet is checked before anything is paid.

Each distinct address is asked once for its first bytes, hundreds at a time and few per host. Only what cannot work is
refused: nothing there (404, 410, no such host), no picture that the provider takes, or a place that is private. That it
could not be checked for another reason, or lies outside the trade's usual limits, is a warning.
"""

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import httpx

from reelsheet import file_types
from reelsheet.errors import ReelsheetError
from reelsheet.images.sniff import FIRST, Picture, cautions, is_cut, sniff
from reelsheet.outcomes import ErrorCode
from reelsheet.redaction import clean, clean_url
from reelsheet.storage import s3_client, s3_errors
from reelsheet.web import share_links
from reelsheet.web.addresses import Lookup, UnknownHost, system_lookup
from reelsheet.web.guarded_http import FetchError, Reason, declared_length, guarded_client, open_url, stream

PER_HOST: Final = 16  # requests at once
LONG_HEAD_BYTES: Final = 8 * FIRST  # where a JPEG's size in pixels may hide behind a long preamble
TIMEOUT_S: Final = 20.0  # for an answer, and again for its first bytes
PRESIGNED_FOR_S: Final = 24 * 3600  # the provider may fetch late
LINK_MARGIN_S: Final = 3600  # beyond the deadline
_LAST_FAILURE: Final = 6  # in a row, after which a host is left alone
_PAUSE_S: Final = 0.5  # before the one repetition
_LONGEST_PAUSE_S: Final = 5.0
_GONE: Final = frozenset({404, 410})
_NO_RANGES: Final = frozenset({400, 403, 405, 406, 412, 416, 501})  # some servers say so when a range is asked for
_WITH_CONTENT: Final = frozenset({200, 203, 206})
_UNREACHED: Final = frozenset({Reason.CONNECT, Reason.TIMEOUT, Reason.TLS, Reason.DNS, Reason.CUT})
_S3_ATTEMPTS: Final = 2
_S3_EMPTY: Final = frozenset({"InvalidRange", "416"})
_BUSY: Final = frozenset({429, 503})
_SHARING: Final = (
    ((".google.com", ".googleusercontent.com"), "in Google Drive, share the file with “Anyone with the link”"),
    ((".dropbox.com",), "in Dropbox, use “Copy link” of the file itself, open to anyone with the link"),
    (
        (".sharepoint.com", ".1drv.ms", ".live.com"),
        "OneDrive and SharePoint links open a page, so put the picture on a public web address",
    ),
)
_UNLIMITED: Final = 1 << 60

Progress = Callable[[int, int], None]  # checked so far, of how many
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """What one address holds. A refused one has `code` and `error`; `picture` is None where it could not be checked."""

    code: ErrorCode | None = None
    error: str = ""
    warnings: tuple[str, ...] = ()
    picture: Picture | None = None

    @property
    def is_refused(self) -> bool:
        return self.code is not None

    @property
    def fingerprint(self) -> str:
        """Of the picture's first bytes and length; "" where it could not be checked."""
        return self.picture.fingerprint if self.picture else ""


async def check_images(
    addresses: Iterable[str],
    *,
    allow_private: bool,
    concurrency: int = 64,
    on_progress: Progress | None = None,
    lookup: Lookup = system_lookup,
    sleep: Sleep = asyncio.sleep,
) -> dict[str, ImageCheck]:
    """Check each distinct address: http(s), a share link, or s3://bucket/key. Never raises for one of them."""
    checks: dict[str, ImageCheck] = {}
    hosts = _by_host(addresses)
    total = sum(len(host.waiting) for host in hosts)
    gate = asyncio.Semaphore(concurrency)
    async with guarded_client(
        allow_private=allow_private, connections=concurrency, timeout_s=10.0, lookup=lookup
    ) as client:

        async def work_through(host: _Host) -> None:
            while host.waiting:
                address = host.waiting.popleft()
                checks[address] = await _check(host, address, client, gate, sleep)
                if on_progress is not None:
                    on_progress(len(checks), total)

        async with asyncio.TaskGroup() as tasks:
            for host in hosts:
                for _ in range(min(PER_HOST, len(host.waiting))):
                    tasks.create_task(work_through(host))
    return checks


async def provider_address(address: str, seconds: float = PRESIGNED_FOR_S) -> str:
    """What the provider is asked to fetch: share links made direct, s3:// signed for `seconds`. Never to be kept."""
    if not _is_s3(address):
        return share_links.direct(address)
    return await asyncio.to_thread(_presigned, address, seconds)


def presigned_for_s(deadline_s: float) -> float:
    """How long a link to a picture lasts in a run with this deadline for a prediction."""
    return max(PRESIGNED_FOR_S, deadline_s + LINK_MARGIN_S)


def _presigned(address: str, seconds: float) -> str:
    bucket, key = _bucket_and_key(address)
    return s3_client.presign_get(bucket, key, seconds).url


@dataclass(slots=True)
class _Host:
    """The addresses of one host that are still to be checked, and how it behaved."""

    name: str
    waiting: deque[str] = field(default_factory=deque)
    failures: int = 0  # in a row
    missing: FetchError | None = None  # there is no such host


def _by_host(addresses: Iterable[str]) -> list[_Host]:
    hosts: dict[str, _Host] = {}
    for address in dict.fromkeys(addresses):
        name = "s3" if _is_s3(address) else _host(address)
        hosts.setdefault(name, _Host(name)).waiting.append(address)
    return list(hosts.values())


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True)
class _Head:
    """The first bytes of a file, its length in bytes where known, and the host that sent them after redirects."""

    content: bytes
    total_bytes: int | None
    host: str
    is_complete: bool  # `content` is all there is


async def _check(
    host: _Host, address: str, client: httpx.AsyncClient, gate: asyncio.Semaphore, sleep: Sleep
) -> ImageCheck:
    if host.missing is not None:
        return _check_of_error(address, host.missing)
    async with gate:
        if host.failures >= _LAST_FAILURE:
            return _unchecked(f"{host.name} failed {host.failures} times in a row")
        try:
            head = await _head(
                partial(_s3_head, address) if _is_s3(address) else partial(_web_head, address, client, sleep)
            )
        except FetchError as error:
            _note_failure(host, error)
            return _check_of_error(address, error)
        except (ReelsheetError, OSError, ValueError) as error:  # one odd address must not end the check of all others
            return _unchecked(str(error))
    host.failures = 0
    return _check_of_head(address, head)


def _note_failure(host: _Host, error: FetchError) -> None:
    """Remember what concerns the whole host."""
    cause = error.__cause__
    if isinstance(cause, UnknownHost) and cause.permanent and cause.host == host.name:  # not a redirect's host
        host.missing = error
    host.failures = host.failures + 1 if error.reason in _UNREACHED or error.status in _BUSY else 0


def _check_of_error(address: str, error: FetchError) -> ImageCheck:
    if error.reason is Reason.HTTP and error.status in _GONE:
        gone = f"There is no picture at {_place(address)} (answered {error.status}); correct the link or put it back."
        return ImageCheck(ErrorCode.IMAGE_UNREACHABLE, clean(gone))
    if error.reason is Reason.BLOCKED or (error.reason is Reason.DNS and error.permanent):
        return ImageCheck(ErrorCode.IMAGE_UNREACHABLE, clean(f"The picture cannot be fetched: {error}"))
    return _unchecked(str(error))


def _check_of_head(address: str, head: _Head) -> ImageCheck:
    picture = sniff(head.content, total=len(head.content) if head.is_complete else head.total_bytes)
    if picture.kind == "other":
        return ImageCheck(ErrorCode.IMAGE_UNSUPPORTED, clean(_unsupported(address, head, picture.looks_like)))
    if is_cut(head.content, picture.bytes_total, is_complete=head.is_complete):
        cut = f"The picture at {_place(address)} is cut off: its file ends too early. Put the complete file there."
        return ImageCheck(ErrorCode.IMAGE_UNSUPPORTED, clean(cut))
    return ImageCheck(warnings=cautions(picture), picture=picture)


def _unchecked(reason: str) -> ImageCheck:
    reason = clean(reason, limit=200).rstrip(".")
    return ImageCheck(warnings=(f"The picture could not be checked ({reason}); the provider may still reach it.",))


def _unsupported(address: str, head: _Head, looks_like: str) -> str:
    place = _place(address)
    if looks_like == file_types.WEB_PAGE:
        return f"{place} is a web page, perhaps a sign-in page, not a picture; {_sharing(address, head.host)}."
    if looks_like == file_types.EMPTY:
        return f"{place} is an empty file; put the picture there again."
    if looks_like in file_types.TEXTS:
        return f"{place} is {looks_like}, not a picture; use the address of the picture itself."
    return f"{place} is {looks_like}, which the provider does not take; save it as JPEG or PNG."


def _sharing(address: str, host: str) -> str:
    for domains, advice in _SHARING:
        if any(f".{name}".endswith(domains) for name in (_host(address), host)):
            return advice
    return "use the address that shows the picture alone in a private browser window"


async def _head(first_bytes: Callable[[int], Awaitable[_Head]]) -> _Head:
    """As much as tells the picture's kind and, where possible, its size in pixels."""
    head = await first_bytes(FIRST)
    picture = sniff(head.content)
    if picture.kind == "jpeg" and picture.width is None and not head.is_complete:
        with suppress(FetchError):
            longer = await first_bytes(LONG_HEAD_BYTES)
            return longer if longer.content.startswith(head.content) else head
    return head


async def _web_head(address: str, client: httpx.AsyncClient, sleep: Sleep, count: int) -> _Head:
    """The first `count` bytes of a picture on the web, asked for twice at most."""
    url = share_links.direct(address)
    try:
        return await _first_bytes(client, url, count)
    except FetchError as error:
        if error.permanent and error.status not in _NO_RANGES:
            raise
        await sleep(min(error.retry_after or _PAUSE_S, _LONGEST_PAUSE_S))
        return await _first_bytes(client, url, count, ranged=error.reason is not Reason.HTTP)


async def _first_bytes(client: httpx.AsyncClient, url: str, count: int, *, ranged: bool = True) -> _Head:
    """At most `count` bytes and a chunk more; a server that knows no ranges is not read any further."""
    headers = {"range": f"bytes=0-{count - 1}"} if ranged else {}
    async with open_url(client, url, headers=headers, timeout_s=TIMEOUT_S) as response:
        status = response.status_code
        if status not in _WITH_CONTENT:
            raise FetchError(f"{_place(url)} answered {status}.", Reason.HTTP, status=status)
        content, ended = bytearray(), False
        chunks = stream(response, limit_bytes=_UNLIMITED, min_bytes_per_s=0, deadline_s=TIMEOUT_S)
        async with aclosing(chunks):
            async for chunk in chunks:
                content += chunk
                if len(content) >= count:
                    break
            else:
                ended = True
        total = _total_bytes(response)
        is_complete = ended and (status != httpx.codes.PARTIAL_CONTENT or total == len(content))
        return _Head(bytes(content[:count]), total, response.url.host, is_complete)


def _total_bytes(response: httpx.Response) -> int | None:
    """The length of the complete file."""
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return declared_length(response)
    match = re.fullmatch(r"bytes 0-\d+/(\d{1,15})", response.headers.get("content-range", "").strip())
    return int(match[1]) if match else None


async def _s3_head(address: str, count: int) -> _Head:
    return await asyncio.to_thread(_s3_first_bytes, address, count)


def _s3_first_bytes(address: str, count: int) -> _Head:
    """The first bytes of an object. Raises FetchError with the status that S3 would answer."""
    bucket, key = _bucket_and_key(address)
    try:
        response = s3_client.client(attempts=_S3_ATTEMPTS).get_object(
            Bucket=bucket, Key=key, Range=f"bytes=0-{count - 1}"
        )
        content = response["Body"].read()
    except s3_errors.failures() as error:
        code = s3_errors.code_of(error)
        if code in _S3_EMPTY:
            return _Head(b"", 0, "s3", is_complete=True)
        message = s3_errors.explain(error, "s3:GetObject", bucket, key)
        if s3_errors.is_missing(error) or code == "NoSuchBucket":
            raise FetchError(message, Reason.HTTP, status=404, permanent=True) from error
        raise FetchError(message, Reason.CONNECT if s3_errors.is_connection(error) else Reason.HTTP) from error
    length = response.get("ContentRange", "").rpartition("/")[2]
    total = int(length) if length.isascii() and length.isdigit() else response.get("ContentLength")
    return _Head(content, total, "s3", is_complete=total == len(content))


def _is_s3(address: str) -> bool:
    return address[:5].lower() == "s3://"


def _bucket_and_key(address: str) -> tuple[str, str]:
    bucket, _, key = address[5:].partition("/")
    if not bucket or not key:
        raise FetchError(f"{_place(address)} names no object; write s3://bucket/key.", Reason.BLOCKED, permanent=True)
    return bucket, key


def _place(address: str) -> str:
    return clean(clean_url(address), limit=160)
