"""A look at every picture of a sheet before anything is paid.

Each distinct address is asked once for its first bytes, hundreds at a time and few per host. Only what cannot work is
refused: nothing there (404, 410, no such host), no picture that the provider takes, or a place that is private. That it
could not be looked at for another reason, or lies outside the trade's usual limits, is a warning.
"""

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal
from urllib.parse import urlsplit

import httpx

from reelsheet import file_types
from reelsheet.errors import ReelsheetError
from reelsheet.images.sniff import FIRST, Picture, cautions, sniff
from reelsheet.outcomes import ErrorCode
from reelsheet.redaction import clean, clean_url
from reelsheet.storage import s3_client
from reelsheet.web import share_links
from reelsheet.web.addresses import Lookup, UnknownHost, system_lookup
from reelsheet.web.guarded_http import FetchError, Reason, declared_length, guarded_client, open_url, stream

PER_HOST: Final = 16
FURTHER: Final = 8 * FIRST  # where a JPEG's dimensions may hide behind a long preamble
PATIENCE: Final = 20.0  # seconds for an answer, and again for its first bytes
PRESIGNED_FOR: Final = 24 * 3600  # seconds; the provider may fetch late
_GIVE_UP_AFTER: Final = 6  # failures in a row, after which a host is left alone
_PAUSE: Final = 0.5  # seconds before the one repetition
_LONGEST_PAUSE: Final = 5.0
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

Progress = Callable[[int, int], None]  # looked at so far, of how many
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """What one address holds. `fingerprint` is empty where the picture could not be looked at."""

    address: str
    verdict: Literal["ok", "refused"] = "ok"
    code: ErrorCode | None = None
    error: str = ""
    warnings: tuple[str, ...] = ()
    picture: Picture | None = None
    fingerprint: str = ""


async def look(
    addresses: Iterable[str],
    *,
    allow_private: bool,
    concurrency: int = 64,
    on_progress: Progress | None = None,
    lookup: Lookup = system_lookup,
    sleep: Sleep = asyncio.sleep,
) -> dict[str, ImageCheck]:
    """Look at each distinct address: http(s), a share link, or s3://bucket/key. Never raises for one of them."""
    found: dict[str, ImageCheck] = {}
    hosts = _by_host(addresses)
    total = sum(len(host.waiting) for host in hosts)
    gate = asyncio.Semaphore(concurrency)
    async with guarded_client(
        allow_private=allow_private, connections=concurrency, timeout_s=10.0, lookup=lookup
    ) as web:

        async def group(host: _Host) -> None:
            while host.waiting:
                address = host.waiting.popleft()
                found[address] = await _looked(host, address, web, gate, sleep)
                if on_progress is not None:
                    on_progress(len(found), total)

        async with asyncio.TaskGroup() as batch:
            for host in hosts:
                for _ in range(min(PER_HOST, len(host.waiting))):
                    batch.create_task(group(host))
    return found


async def provider_address(address: str) -> str:
    """What the provider is asked to fetch: share links made direct, s3:// signed for a day. Never to be kept."""
    if not _is_s3(address):
        return share_links.direct(address)
    return await asyncio.to_thread(_presigned, address)


def _presigned(address: str) -> str:
    bucket, key = _bucket_and_key(address)
    signed: str = s3_client.client(s3_client.region_of(bucket)).generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=PRESIGNED_FOR
    )
    return signed


@dataclass(slots=True)
class _Host:
    """The addresses of one host that are still to be looked at, and how it behaved."""

    name: str
    waiting: deque[str] = field(default_factory=deque)
    misses: int = 0  # in a row
    gone: FetchError | None = None  # there is no such host


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
    """The first bytes of a file, its whole length where known, and who sent them in the end."""

    content: bytes
    total: int | None
    host: str
    whole: bool  # `content` is all there is


async def _looked(
    host: _Host, address: str, web: httpx.AsyncClient, gate: asyncio.Semaphore, sleep: Sleep
) -> ImageCheck:
    if host.gone is not None:
        return _unfetched(address, host.gone)
    async with gate:
        if host.misses >= _GIVE_UP_AFTER:
            return _not_looked_at(address, f"{host.name} failed {host.misses} times in a row")
        try:
            head = await _head(
                partial(_s3_head, address) if _is_s3(address) else partial(_web_head, address, web, sleep)
            )
        except FetchError as error:
            _note(host, error)
            return _unfetched(address, error)
        except (ReelsheetError, OSError, ValueError) as error:  # one odd address must not end the look at all others
            return _not_looked_at(address, str(error))
    host.misses = 0
    return _judged(address, head)


def _note(host: _Host, error: FetchError) -> None:
    """Remember what concerns the whole host."""
    cause = error.__cause__
    if isinstance(cause, UnknownHost) and cause.permanent and cause.host == host.name:  # not a redirect's host
        host.gone = error
    if error.reason in _UNREACHED or error.status in _BUSY:
        host.misses += 1
    else:
        host.misses = 0


def _unfetched(address: str, error: FetchError) -> ImageCheck:
    """The verdict on a picture that did not come."""
    if error.reason is Reason.HTTP and error.status in _GONE:
        return _refused(
            address,
            ErrorCode.IMAGE_UNREACHABLE,
            f"There is no picture at {_place(address)} (answered {error.status}); correct the link or put it back.",
        )
    if error.reason is Reason.BLOCKED or (error.reason is Reason.DNS and error.permanent):
        return _refused(address, ErrorCode.IMAGE_UNREACHABLE, f"The picture cannot be fetched: {error}")
    return _not_looked_at(address, str(error))


def _judged(address: str, head: _Head) -> ImageCheck:
    picture = sniff(head.content, total=len(head.content) if head.whole else head.total)
    if picture.kind == "other":
        return _refused(address, ErrorCode.IMAGE_UNSUPPORTED, _unsupported(address, head, picture.looks_like))
    return ImageCheck(address, warnings=cautions(picture), picture=picture, fingerprint=picture.fingerprint)


def _unsupported(address: str, head: _Head, looks_like: str) -> str:
    place = _place(address)
    if looks_like == file_types.WEB_PAGE:
        return f"{place} is a web page, perhaps a sign-in page, not a picture; {_sharing(address, head.host)}."
    if looks_like == file_types.EMPTY:
        return f"{place} is an empty file; put the picture there again."
    return f"{place} is {looks_like}, which the provider does not take; save it as JPEG or PNG."


def _sharing(address: str, host: str) -> str:
    for domains, told in _SHARING:
        if any(f".{name}".endswith(domains) for name in (_host(address), host)):
            return told
    return "use the address that shows the picture alone in a private browser window"


def _refused(address: str, code: ErrorCode, error: str) -> ImageCheck:
    return ImageCheck(address, "refused", code, clean(error))


def _not_looked_at(address: str, why: str) -> ImageCheck:
    told = clean(why, limit=200).rstrip(".")
    return ImageCheck(
        address, warnings=(f"The picture could not be looked at ({told}); the provider may still reach it.",)
    )


async def _head(first_bytes: Callable[[int], Awaitable[_Head]]) -> _Head:
    """As much as tells the picture's kind and, where that is to be had, its dimensions."""
    head = await first_bytes(FIRST)
    picture = sniff(head.content)
    if picture.kind == "jpeg" and picture.width is None and not head.whole:
        with suppress(FetchError):
            longer = await first_bytes(FURTHER)
            return longer if longer.content.startswith(head.content) else head
    return head


async def _web_head(address: str, web: httpx.AsyncClient, sleep: Sleep, count: int) -> _Head:
    """The first `count` bytes of a picture on the web, asked for twice at most."""
    url = share_links.direct(address)
    try:
        return await _first_bytes(web, url, count)
    except FetchError as error:
        if error.permanent and error.status not in _NO_RANGES:
            raise
        await sleep(min(error.retry_after or _PAUSE, _LONGEST_PAUSE))
        return await _first_bytes(web, url, count, ranged=error.reason is not Reason.HTTP)


async def _first_bytes(web: httpx.AsyncClient, url: str, count: int, *, ranged: bool = True) -> _Head:
    """At most `count` bytes and a chunk more; a server that knows no ranges is not read any further."""
    headers = {"range": f"bytes=0-{count - 1}"} if ranged else {}
    async with open_url(web, url, headers=headers, timeout_s=PATIENCE) as response:
        if response.status_code not in _WITH_CONTENT:
            raise FetchError(
                f"{_place(url)} answered {response.status_code}.", Reason.HTTP, status=response.status_code
            )
        content, ended = bytearray(), False
        async with aclosing(stream(response, limit_bytes=_UNLIMITED, min_bytes_per_s=0, deadline_s=PATIENCE)) as chunks:
            async for chunk in chunks:
                content += chunk
                if len(content) >= count:
                    break
            else:
                ended = True
        total = _total(response)
        whole = ended and (response.status_code != httpx.codes.PARTIAL_CONTENT or total == len(content))
        return _Head(bytes(content[:count]), total, response.url.host, whole)


def _total(response: httpx.Response) -> int | None:
    """The whole file's length, in bytes."""
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return declared_length(response)
    found = re.fullmatch(r"bytes 0-\d+/(\d{1,15})", response.headers.get("content-range", "").strip())
    return int(found[1]) if found else None


async def _s3_head(address: str, count: int) -> _Head:
    return await asyncio.to_thread(_s3_first_bytes, address, count)


def _s3_first_bytes(address: str, count: int) -> _Head:
    """The first bytes of an object. Raises FetchError with the status that S3 would answer."""
    bucket, key = _bucket_and_key(address)
    try:
        answer = s3_client.client(attempts=_S3_ATTEMPTS).get_object(
            Bucket=bucket, Key=key, Range=f"bytes=0-{count - 1}"
        )
        content = answer["Body"].read()
    except s3_client.failures() as error:
        code = s3_client.code_of(error)
        if code in _S3_EMPTY:
            return _Head(b"", 0, "s3", whole=True)
        gone = s3_client.is_missing(error) or code == "NoSuchBucket"
        told = s3_client.explain(error, "s3:GetObject", bucket, key)
        if gone:
            raise FetchError(told, Reason.HTTP, status=404, permanent=True) from error
        raise FetchError(told, Reason.CONNECT if s3_client.is_connection(error) else Reason.HTTP) from error
    total = _length(answer.get("ContentRange", ""), answer.get("ContentLength"))
    return _Head(content, total, "s3", whole=total == len(content))


def _length(content_range: str, content_length: int | None) -> int | None:
    told = content_range.rpartition("/")[2]
    return int(told) if told.isascii() and told.isdigit() else content_length


def _is_s3(address: str) -> bool:
    return address[:5].lower() == "s3://"


def _bucket_and_key(address: str) -> tuple[str, str]:
    bucket, _, key = address[5:].partition("/")
    if not bucket or not key:
        raise FetchError(f"{_place(address)} names no object; write s3://bucket/key.", Reason.BLOCKED, permanent=True)
    return bucket, key


def _place(address: str) -> str:
    return clean(clean_url(address), limit=160)
