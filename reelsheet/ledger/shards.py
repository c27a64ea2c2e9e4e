"""A run's shards in the ledger: who is at which, how often it was begun, and why one stopped.

A shard belongs to one living process at a time; a dead owner's shard may be taken by anybody.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from reelsheet.ledger import schema as s
from reelsheet.ledger.ledger import Ledger
from reelsheet.ledger.schema import State


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """A range of the manifest's positions, both ends included. `alive`: a living process is at it."""

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


def lay_out(ledger: Ledger, run_id: str, ranges: Sequence[tuple[int, int]]) -> list[ShardRecord]:
    """Divide a run, once: where it is divided already, that division stands. Numbers begin at 1."""
    with ledger.write() as connection:
        there = connection.execute(select(s.shards.c.number).where(s.shards.c.run_id == run_id).limit(1)).first()
        if there is None and ranges:
            connection.execute(
                insert(s.shards),
                [
                    {"run_id": run_id, "number": number, "first_position": first, "last_position": last, "tries": 0}
                    for number, (first, last) in enumerate(ranges, 1)
                ],
            )
    return shards(ledger, run_id)


def shards(ledger: Ledger, run_id: str) -> list[ShardRecord]:
    """Every shard of a run, in order; [] where it was never divided."""
    with ledger.read() as connection:
        columns = [column for column in s.shards.c if column.name != "content"]
        rows = connection.execute(select(*columns).where(s.shards.c.run_id == run_id).order_by(s.shards.c.number)).all()
        dead = {owner: ledger.is_dead(connection, owner) for owner in {row.owner for row in rows} if owner}
    return [
        _shard(row, alive=row.owner is not None and row.finished_at is None and not dead[row.owner]) for row in rows
    ]


def fill(ledger: Ledger, run_id: str, number: int, content: bytes | None) -> None:
    """Put a shard's rows where every worker finds them; None where it has none left to do, which finishes it."""
    values: dict[str, Any] = {"content": content}
    if content is None:
        values["finished_at"] = time.time()
    with ledger.write() as connection:
        connection.execute(
            update(s.shards).where(s.shards.c.run_id == run_id, s.shards.c.number == number).values(**values)
        )


def content(ledger: Ledger, run_id: str, number: int) -> bytes | None:
    """The rows of a shard as `fill` was given them."""
    with ledger.read() as connection:
        return connection.execute(
            select(s.shards.c.content).where(s.shards.c.run_id == run_id, s.shards.c.number == number)
        ).scalar_one_or_none()


def begin_try(ledger: Ledger, run_id: str, number: int) -> int:
    """Open a shard once more for whoever takes it; which try this is, from 1."""
    with ledger.write() as connection:
        connection.execute(
            update(s.shards)
            .where(s.shards.c.run_id == run_id, s.shards.c.number == number)
            .values(
                tries=s.shards.c.tries + 1, owner=None, flow_run_id=None, finished_at=None, stop_code=None,
                stop_error=None,
            )
        )  # fmt: skip
        return int(
            connection.execute(
                select(s.shards.c.tries).where(s.shards.c.run_id == run_id, s.shards.c.number == number)
            ).scalar_one()
        )


def take(ledger: Ledger, run_id: str, number: int, flow_run_id: str | None) -> bool:
    """Make a shard this process's own; False where it is finished or another living process has it."""
    with ledger.write() as connection:
        row = connection.execute(
            select(s.shards.c.owner, s.shards.c.finished_at)
            .where(s.shards.c.run_id == run_id, s.shards.c.number == number)
            .with_for_update()
        ).first()
        if row is None or row.finished_at is not None:
            return False
        if row.owner not in {None, ledger.owner.id} and not ledger.is_dead(connection, row.owner):
            return False
        connection.execute(
            update(s.shards)
            .where(s.shards.c.run_id == run_id, s.shards.c.number == number)
            .values(owner=ledger.owner.id, flow_run_id=flow_run_id, started_at=time.time())
        )
        return True


def finish(ledger: Ledger, run_id: str, number: int) -> None:
    """Every row of the shard went as far as it gets for now."""
    with ledger.write() as connection:
        connection.execute(
            update(s.shards)
            .where(s.shards.c.run_id == run_id, s.shards.c.number == number, s.shards.c.owner == ledger.owner.id)
            .values(finished_at=time.time(), content=None)
        )


def give_back(ledger: Ledger, run_id: str, number: int) -> None:
    """Leave a shard unfinished for another process."""
    with ledger.write() as connection:
        connection.execute(
            update(s.shards)
            .where(s.shards.c.run_id == run_id, s.shards.c.number == number, s.shards.c.owner == ledger.owner.id)
            .values(owner=None)
        )


def mark_stop(ledger: Ledger, run_id: str, number: int | None, code: str, error: str) -> None:
    """Tell a run's other processes why nothing more is to be submitted. `number` None: on every shard."""
    with ledger.write() as connection:
        query = update(s.shards).where(s.shards.c.run_id == run_id, s.shards.c.stop_code.is_(None))
        if number is not None:
            query = query.where(s.shards.c.number == number)
        connection.execute(query.values(stop_code=code, stop_error=error))


def clear_stops(ledger: Ledger, run_id: str) -> None:
    """The run begins anew: what stopped it before may have been put right."""
    with ledger.write() as connection:
        connection.execute(update(s.shards).where(s.shards.c.run_id == run_id).values(stop_code=None, stop_error=None))


def stop_of(ledger: Ledger, run_id: str) -> tuple[str, str] | None:
    """(code, error) of a stop that any process of the run has marked."""
    with ledger.read() as connection:
        row = connection.execute(
            select(s.shards.c.stop_code, s.shards.c.stop_error)
            .where(s.shards.c.run_id == run_id, s.shards.c.stop_code.is_not(None))
            .order_by(s.shards.c.number)
            .limit(1)
        ).first()
    return None if row is None else (row.stop_code, row.stop_error or "")


def forget(ledger: Ledger, run_id: str) -> None:
    """The run is not divided any more."""
    with ledger.write() as connection:
        connection.execute(delete(s.shards).where(s.shards.c.run_id == run_id))


def forget_notes(ledger: Ledger, run_id: str, first: int, last: int) -> None:
    """What was said of these positions is said anew."""
    with ledger.write() as connection:
        connection.execute(delete(s.notes).where(s.notes.c.run_id == run_id, s.notes.c.position.between(first, last)))


def no_answers(ledger: Ledger, run_id: str, most: int) -> int:
    """How many of the run's latest submissions, wherever they left from, have no definite answer (up to `most`)."""
    a = s.attempts.c
    with ledger.read() as connection:
        states = connection.execute(
            select(a.state)
            .where(a.run_id == run_id, a.state.not_in([State.CLAIMED, State.ABANDONED]))
            .order_by(a.claimed_at.desc())
            .limit(most)
        ).scalars()
        streak = 0
        for state in states:
            if state != State.UNKNOWN:
                break
            streak += 1
    return streak


def _shard(row: Row[Any], *, alive: bool) -> ShardRecord:
    return ShardRecord(
        row.number, row.first_position, row.last_position, row.tries, row.owner, row.flow_run_id, row.finished_at,
        row.stop_code, row.stop_error, alive,
    )  # fmt: skip
