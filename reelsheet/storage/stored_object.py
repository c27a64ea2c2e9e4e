"""What all destinations share: stored objects, their content, keys and metadata."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import quote

from reelsheet.storage.errors import StorageError

CHUNK_BYTES: Final = 2**20  # read at once
LARGEST_READ_BYTES: Final = 2**30  # of a table or page; the largest sheet has a quarter of that
PROBE_PREFIX: Final = ".reelsheet-probe-"  # keys of the objects that a probe writes and deletes
NO_METADATA: Final[Mapping[str, str]] = MappingProxyType({})
_PROOF: Final = ("identity", "attempt", "prediction-id")  # metadata that says whose clip an object is


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A complete object at a destination. `modified` is UTC-aware; `metadata` is as `portable_metadata` made it."""

    size_bytes: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    modified: datetime | None = None

    def belongs_to(self, metadata: Mapping[str, str]) -> bool | None:
        """True: this very clip. False: another clip. None: the object does not say."""
        if "identity" not in self.metadata:
            return None
        wanted = portable_metadata(metadata)
        return all(self.metadata.get(name) == wanted[name] for name in _PROOF if name in wanted)

    def holds(self, size_bytes: int, sha256: str) -> bool:
        """This very content, as far as the object says: by its size alone, where its metadata has no sha256."""
        return self.size_bytes == size_bytes and self.metadata.get("sha256", sha256) == sha256


class Link(NamedTuple):
    """An address that a browser can open. `ends_at`: until when, at the latest; None for ever."""

    url: str
    ends_at: datetime | None = None


class Content(NamedTuple):
    """Equal for equal bytes."""

    size_bytes: int
    sha256: str  # hex


def measure(chunks: Iterable[bytes], take: Callable[[bytes], object] = lambda _chunk: None) -> Content:
    """The size and digest of all chunks together; `take` gets each of them."""
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size_bytes += len(chunk)
        take(chunk)
    return Content(size_bytes, digest.hexdigest())


def joined(chunks: Iterable[bytes], uri: str) -> bytes:
    """A table or page in one piece. Raises StorageError for what is far larger than any."""
    content, size_bytes = [], 0
    for chunk in chunks:
        content.append(chunk)
        size_bytes += len(chunk)
        if size_bytes > LARGEST_READ_BYTES:
            raise StorageError(
                f"{uri} has more than {LARGEST_READ_BYTES >> 20:,} MB, too much for a table of reelsheet; "
                "move it away and repeat the command."
            )
    return b"".join(content)


def checked_key(key: str) -> str:
    """`key`, if it stays below the destination on every system. Raises ValueError: a fault of this program."""
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in key or any(ord(letter) < 32 for letter in key):
        raise ValueError(f"not a key below a destination: {key!r}")
    return key


def portable_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Lower-case names and printable ASCII values, which every S3 keeps; anything else is percent-encoded."""
    return {
        name.lower(): quote(value, safe="!#$&'()*+,/:;=?@[]~ \"<>^`{|}%").strip()[:500]
        for name, value in metadata.items()
        if value
    }
