"""A finished clip's way from the provider's asset host into the destination: streamed, checked, proven.

Nothing is believed: the bytes are counted, walked as an MP4 while they pass, hashed, stored under bounded memory, and
become visible only when all of that agrees. Copying costs nothing, so everything passing is tried again.

Memory: callers hold a `copy_slot`, so at most COPIES_AT_ONCE clips are under way in one process. Each holds one part
(8 MiB), an index (8 MiB at most) and what boto3 makes of the part while it is sent (16 MiB): 12 x 32 = 384 MiB at
worst, a tenth of it with usual clips.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
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
from reelsheet.storage.destination import (
    Destination,
    StorageConflict,
    StorageError,
    StorageMissing,
    StorageSpoiled,
    StorageTaken,
    Stored,
    Upload,
    conflict,
    same_content,
)
from reelsheet.web import guarded_http

LIMIT: Final = 2 * 2**30  # bytes of one clip
DEADLINE: Final = 1800.0  # seconds for one try of one clip
COPIES_AT_ONCE: Final = 12  # in one process, over all its runs and shards
CONTENT_TYPE: Final = "video/mp4"

_BATCH: Final = 2**20  # bytes handed to a thread at once
_EXCERPT: Final = 200
_BACKOFF: Final = 60.0  # seconds, the longest pause
_PAGES: Final = ("text/", "application/json", "application/xml", "application/xhtml", "application/problem")
_STALE_LINK: Final = frozenset((401, 403, 404, 410))
_SLOTS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that is stored whole. `duration_s` in seconds, None where the file does not say."""

    uri: str
    key: str
    bytes: int
    sha256: str
    width: int
    height: int
    duration_s: float | None
    warnings: tuple[str, ...] = ()


class ClipError(Exception):
    """A sentence. `again`: trying later may help; `expired`: a fresh link may help; `systemic`: every row has it."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        again: bool = True,
        systemic: bool = False,
        expired: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.again = again
        self.systemic = systemic
        self.expired = expired

    @property
    def permanent(self) -> bool:
        return not self.again


async def copy(
    url: str,
    destination: Destination,
    key: str,
    *,
    client: httpx.AsyncClient,
    metadata: Mapping[str, str],
    limit: int = LIMIT,
    attempts: int = 5,
    deadline: float = DEADLINE,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Clip:
    """The clip at `url`, stored under `key`; one that is there already is checked and taken. Raises ClipError.

    `metadata` (identity, attempt, prediction-id, cost-cents, run-id) goes onto the object and proves whose it is.
    A link that has expired is told at once: the caller asks the provider for a fresh one.
    """
    job = _Job(url, destination, key, client, dict(metadata), limit, deadline, clock)
    for number in range(1, attempts + 1):
        try:
            return await job.once()
        except _Again as passing:
            if number == attempts or job.hopeless(passing):
                raise passing.final from passing
            pause = passing.pause if passing.pause is not None else random.uniform(0, 2.0**number)  # noqa: S311 - jitter
        await sleep(min(pause, _BACKOFF))
    raise ValueError("at least one attempt is needed")


@asynccontextmanager
async def copy_slot() -> AsyncIterator[None]:
    """One of the COPIES_AT_ONCE places; hold it while copying one row's clips."""
    # each event loop has its own semaphore, since a semaphore belongs to one
    async with _SLOTS.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(COPIES_AT_ONCE)):
        yield


async def inspect(destination: Destination, key: str) -> Clip:
    """A clip that is stored already, read back in full and proven. Raises StorageError, mp4.Mp4Error."""
    film, sha256, size = await in_thread(_walked, destination, key)
    return Clip(destination.uri(key), key, size, sha256, film.width, film.height, film.duration_s)


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`call` in one of the threads that talk to storage."""
    return await asyncio.get_running_loop().run_in_executor(_pool(), partial(call, *args, **kwargs))


class _Again(Exception):
    """Worth another try; `final` is what is raised when tries have run out."""

    def __init__(self, final: ClipError, *, pause: float | None = None, seen: tuple[int, str] | None = None) -> None:
        super().__init__(str(final))
        self.final = final
        self.pause = pause
        self.seen = seen  # length and digest of a body that came, and was corrupt


@dataclass(frozen=True, slots=True)
class _Body:
    """What came."""

    size: int
    sha256: str
    film: mp4.Mp4
    framed: bool  # its end was told by the protocol, not only by the end of the connection


@dataclass(slots=True)
class _Job:
    """One clip's copying, over several tries."""

    url: str
    destination: Destination
    key: str
    client: httpx.AsyncClient
    metadata: dict[str, str]
    limit: int
    deadline: float
    clock: Callable[[], float]
    seen: set[tuple[int, str]] = field(default_factory=set)
    spoiled: bool = False  # what this job wrote did not come back as it was: what lies there is not taken for the clip
    taken: bool = False  # something is at the destination

    async def once(self) -> Clip:
        """One try. Raises ClipError, or _Again for what may pass."""
        try:
            if self.destination.refuses and not self.taken:
                try:
                    return await self._fetched(None, new=True)
                except StorageTaken:
                    self.taken = True
            stored = await in_thread(self.destination.stat, self.key)
            owner = stored.belongs_to(self.metadata) if stored is not None else None
            if stored is not None and owner and not self.spoiled:
                adopted = await self._adopted(stored)
                if adopted is not None:
                    return adopted
            elif owner is False:
                raise conflict(self.destination, self.key)
            return await self._fetched(stored if owner is None else None)
        except guarded_http.FetchError as error:
            raise self._unfetched(error) from error
        except BlockedAddress as error:
            raise ClipError(ErrorCode.ASSET_UNAVAILABLE, f"The clip is not fetched: {error}", again=False) from error
        except StorageError as error:
            self.spoiled = self.spoiled or isinstance(error, StorageSpoiled)
            told = ClipError(
                ErrorCode.STORAGE,
                f"The clip is ready, but could not be stored: {error}",
                # nothing passing outlives every try
                systemic=error.systemic or (error.passing and not isinstance(error, StorageMissing)),
            )
            raise _Again(told) if error.passing and not isinstance(error, StorageConflict) else told from error

    def hopeless(self, passing: _Again) -> bool:
        """The same corrupt bytes came twice: that is the file, not the network."""
        if passing.seen is None:
            return False
        known = passing.seen in self.seen
        self.seen.add(passing.seen)
        return known

    async def _adopted(self, stored: Stored) -> Clip | None:
        """The clip that is there, read back and proven; None when it is not whole after all."""
        try:
            clip = await inspect(self.destination, self.key)
        except mp4.Mp4Error:
            return None
        return clip if stored.metadata.get("sha256", clip.sha256) == clip.sha256 else None

    async def _fetched(self, nameless: Stored | None, *, new: bool = False) -> Clip:
        """From the provider into the destination; `nameless` is an object there that does not say whose it is."""
        async with guarded_http.open_url(self.client, self.url) as response:
            await self._refuse_pages(response)
            upload = (
                self.destination.open_upload(self.key, CONTENT_TYPE, self.metadata, new=new)
                if nameless is None
                else _Nowhere()
            )
            stored = False
            try:
                body, rest = await self._streamed(response, upload)
                if not (body.film.length_proven or body.framed):
                    await self._again_the_same(body)
                if nameless is not None:
                    await self._taken_as_is(body)
                else:
                    await in_thread(_completed, upload, rest, body.sha256)
                stored = True
                return self._clip(body)
            finally:
                if not stored:
                    # also when cancelled: nothing half-done stays, and a `complete` that is under way is waited for
                    await asyncio.shield(in_thread(upload.abort))

    async def _streamed(self, response: httpx.Response, upload: Upload) -> tuple[_Body, bytes]:
        """What came, and the end of it that is still to be uploaded."""
        walk, digest, size = mp4.BoxWalk(), hashlib.sha256(), 0
        batch = bytearray()
        chunks = guarded_http.stream(response, limit=self.limit, deadline=self.deadline, clock=self.clock)
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    size += len(chunk)
                    digest.update(chunk)
                    walk.feed(chunk)
                    batch += chunk
                    if len(batch) >= _BATCH:
                        await in_thread(upload.part, bytes(batch))
                        batch.clear()
            film = walk.finish(size)
        except mp4.NotMp4 as error:
            raise self._not_a_clip(error) from error
        except mp4.CorruptMp4 as error:
            told = ClipError(ErrorCode.ASSET_CORRUPT, f"The clip that came cannot be used: {error}", expired=True)
            raise _Again(told, seen=(size, digest.hexdigest())) from error
        chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
        framed = chunked or guarded_http.declared_length(response) == size
        return _Body(size, digest.hexdigest(), film, framed), bytes(batch)

    async def _again_the_same(self, body: _Body) -> None:
        """Where neither file nor server says how long it is, two equal downloads do."""
        digest, size = hashlib.sha256(), 0
        async with guarded_http.open_url(self.client, self.url) as response:
            chunks = guarded_http.stream(response, limit=self.limit, deadline=self.deadline, clock=self.clock)
            async with aclosing(chunks):
                async for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
        if (size, digest.hexdigest()) != (body.size, body.sha256):
            raise _Again(
                ClipError(
                    ErrorCode.ASSET_CORRUPT,
                    f"The clip came with {body.size:,} bytes once and {size:,} bytes again, and nothing says which is "
                    "right; repeat the command, at no cost.",
                )
            )

    async def _taken_as_is(self, body: _Body) -> None:
        if not await in_thread(same_content, self.destination, self.key, body.size, body.sha256):
            raise conflict(self.destination, self.key)

    async def _refuse_pages(self, response: httpx.Response) -> None:
        """A page or a message in place of the clip: what storage hosts say of an expired link, often with a 200."""
        if response.status_code != 200:
            raise _Again(
                ClipError(
                    ErrorCode.ASSET_UNAVAILABLE,
                    f"{self._place} answered {response.status_code} instead of sending the clip; repeat the command, "
                    "at no cost.",
                )
            )
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.startswith(_PAGES) or kind.endswith(("+json", "+xml")):
            start = bytearray()
            chunks = guarded_http.stream(response, limit=self.limit, deadline=30.0, clock=self.clock)
            async with aclosing(chunks):
                async for chunk in chunks:
                    start += chunk[:4096]
                    if len(start) >= _EXCERPT:
                        break
            raise self._page(kind, bytes(start))

    def _page(self, kind: str, start: bytes) -> ClipError:
        words = clean(start[: 4 * _EXCERPT].decode("utf-8", "replace"), limit=_EXCERPT)
        return ClipError(
            ErrorCode.ASSET_UNAVAILABLE,
            f"{self._place} sent {clean(kind, limit=40)} instead of a clip; "
            f"its link may have expired. It says: {words}",
            expired=True,
        )

    def _not_a_clip(self, error: mp4.NotMp4) -> ClipError:
        if error.text:
            return ClipError(
                ErrorCode.ASSET_UNAVAILABLE,
                f"{self._place} sent {error.what} instead of a clip; its link may have expired.",
                expired=True,
            )
        return ClipError(
            ErrorCode.ASSET_CORRUPT,
            f"{self._place} sent {error.what}, not an MP4 video; ask the provider for the clip in MP4.",
            again=False,
        )

    def _unfetched(self, error: guarded_http.FetchError) -> ClipError | _Again:
        expired = error.status in _STALE_LINK
        told = ClipError(
            ErrorCode.ASSET_UNAVAILABLE,
            f"The clip could not be fetched: {error}"
            + (" Its link has expired." if expired else "")
            + ("" if error.permanent and not expired else " Repeat the command, at no cost."),
            again=expired or not error.permanent,
            expired=expired,
        )
        return told if error.permanent else _Again(told, pause=error.retry_after)

    def _clip(self, body: _Body) -> Clip:
        return Clip(
            uri=self.destination.uri(self.key),
            key=self.key,
            bytes=body.size,
            sha256=body.sha256,
            width=body.film.width,
            height=body.film.height,
            duration_s=body.film.duration_s,
        )

    @property
    def _place(self) -> str:
        return clean(clean_url(self.url), limit=200)


class _Nowhere:
    """An upload of what is there already."""

    def part(self, content: bytes) -> None: ...

    def complete(self, metadata: Mapping[str, str] | None = None) -> Stored:
        raise NotImplementedError

    def abort(self) -> None: ...


def _completed(upload: Upload, rest: bytes, sha256: str) -> None:
    """The last bytes and the end in one go: most clips are small, and threads are not free."""
    if rest:
        upload.part(rest)
    upload.complete({"sha256": sha256})


def _walked(destination: Destination, key: str) -> tuple[mp4.Mp4, str, int]:
    """What a stored clip says of itself, its sha256, its bytes."""
    walk, digest = mp4.BoxWalk(), hashlib.sha256()
    for chunk in destination.chunks(key):
        walk.feed(chunk)
        digest.update(chunk)
    return walk.finish(), digest.hexdigest(), walk.fed


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(COPIES_AT_ONCE + 4, thread_name_prefix="reelsheet-storage")  # some to tidy up
