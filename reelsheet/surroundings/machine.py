"""This machine: folders, time zone, memory, threads, open files."""

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from reelsheet.errors import ConfigurationError
from reelsheet.settings import state_home
from reelsheet.surroundings import problems as wrong
from reelsheet.surroundings.network import reason
from reelsheet.surroundings.problems import Problem

NEEDED_BYTES: Final = 5_000_000  # of a folder, for tables and databases
ADDRESSES_NEEDED_BYTES: Final = 1_500_000_000  # a run of 40 rows has 1.45 GB of them
FILE_NEEDED_BYTES: Final = 100_000_000  # a clip has up to 8 MB; the databases grow with every run
THREADS_NEEDED: Final = 24  # as many has a run of 40 rows
FILES_WANTED: Final = 4096
FILES_OF_A_LARGE_RUN: Final = 256
FILES_AT_REST: Final = 36
FILES_OF_A_ROW: Final = 4
# As the C library reads it without a file: std offset [dst [offset] [,rules]]
_POSIX_ZONE: Final = re.compile(
    r"([A-Za-z]{3,}|<[\w+-]{3,}>)[+-]?\d{1,3}(:\d+){0,2}"
    r"(([A-Za-z]{3,}|<[\w+-]{3,}>)([+-]?\d{1,3}(:\d+){0,2})?(,[JM\d./:+-]+){0,2})?"
)


def state_folder() -> Iterator[Problem]:
    """Where the ledger is, if no other place is named."""
    try:
        state = state_home()
    except ConfigurationError:
        yield wrong.HOME_UNKNOWN()
        return
    if why := why_unusable(state):
        yield wrong.STATE_FOLDER(path=state, reason=why)


def temporary_folder() -> Iterator[Problem]:
    """TMPDIR, or one of the usual places where that cannot be used."""
    try:
        tempfile.gettempdir()
    except OSError as error:
        yield wrong.TEMPORARY_FOLDER(reason=reason(error))


def why_unusable(folder: Path) -> str:
    """Why nothing can be written into a folder, which is made where it is missing; "" where it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
        free_bytes = shutil.disk_usage(folder).free
    except FileExistsError:
        return "it is no folder"
    except OSError as error:
        return reason(error)
    return "" if free_bytes >= NEEDED_BYTES else f"only {free_bytes / 1e6:.1f} MB are free"


def time_zone() -> Iterator[Problem]:
    """A TZ that the C library does not know is silently taken for UTC, and what people read is then wrong."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    given = os.environ.get("TZ", "")
    name = given.removeprefix(":")
    if not name or _POSIX_ZONE.fullmatch(name) or (name.startswith("/") and Path(name).is_file()):
        return
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield wrong.TIME_ZONE(zone=given)


def limits() -> Iterator[Problem]:
    """Of addresses and of a file's size: they would end a run in the middle, wherever it happens to be."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows has no such limit
        return
    for kind, what, needed_bytes in (
        (wrong.MEMORY, resource.RLIMIT_AS, ADDRESSES_NEEDED_BYTES),
        (wrong.FILE_SIZE, resource.RLIMIT_FSIZE, FILE_NEEDED_BYTES),
    ):
        limit_bytes, _ = resource.getrlimit(what)
        if limit_bytes != resource.RLIM_INFINITY and limit_bytes < needed_bytes:
            yield kind(limit=f"{limit_bytes / 1e6:,.1f}", needed=f"{needed_bytes / 1e6:,.0f}")


def threads() -> Iterator[Problem]:
    """Try as many as a run has; what limits them may be a user's limit or a container's."""
    end, started = threading.Event(), []
    try:
        for _ in range(THREADS_NEEDED):
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        pass
    end.set()
    for thread in started:
        thread.join()
    if len(started) < THREADS_NEEDED:
        yield wrong.THREADS(limit=len(started), needed=THREADS_NEEDED)


def open_files(rows: int) -> Iterator[Problem]:
    """Raise this process's limit as far as it may; too few for `rows` at once are a problem."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES_WANTED:
        wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = min(FILES_OF_A_LARGE_RUN, FILES_AT_REST + FILES_OF_A_ROW * rows)
    if soft != resource.RLIM_INFINITY and soft < needed:
        yield wrong.OPEN_FILES(limit=soft, needed=needed)
