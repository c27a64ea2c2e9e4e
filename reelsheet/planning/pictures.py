"""Pictures that are files, in the plan: can the provider fetch them, what is uploaded, which are there already."""

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from reelsheet.errors import ConfigurationError
from reelsheet.images import picture_rows
from reelsheet.images.picture_rows import takes_pictures
from reelsheet.images.preflight import ImageCheck, presigned_for_s
from reelsheet.ledger import State
from reelsheet.manifest import columns, picture_file
from reelsheet.manifest.identity import identity_of
from reelsheet.manifest.picture_file import PictureFile
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode
from reelsheet.planning.paid_cells import PaidCellsReader
from reelsheet.planning.plan import Plan, RowGroup, Step
from reelsheet.redaction import clean
from reelsheet.settings import Settings, is_loopback
from reelsheet.storage import s3_client
from reelsheet.storage.destination import Destination
from reelsheet.storage.errors import StorageError
from reelsheet.web.addresses import is_public
from reelsheet.words import counted

LOOKS_AT_ONCE: Final = 12  # at objects
_PUBLIC: Final = (".amazonaws.com", ".amazonaws.com.cn")
_MOMENT: Final = 60.0  # seconds between a link's wanted end and its real one that do not matter


@dataclass(frozen=True, slots=True)
class Settled:
    """The sheet with the files that were found; `options` name their folder. `checks`: by the rows' addresses."""

    options: Options
    manifest: Manifest
    checks: Mapping[str, ImageCheck]


async def settle(
    manifest: Manifest,
    reader: PaidCellsReader,
    progress: Callable[[str, int, int], None] | None,
    *,
    sheet: str,
) -> Settled:
    """Find the files that rows name. `sheet`: where the rows were read. Raises UsageError for a wrong --pictures."""
    options = reader.options
    folders = picture_rows.folders_of(options, sheet)
    settled = await picture_rows.settle(
        manifest,
        folders,
        destination=reader.destination,
        on_progress=lambda done, of: progress("picture files", done, of) if progress else None,
    )
    manifest = await asyncio.to_thread(_forget_renamed, settled.manifest, reader)
    if any(row.picture is not None and row.picture.folder for row in manifest.rows):
        options = replace(options, pictures=str(folders[0]))  # for who continues the run, or retries its rows
    return Settled(options, manifest, settled.checks)


def _forget_renamed(manifest: Manifest, reader: PaidCellsReader) -> Manifest:
    """A row of a results file that names another file now does not get what was uploaded for the one before."""
    uploaded = [
        (row, row.picture, identity_of(row, reader.settings), row.earlier.run_id)
        for row in manifest.rows
        if row.picture is not None and row.earlier is not None and not row.picture.folder
    ]
    before = reader.find({identity: [run_id] if run_id else [] for _, _, identity, run_id in uploaded})
    label = columns.label(manifest.columns, manifest.roles["image"])
    changed = {}
    for row, picture, identity, _ in uploaded:
        was = before[identity].row.picture if identity in before else None
        if was is not None and picture_file.comparable(was.name) != picture_file.comparable(picture.name):
            changed[row.position] = _renamed(row, picture.name, was.name, label)
    return replace(manifest, rows=tuple(changed.get(row.position, row) for row in manifest.rows))


def _renamed(row: Row, name: str, was: str, label: str) -> Row:
    problem = (
        f"Column {label}: there is no file {clean(name, limit=160)} here, and what was uploaded is"
        f" {clean(was, limit=160)}; name the folder with --pictures."
    )
    problems = (*row.problems, problem)
    code = ErrorCode.INVALID_ROW if row.problems else ErrorCode.IMAGE_UNREACHABLE
    return replace(row, image="", picture=None, problems=problems, problem_code=code)


def _files(groups: Iterable[RowGroup]) -> list[tuple[RowGroup, PictureFile]]:
    """Those whose picture is a file."""
    return [(group, group.row.picture) for group in groups if group.row.picture is not None]


def mark_uploaded(plan: Plan, destination: Destination | None) -> None:
    """Note in each group where its picture is already.

    One listing, where there are such groups, and one look at each object that would be sent to the provider.
    """
    files = _files(plan.groups.values())
    is_listed = destination is not None and any(destination.key_of(picture.uri) is not None for _, picture in files)
    sizes = destination.listing(picture_file.FOLDER) if destination is not None and is_listed else {}
    for group, picture in files:
        if not picture.folder or (picture.uri and sizes.get(picture.key) == picture.size_bytes):
            group.image_input = picture.uri
    if destination is not None:
        _forget_replaced([(group, picture) for group, picture in files if picture.folder], destination)


def _forget_replaced(files: Iterable[tuple[RowGroup, PictureFile]], destination: Destination) -> None:
    """Objects that are named after their content, but hold other content of the same size, are uploaded again."""
    uploaded = [file for file in files if file[0].image_input and file[0].is_chosen and _may_be_submitted(file[0])]

    def is_there(file: tuple[RowGroup, PictureFile]) -> bool:
        _, picture = file
        stored = destination.stat(picture.key)
        return stored is not None and stored.holds(picture.size_bytes, picture.sha256)

    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        for (group, _), there in zip(uploaded, pool.map(is_there, uploaded), strict=True):
            if not there:
                group.image_input = ""


def to_upload(plan: Plan) -> list[RowGroup]:
    """The groups whose pictures must be uploaded before they can be submitted, in row order."""
    groups = (group for group, _ in _files(plan.groups.values()) if not group.image_input)
    return [group for group in groups if group.is_chosen and _may_be_submitted(group)]


def _may_be_submitted(group: RowGroup) -> bool:
    """Now, or where another process that is submitting it comes to nothing."""
    is_claimed = group.latest is not None and group.latest.state == State.CLAIMED
    return group.step is Step.SUBMIT or (group.step is Step.POLL and is_claimed)


def check(plan: Plan, destination: Destination | None, settings: Settings) -> None:
    """Note what is uploaded already. Raises ConfigurationError where the provider could not fetch the rest."""
    mark_uploaded(plan, destination)
    files = _files(plan.at_step(Step.SUBMIT))
    if not files or destination is None:
        return
    if any(not group.image_input for group, _ in files) and not takes_pictures(destination):
        raise ConfigurationError(
            f"{_are_files(files)}, uploaded for the provider, so the destination must be in S3: give "
            f"--to s3://bucket/prefix instead of {clean(destination.address)}, or put the pictures online and write "
            "their addresses into the sheet. Nothing was spent."
        )
    endpoint, api = s3_client.endpoint(), settings.base_url
    if _is_private(endpoint) and not _is_private(api):
        raise ConfigurationError(
            f"{_are_files(files)}, but the provider at {api} cannot fetch them from {endpoint}, which is on this "
            "machine or in a private network: use an S3 that the internet reaches, or put the pictures online and "
            "write their addresses into the sheet. Nothing was uploaded or spent."
        )


def notes(plan: Plan, destination: Destination | None, options: Options, affordable: int) -> Iterator[str]:
    """What the plan says of uploads and of links that end too soon. `affordable`: how many clips the caps pay for."""
    files = _files(plan.at_step(Step.SUBMIT)[:affordable])
    if not files:
        return
    if destination is None:
        yield f"{_are_files(files)}, uploaded for the provider; that needs --to s3://bucket/prefix."
        return
    sizes = {picture.key: picture.size_bytes for group, picture in files if not group.image_input}
    if sizes:
        what = f"{counted(len(sizes), 'picture')} ({sum(sizes.values()) / 1e6:,.1f} MB)"
        yield f"{what} will be uploaded to {destination.uri(picture_file.FOLDER)} before they are submitted."
    yield from _links_that_end(files[0][1], destination, options)


def _links_that_end(picture: PictureFile, destination: Destination, options: Options) -> Iterator[str]:
    """Where the credentials end before the provider must have fetched the picture."""
    if destination.key_of(picture.uri) is None:
        return
    try:
        link = destination.presign_get(picture.key, presigned_for_s(options.deadline_seconds))
    except StorageError:  # the probe, or the submission, says so
        return
    needed = datetime.now(UTC) + timedelta(seconds=options.deadline_seconds + 3600 - _MOMENT)
    if link.ends_at is not None and link.ends_at < needed:
        minutes = max(0, round((link.ends_at - datetime.now(UTC)).total_seconds() / 60))
        yield (
            f"The AWS credentials end in {minutes:,} minutes, and with them the provider's access to pictures that are "
            "submitted just before; use credentials that last longer than the run."
        )


def _are_files(files: Iterable[tuple[RowGroup, PictureFile]]) -> str:
    """Rows may share a file."""
    count = len({picture.sha256 for _, picture in files})
    return "1 picture of the sheet is a file" if count == 1 else f"{count:,} pictures of the sheet are files"


def _is_private(url: str) -> bool:
    """The host is this machine, or every address of it is in a private network; False where nobody knows.

    Amazon's names are public, though a private network may give them addresses of its own (VPC endpoints).
    """
    host = urlsplit(url).hostname or ""
    if host.endswith(_PUBLIC):
        return False
    if is_loopback(host) or host.endswith(".localhost"):
        return True
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return bool(entries) and not any(is_public(str(entry[4][0])) for entry in entries)
