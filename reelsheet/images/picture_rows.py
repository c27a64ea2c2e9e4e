"""Rows whose pictures are files: each is looked for, checked, and known by its content from then on."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from reelsheet.errors import UsageError
from reelsheet.images.local_pictures import FoundPicture, PictureError, PictureFolder
from reelsheet.images.preflight import ImageCheck
from reelsheet.manifest import columns
from reelsheet.manifest.image_url import is_address, looks_like_file
from reelsheet.manifest.picture_file import PictureFile, uploaded
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode
from reelsheet.paths import expanded
from reelsheet.redaction import clean
from reelsheet.storage.destination import Destination

READ_AT_ONCE: Final = 4  # threads
READS_TOGETHER: Final = 8  # files of one thread between two signs of progress

Progress = Callable[[int, int], None]  # read so far, of how many


@dataclass(frozen=True, slots=True)
class Settled:
    """The rows, each with its picture or with what is wrong with it. `checks`: by the rows' addresses."""

    manifest: Manifest
    checks: Mapping[str, ImageCheck] = field(default_factory=dict)


def folders_of(options: Options, sheet: str) -> list[Path]:
    """Where the sheet's pictures may be: the folder of --pictures, then that of a sheet on this machine.

    `sheet` is where the rows were read; for a review file, the table of its run.

    Raises UsageError where --pictures names no folder.
    """
    folders = []
    if options.pictures is not None:
        if "://" in options.pictures:
            raise UsageError(
                "--pictures names a folder on this machine. Pictures that are in S3 or on the web need no upload: "
                "write their addresses into the sheet."
            )
        folders.append(expanded(options.pictures).absolute())
        if not folders[0].is_dir():
            raise UsageError(f"--pictures: there is no folder {clean(str(folders[0]))} on this machine.")
    if "://" not in sheet:
        folders.append(expanded(sheet.strip()).absolute().parent)
    return folders


async def settle(
    manifest: Manifest,
    folders: Sequence[Path],
    *,
    destination: Destination | None,
    on_progress: Progress = lambda _done, _of: None,
) -> Settled:
    """Look for the file of each row that names one. A row of a results file may take what its run uploaded."""
    rows = [row for row in manifest.rows if _names_file(row)]
    if not rows:
        return Settled(manifest)
    found = await _find_all(list(dict.fromkeys(row.image for row in rows)), folders, on_progress)
    label = columns.label(manifest.columns, manifest.roles["image"])
    settled = {row.position: _settled(row, found[row.image], label, destination) for row in rows}
    checks = {
        row.image: ImageCheck(picture=picture.picture)
        for row in settled.values()
        if row.picture is not None and isinstance(picture := found[row.picture.name], FoundPicture)
    }
    return Settled(replace(manifest, rows=tuple(settled.get(row.position, row) for row in manifest.rows)), checks)


def as_recorded(row: Row, label: str) -> Row:
    """A row of a results table with the picture that the table says it had, wherever its file is by now."""
    earlier = row.earlier
    if earlier is None or not _names_file(row):
        return row
    picture = uploaded(row.image, earlier.image_sha256, earlier.image_input)
    return row if picture is None else _with_picture(row, picture, label)


async def _find_all(
    names: Sequence[str], folders: Sequence[Path], on_progress: Progress
) -> dict[str, FoundPicture | PictureError | None]:
    """Each name's picture, or why there is none; None where there is no folder to look in."""
    homes = [PictureFolder(folder) for folder in folders]
    places, found = asyncio.Semaphore(READ_AT_ONCE), dict[str, FoundPicture | PictureError | None]()

    async def find(part: Sequence[str]) -> None:
        async with places:
            found.update(await asyncio.to_thread(lambda: {name: _find(name, homes) for name in part}))
            on_progress(len(found), len(names))

    async with asyncio.TaskGroup() as tasks:
        for start in range(0, len(names), READS_TOGETHER):
            tasks.create_task(find(names[start : start + READS_TOGETHER]))
    return found


def _find(name: str, homes: Sequence[PictureFolder]) -> FoundPicture | PictureError | None:
    """In the first folder that has it; else what the first one says."""
    first: PictureError | None = None
    for home in homes:
        try:
            return home.find(name)
        except PictureError as error:
            if error.code is ErrorCode.IMAGE_UNSUPPORTED:
                return error
            first = first or error
    return first


def _names_file(row: Row) -> bool:
    return bool(row.image and row.problems) and row.picture is None and not is_address(row.image)


def _settled(row: Row, found: FoundPicture | PictureError | None, label: str, destination: Destination | None) -> Row:
    earlier = row.earlier
    before = uploaded(row.image, earlier.image_sha256, earlier.image_input) if earlier else None
    if isinstance(found, FoundPicture):
        picture = PictureFile(
            row.image, found.sha256, found.ending, "", found.folder, found.path, found.picture.bytes_total or 0
        )
        if destination is not None and takes_pictures(destination):
            picture = replace(picture, uri=destination.uri(picture.key))
        elif before is not None and before.sha256 == found.sha256:
            picture = before
        row = replace(row, warnings=(*row.warnings, *found.warnings))
        return _with_picture(row, picture, label)
    if before is not None and (found is None or found.code is not ErrorCode.IMAGE_UNSUPPORTED):
        return _with_picture(row, before, label)
    if found is None or (found.code is ErrorCode.IMAGE_UNREACHABLE and not looks_like_file(row.image)):
        return replace(row, image="")  # what was said of it stays: it is no address
    others = _other_problems(row, label)
    message = str(found)
    words = message[0].lower() + message[1:] if message.startswith("The") else message
    return replace(
        row,
        image="",
        problems=(f"Column {label}: {words}", *others),
        problem_code=ErrorCode.INVALID_ROW if others else found.code,
    )


def _with_picture(row: Row, picture: PictureFile, label: str) -> Row:
    return replace(row, image=picture.address, picture=picture, problems=_other_problems(row, label))


def _other_problems(row: Row, label: str) -> tuple[str, ...]:
    return tuple(problem for problem in row.problems if not problem.startswith(f"Column {label}: "))


def takes_pictures(destination: Destination) -> bool:
    """The provider may fetch from there."""
    return destination.address.startswith("s3://")
