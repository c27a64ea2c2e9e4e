"""`my-bucket/x` without `s3://`: a bucket, or a folder to be made? A new folder would take the clips without a word."""

import re
from pathlib import Path
from typing import Final

from reelsheet.errors import UsageError
from reelsheet.paths import expanded

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_FOLDERS: Final = frozenset(  # first words of new folders, which nobody takes for a bucket
    (
        *("out", "output", "outputs", "dest", "destination", "clips", "videos", "results", "reels", "renders"),
        *("export", "exports", "runs", "tmp", "temp", "test", "tests", "data", "build", "dist", "local", "home"),
    )
)


def is_doubtful(address: str) -> bool:
    """True where it reads like a bucket with a prefix, and no folder of that name is there."""
    first, slash, rest = address.strip().partition("/")
    if not slash or not rest.strip("/") or first in _FOLDERS or not _BUCKET.fullmatch(first):
        return False
    return not (Path(first).exists() or expanded(address.strip()).exists())


def as_bucket(address: str) -> str:
    return f"s3://{address.strip()}"


def as_folder(address: str) -> str:
    return f"./{address.strip()}"


def refuse_doubtful(address: str) -> None:
    """Raise UsageError where it may be meant either way."""
    if is_doubtful(address):
        raise UsageError(
            f"There is no folder {address.strip()}. Did you mean the bucket {as_bucket(address)}, or a new folder,"
            f" {as_folder(address)}? Write it like that. Nothing was spent."
        )
