"""What all destinations share: stored objects, their content, keys and metadata."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import quote

CHUNK_BYTES: Final = 2**20  # read at once
PROBE_PREFIX: Final = ".reelsheet-probe-"  # keys of the objects that a probe writes and deletes
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


class Content(NamedTuple):
    """Equal for equal bytes."""

    size_bytes: int
    sha256: str  # hex


def measure(chunks: Iterable[bytes]) -> Content:
    """The size and digest of all chunks together."""
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size_bytes += len(chunk)
    return Content(size_bytes, digest.hexdigest())


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
