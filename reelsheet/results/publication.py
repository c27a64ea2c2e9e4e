"""A run's files: written completely or not at all, at its start, every few seconds, and in full at its end.

Each copy of the table and each page is written on its own: one that fails, or hangs, does not touch the others.
"""

import asyncio
import json
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any
from urllib.parse import quote

from reelsheet.errors import ConfigurationError, ReelsheetError
from reelsheet.images import thumbnails
from reelsheet.ledger import Ledger
from reelsheet.manifest.rows import Manifest
from reelsheet.outcomes import RowResult, Status
from reelsheet.redaction import clean, visible
from reelsheet.results import earlier, gallery, gallery_link, table, workbook
from reelsheet.results.gallery_link import LINK_LIFE_S
from reelsheet.results.parts import Part, count, part_name, parts
from reelsheet.results.table import Summary
from reelsheet.settings import state_home
from reelsheet.storage.destination import Destination, open_destination
from reelsheet.storage.folder_destination import FolderDestination
from reelsheet.storage.stored_object import Link

log = logging.getLogger("reelsheet")

CSV = "text/csv; charset=utf-8"
HTML = "text/html; charset=utf-8"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
HURRY_LIMIT_S = 2.0  # for the table, and for the pages, after a signal
TABLE_INTERVAL_S = 3.0  # at least, between two writes of one copy of the table
TABLE_SHARE = 20  # and at least so many times what its last write took

_Page = tuple[bytes, str] | tuple[bytes, str, Mapping[str, str]]  # content, type, metadata
InThread = Callable[..., Awaitable[Any]]  # calls a function with its arguments in a thread


@dataclass(frozen=True, slots=True)
class Files:
    """Where a run's files are, as addresses for people."""

    folder: str
    results: str
    gallery: str
    fallback: str = ""  # where the table is instead, because the destination did not take it
    failed: tuple[str, ...] = ()  # the copies of the table that are not as they should be
    link: Link | None = None  # opens the gallery in any browser, for a while


@dataclass(frozen=True, slots=True)
class PageLinks:
    """Links to the clips by position in the part: of the first output, of others, and paths from the run's folder."""

    first: dict[int, str]
    more: dict[int, list[str]]
    relative: dict[int, str]
    ends: set[datetime]

    @property
    def expires_at(self) -> datetime | None:
        """When the first of them ends; None: never."""
        return min(self.ends, default=None)


class _TableCopy:
    """One place that takes the table. `place` is its address for people."""

    def __init__(self, place: str, write: Callable[[bytes], None]) -> None:
        self.place = place
        self._write = write
        self._lock = threading.Lock()
        self._written = 0  # the number of the latest table that was written
        self.writing: asyncio.Task[str] | None = None  # as long as the run goes on
        self.due_at = 0.0  # on the loop's clock
        self.is_failing = False

    def write(self, content: bytes, number: int) -> None:
        with self._lock:  # a thread that hung with an older table must not write it over this one
            if number >= self._written:
                self._write(content)
                self._written = number


class ResultsWriter:
    """Writes the tables and pages of one run. `copy_to`: a file that takes the table as well."""

    def __init__(
        self,
        run_id: str,
        manifest: Manifest,
        destination: Destination,
        *,
        ledger: Ledger,
        album: thumbnails.Album,
        in_thread: InThread,
        copy_to: str | None = None,
    ) -> None:
        self._manifest, self._destination, self._ledger = manifest, destination, ledger
        self._folder = f"runs/{run_id}"
        self._key = f"{self._folder}/results.csv"
        self._run_id = run_id
        self._album, self._in_thread = album, in_thread
        self._drawn = 0  # tables so far
        self._making = threading.Lock()
        self._gallery_link: Link | None = None
        self._table, self._latest = (
            _TableCopy(destination.uri(key), lambda content, key=key: destination.write(key, content, CSV))  # type: ignore[misc]
            for key in (self._key, "results.csv")
        )
        self._copies = [self._table, self._latest]
        if copy_to:
            self._copies.append(_TableCopy(copy_to, lambda content: _write_local(copy_to, content)))
        kept = str(state_home() / "runs" / run_id / "results.csv")
        self._kept = _TableCopy(kept, lambda content: _write_local(kept, content))

    async def begin(self, results: Sequence[RowResult]) -> None:
        """The manifest as read, so that the run can be rebuilt from its folder, and a first table everywhere."""
        content = table.manifest_csv(self._manifest)
        await self._in_thread(self._destination.write, f"{self._folder}/manifest.csv", content, CSV)
        number = self._next_number()
        content = table.results_csv(self._manifest, results)
        await asyncio.gather(*(self._in_thread(copy.write, content, number) for copy in self._copies))
        self._album.begin()

    async def checkpoint(self, results: Callable[[], Sequence[RowResult]]) -> None:
        """The table as of now in each place where it is due; what takes long is not waited for."""
        clock = asyncio.get_running_loop().time
        began = clock()
        due = [copy for copy in self._copies if copy.writing is None and copy.due_at <= began]
        if not due:
            return
        number = self._next_number()
        content = await self._in_thread(table.results_csv, self._manifest, results())
        for copy in due:
            copy.writing = asyncio.create_task(self._checkpoint(copy, content, number, began))
        await asyncio.wait([copy.writing for copy in due if copy.writing], timeout=TABLE_INTERVAL_S)

    async def _checkpoint(self, copy: _TableCopy, content: bytes, number: int, began: float) -> str:
        words = await self._attempt(self._in_thread(copy.write, content, number))
        if words and not copy.is_failing:
            log.warning("The table could not be written to %s just now (%s).", copy.place, words)
        if words and copy is self._table:
            await self._attempt(asyncio.to_thread(self._kept.write, content, number))
        copy.is_failing, copy.writing = bool(words), None
        now = asyncio.get_running_loop().time()
        copy.due_at = now + max(TABLE_INTERVAL_S, TABLE_SHARE * (now - began))
        return words

    async def finish_tables(
        self, results: Sequence[RowResult], *, is_latest: bool = True, is_complete: bool = True, hurry: bool = False
    ) -> Files:
        """The last table everywhere. Where the destination does not take it, it is kept on this machine.

        `is_latest` False: a later run's table stays the destination's latest. `is_complete` False: the table holds
        ids that the ledger lacks, and is read again by the next run. `hurry`: after a signal.
        """
        content, number = table.results_csv(self._manifest, results), self._next_number()
        clock = asyncio.get_running_loop().time

        def until() -> float | None:
            return clock() + HURRY_LIMIT_S if hurry else None

        copies = [copy for copy in self._copies if is_latest or copy is not self._latest]
        writes = [self._attempt(self._in_thread(copy.write, content, number), until()) for copy in copies]
        failed = {copy.place: words for copy, words in zip(copies, await asyncio.gather(*writes), strict=True) if words}
        kept = ""
        if self._table.place in failed:
            words = await self._attempt(asyncio.to_thread(self._kept.write, content, number), until())
            kept = "" if words else self._kept.place
            failed |= {self._kept.place: words} if words else {}
        elif is_complete:
            await self._attempt(self._in_thread(self._mark_imported), until())  # else it is read again, to no harm
        good = [copy.place for copy in copies if copy.place not in failed]
        where = kept or next(iter(good), "")
        for place, words in failed.items():
            log.error(
                "The results could not be written to %s (%s)%s.",
                place,
                words,
                f"; they are in {where}" if where else "",
            )
        uri = self._destination.uri
        return Files(uri(self._folder), self._table.place, uri(f"{self._folder}/gallery.html"), kept, tuple(failed))

    async def finish_pages(self, results: Sequence[RowResult], summary: Summary, *, hurry: bool = False) -> Link | None:
        """Everything beside the tables; a link to the gallery. What cannot be written is said; `report` writes it."""
        pictures = await self._album.end(0.0 if hurry else thumbnails.END_TIMEOUT_S)
        until = asyncio.get_running_loop().time() + HURRY_LIMIT_S if hurry else None
        failed: dict[str, str] = {}
        for part in parts(self._manifest, results):
            links = cache(partial(self._page_links, part))
            pages: dict[str, Callable[[], _Page]] = {
                part_name("gallery.html", part.number): partial(self._gallery, part, summary, pictures, links),
                part_name("results.xlsx", part.number): partial(self._workbook, part, summary, pictures, links),
            }
            if part.number == 1:
                pages["summary.json"] = partial(_summary_page, summary)
                pages["failed.csv"] = lambda: (table.failed_csv(self._manifest, results), CSV)
            writes = [self._attempt(self._in_thread(self._write_page, *page), until) for page in pages.items()]
            ends = zip(pages, await asyncio.gather(*writes), strict=True)
            failed |= {name: words for name, words in ends if words}
        if failed and self._table.is_failing:  # the reason has been said
            log.error("Nor could %s; `reelsheet report %s` writes them.", ", ".join(failed), self._run_id)
            return None
        for name, words in failed.items():
            log.error("%s could not be written (%s); `reelsheet report %s` writes it.", name, words, self._run_id)
        return None if "gallery.html" in failed else self._gallery_link

    async def _attempt(self, write: Awaitable[Any], until: float | None = None) -> str:
        """Wait for one write, at most `until` a time of the loop's; "" or, in words, why it failed."""
        try:
            async with asyncio.timeout_at(until):
                await write
        except TimeoutError:
            return "it did not answer in time"
        except ReelsheetError as error:
            return str(error).rstrip(".")
        except Exception as error:
            log.exception("Unexpected error while the results were written.")
            return clean(f"{type(error).__name__}: {error}")
        return ""

    def _next_number(self) -> int:
        self._drawn += 1
        return self._drawn

    def _mark_imported(self) -> None:
        """The next run need not read this table: the ledger knows what is in it."""
        size = self._destination.listing(f"{self._folder}/").get(self._key)
        if size is not None:
            earlier.mark_imported(self._ledger, self._destination, self._key, size)

    def _write_page(self, name: str, page: Callable[[], _Page]) -> None:
        with self._making:  # one page at a time is in the making, for each holds the complete sheet
            content = page()
        self._destination.write(f"{self._folder}/{name}", *content)

    def _gallery(
        self, part: Part, summary: Summary, pictures: Mapping[int, bytes], page_links: Callable[[], PageLinks]
    ) -> _Page:
        manifest, links = part.manifest, page_links()
        addresses = {place: row.image for place, row in enumerate(manifest.rows)}
        page = gallery.gallery_html(
            manifest, part.results, summary=summary, links=links.first, more_links=links.more,
            posters=thumbnails.posters(addresses, _of_part(pictures, part)),
            files=links.relative, title=manifest.title, part=part.number, pages=self._gallery_pages(links.expires_at),
            expires_at=links.expires_at, destination=self._destination.address,
        )  # fmt: skip
        if part.number == 1:
            self._gallery_link = gallery_link.sign(self._destination, self._run_id, links.expires_at)
        return page, HTML, gallery_link.page_metadata(links.expires_at)

    def _gallery_pages(self, links_end: datetime | None) -> list[tuple[str, str]]:
        """The file of each part's page, and a link to it that works elsewhere, or ""."""
        names = [part_name("gallery.html", number + 1) for number in range(count(len(self._manifest.rows)))]
        if len(names) == 1:
            return [(names[0], "")]
        signed = [gallery_link.sign(self._destination, self._run_id, links_end, name) for name in names]
        return [(name, link.url if link else "") for name, link in zip(names, signed, strict=True)]

    def _workbook(
        self, part: Part, summary: Summary, pictures: Mapping[int, bytes], page_links: Callable[[], PageLinks]
    ) -> _Page:
        links = page_links()
        content = workbook.results_xlsx(
            part.manifest,
            part.results,
            links=links.first,
            summary=summary,
            thumbnails=_of_part(pictures, part),
            expires_at=links.expires_at,
        )
        return content, XLSX

    def _page_links(self, part: Part) -> PageLinks:
        links = PageLinks({}, {}, {}, set())
        for position, result in enumerate(part.results):
            if result.video_uri:
                links.relative[position] = self._relative(result.video_uri)
            if result.status is Status.SUCCEEDED and result.video_uri:
                signed = [self._link(uri) for uri in (result.video_uri, *result.more_video_uris)]
                links.ends.update(link.ends_at for link in signed if link.ends_at)
                links.first[position], *more = (link.url for link in signed)
                if more:
                    links.more[position] = more
        return links

    def _link(self, uri: str) -> Link:
        """A link that works for a while wherever the page is, else the path from the run's folder."""
        key = self._destination.key_of(uri)
        try:
            link = None if key is None else self._destination.presign_get(key, LINK_LIFE_S)
        except ReelsheetError:  # credentials that have ended sign nothing
            link = None
        return link if link and link.url.startswith(("http://", "https://")) else Link(self._relative(uri))

    def _relative(self, uri: str) -> str:
        """The clip's path as seen from the run's folder, for a copy of the destination on a disk."""
        key = self._destination.key_of(uri)
        return uri if key is None else "../" * (self._folder.count("/") + 1) + quote(key)


def _summary_page(summary: Summary) -> _Page:
    return json.dumps(summary.as_json(), indent=2).encode() + b"\n", "application/json"


def _of_part(pictures: Mapping[int, bytes], part: Part) -> dict[int, bytes]:
    """By position in the part."""
    places = range(part.first, part.first + len(part.results))
    return {position - part.first: picture for position, picture in pictures.items() if position in places}


def demand_writable(path: str) -> None:
    """Try the folder of --results; a file that is there stays. Raises ConfigurationError.

    Not a bucket: one that takes objects may refuse everything else. The first table says so, before anything is paid.
    """
    folder, name = _place(path)
    if isinstance(folder, FolderDestination):
        try:
            folder.try_folders()
            folder.stat(name)
        except ReelsheetError as error:
            raise ConfigurationError(f"--results {visible(path)}: {error} Nothing was spent.") from error


def _write_local(path: str, content: bytes) -> None:
    """A file on this machine (or an s3:// object), completely or not at all."""
    folder, name = _place(path)
    folder.write(name, content, CSV)


def _place(path: str) -> tuple[Destination, str]:
    """A file's folder and name. A link stays: its target is meant."""
    if os.path.islink(path):  # noqa: PTH114 - it may be an address
        path = os.path.realpath(path)
    parent, separator, name = path.rpartition("/")
    return open_destination(parent or separator or "."), name
