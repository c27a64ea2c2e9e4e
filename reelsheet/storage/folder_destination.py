"""Files below one folder. Each is written beside its place, synced to the disk, and renamed into it."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from reelsheet.errors import ConfigurationError
from reelsheet.storage.errors import ObjectConflict, ObjectMissing, StorageError
from reelsheet.storage.stored_object import (
    CHUNK_BYTES,
    NO_METADATA,
    PROBE_PREFIX,
    Link,
    StoredObject,
    checked_key,
    joined,
    portable_metadata,
)

STALE_FILE_S: Final = 3600.0  # an unfinished file that is older belongs to no run
SCARCE_BYTES: Final = 2**30  # fewer free bytes are a warning

_HIDDEN_PREFIX: Final = ".reelsheet-"
_XATTR: Final = "user.reelsheet"  # a file's metadata, where system and file system know such a thing


class FolderDestination:
    """A folder, made at the first write. A file's metadata is a bonus: the runs' tables prove deliveries.

    It may come from somebody else. So nothing is read that would be waited for (pipes, devices), and no link to a file
    outside of it is followed, which would carry that file to another destination.
    """

    refuses_overwrite = False  # looking at a file first costs nothing

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))  # which, unlike Path.resolve, takes links in a circle

    @property
    def address(self) -> str:
        return str(self.root)

    def probe(self) -> tuple[str, ...]:
        """Make the folder; write, read, overwrite and delete a small file in it."""
        key = f"{PROBE_PREFIX}{secrets.token_hex(8)}"
        try:
            self.try_folders("videos", "runs")
            for size in (1024, 1000):
                content = secrets.token_bytes(size)
                self.write(key, content, "application/octet-stream")
                if self.read(key) != content:
                    raise ConfigurationError(f"{self.root} does not keep what is written to it; use another folder.")
            disk = os.statvfs(self.root)
        except StorageError as error:
            raise ConfigurationError(str(error)) from error
        finally:
            with contextlib.suppress(OSError):
                (self.root / key).unlink(missing_ok=True)
        if (free_bytes := disk.f_bavail * disk.f_frsize) < SCARCE_BYTES:
            return (f"Only {free_bytes / 10**6:,.0f} MB are free in {self.root}; a clip takes 1 to 8 MB.",)
        return ()

    def try_folders(self, *names: str) -> None:
        """Make the folder, and try it and those of `names` in it that are there. Raises StorageError."""
        with disk_errors("writing", self.root, self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        for folder in (self.root, *(self.root / name for name in names)):
            if os.path.lexists(folder):
                with disk_errors("writing", folder, self.root):
                    tempfile.TemporaryFile(dir=folder).close()

    def uri(self, key: str) -> str:
        return str(self.path(key))

    def key_of(self, uri: str) -> str | None:
        path = Path(unquote(urlsplit(uri).path) if uri.startswith("file://") else uri)
        if not path.is_absolute() or ".." in path.parts or not path.is_relative_to(self.root) or path == self.root:
            return None
        return path.relative_to(self.root).as_posix()

    def listing(self, under: str = "") -> dict[str, int]:
        """Hidden files and folders are left out, and whatever is no file of this folder."""
        sizes: dict[str, int] = {}
        top = self.root / under.strip("/")
        with disk_errors("reading", top, self.root):
            for folder, folders, names in os.walk(top, onerror=_raise_unless_missing):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in names:
                    if not name.startswith("."):
                        path = Path(folder, name)
                        with contextlib.suppress(FileNotFoundError):  # deleted just now, or a link to nowhere
                            if stat.S_ISREG((status := path.stat()).st_mode) and not self._leads_out(path):
                                sizes[path.relative_to(self.root).as_posix()] = status.st_size
        return sizes

    def stat(self, key: str) -> StoredObject | None:
        path = self.path(key)
        try:
            with disk_errors("reading", path, self.root):
                status = path.stat()
        except ObjectMissing:
            return None
        self._refuse_others(path, status)
        return StoredObject(
            size_bytes=status.st_size,
            metadata=_read_metadata(path),
            modified=datetime.fromtimestamp(status.st_mtime, UTC),
        )

    def read(self, key: str) -> bytes | None:
        try:
            return joined(self.chunks(key), self.uri(key))
        except ObjectMissing:
            return None

    def chunks(self, key: str) -> Iterator[bytes]:
        path = self.path(key)
        with disk_errors("reading", path, self.root), open(path, "rb", opener=_open_at_once) as file:
            self._refuse_others(path, os.fstat(file.fileno()))
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def write(self, key: str, content: bytes, content_type: str, metadata: Mapping[str, str] = NO_METADATA) -> None:
        upload = self.open_upload(key, content_type, metadata)
        try:
            upload.part(content)
            upload.complete(hashlib.sha256(content).hexdigest())
        finally:
            upload.abort()

    def open_upload(
        self,
        key: str,
        content_type: str,  # noqa: ARG002 - a file's name tells its type
        metadata: Mapping[str, str],
        *,
        new: bool = False,  # noqa: ARG002 - see `refuses_overwrite`
    ) -> "FolderUpload":
        return FolderUpload(self.path(key), self.root, metadata)

    def server_copy(self, *_args: object, **_kwargs: object) -> None:
        """A folder has no server."""

    def presign_get(self, key: str, seconds: float) -> Link:  # noqa: ARG002 - a file's address does not end
        return Link(self.path(key).as_uri())

    def sweep(self) -> int:
        """Delete our unfinished files that nothing was written to for an hour."""
        deleted = 0
        before = time.time() - STALE_FILE_S
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name.startswith(_HIDDEN_PREFIX):
                    path = Path(folder, name)
                    with contextlib.suppress(OSError):
                        if path.stat().st_mtime < before:
                            path.unlink()
                            deleted += 1
        return deleted

    def _refuse_others(self, path: Path, status: os.stat_result) -> None:
        """Raise ObjectConflict for what is no file of this folder."""
        if not stat.S_ISREG(status.st_mode):
            raise _no_file(path)
        if self._leads_out(path):
            raise ObjectConflict(
                f"{path} is a link to a file outside {self.root}, which is not followed; "
                "put the file itself there and repeat the command."
            )

    def _leads_out(self, path: Path) -> bool:
        """Folders may be links, to another disk for example."""
        if not path.is_symlink():
            return False
        target = path.resolve()
        return not (target.is_relative_to(self.root) or target.is_relative_to(path.parent.resolve()))

    def path(self, key: str) -> Path:
        """Where the object is. Raises ValueError for a key that would leave the folder."""
        return self.root / checked_key(key)


class FolderUpload:
    """A hidden file in the same folder, synced to the disk and then renamed."""

    def __init__(self, path: Path, root: Path, metadata: Mapping[str, str]) -> None:
        self._path = path
        self._root = root
        self._metadata = dict(metadata)
        self._temporary = path.with_name(f"{_HIDDEN_PREFIX}{secrets.token_hex(8)}.part")
        self._file: FileIO | None = None
        self._size_bytes = 0
        self._closed = False
        self._lock = threading.Lock()

    def part(self, *pieces: bytes) -> None:
        with self._open() as file:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[file.write(rest) :]
                self._size_bytes += len(piece)

    def complete(self, sha256: str) -> StoredObject:
        with self._open() as file:
            merged = portable_metadata({**self._metadata, "sha256": sha256})
            _write_metadata(file.fileno(), merged)
            os.fsync(file.fileno())
            size_bytes = os.fstat(file.fileno()).st_size
            if size_bytes != self._size_bytes:
                raise StorageError(
                    f"{self._path} has {size_bytes:,} bytes instead of {self._size_bytes:,}.", transient=True
                )
            file.close()
            if self._path.exists() and not self._path.is_file():
                raise _no_file(self._path)
            self._temporary.replace(self._path)
            self._closed = True
            _sync_folder(self._path.parent)
            return StoredObject(size_bytes, merged, modified=datetime.now(UTC))

    def abort(self) -> None:
        with self._lock:
            if not self._closed and self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.close()
                with contextlib.suppress(OSError):
                    self._temporary.unlink(missing_ok=True)
            self._closed = True

    @contextlib.contextmanager
    def _open(self) -> Iterator[FileIO]:
        with self._lock, disk_errors("writing", self._path, self._root):
            if self._closed:
                raise StorageError(f"The upload of {self._path} was given up.")
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = FileIO(self._temporary, "x")
            yield self._file


@contextlib.contextmanager
def disk_errors(action: str, path: Path, root: Path) -> Iterator[None]:
    """Turn OSErrors into StorageErrors; `action` is "reading" or "writing"."""
    try:
        yield
    except OSError as error:
        raise _storage_error(error, action, path, root) from error


def _storage_error(error: OSError, action: str, path: Path, root: Path) -> StorageError:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR if action == "reading":
            return ObjectMissing(f"{path} is not there any more.")
        case errno.ENOSPC | errno.EDQUOT:
            return StorageError(
                f"The disk of {root} is full; make room, or choose another destination, and repeat the command.",
                systemic=True,
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return StorageError(
                f"{action.capitalize()} {path} is not permitted; make {root} writable, or choose another destination.",
                systemic=True,
            )
        case errno.ENAMETOOLONG:
            return StorageError(
                f"The name {path.name[:40]}… is too long for this disk; give a shorter one, a clip's with --name."
            )
        case errno.ENOTDIR | errno.EEXIST:  # the next clip may meet it too
            return StorageError(f"{path} cannot be written: a file is where a folder should be; move that file away.")
        case errno.EISDIR:
            return _no_file(path)
        case _:
            reason = error.strerror or type(error).__name__
            advice = "check the disk, or choose another destination" if action == "writing" else "check the disk"
            return StorageError(f"{action.capitalize()} {path} failed ({reason}); {advice}.", systemic=True)


def _no_file(path: Path) -> ObjectConflict:
    """A folder, pipe or device: root could replace even /dev/null by a file."""
    return ObjectConflict(f"{path} is not a file, but one should be there; move it and repeat the command.")


def _open_at_once(name: str, flags: int) -> int:
    """Without waiting for a pipe's other end."""
    return os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _write_metadata(descriptor: int, metadata: Mapping[str, str]) -> None:
    if metadata and hasattr(os, "setxattr"):
        with contextlib.suppress(OSError):
            os.setxattr(descriptor, _XATTR, json.dumps(dict(metadata)).encode())


def _read_metadata(path: Path) -> dict[str, str]:
    if hasattr(os, "getxattr"):
        with contextlib.suppress(OSError, ValueError):
            metadata = json.loads(os.getxattr(path, _XATTR))
            if isinstance(metadata, dict):
                return {str(name): str(value) for name, value in metadata.items()}
    return {}


def _sync_folder(folder: Path) -> None:
    """So that the new name survives a power cut; some file systems cannot, and need not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
