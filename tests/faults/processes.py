"""Processes of the command that tests start: wait for them, and find their children."""

import time
from collections.abc import Callable
from pathlib import Path


def until(what: Callable[[], object], seconds: float = 200.0) -> None:
    """Wait until `what` is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def children_of(pid: int, name: str) -> list[int]:
    """The processes that `pid` has started and whose command line holds `name`."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                line = (path / "cmdline").read_text()
            except (OSError, ValueError):
                continue
            if parent == pid and name in line:
                found.append(int(path.name))
    return found
