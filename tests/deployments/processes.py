"""Processes and ports of this machine."""

import random
import socket
from contextlib import suppress
from pathlib import Path


def free_port() -> int:
    """A port that no other process gets by chance, so that a restarted server finds it free."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)  # below those of outgoing connections
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def descendants(pid: int) -> list[int]:
    """Children and their children, deepest last."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def is_running(pid: int) -> bool:
    """False also for a process that has ended and that its parent has not asked about yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}
