"""What the ledger knows of identities: their attempts and deliveries. Nothing here writes."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam, func, select

from reelsheet.ledger import schema as s
from reelsheet.ledger.database import Database
from reelsheet.ledger.lease import Lease
from reelsheet.ledger.records import (
    BY_HAND,
    Attempt,
    AttemptMoney,
    Delivery,
    IdentityHistory,
    LedgerCounts,
    money_of,
)
from reelsheet.ledger.schema import PAID, VACANT, State
from reelsheet.ledger.sequence import CHUNK

_ATTEMPTS = (
    select(s.attempts)
    .where(s.attempts.c.identity.in_(bindparam("_identities", expanding=True)))
    .order_by(s.attempts.c.number)
)
_DELIVERIES = (
    select(s.attempts.c.identity, s.attempts.c.number, *[s.deliveries.c[name] for name in Delivery.__slots__[1:]])
    .join(s.attempts, s.attempts.c.id == s.deliveries.c.attempt_id)
    .where(s.attempts.c.identity.in_(bindparam("_identities", expanding=True)))
)


class Histories:
    """Answers about identities, attempts and deliveries."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._db = database
        self._lease = lease

    def histories(self, identities: Iterable[str]) -> dict[str, IdentityHistory]:
        """Each known identity's history; unknown ones are left out. Claims of the dead show as `unknown`."""
        wanted = list(dict.fromkeys(identities))
        known: dict[str, IdentityHistory] = {}
        with self._db.read() as connection:
            dead = self._lease.dead_owners(connection)
            for start in range(0, len(wanted), CHUNK):
                known.update(load_histories(connection, wanted[start : start + CHUNK], dead))
        return known

    def history(self, identity: str) -> IdentityHistory | None:
        return self.histories([identity]).get(identity)

    def find(self, key: str, limit: int = 10) -> list[IdentityHistory]:
        """Histories by prediction id, identity, or its first eight or more digits."""
        matches = s.attempts.c.prediction_id == key
        if len(key) >= 8 and all(c in "0123456789abcdef" for c in key.lower()):
            matches |= s.attempts.c.identity.startswith(key.lower(), autoescape=True)
        return list(self.histories(self._identities(matches, limit)).values())

    def identities_of_predictions(self, prediction_ids: Iterable[str]) -> dict[str, str]:
        """prediction id → identity, of those that are known."""
        wanted, a = sorted(set(prediction_ids)), s.attempts.c
        query = select(a.prediction_id, a.identity)
        parts = (wanted[start : start + CHUNK] for start in range(0, len(wanted), CHUNK))
        return {
            row.prediction_id: row.identity
            for part in parts
            for row in self._db.fetch(query.where(a.prediction_id.in_(part)))
        }

    def unknown_attempts(self) -> dict[str, Attempt]:
        """identity → its latest attempt that may have been charged without an answer, of each that has one.

        Claims of the dead are among them.
        """
        identities = self._identities(s.attempts.c.state.in_([State.UNKNOWN, State.CLAIMED]))
        unknown = {
            identity: [attempt for attempt in history.attempts if attempt.state == State.UNKNOWN]
            for identity, history in self.histories(identities).items()
        }
        return {identity: attempts[-1] for identity, attempts in unknown.items() if attempts}

    def settled_attempts(self) -> dict[str, Attempt]:
        """identity → its latest attempt that a person settled with `resolve`, of each that has one."""
        identities = self._identities(s.attempts.c.owner == BY_HAND)
        return {
            identity: next(a for a in reversed(history.attempts) if a.is_settled_by_hand)
            for identity, history in self.histories(identities).items()
        }

    def unanswered_streak(self, run_id: str, limit: int) -> int:
        """How many of the run's latest submissions, from whichever process, have no definite answer (up to `limit`)."""
        a = s.attempts.c
        latest = (
            select(a.state)
            .where(a.run_id == run_id, a.state.not_in([State.CLAIMED, State.ABANDONED]))
            .order_by(a.sequence.desc())
            .limit(limit)
        )
        states = [row.state for row in self._db.fetch(latest)]
        return next((streak for streak, state in enumerate(states) if state != State.UNKNOWN), len(states))

    def attempt_money(self, since: str = "") -> list[AttemptMoney]:
        """Every attempt of this ledger's runs that cost or may cost money, from the day `since` (YYYY-MM-DD) on.

        The sums are what the counters of runs and days have. What other ledgers paid is not among them.
        """
        a = s.attempts.c
        query = (
            select(a.run_id, a.identity, a.day, a.is_play_money, a.state, a.price_cents, a.quoted_cents)
            .where(a.imported.is_(False), a.state.not_in(VACANT), a.day >= since)
            .order_by(a.id)
        )
        return [
            AttemptMoney(row[0], row[1], row[2], row[3], *money_of(row[4], row[5], row[6]))
            for row in self._db.fetch(query)
        ]

    def counts(self) -> LedgerCounts:
        """How many runs and attempts the ledger holds."""
        state = s.attempts.c.state
        return LedgerCounts(
            runs=self._count(s.runs),
            attempts=self._count(s.attempts, state.in_([*PAID, State.UNKNOWN])),
            unknown=self._count(s.attempts, state == State.UNKNOWN),
        )

    def _identities(self, matches: ColumnElement[bool], limit: int | None = None) -> list[str]:
        query = select(s.attempts.c.identity).where(matches).distinct().limit(limit)
        return [row.identity for row in self._db.fetch(query)]

    def _count(self, table: Table, *conditions: ColumnElement[bool]) -> int:
        return int(self._db.fetch(select(func.count()).select_from(table).where(*conditions))[0][0])


def load_histories(
    connection: Connection, identities: Sequence[str], dead_owners: frozenset[str] = frozenset()
) -> dict[str, IdentityHistory]:
    """The histories of at most CHUNK identities; claims of `dead_owners` as `unknown`."""
    texts = {identity: identity for identity in identities}  # each text is kept once, however many rows have it

    def shared(row: Iterable[Any]) -> list[Any]:
        return [texts.setdefault(value, value) if type(value) is str else value for value in row]

    attempts: dict[str, list[Attempt]] = {}
    for row in connection.execute(_ATTEMPTS, {"_identities": identities}):
        attempt = Attempt(*shared(row))
        if attempt.state == State.CLAIMED and attempt.owner in dead_owners:
            attempt = replace(attempt, state=State.UNKNOWN, error_code="submit_unknown")
        attempts.setdefault(attempt.identity, []).append(attempt)
    deliveries: dict[str, list[Delivery]] = {}
    if attempts:
        for identity, *delivery in connection.execute(_DELIVERIES, {"_identities": identities}):
            deliveries.setdefault(identity, []).append(Delivery(*shared(delivery)))
    return {
        identity: IdentityHistory(tuple(known), tuple(deliveries.get(identity, ())))
        for identity, known in attempts.items()
    }
