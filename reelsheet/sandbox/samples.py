"""The sample manifest and its pictures."""

from pathlib import Path
from typing import Final

ADDRESS: Final = "http://127.0.0.1:8780"  # where `reelsheet sandbox` serves the pictures by default


def folder() -> Path:
    return Path(__file__).resolve().parents[2] / "data"


def picture(name: str) -> Path | None:
    path = folder() / "pictures" / name
    return path if path.is_file() and path.parent == folder() / "pictures" else None
