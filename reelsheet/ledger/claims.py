"""Claims: the only way to a new attempt, and what the provider's answers make of it.

* `claim` reserves the price against the run's and the day's cap.
* An attempt's money stands in exactly one place: reserved (`claimed`), at risk (`unknown`), confirmed
  (`submitted`, `completed`, `failed`) or nowhere (`refused`, `abandoned`). `attempts.move` shifts it, always.
* A claim of a dead process is `unknown`, never vacant.
* What was paid for, or may have been, is paid for again only where a grant names that very attempt.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from reelsheet.errors import LedgerError
from reelsheet.ledger import attempts, budget, grants
from reelsheet.ledger import schema as s
from reelsheet.ledger.database import Database
from reelsheet.ledger.histories import load_histories
from reelsheet.ledger.lease import Lease
from reelsheet.ledger.records import Attempt, Claimed, Delivery, IdentityHistory, Known, OverBudget, Wait, counting
from reelsheet.ledger.schema import PAID, VACANT, State

_UNANSWERED = (State.CLAIMED, State.UNKNOWN)
_BEFORE = {  # the states that each one may follow
    State.REFUSED: _UNANSWERED,
    State.UNKNOWN: (State.CLAIMED,),
    State.COMPLETED: (State.SUBMITTED,),
    State.FAILED: (State.SUBMITTED,),
}


class Claims:
    """Every method is one transaction, or several that are each true by themselves."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._db = database
        self._lease = lease
        self._awaited: set[int] = set()  # claims of this process whose answer is still to come

    def claim(
        self,
        identity: str,
        *,
        run_id: str,
        price_cents: int,
        daily_cap_cents: int | None = None,
        fingerprint: str | None = None,
    ) -> Claimed | Known | Wait | OverBudget:
        """Claim an identity and reserve its price, or say how it stands. One committed transaction.

        A claim of this very process that it no longer awaits (`mark_unawaited`) is `unknown`, like a dead one's.
        """
        post_by = self._lease.post_by()
        wanted = Attempt(
            id=0, identity=identity, number=1, state=State.CLAIMED, owner=self._lease.owner.id, run_id=run_id, day="",
            price_cents=price_cents, fingerprint=fingerprint,
        )  # fmt: skip
        try:
            answer = self._db.committed(self._claim, wanted, daily_cap_cents)
        except budget.PastCap as past:
            return past.over
        if not isinstance(answer, Attempt):
            return answer
        self._awaited.add(answer.id)
        return Claimed(answer, post_by)

    def _claim(self, connection: Connection, wanted: Attempt, daily_cap_cents: int | None) -> Attempt | Known | Wait:
        earlier = attempts.of_identity(connection, wanted.identity)
        for position, attempt in enumerate(earlier):
            if attempt.state == State.CLAIMED:
                if attempt.id in self._awaited or self._is_held_elsewhere(connection, attempt):
                    return Wait()
                earlier[position] = _give_up(connection, attempt)
        in_force = counting(earlier)
        if in_force and not grants.is_granted(connection, wanted.run_id, wanted.identity, in_force.number):
            return Known(load_histories(connection, [wanted.identity])[wanted.identity])
        now = self._db.now(connection)
        claim = replace(wanted, day=datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d"), claimed_at=now)
        last = earlier[-1] if earlier else None
        if last is not None and last.state in VACANT:
            claim = replace(claim, id=last.id, number=last.number)
            attempts.overwrite(connection, claim)
        else:
            claim = attempts.add(connection, replace(claim, number=1 if last is None else last.number + 1))
        budget.reserve(connection, claim.run_id, claim.day, claim.price_cents, daily_cap_cents)
        return claim

    def _is_held_elsewhere(self, connection: Connection, attempt: Attempt) -> bool:
        """True for the claim of another process that lives."""
        return attempt.owner != self._lease.owner.id and not self._lease.is_dead(connection, attempt.owner)

    def mark_unawaited(self, attempt: Attempt) -> None:
        """Nobody awaits this claim's answer any more. Whatever was not recorded by now is `unknown`."""
        self._awaited.discard(attempt.id)

    # Answers

    def record_id(self, attempt: Attempt, prediction_id: str, quoted_cents: int | None) -> Attempt:
        """The provider's id: paid, whoever holds the lease by now. `quoted_cents` None: the reserved price stands.

        An id that another attempt has already is none: this attempt is then `unknown`.
        """
        return self._db.committed(self._record_id, attempt, prediction_id, quoted_cents)

    def _record_id(
        self, connection: Connection, attempt: Attempt, prediction_id: str, quoted_cents: int | None
    ) -> Attempt:
        current = attempts.current(connection, attempt.id)
        if current.prediction_id == prediction_id:
            return current  # recorded, though the database did not say so
        holder = attempts.by_prediction(connection, prediction_id)
        if holder is not None:
            error = _duplicate_id(holder, attempt, prediction_id)
            return self._settle(connection, attempt, State.UNKNOWN, error_code="submit_unknown", error=error)
        if current.claimed_at != attempt.claimed_at or current.state in PAID:
            # A late answer whose claim was given up and claimed again meanwhile gets a place of its own.
            number = attempts.of_identity(connection, attempt.identity)[-1].number + 1
            current = attempts.add(connection, replace(attempt, number=number, state=State.REFUSED))
        return attempts.move(
            connection, current, State.SUBMITTED, prediction_id=prediction_id, submitted_at=time.time(),
            quoted_cents=attempt.price_cents if quoted_cents is None else quoted_cents, error_code=None, error=None,
        )  # fmt: skip

    def record_refused(self, attempt: Attempt, error_code: str | None, error: str | None) -> Attempt:
        """Certainly not accepted, or never sent: the reservation is released."""
        return self._db.committed(self._settle, attempt, State.REFUSED, error_code=error_code, error=error)

    def record_unknown(self, attempt: Attempt, error: str) -> Attempt:
        """No definite answer: the price is at risk until a person or an id settles it."""
        return self._db.committed(self._settle, attempt, State.UNKNOWN, error_code="submit_unknown", error=error)

    def record_completed(self, attempt: Attempt, completed_at: float | None) -> Attempt:
        """The provider has the clip. `completed_at` None: now."""
        completed_at = completed_at or time.time()
        return self._db.committed(
            self._settle, attempt, State.COMPLETED, completed_at=completed_at, error_code=None, error=None
        )

    def record_failed(self, attempt: Attempt, error_code: str, error: str, completed_at: float | None) -> Attempt:
        """The provider's verdict; what it quoted stays confirmed. `completed_at` None: now."""
        completed_at = completed_at or time.time()
        return self._db.committed(
            self._settle, attempt, State.FAILED, completed_at=completed_at, error_code=error_code, error=error
        )

    def _settle(self, connection: Connection, attempt: Attempt, state: State, /, **values: Any) -> Attempt:
        current = attempts.current(connection, attempt.id)
        if current.state not in _BEFORE[state] or current.claimed_at != attempt.claimed_at:
            return current  # a better answer came in the meantime, or another claim stands there now
        if state == State.REFUSED and current.state == State.CLAIMED and current.owner != attempt.owner:
            return current
        return attempts.move(connection, current, state, **values)

    def record_deliveries(self, attempt: Attempt, deliveries: Sequence[Delivery]) -> None:
        """Every output is completely stored under its destination."""
        self._db.committed(attempts.add_deliveries, attempt.id, deliveries, overwrite=True)

    def forget_deliveries(self, destination: str, keys: Iterable[str]) -> None:
        """Delete the deliveries of objects that are no longer at the destination."""
        self._db.committed(_delete_deliveries, destination, list(keys))

    # What nobody answered

    def resolve(self, identity: str, prediction_id: str | None) -> IdentityHistory:
        """Settle an `unknown` row. With the provider's id its last unknown attempt is paid; with None none ever was.

        Raises LedgerError where no attempt of it is unknown, or the id belongs to another one.
        """
        return self._db.committed(self._resolve, identity, prediction_id)

    def _resolve(self, connection: Connection, identity: str, prediction_id: str | None) -> IdentityHistory:
        known = attempts.of_identity(connection, identity)
        for position, attempt in enumerate(known):
            if attempt.state == State.CLAIMED and attempt.id not in self._awaited:
                if self._is_held_elsewhere(connection, attempt):
                    raise LedgerError("A run is submitting this row just now; wait for it. Nothing was changed.")
                known[position] = _give_up(connection, attempt)
        unknown = [attempt for attempt in known if attempt.state == State.UNKNOWN]
        if not unknown:
            in_force = counting(known)
            standing = f"it is {in_force.state}" if in_force else "nothing was ever paid for it"
            raise LedgerError(f"This row is not unknown: {standing}. Nothing was changed.")
        if prediction_id is None:
            for attempt in unknown:
                attempts.move(connection, attempt, State.ABANDONED, error_code=None, error=None)
        elif attempts.by_prediction(connection, prediction_id) is not None:
            raise LedgerError(f"The id {prediction_id} belongs to another clip already; nothing was changed.")
        else:
            last = unknown[-1]
            attempts.move(
                connection, last, State.SUBMITTED, prediction_id=prediction_id, quoted_cents=last.price_cents,
                submitted_at=last.claimed_at, error_code=None, error=None,
            )  # fmt: skip
        return load_histories(connection, [identity])[identity]

    def expire_dead_claims(self) -> int:
        """Turn every claim of a dead process into `unknown`; how many there were."""
        query = select(s.attempts.c.id, s.attempts.c.owner).where(s.attempts.c.state == State.CLAIMED)
        with self._db.read() as connection:
            dead = self._lease.dead_owners(connection)
            left = [row.id for row in connection.execute(query) if row.owner in dead] if dead else []
        return sum(self._db.committed(self._expire, attempt_id) for attempt_id in left)

    def _expire(self, connection: Connection, attempt_id: int) -> bool:
        attempt = attempts.find(connection, attempt_id)
        if attempt is None or attempt.state != State.CLAIMED or not self._lease.is_dead(connection, attempt.owner):
            return False
        _give_up(connection, attempt)
        return True


def _give_up(connection: Connection, attempt: Attempt) -> Attempt:
    """A claim whose answer will not come any more."""
    return attempts.move(connection, attempt, State.UNKNOWN, error_code="submit_unknown")


def _duplicate_id(holder: Attempt, attempt: Attempt, prediction_id: str) -> str:
    whose = "an earlier clip of this row" if holder.identity == attempt.identity else "another row"
    return (
        f"The provider answered with the id {prediction_id}, which belongs to {whose}; "
        "look this row up in the provider's dashboard and use `reelsheet resolve`."
    )


def _delete_deliveries(connection: Connection, destination: str, keys: Sequence[str]) -> None:
    d = s.deliveries.c
    for key in keys:
        connection.execute(delete(s.deliveries).where(d.destination == destination, d.key == key))
