"""A run's files: written completely or not at all, at its start, every few seconds, and in full at its end."""

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from reelsheet.errors import LedgerError
from reelsheet.images import thumbnails
from reelsheet.ledger import Ledger
from reelsheet.manifest.rows import Manifest
from reelsheet.outcomes import RowResult, Status
from reelsheet.results import earlier, gallery, table, workbook
from reelsheet.results.table import Summary
from reelsheet.settings import state_home
from reelsheet.storage.destination import Destination, open_destination

log = logging.getLogger("reelsheet")

CSV = "text/csv; charset=utf-8"
HTML = "text/html; charset=utf-8"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
HURRY_LIMIT_S = 2.0  # for the table, and for the pages, after a signal
LINK_LIFE_S = 7 * 86_400  # the longest that a presigned link may live

InThread = Callable[..., Awaitable[Any]]  # calls a function with its arguments in a thread


@dataclass(frozen=True, slots=True)
class Files:
    """Where a run's files are, as addresses for people."""

    folder: str
    results: str
    gallery: str
    fallback: str = ""  # where the table is instead, because the destination did not take it


@dataclass(frozen=True, slots=True)
class PageLinks:
    """Links to the clips by row position: of the first output, of others, and paths from the run's folder."""

    first: dict[int, str]
    more: dict[int, list[str]]
    relative: dict[int, str]

    @property
    def expires_at(self) -> datetime | None:
        """When links that are signed now end; None: never."""
        is_signed = any(link.startswith("http") for link in self.first.values())
        return datetime.now(UTC) + timedelta(seconds=LINK_LIFE_S) if is_signed else None


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
        self._run_id, self._copy_to = run_id, copy_to
        self._album, self._in_thread = album, in_thread
        self._lock = threading.Lock()
        self._drawn = 0  # tables so far
        self._written = 0  # the number of the latest table that was written

    async def begin(self, results: Sequence[RowResult]) -> None:
        """The manifest as read, so that the run can be rebuilt from its folder, and a first table."""
        content = table.manifest_csv(self._manifest)
        await self._in_thread(self._destination.write, f"{self._folder}/manifest.csv", content, CSV)
        await self.checkpoint(results)
        self._album.begin()

    async def checkpoint(self, results: Sequence[RowResult]) -> None:
        """The table as of now, where the latest is looked for."""
        number = self._next_number()
        content = await self._in_thread(table.results_csv, self._manifest, results)
        await self._in_thread(self._write_tables, content, number)

    async def finish(
        self,
        results: Sequence[RowResult],
        summary: Summary,
        *,
        is_latest: bool = True,
        is_complete: bool = True,
        hurry: bool = False,
    ) -> Files:
        """Every file of the run. Where the destination fails, the table is kept on this machine.

        `is_latest` False: a later run's table stays the destination's latest. `is_complete` False: the table holds
        ids that the ledger lacks, and is read again by the next run. `hurry`: after a signal.
        """
        uri = self._destination.uri
        files = Files(uri(self._folder), uri(f"{self._folder}/results.csv"), uri(f"{self._folder}/gallery.html"))
        content = table.results_csv(self._manifest, results)
        limit_s = HURRY_LIMIT_S if hurry else None
        try:
            async with asyncio.timeout(limit_s):
                number = self._next_number()
                await self._in_thread(self._write_last, content, number, summary, is_latest, is_complete)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the destination, the table is not lost
            kept = state_home() / "runs" / self._run_id / "results.csv"
            message = str(error) or "it did not answer in time"
            log.error("The results could not be written to %s (%s); they are in %s.", files.folder, message, kept)  # noqa: TRY400
            await asyncio.to_thread(_write_local, str(kept), content)
            return Files(files.folder, files.results, files.gallery, str(kept))
        pictures = await self._album.end(0.0 if hurry else thumbnails.END_TIMEOUT_S)
        try:
            async with asyncio.timeout(limit_s):
                await self._in_thread(self._write_pages, results, summary, pictures)
        except Exception as error:  # noqa: BLE001 - the table is there, and `report` writes the pages again
            message = str(error) or "no answer in time"
            log.error("The gallery could not be written (%s); `reelsheet report %s` writes it.", message, self._run_id)  # noqa: TRY400
        return files

    def _next_number(self) -> int:
        self._drawn += 1
        return self._drawn

    def _write_tables(self, content: bytes, number: int, *, is_latest: bool = True) -> None:
        with self._lock:  # a thread that hung with an older table must not write it over this one
            if number < self._written:
                return
            self._destination.write(f"{self._folder}/results.csv", content, CSV)
            if is_latest:
                self._destination.write("results.csv", content, CSV)
            if self._copy_to:
                _write_local(self._copy_to, content)
            self._written = number

    def _write_last(self, content: bytes, number: int, summary: Summary, is_latest: bool, is_complete: bool) -> None:
        self._write_tables(content, number, is_latest=is_latest)
        key = f"{self._folder}/results.csv"
        size = self._destination.listing(f"{self._folder}/").get(key)
        if size is not None and is_complete:
            with suppress(LedgerError):  # then it is read once more, to no harm
                earlier.mark_imported(self._ledger, self._destination, key, size)
        content = json.dumps(summary.as_json(), indent=2).encode() + b"\n"
        self._destination.write(f"{self._folder}/summary.json", content, "application/json")

    def _write_pages(self, results: Sequence[RowResult], summary: Summary, pictures: Mapping[int, bytes]) -> None:
        manifest, write = self._manifest, self._destination.write
        write(f"{self._folder}/failed.csv", table.failed_csv(manifest, results), CSV)
        links = self._page_links(results)
        expires_at = links.expires_at
        page = gallery.gallery_html(
            manifest, results, summary=summary, links=links.first, more_links=links.more,
            posters=thumbnails.posters({row.position: row.image for row in manifest.rows}, pictures),
            files=links.relative, title=Path(manifest.source.split("?")[0]).name or "reelsheet",
            expires_at=expires_at,
        )  # fmt: skip
        write(f"{self._folder}/gallery.html", page.encode(), HTML)
        book = workbook.results_xlsx(
            manifest, results, links=links.first, summary=summary, thumbnails=pictures, expires_at=expires_at
        )
        write(f"{self._folder}/results.xlsx", book, XLSX)

    def _page_links(self, results: Sequence[RowResult]) -> PageLinks:
        links = PageLinks({}, {}, {})
        for position, result in enumerate(results):
            if result.video_uri:
                links.relative[position] = self._relative(result.video_uri)
            if result.status is Status.SUCCEEDED and result.video_uri:
                links.first[position], *more = map(self._link, (result.video_uri, *result.more_video_uris))
                if more:
                    links.more[position] = more
        return links

    def _link(self, uri: str) -> str:
        """A link that works for a while wherever the page is, else the path from the run's folder."""
        key = self._destination.key_of(uri)
        link = "" if key is None else self._destination.link(key, LINK_LIFE_S)
        return link if link.startswith(("http://", "https://")) else self._relative(uri)

    def _relative(self, uri: str) -> str:
        """The clip's path as seen from the run's folder, for a copy of the destination on a disk."""
        key = self._destination.key_of(uri)
        return uri if key is None else "../" * (self._folder.count("/") + 1) + quote(key)


def _write_local(path: str, content: bytes) -> None:
    """A file on this machine (or an s3:// object), completely or not at all."""
    parent, _, name = path.rpartition("/")
    open_destination(parent or ".").write(name, content, CSV)
