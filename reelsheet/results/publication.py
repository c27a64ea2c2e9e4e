"""A run's files: written whole or not at all, at its start, every few seconds, and in full at its end."""

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from reelsheet.errors import LedgerError
from reelsheet.images import thumbnails
from reelsheet.outcomes import RowResult, Status
from reelsheet.results import earlier
from reelsheet.results import table as results
from reelsheet.settings import state_home

if TYPE_CHECKING:
    from reelsheet.results.table import Summary
    from reelsheet.run.run import Run

log = logging.getLogger("reelsheet")

CSV = "text/csv; charset=utf-8"
HURRY_SECONDS = 2.0  # for the table, and for the pages, after a signal
LINK_SECONDS = 7 * 86_400  # the longest that a presigned link may live


@dataclass(frozen=True, slots=True)
class Files:
    """Where a run's files are, as addresses for people."""

    folder: str
    results: str
    gallery: str
    fallback: str = ""  # where the table is instead, because the destination did not take it


async def begin(run: "Run") -> None:
    """The manifest as read, so that the run can be rebuilt from its folder, and a first table."""
    await run.in_thread(
        run.destination.write, f"runs/{run.run_id}/manifest.csv", results.manifest_csv(run.manifest), CSV
    )
    await checkpoint(run)
    run.album = thumbnails.album(run)
    run.album.begin()


async def checkpoint(run: "Run") -> None:
    """The table as of now, where the latest is looked for."""
    number, found = next(run.tables), run.results()
    content = await run.in_thread(results.results_csv, run.manifest, found)
    await run.in_thread(_write_tables, run, content, number)


def _write_tables(run: "Run", content: bytes, number: int, *, latest: bool = True) -> None:
    with run.writing:  # a thread that hung with an older table must not write it over this one
        if number < run.written:
            return
        run.destination.write(f"runs/{run.run_id}/results.csv", content, CSV)
        if latest:
            run.destination.write("results.csv", content, CSV)
        if run.options.results:
            write_local(run.options.results, content)
        run.written = number


async def finish(run: "Run", found: list[RowResult], summary: "Summary", *, latest: bool = True) -> Files:
    """Every file of the run. Where the destination fails, the table is kept on this machine.

    `latest` False: a later run's table is the destination's latest, and stays it.
    """
    folder = f"runs/{run.run_id}"
    at = Files(
        run.destination.uri(folder), run.destination.uri(f"{folder}/results.csv"),
        run.destination.uri(f"{folder}/gallery.html"),
    )  # fmt: skip
    content = results.results_csv(run.manifest, found)
    patience = None if run.signal is None else HURRY_SECONDS
    try:
        async with asyncio.timeout(patience):
            await run.in_thread(_write_last, run, content, next(run.tables), summary, latest)
    except Exception as error:  # noqa: BLE001 - whatever ails the destination, the table is not lost
        kept = state_home() / "runs" / run.run_id / "results.csv"
        told = str(error) or "it did not answer in time"
        log.error("The results could not be written to %s (%s); they are in %s.", at.folder, told, kept)  # noqa: TRY400
        await asyncio.to_thread(write_local, str(kept), content)
        return Files(at.folder, at.results, at.gallery, str(kept))
    pictures = await (run.album or thumbnails.album(run)).end(thumbnails.SECONDS if run.signal is None else 0.0)
    try:
        async with asyncio.timeout(patience):
            await run.in_thread(_write_pages, run, found, summary, pictures)
    except Exception as error:  # noqa: BLE001 - the table is there, and `report` writes the pages anew
        told = str(error) or "no answer in time"
        log.error("The gallery could not be written (%s); `reelsheet report %s` writes it.", told, run.run_id)  # noqa: TRY400
    return at


def _write_last(run: "Run", content: bytes, number: int, summary: "Summary", latest: bool) -> None:
    folder = f"runs/{run.run_id}"
    _write_tables(run, content, number, latest=latest)
    written = run.destination.listing(f"{folder}/").get(f"{folder}/results.csv")
    if written is not None and not run.unrecorded_ids:  # else it knows more than the ledger
        with suppress(LedgerError):  # then it is read once more, to no harm
            earlier.seen_now(run.ledger, run.destination, f"{folder}/results.csv", written)
    told = json.dumps(summary.as_json(), indent=2).encode() + b"\n"
    run.destination.write(f"{folder}/summary.json", told, "application/json")


def _write_pages(run: "Run", found: list[RowResult], summary: "Summary", pictures: Mapping[int, bytes]) -> None:
    from reelsheet.results import gallery, workbook

    write = run.destination.write
    folder = f"runs/{run.run_id}"
    write(f"{folder}/failed.csv", results.failed_csv(run.manifest, found), CSV)
    links, more, expires = page_links(run, found, folder)
    title = Path(run.manifest.source.split("?")[0]).name or "reelsheet"
    posters = thumbnails.posters({row.position: row.image for row in run.manifest.rows}, pictures)
    page = gallery.gallery_html(
        run.manifest, found, summary=summary, links=links, posters=posters, more_links=more,
        files=beside(run, found, folder), title=title,
        expires_at=expires,
    )  # fmt: skip
    write(f"{folder}/gallery.html", page.encode(), "text/html; charset=utf-8")
    book = workbook.results_xlsx(
        run.manifest, found, links=links, summary=summary, thumbnails=pictures, expires_at=expires
    )
    write(f"{folder}/results.xlsx", book, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")


def page_links(
    run: "Run", found: list[RowResult], folder: str
) -> tuple[dict[int, str], dict[int, list[str]], datetime | None]:
    """position → a link that works from the run's folder; when the links end (None: never)."""
    links: dict[int, str] = {}
    more: dict[int, list[str]] = {}
    expires: datetime | None = None
    for position, result in enumerate(found):
        if result.status is not Status.SUCCEEDED or not result.video_uri:
            continue
        made = [_link(run, uri, folder) for uri in (result.video_uri, *result.more_video_uris)]
        links[position] = made[0]
        if made[1:]:
            more[position] = made[1:]
        if made[0].startswith("http"):
            expires = datetime.now(UTC) + timedelta(seconds=LINK_SECONDS)
    return links, more, expires


def beside(run: "Run", found: list[RowResult], folder: str) -> dict[int, str]:
    """position → the clip's path as seen from the run's folder, for a copy of the destination on a disk."""
    up = "../" * (folder.count("/") + 1)
    keys = {at: run.destination.key_of(result.video_uri) for at, result in enumerate(found) if result.video_uri}
    return {at: up + quote(key) for at, key in keys.items() if key is not None}


def _link(run: "Run", uri: str, folder: str) -> str:
    key = run.destination.key_of(uri)
    if key is None:
        return uri
    link = run.destination.link(key, LINK_SECONDS)
    if link.startswith(("http://", "https://")):
        return link
    up = "../" * (folder.count("/") + 1)
    return up + quote(key)


def write_local(path: str, content: bytes) -> None:
    """A file on this machine (or an s3:// object), whole or not at all."""
    from reelsheet.storage.destination import open_destination

    parent, _, name = path.rpartition("/")
    open_destination(parent or ".").write(name, content, CSV)
