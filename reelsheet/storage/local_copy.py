"""Copies of objects in a folder on this machine: only what is missing or differs, and nothing outside the folder."""

import contextlib
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from reelsheet.errors import UsageError
from reelsheet.storage.destination import Destination, Upload
from reelsheet.storage.errors import ObjectConflict, ObjectCorrupted, StorageError
from reelsheet.storage.folder_destination import FolderDestination
from reelsheet.storage.stored_object import Content, checked_key, measure

TRIES: Final = 3  # of one object whose bytes stop in the middle, which botocore does not repeat


class LocalCopy:
    """One folder. Names in it are relative, with "/". A file appears when it is complete.

    Raises StorageError as destinations do. `abort` may come from another thread, and from a signal handler while this
    thread does not write.
    """

    def __init__(self, root: Path) -> None:
        self._folder = FolderDestination(root)
        self._uploads: set[Upload] = set()
        self._is_aborted = False

    @property
    def root(self) -> Path:
        return self._folder.root

    def check(self, names: Iterable[str]) -> None:
        """Raises UsageError where the folder cannot take them: a file or a link is in the way."""
        if self.root.exists() and not self.root.is_dir():
            raise UsageError(f"{self.root} is a file, not a folder; name another folder.")
        try:
            for folder in {Path(name).parent for name in names}:
                self._refuse_links(str(folder / "x"))
        except ObjectConflict as error:
            raise UsageError(str(error)) from error

    def path(self, name: str) -> Path:
        """Where a file is. Raises ValueError for a name that would leave the folder."""
        return self.root / checked_key(name)

    def has(self, name: str, size_bytes: int, sha256: str = "") -> bool:
        """Whether this very content is there; without a sha256, a file of this size."""
        path = self.path(name)
        if any(parent.is_symlink() for parent in self._parents(name)) or not _is_file(path, size_bytes):
            return False
        return not sha256 or measure(self._folder.chunks(name)).sha256 == sha256

    def read(self, name: str) -> bytes | None:
        """A small file; None where there is none, or where it is a link."""
        path = self.path(name)
        is_link = path.is_symlink() or any(parent.is_symlink() for parent in self._parents(name))
        return None if is_link else self._folder.read(name)

    def write(self, name: str, content: bytes) -> None:
        """A small file, in place of what is there."""
        self._refuse_links(name)
        self._store(name, [content], measure([content]), name)

    def download(self, source: Destination, key: str, name: str, size_bytes: int, sha256: str = "") -> None:
        """An object of another destination. Raises ObjectMissing, and ObjectCorrupted where it is not what it should
        be."""
        self._refuse_links(name)
        for left in reversed(range(TRIES)):
            try:
                self._store(name, source.chunks(key), Content(size_bytes, sha256), source.uri(key))
            except StorageError as error:
                if not (error.transient and left) or isinstance(error, ObjectCorrupted):
                    raise
            else:
                return

    def _store(self, name: str, chunks: Iterable[bytes], expected: Content, shown: str) -> None:
        upload = self._folder.open_upload(name, "", {})
        self._uploads.add(upload)

        def take(chunk: bytes) -> None:
            upload.part(chunk)
            if self._is_aborted:
                raise StorageError("It was interrupted.")

        try:
            size_bytes, sha256 = measure(chunks, take)
            if (size_bytes, sha256) != (expected.size_bytes, expected.sha256 or sha256):
                raise ObjectCorrupted(f"{shown} does not hold what was stored there (its size or checksum differs).")
            upload.complete(sha256)
        finally:
            upload.abort()
            self._uploads.discard(upload)

    def sweep(self) -> None:
        """Delete unfinished clips that a killed process left long ago."""
        videos = self.root / "videos"
        if not videos.is_symlink():
            FolderDestination(videos).sweep()

    def abort(self) -> None:
        """Leave no unfinished file behind. Nothing can be written after it that was being written."""
        self._is_aborted = True
        for upload in list(self._uploads):
            upload.abort()

    def _parents(self, name: str) -> list[Path]:
        """The folders on the way to a file, below the root."""
        return [self.root / parent for parent in Path(name).parents if str(parent) != "."]

    def _refuse_links(self, name: str) -> None:
        for folder in self._parents(name):
            if folder.is_symlink():
                raise ObjectConflict(
                    f"{folder} is a link, and nothing is written through it; remove it, or name another folder."
                )
            if folder.exists() and not folder.is_dir():
                raise ObjectConflict(f"{folder} is a file where a folder should be; move it, or name another folder.")


def _is_file(path: Path, size_bytes: int) -> bool:
    """A file of this size, and no link to one."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        return stat.S_ISREG(status.st_mode) and status.st_size == size_bytes
    return False
