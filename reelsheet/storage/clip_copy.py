"""A finished clip's way from the provider's asset host into the destination: streamed, checked, proven.

No byte is trusted: they are counted, checked as an MP4 while they pass, hashed, and stored; the object becomes visible
only when all of that agrees. Copying costs nothing, so everything that may pass is tried again.

Memory: callers hold a `copy_slot`, so at most COPIES_AT_ONCE clips are under way in one process. Each holds one part
and a batch as they came (12 MiB), the part in one piece while it is sent (8 MiB), and an index (8 MiB at most):
12 x 28 = 336 MiB at worst; with usual clips, twice their size.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import httpx

from reelsheet.errors import BlockedAddress
from reelsheet.outcomes import ErrorCode
from reelsheet.redaction import clean, clean_url
from reelsheet.storage import mp4
from reelsheet.storage.destination import Destination, Upload, conflict
from reelsheet.storage.errors import ObjectCorrupted, ObjectExists, ObjectMissing, StorageError
from reelsheet.storage.stored_object import Content, StoredObject, measure
from reelsheet.web import guarded_http

COPIES_AT_ONCE: Final = 12  # in one process, over all its runs and shards
LIMIT_BYTES: Final = 2 * 2**30  # of one clip
DEADLINE_S: Final = 1800.0  # for one try of one clip
LONGEST_PAUSE_S: Final = 60.0  # between two tries

_BATCH_BYTES: Final = 2**22  # handed to a thread at once, which costs as much as a megabyte's checksum
_EXCERPT: Final = 200  # characters that are quoted of a page
_PAGE_DEADLINE_S: Final = 30.0
_PAGES: Final = ("text/", "application/json", "application/xml", "application/xhtml", "application/problem")
_STALE_LINK: Final = frozenset((401, 403, 404, 410))
_SLOTS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that is stored completely. `duration_s` is None where the file does not say."""

    uri: str
    key: str
    bytes: int
    sha256: str
    width: int
    height: int
    duration_s: float | None


class ClipError(Exception):
    """Why the clip was not copied. `systemic`: every row will meet this. `expired`: a fresh link may help.

    For `copy` itself: `transient`, another try may help, after `pause_s` seconds if the server said so; `corrupt`, what
    came where it was no complete clip.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        systemic: bool = False,
        expired: bool = False,
        transient: bool = False,
        pause_s: float | None = None,
        corrupt: Content | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.systemic = systemic
        self.expired = expired
        self.transient = transient
        self.pause_s = pause_s
        self.corrupt = corrupt


async def copy(
    url: str,
    destination: Destination,
    key: str,
    *,
    client: httpx.AsyncClient,
    metadata: Mapping[str, str],
    limit_bytes: int = LIMIT_BYTES,
    attempts: int = 5,
    deadline_s: float = DEADLINE_S,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Clip:
    """Store the clip at `url` under `key`; one that is there already is checked and kept. Raises ClipError.

    `metadata` (identity, attempt, prediction-id, cost-cents, run-id) goes onto the object and proves whose it is.
    An expired link is not tried again: the caller asks the provider for a fresh one.
    """
    job = _Job(url, destination, key, client, dict(metadata), limit_bytes, deadline_s)
    for number in range(1, attempts + 1):
        try:
            return await job.attempt()
        except ClipError as error:
            if not error.transient or number == attempts or job.is_hopeless(error):
                raise
            pause_s = random.uniform(0, 2.0**number) if error.pause_s is None else error.pause_s  # noqa: S311 - jitter
        await sleep(min(pause_s, LONGEST_PAUSE_S))
    raise ValueError("at least one attempt is needed")


@asynccontextmanager
async def copy_slot() -> AsyncIterator[None]:
    """One of the COPIES_AT_ONCE places; hold it while copying one row's clips."""
    # each event loop has its own semaphore, since a semaphore belongs to one
    async with _SLOTS.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(COPIES_AT_ONCE)):
        yield


def inspect(destination: Destination, key: str) -> Clip:
    """A clip that is stored already, read in full and checked. Blocks. Raises StorageError, mp4.Mp4Error."""
    walk, digest = mp4.BoxWalk(), hashlib.sha256()
    for chunk in destination.chunks(key):
        walk.feed(chunk)
        digest.update(chunk)
    return _clip(destination, key, walk.finish(), Content(walk.bytes_fed, digest.hexdigest()))


@dataclass(slots=True)
class _Job:
    """One clip's copying, over several tries."""

    url: str
    destination: Destination
    key: str
    client: httpx.AsyncClient
    metadata: dict[str, str]
    limit_bytes: int
    deadline_s: float
    corrupt: set[Content] = field(default_factory=set)  # what came so far
    key_exists: bool = False
    stored_corrupted: bool = False  # by this job: what lies there is not taken for the clip

    async def attempt(self) -> Clip:
        """One try. Raises ClipError."""
        try:
            if self.destination.refuses_overwrite and not self.key_exists:
                try:
                    return await self._fetch(new=True)
                except ObjectExists:
                    self.key_exists = True
            return await self._keep_or_fetch()
        except guarded_http.FetchError as error:
            raise self._explain_fetch(error) from error
        except BlockedAddress as error:
            raise ClipError(ErrorCode.ASSET_UNAVAILABLE, f"The clip is not fetched: {error}") from error
        except StorageError as error:
            self.stored_corrupted |= isinstance(error, ObjectCorrupted)
            raise ClipError(
                ErrorCode.STORAGE,
                f"The clip is ready, but could not be stored: {error}",
                # what outlives every try is no passing trouble of one clip
                systemic=error.systemic or (error.transient and not isinstance(error, ObjectMissing)),
                transient=error.transient,
            ) from error

    def is_hopeless(self, error: ClipError) -> bool:
        """The same corrupt bytes came twice: that is the file, not the network."""
        if error.corrupt is None:
            return False
        known = error.corrupt in self.corrupt
        self.corrupt.add(error.corrupt)
        return known

    async def _keep_or_fetch(self) -> Clip:
        stored = await in_thread(self.destination.stat, self.key)
        if stored is None:
            return await self._fetch()
        is_ours = stored.belongs_to(self.metadata)
        if is_ours is False:
            raise conflict(self.destination, self.key)
        if is_ours and not self.stored_corrupted and (clip := await in_thread(self._keep, stored)):
            return clip
        return await self._fetch(compare=is_ours is None)

    def _keep(self, stored: StoredObject) -> Clip | None:
        """Our own clip that is there; None where it is not complete after all."""
        try:
            clip = inspect(self.destination, self.key)
        except mp4.Mp4Error:
            return None
        return clip if stored.metadata.get("sha256", clip.sha256) == clip.sha256 else None

    async def _fetch(self, *, new: bool = False, compare: bool = False) -> Clip:
        """From the provider into the destination. `compare`: with an object there that does not say whose it is."""
        async with guarded_http.open_url(self.client, self.url) as response:
            await self._refuse_pages(response)
            upload = None
            if not compare:
                upload = self.destination.open_upload(self.key, "video/mp4", self.metadata, new=new)
            is_stored = False
            try:
                film, content, rest = await self._stream(response, upload)
                chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
                framed = chunked or guarded_http.declared_length(response) == content.size_bytes
                if not (film.length_proven or framed):
                    await self._fetch_again(content)
                if upload is not None:
                    await in_thread(_complete, upload, rest, content.sha256)
                elif await in_thread(lambda: measure(self.destination.chunks(self.key))) != content:
                    raise conflict(self.destination, self.key)
                is_stored = True
                return _clip(self.destination, self.key, film, content)
            finally:
                if upload is not None and not is_stored:
                    # also when cancelled: nothing incomplete stays, and a `complete` that is under way is waited for
                    await asyncio.shield(in_thread(upload.abort))

    async def _stream(self, response: httpx.Response, upload: Upload | None) -> tuple[mp4.Mp4, Content, list[bytes]]:
        """The film, all that came, and the end of it, which is still to be uploaded."""
        walk, digest = mp4.BoxWalk(), hashlib.sha256()
        batch: list[bytes] = []
        batch_bytes = 0
        try:
            async with aclosing(self._chunks(response)) as chunks:
                async for chunk in chunks:
                    digest.update(chunk)
                    walk.feed(chunk)
                    batch.append(chunk)
                    batch_bytes += len(chunk)
                    if batch_bytes >= _BATCH_BYTES:
                        if upload is not None:
                            await in_thread(upload.part, *batch)
                        batch, batch_bytes = [], 0
            film = walk.finish()
        except mp4.NotMp4 as error:
            raise self._explain_kind(error) from error
        except mp4.CorruptMp4 as error:
            raise ClipError(
                ErrorCode.ASSET_CORRUPT,
                f"The clip that came cannot be used: {error}",
                expired=True,
                transient=True,
                corrupt=Content(walk.bytes_fed, digest.hexdigest()),
            ) from error
        return film, Content(walk.bytes_fed, digest.hexdigest()), batch

    async def _fetch_again(self, first: Content) -> None:
        """Where neither file nor server says how long it is, two equal downloads prove it."""
        async with guarded_http.open_url(self.client, self.url) as response:
            _, second, _ = await self._stream(response, None)
        if second != first:
            raise ClipError(
                ErrorCode.ASSET_CORRUPT,
                f"The clip came with {first.size_bytes:,} bytes once and {second.size_bytes:,} bytes again, and "
                "nothing says which is right; repeat the command, at no cost.",
                transient=True,
            )

    async def _refuse_pages(self, response: httpx.Response) -> None:
        """A page or message in place of the clip: what hosts send for an expired link, often with a 200."""
        if response.status_code != 200:
            raise ClipError(
                ErrorCode.ASSET_UNAVAILABLE,
                f"{self._place} answered {response.status_code} instead of sending the clip; repeat the command, "
                "at no cost.",
                transient=True,
            )
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not kind.startswith(_PAGES) and not kind.endswith(("+json", "+xml")):
            return
        start = bytearray()
        async with aclosing(self._chunks(response, deadline_s=_PAGE_DEADLINE_S)) as chunks:
            async for chunk in chunks:
                start += chunk[:4096]
                if len(start) >= _EXCERPT:
                    break
        excerpt = clean(start[: 4 * _EXCERPT].decode("utf-8", "replace"), limit=_EXCERPT)
        raise ClipError(
            ErrorCode.ASSET_UNAVAILABLE,
            f"{self._place} sent {clean(kind, limit=40)} instead of a clip; "
            f"its link may have expired. It says: {excerpt}",
            expired=True,
        )

    def _chunks(self, response: httpx.Response, *, deadline_s: float | None = None) -> AsyncGenerator[bytes, None]:
        return guarded_http.stream(response, limit_bytes=self.limit_bytes, deadline_s=deadline_s or self.deadline_s)

    def _explain_kind(self, error: mp4.NotMp4) -> ClipError:
        if error.is_message:
            message = f"{self._place} sent {error.kind} instead of a clip; its link may have expired."
            return ClipError(ErrorCode.ASSET_UNAVAILABLE, message, expired=True)
        message = f"{self._place} sent {error.kind}, not an MP4 video; ask the provider for the clip in MP4."
        return ClipError(ErrorCode.ASSET_CORRUPT, message)

    def _explain_fetch(self, error: guarded_http.FetchError) -> ClipError:
        expired = error.status in _STALE_LINK
        return ClipError(
            ErrorCode.ASSET_UNAVAILABLE,
            f"The clip could not be fetched: {error}"
            + (" Its link has expired." if expired else "")
            + ("" if error.permanent and not expired else " Repeat the command, at no cost."),
            expired=expired,
            transient=not error.permanent,
            pause_s=error.retry_after,
        )

    @property
    def _place(self) -> str:
        return clean(clean_url(self.url), limit=200)


def _clip(destination: Destination, key: str, film: mp4.Mp4, content: Content) -> Clip:
    return Clip(destination.uri(key), key, content.size_bytes, content.sha256, film.width, film.height, film.duration_s)


def _complete(upload: Upload, rest: list[bytes], sha256: str) -> None:
    """The last bytes and the end in one go: most clips are small, and threads are not free."""
    upload.part(*rest)
    upload.complete(sha256)


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`call` in one of the threads that talk to storage."""
    return await asyncio.get_running_loop().run_in_executor(_pool(), partial(call, *args, **kwargs))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(COPIES_AT_ONCE + 4, thread_name_prefix="reelsheet-storage")  # some to clean up
