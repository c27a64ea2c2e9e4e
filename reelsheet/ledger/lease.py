"""Who holds a claim: one process, known by machine, boot, process id and start, alive while its lease is."""

import os
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

LEASE_SECONDS = 60.0
HEARTBEAT_SECONDS = 10.0
MARGIN_SECONDS = 3.0  # a POST leaves this long before the lease ends, or not at all


def awake_and_asleep() -> float:
    """Seconds on a clock that no one can set and that goes on while the machine sleeps (where there is one)."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


@dataclass(frozen=True, slots=True)
class Owner:
    """A process as the ledger knows it."""

    id: str
    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> "Owner":
        """A new owner for the running process."""
        return cls(uuid.uuid4().hex, _host(), _boot(), os.getpid(), _started(os.getpid()))

    def surely_dead(self) -> bool:
        """True where this machine can tell that the process is gone; False says nothing."""
        if self.host != _host() or not self.boot:
            return False
        if self.boot != _boot():
            return True
        started = _started(self.pid)
        return started != self.started if started else not _exists(self.pid)

    def shares_clock(self) -> bool:
        """True where `awake_and_asleep` counts from the same moment there as here."""
        return bool(self.boot) and self.boot == _boot()


def _host() -> str:
    # Containers share a boot id but not process ids, so the namespace belongs to the name.
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{socket.gethostname()} {namespace}".strip()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _exists(pid: int) -> bool:
    """Where /proc does not show a process, it may only be hidden from us (another user's)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _started(pid: int) -> str:
    """The process's start in ticks since boot, "ended" for a zombie, "" where nothing can be told."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "ended" if fields[0] in {"Z", "X"} else fields[19]
