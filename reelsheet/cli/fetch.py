"""`fetch`: a run's clips, results and gallery onto this machine."""

import re
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from reelsheet import settings
from reelsheet.cli import print_json, print_message
from reelsheet.cli.interrupts import interrupts
from reelsheet.display.waiting import Waiting
from reelsheet.errors import Stopped, UsageError
from reelsheet.paths import expanded
from reelsheet.words import counted

if TYPE_CHECKING:
    from reelsheet.results.run_copy import Copied
    from reelsheet.storage.destination import Destination

SHOWN: Final = 5  # clips that are missing
_RUN: Final = re.compile(r"\d{8}(-\d{0,6}(-[0-9a-f]{0,32})?)?")  # an id or its beginning
_RUN_FOLDER: Final = re.compile(r"(.+?)/runs/(\d{8}-\d{6}-[0-9a-f]{4,32})(?:/[^/]*)?")
_INTERRUPTED: Final = "Interrupted. What was fetched stays; the same command again fetches the rest."


def fetch(run_or_dest: str, folder: str | None, *, as_json: bool) -> int:
    """Copy what is missing. 1 where a clip is missing, else 0. Raises Stopped where the storage is away."""
    from reelsheet.results import run_copy
    from reelsheet.storage.errors import StorageError
    from reelsheet.storage.local_copy import LocalCopy

    settings.load()
    with Waiting("Reading the results") as waiting:
        try:
            destination, run_id = _run_of(run_or_dest.strip())
            run_id = run_id or run_copy.latest_run(destination)
            table = run_copy.run_table(destination, run_id)
            copying = run_copy.RunCopy(destination, table, LocalCopy(_folder(folder, destination)))
            interrupts.message, interrupts.tidy = _INTERRUPTED, copying.folder.abort
            copied = copying.copy(
                lambda done, total, size: waiting("Fetching clips", f"{done:,} of {total:,}, {size / 1e6:,.1f} MB")
            )
        except StorageError as error:
            raise run_copy.wrong_place(error) or error from error
    root = copying.folder.root
    exit_code = 3 if copied.stopped_because else 1 if copied.missing else 0
    for name, new in copied.kept.items():
        print_message(f"{root / name} was changed by a person and is kept; the new one is {new}.")
    for uri, reason in list(copied.missing.items())[:SHOWN] if not copied.stopped_because else ():
        print_message(f"Not fetched: {uri}. {reason}")
    if len(copied.missing) > SHOWN and not copied.stopped_because:
        print_message(f"Nor were {len(copied.missing) - SHOWN:,} more clips.")
    if as_json:
        print_json(_json(copied, destination, root) | {"exit_code": exit_code})
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(copied, destination, root))
    if copied.stopped_because:
        raise Stopped(f"{copied.stopped_because} What was fetched stays; the same command again fetches the rest.")
    return exit_code


def _run_of(source: str) -> "tuple[Destination, str]":
    """Where a run is, and its id; "" stands for the latest there."""
    from reelsheet.storage.destination import open_destination

    if in_folder := _RUN_FOLDER.fullmatch(source.rstrip("/")):
        return open_destination(in_folder[1]), in_folder[2]
    if not _RUN.fullmatch(source) or Path(source).is_dir():
        return open_destination(source), ""
    from reelsheet.cli.status import find_run
    from reelsheet.ledger import Ledger

    with closing(Ledger.open(settings.load().ledger_url)) as ledger:
        try:
            record = find_run(source, ledger)
        except UsageError as error:
            raise UsageError(f"{error} Or give the run's destination in its place.") from error
    return open_destination(record.destination), record.run_id


def _folder(named: str | None, destination: "Destination") -> Path:
    """The folder that takes the copy. Raises UsageError where that is the destination itself."""
    if named is not None and (not named.strip() or "\0" in named):
        raise UsageError("FOLDER is empty; name a folder, or leave it out.")
    from reelsheet.results.run_copy import usual_folder

    home = destination.address
    folder = (Path(usual_folder(home)) if named is None else expanded(named)).resolve()
    if not home.startswith("s3://") and folder.is_relative_to(home):
        raise UsageError(f"{folder} is in the destination itself ({home}); name another folder.")
    return folder


def _lines(copied: "Copied", destination: "Destination", root: Path) -> Iterator[str]:
    from reelsheet.redaction import visible
    from reelsheet.results.run_copy import GALLERY, TABLE

    parts = [f"{copied.fetched:,} fetched ({copied.bytes / 1e6:,.1f} MB)"]
    parts += [f"{copied.present:,} there already"] * bool(copied.present)
    parts += [f"{len(copied.missing):,} missing"] * bool(copied.missing)
    yield f"Run {copied.run_id} of {visible(destination.address)}"
    yield f"{counted(copied.clips, 'clip')}: {', '.join(parts)}"
    if copied.rows_without_clip:
        yield f"{counted(copied.rows_without_clip, 'row')} without a clip; results.csv says why"
    if copied.stopped_because:
        return
    if copied.clips > len(copied.missing):
        yield f"Clips    {root / 'videos'}"
    yield f"Results  {root / copied.kept.get(TABLE, TABLE)}"
    if GALLERY in copied.files:
        yield f"Gallery  {root / GALLERY}  (open it in a browser: it plays these clips)"
    elif GALLERY in copied.kept:
        yield f"Gallery  {root / copied.kept[GALLERY]}"
    else:
        yield f"There is no gallery of this version; `reelsheet report {copied.run_id}` writes it, then fetch again."


def _json(copied: "Copied", destination: "Destination", root: Path) -> dict[str, Any]:
    """Keys of `fetch --json`; sizes in bytes."""
    from reelsheet.results.run_copy import GALLERY, TABLE

    gallery = copied.kept.get(GALLERY, GALLERY)
    return {
        "run_id": copied.run_id,
        "destination": destination.address,
        "folder": str(root),
        "clips": copied.clips,
        "fetched": copied.fetched,
        "present": copied.present,
        "missing": copied.missing,
        "rows_without_clip": copied.rows_without_clip,
        "bytes": copied.bytes,
        "results": str(root / copied.kept.get(TABLE, TABLE)) if copied.files else None,
        "gallery": str(root / gallery) if gallery in copied.files else None,
        "kept": copied.kept,
    }
