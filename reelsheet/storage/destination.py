"""Where clips and tables are stored: a bucket with a prefix, or a folder.

To add another kind of destination:

1. Write a class with the methods of `Destination` in a module of its own, as `folder_destination` does. It need not
   inherit from anything. Raise the exceptions of `storage.errors`, use `checked_key` and `portable_metadata` of
   `storage.stored_object`.
2. Add its scheme to `open_destination`.
3. Add it to the fixture `place` in tests/storage/conftest.py: what all kinds must do is tested with it.

Keys are relative and use "/" on every system ("videos/dress-3fa91c02.mp4"). An object becomes visible only when it is
complete and correct. All methods block (callers use threads) and may be called from several threads at once. They raise
StorageError; `probe` and `open_destination`, which run before any money is spent, raise ConfigurationError.
"""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from reelsheet.errors import ConfigurationError
from reelsheet.paths import expanded
from reelsheet.storage.errors import ObjectConflict, ObjectMissing, StorageError
from reelsheet.storage.folder_destination import FolderDestination
from reelsheet.storage.s3_destination import S3Destination, suggest_address
from reelsheet.storage.stored_object import NO_METADATA, Link, StoredObject, measure

TIDYING_LIMIT_S: Final = 3.0  # that a run waits for it


class Upload(Protocol):
    """An object on its way. Nothing is visible before `complete` returns."""

    def part(self, *pieces: bytes) -> None:
        """The next bytes, as many as the caller likes; a few MiB of them are held in memory. Raises StorageError."""
        ...

    def complete(self, sha256: str) -> StoredObject:
        """Make the object visible and prove that it is what was sent. `sha256`: of all its bytes, hex.

        The sha256 is added to the metadata, where the storage still can. Raises StorageError: ObjectExists where the
        upload was opened as `new` and something has the key, ObjectCorrupted where the proof fails.
        """
        ...

    def abort(self) -> None:
        """Leave nothing behind. Does nothing after `complete`. Never raises; may come from another thread."""
        ...


class Destination(Protocol):
    """What every kind of destination does. See the module's docstring."""

    @property
    def address(self) -> str:
        """The canonical address, without a slash at its end; it identifies the destination in the ledger."""
        ...

    @property
    def refuses_overwrite(self) -> bool:
        """An upload that is opened as `new` is known to fail with ObjectExists where something has the key."""
        ...

    def probe(self) -> tuple[str, ...]:
        """Try everything that a run will need, and clean up. Warnings, a sentence each. Raises ConfigurationError."""
        ...

    def uri(self, key: str) -> str:
        """The object's full address, as the results table shows it."""
        ...

    def key_of(self, uri: str) -> str | None:
        """The key of an address that `uri` made; None for an address that is not below this destination."""
        ...

    def listing(self, under: str = "") -> dict[str, int]:
        """Key → size in bytes of everything below the folder `under`; empty where there is no such folder."""
        ...

    def stat(self, key: str) -> StoredObject | None:
        """What is known of one object without reading it; None where there is none."""
        ...

    def read(self, key: str) -> bytes | None:
        """A small object's content (tables, pages); None where there is none."""
        ...

    def chunks(self, key: str) -> Iterator[bytes]:
        """An object's content, a piece at a time. Raises ObjectMissing."""
        ...

    def write(self, key: str, content: bytes, content_type: str, metadata: Mapping[str, str] = NO_METADATA) -> None:
        """Store a small object completely or not at all; replaces what is there."""
        ...

    def open_upload(self, key: str, content_type: str, metadata: Mapping[str, str], *, new: bool = False) -> Upload:
        """Begin to store an object of any size. Replaces what is there, except with `new` and `refuses_overwrite`."""
        ...

    def server_copy(
        self, source_uri: str, source: StoredObject, key: str, metadata: Mapping[str, str]
    ) -> StoredObject | None:
        """Store a copy without its bytes passing through this machine; None where that is not possible or not proven.

        `source` is what its destination's `stat` says of `source_uri`. `metadata` is all that the copy should carry.
        """
        ...

    def presign_get(self, key: str, seconds: float) -> Link:
        """An address that a browser can open without credentials for so long; its `ends_at` may be sooner."""
        ...

    def sweep(self) -> int:
        """Remove unfinished uploads that runs have left here long ago; how many. Never raises."""
        ...


def open_destination(address: str) -> Destination:
    """ "s3://bucket/prefix" or a folder (`~` is understood). Touches nothing. Raises ConfigurationError."""
    address = address.strip()
    if not address or "\0" in address:
        raise ConfigurationError("There is no destination: give a folder, or s3://bucket/prefix.")
    scheme, separator, rest = address.partition(":")
    if separator and scheme.lower() == "s3":
        return S3Destination.parse(address)
    if separator and scheme.lower() == "file" and rest.startswith("/"):
        return FolderDestination(Path(unquote(urlsplit(address).path)))
    if separator and rest.startswith("//"):
        hint = suggest_address(address)
        raise ConfigurationError(
            f"reelsheet cannot write to {scheme}:// addresses; give s3://bucket/prefix or a folder"
            + (f" (perhaps {hint})." if hint else ".")
        )
    folder = expanded(address)
    if str(folder).startswith("~") and not folder.exists():
        raise ConfigurationError(f"The home folder in {address!r} is not known; write the folder in full.")
    return FolderDestination(folder)


def tidy(destination: Destination) -> None:
    """Sweep, but do not wait for storage that hangs or has much to remove: it goes on beside the run."""
    sweeping = threading.Thread(target=destination.sweep, name="reelsheet-sweep", daemon=True)
    sweeping.start()
    sweeping.join(TIDYING_LIMIT_S)


def copy_between(
    source: Destination, source_key: str, target: Destination, key: str, metadata: Mapping[str, str]
) -> StoredObject:
    """Copy a clip from one destination to another, at no cost; a copy that is there already is kept.

    Raises ObjectMissing (no source), ObjectConflict (something else has the key), StorageError.
    """
    original, existing = source.stat(source_key), target.stat(key)
    if existing is not None:
        same_size = original is None or original.size_bytes == existing.size_bytes
        match existing.belongs_to(metadata):
            case True if same_size:
                return existing
            case True:
                pass  # ours, but incomplete: written again
            case None if original and same_size and measure(source.chunks(source_key)) == measure(target.chunks(key)):
                return existing
            case _:
                raise conflict(target, key)
    if original is None:
        raise ObjectMissing(f"{source.uri(source_key)} is not there any more, so it cannot be copied.")
    merged = {**original.metadata, **metadata}
    copied = target.server_copy(source.uri(source_key), original, key, merged)
    return copied or _copy_bytes(source, source_key, original, target, key, merged)


def conflict(destination: Destination, key: str) -> ObjectConflict:
    """The error that says: the key belongs to something else."""
    return ObjectConflict(
        f"{destination.uri(key)} exists and belongs to something else, so it is left as it is; "
        "move it away, or give the clips other names with --name, and repeat the command at no cost."
    )


def _copy_bytes(
    source: Destination,
    source_key: str,
    original: StoredObject,
    target: Destination,
    key: str,
    metadata: Mapping[str, str],
) -> StoredObject:
    """Through this machine, a part at a time; the size, and the sha256 where it is known, must agree."""
    upload = target.open_upload(key, "video/mp4", metadata)
    try:
        size_bytes, sha256 = measure(source.chunks(source_key), upload.part)
        if size_bytes != original.size_bytes or (metadata.get("sha256") or sha256) != sha256:
            raise StorageError(
                f"{source.uri(source_key)} does not hold what was stored there (its size or checksum differs), "
                "so it is not copied; the clip is fetched from the provider again, if it still has it."
            )
        return upload.complete(sha256)
    finally:
        upload.abort()
