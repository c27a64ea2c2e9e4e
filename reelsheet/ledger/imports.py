"""What the results tables under a destination say of attempts, taken into this ledger."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, delete, insert, select

from reelsheet.ledger import attempts
from reelsheet.ledger import schema as s
from reelsheet.ledger.database import Database
from reelsheet.ledger.records import Attempt, Delivery, ImportedAttempt
from reelsheet.ledger.schema import VACANT, State
from reelsheet.ledger.sequence import next_number

_VERDICTS = (State.COMPLETED, State.FAILED)


class Imports:
    """Takes attempts of other ledgers in; remembers which tables it has read."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def import_attempts(self, imports: Iterable[ImportedAttempt], *, adds_others: bool = False) -> int:
        """Take in what a destination says of attempts; how many were news.

        An attempt of ours without an id takes the id that a run of ours wrote down for it, one that was submitted the
        verdict. Nothing else of ours changes. `adds_others`: where ours failed or is unknown, another ledger's
        prediction under its number is a further attempt. That is for tables that no person can have changed.
        """
        ordered = sorted(imports, key=lambda one: (one.attempt.identity, one.attempt.number))
        known = self._db.committed(_add_new, ordered)
        # One by one: a transaction that locks several rows and then counters may deadlock with another.
        return len(ordered) - len(known) + sum(self._db.committed(_merge, *one, adds_others) for one in known)

    def imported_tables(self, destination: str) -> dict[str, str]:
        """key → version of the run tables under a destination that were read already."""
        i = s.imports.c
        query = select(i.key, i.version).where(i.destination == destination)
        return {row.key: row.version for row in self._db.fetch(query)}

    def remember_table(self, destination: str, key: str, version: str) -> None:
        """Another table needs no reading again while its version is this one."""
        self._db.committed(_remember, destination, key, version)


def _add_new(connection: Connection, imports: Sequence[ImportedAttempt]) -> list[ImportedAttempt]:
    """Insert what this ledger does not have; the rest."""
    known = []
    number = None
    for one in imports:
        if _same(connection, one.attempt) is not None:
            known.append(one)
            continue
        number = number or next_number(connection)
        ours = attempts.add(connection, replace(one.attempt, imported=True, sequence=number))
        attempts.add_deliveries(connection, ours.id, one.deliveries, overwrite=False)
    return known


def _merge(connection: Connection, theirs: Attempt, deliveries: Sequence[Delivery], adds_others: bool) -> bool:
    """What is said of an attempt that we have as well; True where it was news of money."""
    same = _same(connection, theirs)
    if same is None:
        return False
    ours = attempts.current(connection, same.id)
    has_id, news = theirs.prediction_id is not None, True
    if has_id and _lacks_id(connection, ours, theirs):
        attempts.move(
            connection, ours, theirs.state, prediction_id=theirs.prediction_id, quoted_cents=theirs.quoted_cents,
            submitted_at=theirs.submitted_at, completed_at=theirs.completed_at, error_code=theirs.error_code,
            error=theirs.error,
        )  # fmt: skip
    elif _is_paid_elsewhere(connection, ours, theirs):
        number = next_number(connection)
        attempts.overwrite(connection, replace(theirs, id=ours.id, number=ours.number, imported=True, sequence=number))
    elif adds_others and _is_made_elsewhere(ours, theirs):
        number = attempts.of_identity(connection, ours.identity)[-1].number + 1
        sequence = next_number(connection)
        ours = attempts.add(connection, replace(theirs, number=number, imported=True, sequence=sequence))
    elif not has_id or ours.prediction_id != theirs.prediction_id:
        return False
    else:
        news = False
        if ours.state == State.SUBMITTED and theirs.state in _VERDICTS:
            attempts.move(
                connection, ours, theirs.state, completed_at=theirs.completed_at or time.time(),
                error_code=theirs.error_code, error=theirs.error,
            )  # fmt: skip
    if has_id:
        attempts.add_deliveries(connection, ours.id, deliveries, overwrite=False)
    return news


def _lacks_id(connection: Connection, ours: Attempt, theirs: Attempt) -> bool:
    """True where theirs is the answer to ours: one that nobody recorded, also while its run still counts as alive."""
    if ours.state == State.UNKNOWN:
        return ours.imported or _is_our_run(connection, theirs.run_id)
    return ours.state == State.CLAIMED and ours.run_id == theirs.run_id


def _is_made_elsewhere(ours: Attempt, theirs: Attempt) -> bool:
    """True where another ledger paid for the same row, and ours came to nothing, so that theirs may be the clip."""
    is_other = theirs.prediction_id is not None and theirs.prediction_id != ours.prediction_id
    has_none = ours.state == State.FAILED or (ours.state == State.UNKNOWN and theirs.state != State.FAILED)
    return is_other and has_none and not ours.is_settled_by_hand


def _is_paid_elsewhere(connection: Connection, ours: Attempt, theirs: Attempt) -> bool:
    """True where ours cost nothing and another ledger paid for theirs, or may have.

    A table of our own run may say `unknown` of a row that was refused later: that is no news.
    """
    if theirs.prediction_id is not None:
        return ours.state in VACANT
    return ours.state == State.REFUSED and not _is_our_run(connection, theirs.run_id)


def _is_our_run(connection: Connection, run_id: str | None) -> bool:
    """Whether the run that wrote a table is one of this ledger's, so that it counts attempts as this ledger does."""
    return connection.execute(select(s.runs.c.run_id).where(s.runs.c.run_id == run_id)).first() is not None


def _same(connection: Connection, theirs: Attempt) -> Attempt | None:
    """The attempt that this ledger has for theirs: the same prediction, else the same number of the identity."""
    if theirs.prediction_id is not None and (holder := attempts.by_prediction(connection, theirs.prediction_id)):
        return holder
    a = s.attempts.c
    query = select(s.attempts).where(a.identity == theirs.identity, a.number == theirs.number)
    row = connection.execute(query).first()
    return None if row is None else Attempt(*row)


def _remember(connection: Connection, destination: str, key: str, version: str) -> None:
    i = s.imports.c
    connection.execute(delete(s.imports).where(i.destination == destination, i.key == key))
    connection.execute(insert(s.imports).values(destination=destination, key=key, version=version))
