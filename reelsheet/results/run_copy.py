"""A run's clips, results and gallery, copied from a destination into a folder on this machine.

    FOLDER/videos/NAME.mp4 …    FOLDER/{results.csv, results.xlsx, failed.csv, summary.json, gallery.html}

A table that a person changed here is never overwritten: the new one gets a name of its own beside it.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from itertools import count as numbers_from
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote

from reelsheet.errors import ConfigurationError, ManifestError, ReelsheetError
from reelsheet.outcomes import Status
from reelsheet.results import earlier
from reelsheet.results.gallery import local_page
from reelsheet.results.parts import count, part_name, rows_of
from reelsheet.results.workbook import local_workbook
from reelsheet.storage.destination import Destination
from reelsheet.storage.errors import ObjectConflict, ObjectCorrupted, ObjectMissing, StorageError
from reelsheet.storage.local_copy import LocalCopy
from reelsheet.storage.stored_object import checked_key

AT_ONCE: Final = 8  # downloads
GIVE_UP_AFTER: Final = 5  # clips in a row that the storage refuses
TABLE: Final = "results.csv"
GALLERY: Final = "gallery.html"
WORKBOOK: Final = "results.xlsx"
WHOLE: Final = (TABLE, "failed.csv", "summary.json")  # of all rows; gallery and workbook are of a part
RECORD: Final = ".reelsheet-fetch.json"  # name → sha256 of what was written here
RUN_ID: Final = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4,32}")

Progress = Callable[[int, int, int], None]  # clips so far, of how many, bytes so far


@dataclass(frozen=True, slots=True)
class Clip:
    """One output of a row. `key` is "" where its address leads out of the destination."""

    uri: str
    key: str
    sha256: str  # "" where the table has none

    @property
    def name(self) -> str:
        return PurePosixPath(self.key or self.uri).name


@dataclass(frozen=True, slots=True)
class RunTable:
    """The results of one run, as far as they are needed here: the clips of each row, and rows that have none."""

    run_id: str
    content: bytes
    clips: Mapping[int, Sequence[Clip]]
    rows: int


@dataclass(slots=True)
class Copied:
    """What was done. `missing`: address → why. `kept`: a file that a person changed → where the new one is."""

    run_id: str
    clips: int = 0
    fetched: int = 0
    bytes: int = 0
    rows_without_clip: int = 0
    missing: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    stopped_because: str = ""

    @property
    def present(self) -> int:
        """Clips that were there already."""
        return self.clips - self.fetched - len(self.missing)


def usual_folder(address: str) -> str:
    """The folder that takes a destination's copy where nobody names one."""
    last = re.sub(r"[^\w.-]+", "-", address.rpartition("/")[2]).strip(".-")
    return f"{last or 'reelsheet'}-clips"


def latest_run(destination: Destination) -> str:
    """The id of the run that wrote the destination's latest table. Raises ManifestError where there is none."""
    content = destination.read(TABLE)
    if content is not None:
        for run_id in earlier.result_cells(content, destination.uri(TABLE))["run_id"].unique():
            if RUN_ID.fullmatch(run_id):
                return str(run_id)
    runs = {key.split("/")[1] for key in destination.listing("runs/") if key.endswith(f"/{TABLE}")}
    known = sorted(filter(RUN_ID.fullmatch, runs))
    if not known:
        raise ManifestError(
            f"There are no results of a run under {destination.address}; name a run, or the destination of one."
        )
    return known[-1]


def run_table(destination: Destination, run_id: str) -> RunTable:
    """Read a run's table. Raises ManifestError where it is not there."""
    key = f"runs/{run_id}/{TABLE}"
    content = destination.read(key)
    if content is None:
        raise ManifestError(
            f"{destination.uri(key)} is not there; `reelsheet report {run_id}` writes a run's results again."
        )
    cells = earlier.result_cells(content, destination.uri(key))
    clips: dict[int, list[Clip]] = {}
    columns = ("status", "video_uri", "more_video_uris", "video_sha256")
    for position, (status, first, more, sha256) in enumerate(zip(*(cells[name] for name in columns), strict=True)):
        if status.casefold() == Status.SUCCEEDED and first:
            digest = sha256 if re.fullmatch(r"[0-9a-f]{64}", sha256) else ""
            clips[position] = [
                Clip(uri, _key(destination, uri), "" if output else digest)
                for output, uri in enumerate((first, *more.split()))
            ]
    return RunTable(run_id, content, clips, len(cells))


def _key(destination: Destination, uri: str) -> str:
    """The clip's key below this destination, which may be a copy of the one that the table names; "" outside."""
    key = destination.key_of(uri) or ""
    if not key.startswith("videos/"):
        _, folder, name = uri.partition("/videos/")
        key = f"videos/{name}" if folder else ""
    try:
        return checked_key(key) if key.endswith(".mp4") else ""  # a page or a program is no clip
    except ValueError:
        return ""


class RunCopy:
    """Copies one run into a folder. `copy` blocks; `folder.abort` may come from a signal handler meanwhile."""

    def __init__(self, destination: Destination, table: RunTable, folder: LocalCopy) -> None:
        self._destination, self._table, self.folder = destination, table, folder
        self._stop = threading.Event()
        self._refused = 0  # clips in a row
        clips = [clip for row in table.clips.values() for clip in row]
        self._clips = {clip.uri: clip for clip in clips}
        self.copied = Copied(table.run_id, len(self._clips), rows_without_clip=table.rows - len(table.clips))

    def copy(self, progress: Progress = lambda *_: None) -> Copied:
        """Clips first, then tables and gallery. Raises UsageError before anything is written."""
        self.folder.check([*self._names(), *(clip.key for clip in self._clips.values() if clip.key)])
        self.folder.sweep()
        sizes = self._destination.listing("videos/")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            futures = {pool.submit(self._fetch, clip, sizes): clip for clip in self._clips.values()}
            for done, future in enumerate(as_completed(futures), start=1):
                self._note(futures[future], future, sizes)
                progress(done, len(futures), self.copied.bytes)
            if self.copied.stopped_because:
                return self.copied
            pool.submit(self._write_files).result()
        return self.copied

    def _fetch(self, clip: Clip, sizes: Mapping[str, int]) -> bool:
        """True where it was downloaded, False where it was there."""
        if self._stop.is_set():
            raise StorageError("not fetched")
        if not clip.key:
            raise ObjectMissing(f"{clip.uri} is no .mp4 under {self._destination.address}/videos.")
        if clip.key not in sizes:
            raise ObjectMissing(f"{clip.uri} is not there any more.")
        size_bytes, sha256 = sizes[clip.key], clip.sha256
        if self.folder.has(clip.key, size_bytes) and not sha256:
            stored = self._destination.stat(clip.key)
            sha256 = stored.metadata.get("sha256", "") if stored else ""
        if self.folder.has(clip.key, size_bytes, sha256):
            return False
        self.folder.download(self._destination, clip.key, clip.key, size_bytes, sha256)
        return True

    def _note(self, clip: Clip, future: "Future[bool]", sizes: Mapping[str, int]) -> None:
        try:
            is_new = future.result()
        except (ObjectMissing, ObjectCorrupted, ObjectConflict) as error:
            self.copied.missing[clip.uri] = str(error)
        except StorageError as error:
            self.copied.missing[clip.uri] = str(error)
            self._refused += 1
            if (error.systemic or self._refused >= GIVE_UP_AFTER) and not self._stop.is_set():
                self.copied.stopped_because = str(error)
                self._stop.set()
        else:
            self._refused = 0
            if is_new:
                self.copied.fetched += 1
                self.copied.bytes += sizes[clip.key]

    def _write_files(self) -> None:
        written = self._written()
        for name, part in self._names().items():
            content: bytes | None = self._table.content
            if name != TABLE:
                stored = self._destination.read(f"runs/{self._table.run_id}/{name}")
                content = None if stored is None else self._for_here(name, part, stored)
            if content is not None:
                self._write_file(name, content, written)
        self.folder.write(RECORD, json.dumps(written, indent=1).encode())

    def _names(self) -> dict[str, int]:
        """The run's files, and which part of the table is in each; 0: all of it."""
        numbers = range(1, count(self._table.rows) + 1)
        split = {part_name(name, number): number for number in numbers for name in (WORKBOOK, GALLERY)}
        return dict.fromkeys(WHOLE, 0) | split

    def _for_here(self, name: str, part: int, content: bytes) -> bytes | None:
        """A file whose links to clips lead to those of the folder; None for a gallery that is not ours."""
        if name == part_name(GALLERY, part):
            return local_page(content, self._local_clips(part))
        if name == part_name(WORKBOOK, part):
            there = (clip for clip in self._clips.values() if clip.uri not in self.copied.missing)
            return local_workbook(content, {clip.key for clip in there})
        return content

    def _write_file(self, name: str, content: bytes, written: dict[str, str]) -> None:
        """Under its name, or under another one where a person has changed what was written here."""
        digest = hashlib.sha256(content).hexdigest()
        place = PurePosixPath(name)
        run = f"{place.stem}-{self._table.run_id}"
        others = (f"{run}-{number}{place.suffix}" for number in numbers_from(2))
        for candidate in chain((name, f"{run}{place.suffix}"), others):
            there = self._digest(candidate)
            if there in {"", digest, written.get(candidate)}:
                break
        if there != digest:
            self.folder.write(candidate, content)
        written[candidate] = digest
        self.copied.files.append(candidate)
        if candidate != name:
            self.copied.kept[name] = candidate

    def _digest(self, name: str) -> str:
        """Of a file in the folder; "" where there is none. Whatever else has its place is like a changed file."""
        path = self.folder.path(name)
        if not path.exists() and not path.is_symlink():
            return ""
        content = self.folder.read(name) if path.is_file() else None
        return "not ours" if content is None else hashlib.sha256(content).hexdigest()

    def _written(self) -> dict[str, str]:
        with suppress(ValueError, ReelsheetError):
            record = json.loads(self.folder.read(RECORD) or b"{}")
            if isinstance(record, dict):
                return {str(name): str(digest) for name, digest in record.items()}
        return {}

    def _local_clips(self, part: int) -> dict[int, list[str]]:
        """Row of the part → addresses of its clips relative to the folder, where all of them are there."""
        here = rows_of(part)
        return {
            position - here.start: [quote(clip.key) for clip in clips]
            for position, clips in self._table.clips.items()
            if position in here and not any(clip.uri in self.copied.missing for clip in clips)
        }


def wrong_place(error: StorageError) -> ConfigurationError | None:
    """Where a bucket does not exist, the command names a wrong one."""
    return ConfigurationError(str(error)) if error.code == "NoSuchBucket" else None
