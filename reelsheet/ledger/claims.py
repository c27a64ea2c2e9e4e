"""Claims: the only way to a new attempt, and what the provider's answers make of it.

* `claim` reserves the price against the run's and the day's cap.
* An attempt's money stands in exactly one place: reserved (`claimed`), at risk (`unknown`), confirmed
  (`submitted`, `completed`, `failed`) or nowhere (`refused`, `abandoned`). `attempts.move` shifts it, always.
* A claim of a dead process is `unknown`, never vacant.
* What was paid for, or may have been, is paid for again only where a grant names that very attempt.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, delete, select

from reelsheet.errors import LedgerError
from reelsheet.ledger import attempts, budget, grants
from reelsheet.ledger import schema as s
from reelsheet.ledger.database import Database
from reelsheet.ledger.histories import load_histories
from reelsheet.ledger.lease import Lease
from reelsheet.ledger.records import (
    BY_HAND,
    Attempt,
    Claimed,
    Delivery,
    IdentityHistory,
    Known,
    OverBudget,
    Wait,
    counting,
)
from reelsheet.ledger.schema import PAID, VACANT, State
from reelsheet.ledger.sequence import next_number

_UNANSWERED = (State.CLAIMED, State.UNKNOWN)
_BEFORE = {  # the states that each one may follow
    State.REFUSED: _UNANSWERED,
    State.UNKNOWN: (State.CLAIMED,),
    State.COMPLETED: (State.SUBMITTED,),
    State.FAILED: (State.SUBMITTED,),
}


class ClaimUncertain(LedgerError):
    """The database did not say whether it took `claim`: where it did, `Claims.release` gives it back."""

    def __init__(self, error: LedgerError, claim: Attempt) -> None:
        super().__init__(str(error))
        self.error, self.claim = error, claim


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
        is_play_money: bool = False,
    ) -> Claimed | Known | Wait | OverBudget:
        """Claim an identity and reserve its price, or say how it stands. One committed transaction.

        A claim of this very process that it no longer awaits (`mark_unawaited`) is `unknown`, like a dead one's.
        Raises ClaimUncertain where the database went away at the commit, else LedgerError.
        """
        post_by = self._lease.post_by()
        wanted = Attempt(
            id=0, identity=identity, number=1, state=State.CLAIMED, owner=self._lease.owner.id, run_id=run_id, day="",
            price_cents=price_cents, fingerprint=fingerprint, is_play_money=is_play_money,
        )  # fmt: skip
        made: list[Attempt] = []
        try:
            answer = self._db.committed(self._claim, wanted, daily_cap_cents, made)
        except budget.PastCap as past:
            return past.over
        except LedgerError as error:
            if made:
                raise ClaimUncertain(error, made[-1]) from error
            raise
        if not isinstance(answer, Attempt):
            return answer
        self._awaited.add(answer.id)
        return Claimed(answer, post_by)

    def _claim(
        self, connection: Connection, wanted: Attempt, daily_cap_cents: int | None, made: list[Attempt]
    ) -> Attempt | Known | Wait:
        """`made` takes the claim before it is committed."""
        number = next_number(connection)  # before any other lock, so that claims wait for each other in one order
        earlier = attempts.of_identity(connection, wanted.identity)
        for position, attempt in enumerate(earlier):
            if attempt.state == State.CLAIMED:
                if attempt.id in self._awaited or self._is_held_elsewhere(connection, attempt):
                    return Wait()
                earlier[position] = _give_up(connection, attempt)
        in_force = counting(earlier)
        if in_force and not grants.allows(connection, wanted.run_id, in_force):
            return Known(load_histories(connection, [wanted.identity])[wanted.identity])
        now = self._db.now(connection)
        claim = replace(wanted, day=budget.day_of(connection, now), claimed_at=now, sequence=number)
        last = earlier[-1] if earlier else None
        if last is not None and last.state in VACANT:
            claim = replace(claim, id=last.id, number=last.number)
            attempts.overwrite(connection, claim)
        else:
            claim = attempts.add(connection, replace(claim, number=1 if last is None else last.number + 1))
        budget.reserve(connection, claim, daily_cap_cents)
        made.append(claim)
        return claim

    def _is_held_elsewhere(self, connection: Connection, attempt: Attempt) -> bool:
        """True for the claim of another process that lives."""
        return attempt.owner != self._lease.owner.id and not self._lease.is_dead(connection, attempt.owner)

    def mark_unawaited(self, attempt: Attempt) -> None:
        """Nobody awaits this claim's answer any more. Whatever was not recorded by now is `unknown`."""
        self._awaited.discard(attempt.id)

    def release(self, attempt: Attempt) -> Attempt:
        """Give back a claim that was certainly never handed to the HTTP client; it may not even be there."""
        self.mark_unawaited(attempt)
        return self._db.committed(self._release, attempt)

    def _release(self, connection: Connection, attempt: Attempt) -> Attempt:
        budget.lock(connection, attempt.run_id)  # a lost COMMIT may still be on its way to the database, and holds this
        if attempts.find(connection, attempt.id) is None:
            return replace(attempt, state=State.REFUSED)
        return self._settle(connection, attempt, State.REFUSED, error_code=None, error=None)

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
        if current.prediction_id == prediction_id:  # recorded, though the database did not say so
            was_guess = current.is_settled_by_hand  # by a person, and right
            return attempts.move(connection, current, current.state, owner=attempt.owner) if was_guess else current
        holder = attempts.by_prediction(connection, prediction_id)
        if holder is not None:
            error = _duplicate_id(holder, attempt, prediction_id)
            return self._settle(connection, attempt, State.UNKNOWN, error_code="submit_unknown", error=error)
        if current.sequence != attempt.sequence or current.state in PAID:
            # A late answer whose claim was given up and claimed again meanwhile gets a place of its own.
            number = attempts.of_identity(connection, attempt.identity)[-1].number + 1
            current = attempts.add(connection, replace(attempt, number=number, state=State.REFUSED))
        return attempts.move(
            connection, current, State.SUBMITTED, owner=attempt.owner, prediction_id=prediction_id,
            submitted_at=self._db.now(connection), error_code=None, error=None,
            quoted_cents=attempt.price_cents if quoted_cents is None else quoted_cents,
        )  # fmt: skip

    def record_refused(self, attempt: Attempt, error_code: str | None, error: str | None) -> Attempt:
        """Certainly not accepted, or never sent: the reservation is released."""
        return self._db.committed(self._settle, attempt, State.REFUSED, error_code=error_code, error=error)

    def record_unknown(self, attempt: Attempt, error: str) -> Attempt:
        """No definite answer: the price is at risk until a person or an id settles it."""
        return self._db.committed(self._settle, attempt, State.UNKNOWN, error_code="submit_unknown", error=error)

    def record_completed(self, attempt: Attempt, completed_at: float | None) -> Attempt:
        """The provider has the clip. `completed_at` None: now."""
        return self._db.committed(
            self._settle, attempt, State.COMPLETED, completed_at=completed_at, error_code=None, error=None
        )

    def record_failed(self, attempt: Attempt, error_code: str, error: str, completed_at: float | None) -> Attempt:
        """The provider's verdict; what it quoted stays confirmed. `completed_at` None: now."""
        return self._db.committed(
            self._settle, attempt, State.FAILED, completed_at=completed_at, error_code=error_code, error=error
        )

    def _settle(self, connection: Connection, attempt: Attempt, state: State, /, **values: Any) -> Attempt:
        current = attempts.current(connection, attempt.id)
        if current.state not in _BEFORE[state] or current.sequence != attempt.sequence:
            return current  # a better answer came in the meantime, or another claim stands there now
        if state == State.REFUSED and current.state == State.CLAIMED and current.owner != attempt.owner:
            return current
        if state in PAID:
            values["completed_at"] = values["completed_at"] or self._db.now(connection)
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

        What was settled so before may be settled otherwise. Raises LedgerError where nothing of it is unknown or was
        settled, or where the id belongs to another attempt.
        """
        return self._db.committed(self._resolve, identity, prediction_id)

    def _resolve(self, connection: Connection, identity: str, prediction_id: str | None) -> IdentityHistory:
        known = attempts.of_identity(connection, identity)
        for position, attempt in enumerate(known):
            if attempt.state == State.CLAIMED and attempt.id not in self._awaited:
                if self._is_held_elsewhere(connection, attempt):
                    raise LedgerError("A run is submitting this row just now; wait for it. Nothing was changed.")
                known[position] = _give_up(connection, attempt)
        unsettled = [attempt for attempt in known if attempt.state == State.UNKNOWN]
        settled = [attempt for attempt in known if attempt.is_settled_by_hand]
        if prediction_id is None:
            settled = [attempt for attempt in settled if attempt.state in PAID]
        open_ones = unsettled or settled
        if not open_ones:
            in_force = counting(known)
            standing = f"it is {in_force.state}" if in_force else "nothing was ever paid for it"
            raise LedgerError(f"This row is not unknown: {standing}. Nothing was changed.")
        if prediction_id is None:
            for attempt in open_ones:
                _abandon(connection, attempt)
        else:
            _settle_as(connection, open_ones[-1], prediction_id, known[-1].number)
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


def _abandon(connection: Connection, attempt: Attempt) -> None:
    """It was never charged; an id that it had by mistake is free for the row that it belongs to."""
    attempts.move(
        connection, attempt, State.ABANDONED, owner=BY_HAND, prediction_id=None, error_code=None, error=None
    )  # fmt: skip


def _settle_as(connection: Connection, attempt: Attempt, prediction_id: str, last_number: int) -> None:
    """`attempt` is this prediction. Where a clip of another one was delivered for it, the next number gets it."""
    holder = attempts.by_prediction(connection, prediction_id)
    if holder is not None and holder.id == attempt.id:
        return
    if holder is not None:
        raise LedgerError(
            f"The id {prediction_id} belongs to another clip already (row {holder.identity[:8]}, attempt "
            f"{holder.number}); nothing was changed."
        )
    quoted_cents = attempt.price_cents if attempt.quoted_cents is None else attempt.quoted_cents
    if attempts.has_deliveries(connection, attempt.id):
        _abandon(connection, attempt)
        vacant = replace(attempt, number=last_number + 1, state=State.REFUSED, prediction_id=None)
        attempt = attempts.add(connection, vacant)
    attempts.move(
        connection, attempt, State.SUBMITTED, owner=BY_HAND, prediction_id=prediction_id, quoted_cents=quoted_cents,
        submitted_at=attempt.claimed_at, completed_at=None, error_code=None, error=None,
    )  # fmt: skip


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
