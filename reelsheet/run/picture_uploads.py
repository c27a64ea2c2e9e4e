"""Pictures that are files, on their way to the destination: in row order, some at once, each a moment before its row.

Nothing is paid for a row whose picture is not there. A picture that was uploaded before is not uploaded again.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from reelsheet import messages
from reelsheet.errors import LedgerError
from reelsheet.images.local_pictures import PictureError, PictureFolder
from reelsheet.manifest.picture_file import CONTENT_TYPES, PictureFile
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning.pictures import to_upload
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.run.caps import Caps
from reelsheet.run.context import RunContext
from reelsheet.run.stop_control import StopControl
from reelsheet.run.threads import Threads
from reelsheet.storage.errors import StorageError

log = logging.getLogger("reelsheet")

UPLOADS_AT_ONCE: Final = 8
FAILURE_STREAK: Final = 5  # uploads in a row that storage refused, before the run stops
LOOK_S: Final = 0.2  # between two looks whether the run has stopped


class PictureUploads:
    """The uploads of one run. `on_progress`: uploaded so far, of how many.

    Pictures of the first rows that the caps pay for are uploaded ahead; others when there is money for their rows.
    """

    def __init__(
        self,
        context: RunContext,
        stops: StopControl,
        caps: Caps,
        on_progress: Callable[[int, int], None] = lambda _done, _of: None,
    ) -> None:
        self._plan, self._destination = context.plan, context.destination
        self._stops, self._caps, self._on_progress = stops, caps, on_progress
        self._groups: dict[str, list[RowGroup]] = {}  # by key, in row order
        for group in to_upload(context.plan):
            if group.row.picture is not None:
                self._groups.setdefault(group.row.picture.key, []).append(group)
        self._places = asyncio.Semaphore(UPLOADS_AT_ONCE)
        self._uploads: dict[str, asyncio.Task[Exception | None]] = {}  # by key
        self._ahead: asyncio.Task[None] | None = None
        self._threads = Threads(UPLOADS_AT_ONCE, "reelsheet-pictures") if self._groups else None
        self._folders: dict[str, PictureFolder] = {}
        self._done = self._failures = 0

    def begin(self) -> None:
        """Start; what is under way ends with `close`."""
        self._ahead = asyncio.create_task(self._begin())

    async def _begin(self) -> None:
        """Those of rows that are paid for if nothing is refused."""
        try:
            clips = await self._caps.clips_left() if self._groups else 0
        except LedgerError:  # the next claim says so
            return
        for group in self._plan.at_step(Step.SUBMIT)[:clips]:
            if group.row.picture is not None and group.row.picture.key in self._groups:
                self._start(group.row.picture.key)

    async def ready(self, group: RowGroup) -> bool:
        """Wait for the group's picture; False where it could not be uploaded, which its outcome says.

        True as soon as the run stops: nothing is submitted then.
        """
        picture = group.row.picture
        if picture is None or group.image_input or picture.key not in self._groups:
            return True
        if self._ahead is not None:
            await self._until_done(self._ahead)
        while picture.key not in self._uploads and not self._stops.is_stopping:
            if await self._caps.has_room(group.identity):
                self._start(picture.key)
        upload = self._uploads.get(picture.key)
        if upload is not None:
            await self._until_done(upload)
        error = upload.result() if upload is not None and upload.done() else None
        if isinstance(error, PictureError):
            group.leave(Step.REFUSE, Status.INVALID, error.code, str(error))
        elif error is not None:
            group.leave(Step.REFUSE, Status.SKIPPED, ErrorCode.STORAGE, messages.not_uploaded(error))
        return error is None

    async def finish(self) -> None:
        """Upload all of them: other machines, which have no files, submit the rows."""
        for key in self._groups:
            self._start(key)
        for groups in self._groups.values():
            for group in groups:
                await self.ready(group)

    async def close(self) -> None:
        """Begin no other upload; after a signal, wait for none."""
        tasks = [*self._uploads.values(), *([self._ahead] if self._ahead else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._threads is not None:
            self._threads.close(wait=self._stops.signal is None)

    async def _until_done(self, task: asyncio.Task[Any]) -> None:
        """Or until the run stops."""
        while not task.done() and not self._stops.is_stopping:
            await asyncio.wait({task}, timeout=LOOK_S)

    def _start(self, key: str) -> None:
        if key not in self._uploads:
            self._uploads[key] = asyncio.create_task(self._in_turn(key))
            self._on_progress(self._done, len(self._uploads))

    async def _in_turn(self, key: str) -> Exception | None:
        async with self._places:
            error = None if self._stops.is_stopping else await self._upload(key)
        self._done += 1
        self._on_progress(self._done, len(self._uploads))
        return error

    async def _upload(self, key: str) -> Exception | None:
        """None, or why it failed."""
        groups = self._groups[key]
        picture = groups[0].row.picture
        assert picture is not None and self._threads is not None  # noqa: S101, PT018 - chosen so
        try:
            await self._threads.call(self._send, picture)
        except PictureError as error:
            return error
        except StorageError as error:
            self._failures += 1
            if self._failures >= FAILURE_STREAK:
                self._stops.stop(ErrorCode.STORAGE, messages.not_uploaded(error))
            return error
        except Exception as error:
            log.exception("Unexpected error while a picture was uploaded.")
            return error
        self._failures = 0
        for group in groups:
            group.image_input = picture.uri
        return None

    def _send(self, picture: PictureFile) -> None:
        folder = self._folders.setdefault(picture.folder, PictureFolder(Path(picture.folder)))
        content = folder.read(picture.path, picture.sha256)
        content_type = CONTENT_TYPES[picture.ending]
        self._destination.write(picture.key, content, content_type, {"sha256": picture.sha256})
