"""A run's shards: which process has which, how often each was begun, and why one stopped.

A shard belongs to one living process at a time; a dead process's shard may be taken by any other.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Update, delete, insert, select, update

from reelsheet.ledger import schema as s
from reelsheet.ledger.database import Database
from reelsheet.ledger.lease import Lease

_c = s.shards.c


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A range of the manifest's positions, both ends included. `alive`: a living process has it."""

    number: int
    first_position: int
    last_position: int
    tries: int
    owner: str | None
    flow_run_id: str | None
    finished_at: float | None
    stop_code: str | None
    stop_error: str | None
    alive: bool

    @property
    def finished(self) -> bool:
        return self.finished_at is not None


class ShardStop(NamedTuple):
    """Why a process of the run stopped submitting."""

    code: str
    error: str


class Shards:
    """Every method is one transaction. Numbers begin at 1."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._db = database
        self._lease = lease

    def lay_out(self, run_id: str, ranges: Sequence[tuple[int, int]]) -> list[ShardRecord]:
        """Divide a run into ranges of positions, once: an earlier division stands."""
        self._db.committed(_lay_out, run_id, ranges)
        return self.of_run(run_id)

    def of_run(self, run_id: str) -> list[ShardRecord]:
        """Every shard of a run, in order; [] where it was never divided."""
        columns = [_c[name] for name in ShardRecord.__slots__[:-1]]
        with self._db.read() as connection:
            rows = connection.execute(select(*columns).where(_c.run_id == run_id).order_by(_c.number)).all()
            dead = {owner: self._lease.is_dead(connection, owner) for owner in {row.owner for row in rows} if owner}
        return [
            ShardRecord(**row._asdict(), alive=bool(row.owner) and row.finished_at is None and not dead[row.owner])
            for row in rows
        ]

    def store_rows(self, run_id: str, number: int, content: bytes | None) -> None:
        """Put a shard's rows where every worker finds them; None where it has none left to do, which finishes it."""
        finished = {"finished_at": time.time()} if content is None else {}
        self._db.execute(_change(run_id, number).values(content=content, **finished))

    def stored_rows(self, run_id: str, number: int) -> bytes | None:
        """The rows as `store_rows` was given them."""
        rows = self._db.fetch(select(_c.content).where(_c.run_id == run_id, _c.number == number))
        return rows[0].content if rows else None

    def begin_try(self, run_id: str, number: int) -> int:
        """Open a shard once more for whoever takes it; which try this is, from 1."""
        return self._db.committed(_begin_try, run_id, number)

    def take(self, run_id: str, number: int, flow_run_id: str | None) -> bool:
        """Make a shard this process's own; False where it is finished or another living process has it."""
        return self._db.committed(self._take, run_id, number, flow_run_id)

    def _take(self, connection: Connection, run_id: str, number: int, flow_run_id: str | None) -> bool:
        row = connection.execute(
            select(_c.owner, _c.finished_at).where(_c.run_id == run_id, _c.number == number).with_for_update()
        ).first()
        if row is None or row.finished_at is not None:
            return False
        own_id = self._lease.owner.id
        if row.owner not in {None, own_id} and not self._lease.is_dead(connection, row.owner):
            return False
        taken = {"owner": own_id, "flow_run_id": flow_run_id, "started_at": time.time()}
        connection.execute(_change(run_id, number).values(**taken))
        return True

    def finish(self, run_id: str, number: int) -> None:
        """Every row of this process's shard went as far as it gets for now."""
        self._change_own(run_id, number, finished_at=time.time(), content=None)

    def give_back(self, run_id: str, number: int) -> None:
        """Leave this process's shard unfinished for another process."""
        self._change_own(run_id, number, owner=None)

    def mark_stop(self, run_id: str, number: int | None, code: str, error: str) -> None:
        """Tell a run's other processes why nothing more is to be submitted. `number` None: on every shard."""
        self._db.execute(_change(run_id, number).where(_c.stop_code.is_(None)).values(stop_code=code, stop_error=error))

    def clear_stops(self, run_id: str) -> None:
        """The run begins again: what stopped it before may have been put right."""
        self._db.execute(_change(run_id).values(stop_code=None, stop_error=None))

    def stop_of(self, run_id: str) -> ShardStop | None:
        """The stop that any process of the run has marked."""
        query = select(_c.stop_code, _c.stop_error).where(_c.run_id == run_id, _c.stop_code.is_not(None))
        rows = self._db.fetch(query.order_by(_c.number).limit(1))
        return ShardStop(rows[0].stop_code, rows[0].stop_error or "") if rows else None

    def delete(self, run_id: str) -> None:
        """The run is no longer divided."""
        self._db.execute(delete(s.shards).where(_c.run_id == run_id))

    def _change_own(self, run_id: str, number: int, **values: Any) -> None:
        self._db.execute(_change(run_id, number).where(_c.owner == self._lease.owner.id).values(**values))


def _change(run_id: str, number: int | None = None) -> Update:
    """An update of one shard, or of all."""
    statement = update(s.shards).where(_c.run_id == run_id)
    return statement if number is None else statement.where(_c.number == number)


def _lay_out(connection: Connection, run_id: str, ranges: Sequence[tuple[int, int]]) -> None:
    known = connection.execute(select(_c.number).where(_c.run_id == run_id).limit(1)).first()
    if known is None and ranges:
        rows = [
            {"run_id": run_id, "number": number, "first_position": first, "last_position": last, "tries": 0}
            for number, (first, last) in enumerate(ranges, 1)
        ]
        connection.execute(insert(s.shards), rows)


def _begin_try(connection: Connection, run_id: str, number: int) -> int:
    fresh = dict.fromkeys(("owner", "flow_run_id", "finished_at", "stop_code", "stop_error"))
    connection.execute(_change(run_id, number).values(tries=_c.tries + 1, **fresh))
    return int(connection.execute(select(_c.tries).where(_c.run_id == run_id, _c.number == number)).scalar_one())
