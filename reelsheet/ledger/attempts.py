"""The table of attempts inside a transaction: read and lock, insert, and move to another state with the money.

Statements are built once, because building one takes longer than running it. Their parameters that are not columns
begin with an underscore; every other value that is given is a column to set.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from reelsheet.errors import LedgerError
from reelsheet.ledger import budget
from reelsheet.ledger.records import Attempt, Delivery, Money
from reelsheet.ledger.schema import State, attempts, deliveries

_OF_IDENTITY = (
    select(attempts).where(attempts.c.identity == bindparam("_identity")).order_by(attempts.c.number).with_for_update()
)
_BY_ID = select(attempts).where(attempts.c.id == bindparam("_id")).with_for_update()
_BY_PREDICTION = select(attempts).where(attempts.c.prediction_id == bindparam("_prediction"))
_INSERT = insert(attempts)
_CHANGE = update(attempts).where(attempts.c.id == bindparam("_id"))
_DELETE_DELIVERY = delete(deliveries).where(
    deliveries.c.attempt_id == bindparam("_attempt"),
    deliveries.c.destination == bindparam("_destination"),
    deliveries.c.output == bindparam("_output"),
)
_INSERT_DELIVERY = insert(deliveries)


def of_identity(connection: Connection, identity: str) -> list[Attempt]:
    """In order of their numbers, locked."""
    return [Attempt(*row) for row in connection.execute(_OF_IDENTITY, {"_identity": identity})]


def find(connection: Connection, attempt_id: int) -> Attempt | None:
    """The attempt as it stands now, locked."""
    row = connection.execute(_BY_ID, {"_id": attempt_id}).first()
    return None if row is None else Attempt(*row)


def current(connection: Connection, attempt_id: int) -> Attempt:
    """The same. Raises LedgerError where it is gone."""
    attempt = find(connection, attempt_id)
    if attempt is None:
        raise LedgerError("An attempt has vanished from the ledger; restore it from its backup before going on.")
    return attempt


def by_prediction(connection: Connection, prediction_id: str) -> Attempt | None:
    """The attempt that has this id of the provider's."""
    row = connection.execute(_BY_PREDICTION, {"_prediction": prediction_id}).first()
    return None if row is None else Attempt(*row)


def add(connection: Connection, attempt: Attempt) -> Attempt:
    """Insert it; the same with its id. No money moves."""
    key = connection.execute(_INSERT, _columns(attempt)).inserted_primary_key
    assert key is not None  # noqa: S101 - SQLAlchemy gives it for a single insert
    return replace(attempt, id=key[0])


def overwrite(connection: Connection, attempt: Attempt) -> None:
    """Replace every column of the row with this id. No money moves."""
    connection.execute(_CHANGE, {"_id": attempt.id, **_columns(attempt)})


def move(connection: Connection, attempt: Attempt, state: State, **values: Any) -> Attempt:
    """Change the state, and `values` with it; the run's and the day's money follows."""
    moved = replace(attempt, state=state, **values)
    connection.execute(_CHANGE, {"_id": attempt.id, "state": state, **values})
    if not attempt.imported:
        change = Money(*[after - before for before, after in zip(attempt.money, moved.money, strict=True)])
        budget.shift(connection, attempt, change)
    return moved


def add_deliveries(connection: Connection, attempt_id: int, rows: Sequence[Delivery], *, overwrite: bool) -> None:
    """Insert deliveries. One of the same destination and output is replaced where `overwrite`, else it stands."""
    d = deliveries.c
    known = set()
    if not overwrite:
        query = select(d.destination, d.output).where(d.attempt_id == attempt_id)
        known = {(row.destination, row.output) for row in connection.execute(query)}
    for delivery in rows:
        if (delivery.destination, delivery.output) in known:
            continue
        if overwrite:
            same = {"_attempt": attempt_id, "_destination": delivery.destination, "_output": delivery.output}
            connection.execute(_DELETE_DELIVERY, same)
        values = {name: getattr(delivery, name) for name in Delivery.__slots__ if name != "attempt"}
        connection.execute(_INSERT_DELIVERY, values | {"attempt_id": attempt_id, "delivered_at": time.time()})


def has_deliveries(connection: Connection, attempt_id: int) -> bool:
    """Whether an output of it was stored anywhere."""
    return connection.execute(select(deliveries.c.id).where(deliveries.c.attempt_id == attempt_id)).first() is not None


def _columns(attempt: Attempt) -> dict[str, Any]:
    return {name: getattr(attempt, name) for name in Attempt.__slots__ if name != "id"}
