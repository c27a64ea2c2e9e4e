"""The ledger's own order: a number for each run, claim and try, in the order in which they were committed.

Clocks of several machines differ, and each may be set; this order is the same for everybody.
"""

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from reelsheet.ledger.database import Database
from reelsheet.ledger.schema import counters, tries

CHUNK = 800  # identities a query; SQLite takes 999 variables at the least

_NAME = "sequence"
_NEXT = update(counters).where(counters.c.name == _NAME).values(value=counters.c.value + 1).returning(counters.c.value)
_TRIES = select(tries).where(tries.c.identity.in_(bindparam("_identities", expanding=True)))
_FORGET = delete(tries).where(tries.c.identity.in_(bindparam("_identities", expanding=True)))


def next_number(connection: Connection) -> int:
    """The next number; whoever asks as well waits until this transaction is over."""
    number = connection.execute(_NEXT).scalar()
    if number is None:
        connection.execute(insert(counters).values(name=_NAME, value=1))
        return 1
    return int(number)


class Tries:
    """When a run last took a step for a row that is no claim: a poll, a copy, a picture that could not be sent."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def mark_tried(self, identities: Collection[str]) -> None:
        """A run has tried these just now."""
        if identities:
            self._db.committed(_mark_tried, sorted(identities))

    def last_tries(self, identities: Iterable[str]) -> dict[str, int]:
        """identity → its number; those that were never tried are left out. The claims' numbers stand in attempts."""
        wanted = list(dict.fromkeys(identities))
        with self._db.read() as connection:
            return {
                row.identity: row.sequence
                for start in range(0, len(wanted), CHUNK)
                for row in connection.execute(_TRIES, {"_identities": wanted[start : start + CHUNK]})
            }


def _mark_tried(connection: Connection, identities: list[str]) -> None:
    number = next_number(connection)
    for start in range(0, len(identities), CHUNK):
        connection.execute(_FORGET, {"_identities": identities[start : start + CHUNK]})
    connection.execute(insert(tries), [{"identity": identity, "sequence": number} for identity in identities])
