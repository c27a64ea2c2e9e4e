"""Paths as people write them."""

import os
from pathlib import Path


def expanded(path: str) -> Path:
    """`~` and `~user` as their folders. Any other name that begins with `~`, such as Excel's `~$brief.xlsx`, stays."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises where there is no such user
