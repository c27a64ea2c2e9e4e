"""Which process holds a claim, known by machine, boot, process id and start, and for how long: its lease."""

import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from reelsheet.ledger.database import Database
from reelsheet.ledger.schema import State, attempts, owners

LEASE_SECONDS = 60.0
HEARTBEAT_SECONDS = 10.0
MARGIN_SECONDS = 3.0  # a POST leaves this long before the lease ends, or not at all
FORGET_SECONDS = 7 * 86_400.0  # after which a process that is gone and holds no claim leaves the table


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


class Lease:
    """The lease of this process on its claims, and whether another process's is over."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.owner = Owner.this_process()
        self._ends_at = 0.0  # on awake_and_asleep
        self._clock_ahead_s = 0.0  # the ledger's clock, of awake_and_asleep

    def renew(self) -> None:
        """Renew it by LEASE_SECONDS from now. A claim keeps the end that was known when it was made."""
        before = awake_and_asleep()
        renewed_at = self._db.committed(self._renew)
        self._ends_at = before + LEASE_SECONDS
        self._clock_ahead_s = renewed_at - awake_and_asleep()

    def now(self) -> float:
        """The time by the ledger's clock, as of the latest heartbeat: this machine's may differ."""
        return awake_and_asleep() + self._clock_ahead_s

    def post_by(self) -> float:
        """Until when (awake_and_asleep) a POST may leave; renews a lease whose heartbeat is late."""
        if self._ends_at - awake_and_asleep() < LEASE_SECONDS / 2:
            self.renew()
        return self._ends_at - MARGIN_SECONDS

    def share(self, account: str | None, in_flight: int) -> list[int]:
        """Say how many predictions are in flight here; how many are, in each other process that wants more.

        `account`: a hash of the provider's address and key; None where this process wants no more.
        """
        return self._db.committed(self._share, account, in_flight)

    def release(self) -> None:
        """End it now."""
        self._db.execute(update(owners).where(owners.c.id == self.owner.id).values(expires_at=0.0, awake_until=0.0))

    def is_dead(self, connection: Connection, owner_id: str | None) -> bool:
        """True where an owner's lease is over, or its process surely gone."""
        if owner_id == self.owner.id:
            return False
        row = connection.execute(select(owners).where(owners.c.id == owner_id)).first()
        if row is None:
            return True
        owner = Owner(row.id, row.host, row.boot, row.pid, row.started)
        if self._db.is_sqlite and owner.shares_clock():  # whatever has been done to the machine's calendar since
            is_over = bool(row.awake_until <= awake_and_asleep())
        else:
            is_over = bool(row.expires_at <= self._db.now(connection))
        return is_over or owner.surely_dead()

    def dead_owners(self, connection: Connection) -> frozenset[str]:
        """The owners of claims whose processes are dead."""
        query = select(attempts.c.owner).where(attempts.c.state == State.CLAIMED).distinct()
        holding = connection.execute(query).scalars().all()
        return frozenset(owner for owner in holding if owner != self.owner.id and self.is_dead(connection, owner))

    def _share(self, connection: Connection, account: str | None, in_flight: int) -> list[int]:
        mine = owners.c.id == self.owner.id
        connection.execute(update(owners).where(mine).values(account=account, in_flight=in_flight))
        if account is None:
            return []
        is_alive = owners.c.expires_at > self._db.now(connection)
        others = select(owners.c.in_flight).where(owners.c.account == account, is_alive, ~mine)
        return list(connection.execute(others).scalars())

    def _renew(self, connection: Connection) -> float:
        now = self._db.now(connection)
        expires_at = now + LEASE_SECONDS
        lease = {"expires_at": expires_at, "awake_until": awake_and_asleep() + LEASE_SECONDS}
        if connection.execute(update(owners).where(owners.c.id == self.owner.id).values(**lease)).rowcount:
            return now
        connection.execute(insert(owners).values(**asdict(self.owner), **lease))
        holding = select(attempts.c.owner).where(attempts.c.state == State.CLAIMED, attempts.c.owner.is_not(None))
        is_old = owners.c.expires_at < expires_at - FORGET_SECONDS
        connection.execute(delete(owners).where(is_old, owners.c.id.not_in(holding)))
        return now


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
