"""The ledger's book: claims, ids, verdicts, deliveries and the money behind them.

Every method is one transaction. They are called in a thread; the money's rules are here and nowhere else:

* `claim` is the only way to a new attempt. It reserves the price against the run's and the day's cap.
* An attempt's money stands in exactly one place: reserved (`claimed`), at risk (`unknown`), confirmed
  (`submitted`, `completed`, `failed`) or nowhere (`refused`, `abandoned`). `_move` shifts it, always.
* A claim of a dead owner is `unknown`, never vacant.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    Row,
    case,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from reelsheet.errors import LedgerError
from reelsheet.ledger import schema as s
from reelsheet.ledger import statements
from reelsheet.ledger.owner import LEASE_SECONDS, MARGIN_SECONDS, Owner, awake_and_asleep
from reelsheet.ledger.schema import PAID, VACANT, State
from reelsheet.redaction import clean
from reelsheet.settings import state_home

MIGRATIONS = Path(__file__).parent / "migrations"
CHUNK = 800  # identities a query; SQLite takes 999 variables at the least
FINISHED = (0, 1)  # exit codes of a run that tried every row


@dataclass(frozen=True, slots=True)
class Attempt:
    """One paid, or maybe paid, try at an identity. Times in seconds since 1970 UTC."""

    id: int
    identity: str
    number: int
    state: State
    owner: str | None
    run_id: str
    day: str
    price_cents: int
    quoted_cents: int | None = None
    prediction_id: str | None = None
    error_code: str | None = None
    error: str | None = None
    fingerprint: str | None = None
    claimed_at: float = 0.0
    submitted_at: float | None = None
    completed_at: float | None = None
    imported: bool = False

    @property
    def paid_cents(self) -> int:
        """What is confirmed for it."""
        return _cents_of(self.state, self.price_cents, self.quoted_cents)["confirmed_cents"]

    @property
    def risk_cents(self) -> int:
        """What may have been charged without an answer, or is about to be."""
        money = _cents_of(self.state, self.price_cents, self.quoted_cents)
        return money["at_risk_cents"] + money["reserved_cents"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One output of one attempt, stored whole under one destination."""

    attempt: int  # its number
    destination: str
    output: int
    outputs: int
    key: str
    bytes: int
    sha256: str
    width: int | None
    height: int | None
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything that the ledger knows of one identity. `attempts` in order of their numbers, never empty."""

    attempts: tuple[Attempt, ...]
    deliveries: tuple[Delivery, ...] = ()

    @property
    def latest(self) -> Attempt:
        return self.attempts[-1]

    @property
    def total_cents(self) -> int:
        return sum(attempt.paid_cents for attempt in self.attempts)

    @property
    def risk_cents(self) -> int:
        return sum(attempt.risk_cents for attempt in self.attempts)

    def run_cents(self, run_id: str) -> int:
        return sum(attempt.paid_cents for attempt in self.attempts if attempt.run_id == run_id)

    def delivered(self, destination: str, number: int | None = None) -> tuple[Delivery, ...]:
        """All outputs of an attempt (the latest) at a destination, in order; () unless every one is there."""
        number = self.latest.number if number is None else number
        found = sorted(
            (d for d in self.deliveries if d.destination == destination and d.attempt == number),
            key=lambda d: d.output,
        )
        return tuple(found) if found and len(found) == found[0].outputs else ()

    def elsewhere(self, destination: str) -> tuple[tuple[Delivery, ...], ...]:
        """The latest attempt's complete deliveries under other destinations."""
        others = dict.fromkeys(d.destination for d in self.deliveries if d.destination != destination)
        return tuple(found for other in others if (found := self.delivered(other)))


@dataclass(frozen=True, slots=True)
class Claimed:
    """Go on: the price is reserved. The POST may leave while `leave_by` (awake_and_asleep) is not past."""

    attempt: Attempt
    leave_by: float


@dataclass(frozen=True, slots=True)
class Found:
    """No claim is needed or allowed: this is how the identity stands."""

    standing: Standing


@dataclass(frozen=True, slots=True)
class Wait:
    """A living run is at it: ask again soon."""


@dataclass(frozen=True, slots=True)
class OverBudget:
    """The cap that would be passed: `which` is "run" or "day"."""

    which: str
    cap_cents: int


@dataclass(frozen=True, slots=True)
class Note:
    """What a run has to say of a row beyond its attempts."""

    position: int
    status: str
    error_code: str | None
    error: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the ledger keeps it. `resumed`: the same run goes on, after a kill or by a Prefect retry."""

    run_id: str
    verb: str
    source: str
    destination: str
    permit: str
    flow_run_id: str | None
    options: dict[str, Any]
    rows: int
    cap_cents: int | None
    confirmed_cents: int
    reserved_cents: int
    at_risk_cents: int
    started_at: float
    finished_at: float | None
    exit_code: int | None
    owner: str
    summary: dict[str, Any] | None = None
    resumed: bool = False
    continues: str | None = None  # the unfinished run whose permission to pay again this one shares
    alive: bool = field(default=False, compare=False)


class Ledger:
    """The book of one database. Safe to use from several threads; made by `Ledger.open`."""

    def __init__(self, engine: Engine, url_shown: str) -> None:
        self._engine = engine
        self.shown = url_shown
        self.is_sqlite = engine.dialect.name == "sqlite"
        self.owner = Owner.this_process()
        self._leased_until = 0.0  # on awake_and_asleep
        self._open: set[int] = set()  # claims of this process whose answer is still to come

    # Opening

    @classmethod
    def open(cls, url: str | None = None) -> Self:
        """Open and migrate. `url`: None (SQLite in the state folder), sqlite:///path, postgresql://…

        Raises LedgerError where it cannot be reached, is newer than this program, or is damaged.
        """
        engine, shown = _engine(url)
        ledger = cls(engine, shown)
        try:
            ledger._migrate()
            ledger.heartbeat()
        except LedgerError:
            engine.dispose()
            raise
        except (SQLAlchemyError, OSError) as error:
            engine.dispose()
            raise LedgerError(
                f"The ledger at {shown} cannot be used ({_told(error)}); without it nothing is spent. "
                "Check REELSHEET_LEDGER_URL, its rights and its disk."
            ) from error
        return ledger

    def close(self) -> None:
        """Give the lease back, so that nobody waits for it."""
        try:
            with self._write() as connection:
                connection.execute(
                    update(s.owners).where(s.owners.c.id == self.owner.id).values(expires_at=0.0)
                )
        except (LedgerError, SQLAlchemyError):
            pass  # the lease runs out by itself
        self._engine.dispose()

    # The lease

    def heartbeat(self) -> None:
        """Renew this process's lease. A claim keeps the end that was known when it was made."""
        before = awake_and_asleep()
        with self._write() as connection:
            expires = self._now(connection) + LEASE_SECONDS
            done = connection.execute(
                update(s.owners).where(s.owners.c.id == self.owner.id).values(expires_at=expires)
            )
            if done.rowcount == 0:
                connection.execute(
                    insert(s.owners).values(
                        id=self.owner.id,
                        host=self.owner.host,
                        boot=self.owner.boot,
                        pid=self.owner.pid,
                        started=self.owner.started,
                        expires_at=expires,
                    )
                )
                # Owners that are gone and hold no claim are of no use to anybody.
                connection.execute(
                    delete(s.owners).where(
                        s.owners.c.expires_at < expires - 7 * 86_400,
                        s.owners.c.id.not_in(
                            select(s.attempts.c.owner).where(s.attempts.c.state == State.CLAIMED)
                        ),
                    )
                )
        self._leased_until = before + LEASE_SECONDS

    # Runs

    def open_run(
        self,
        *,
        run_id: str,
        verb: str,
        source: str,
        destination: str,
        command: str,
        flow_run_id: str | None,
        options: Mapping[str, Any],
        rows: int,
        cap_cents: int | None,
        permissions: Mapping[str, int] | None = None,
    ) -> RunRecord:
        """Register a run; the same `flow_run_id` (or `run_id`) again is the same run and keeps its money and cap.

        `permissions` maps identities to the attempt that may be paid for once more. The same `command`
        repeated while its run is unfinished shares the permissions that were given then, and gets no new ones.
        """
        with self._write() as connection:
            self._serialise(connection, command)
            known = connection.execute(
                select(s.runs).where(
                    (s.runs.c.run_id == run_id)
                    | ((s.runs.c.flow_run_id == flow_run_id) if flow_run_id else (s.runs.c.run_id == run_id))
                )
            ).first()
            if known is not None:
                connection.execute(
                    update(s.runs)
                    .where(s.runs.c.run_id == known.run_id)
                    .values(owner=self.owner.id, finished_at=None, exit_code=None)
                )
                return replace(self._run(known), resumed=True, finished_at=None, exit_code=None, owner=self.owner.id)
            permit, continues = run_id, None
            unfinished = self._unfinished(connection, command)
            if unfinished is not None:
                permit, continues = unfinished.permit, unfinished.run_id
            elif permissions:
                connection.execute(
                    insert(s.grants),
                    [
                        {"permit": permit, "identity": identity, "replaces": number}
                        for identity, number in permissions.items()
                    ],
                )
            values = {
                "run_id": run_id,
                "verb": verb,
                "source": source,
                "destination": destination,
                "command": command,
                "permit": permit,
                "owner": self.owner.id,
                "flow_run_id": flow_run_id,
                "options": json.dumps(dict(options)),
                "rows": rows,
                "cap_cents": cap_cents,
                "confirmed_cents": 0,
                "reserved_cents": 0,
                "at_risk_cents": 0,
                "started_at": time.time(),
            }
            connection.execute(insert(s.runs).values(**values))
            row = connection.execute(select(s.runs).where(s.runs.c.run_id == run_id)).one()
            return replace(self._run(row), continues=continues)

    def finish_run(self, run_id: str, *, exit_code: int, summary: Mapping[str, Any]) -> None:
        """Close a run's line in the book."""
        with self._write() as connection:
            connection.execute(
                update(s.runs)
                .where(s.runs.c.run_id == run_id)
                .values(finished_at=time.time(), exit_code=exit_code, summary=json.dumps(dict(summary)))
            )

    def run(self, run_id: str) -> RunRecord | None:
        """One run, by its id or an unambiguous beginning of it."""
        with self._read() as connection:
            found = connection.execute(
                select(s.runs)
                .where(s.runs.c.run_id.startswith(run_id, autoescape=True))
                .order_by(s.runs.c.run_id)
                .limit(2)
            ).all()
            exact = [row for row in found if row.run_id == run_id] or (found if len(found) == 1 else [])
            return self._run(exact[0], connection) if exact else None

    def run_of_flow(self, flow_run_id: str) -> RunRecord | None:
        """The run that a Prefect flow run stands for."""
        with self._read() as connection:
            row = connection.execute(select(s.runs).where(s.runs.c.flow_run_id == flow_run_id)).first()
            return None if row is None else self._run(row, connection)

    def recent_runs(self, limit: int = 20, destination: str | None = None) -> list[RunRecord]:
        """Newest first."""
        with self._read() as connection:
            query = select(s.runs).order_by(s.runs.c.started_at.desc()).limit(limit)
            if destination is not None:
                query = query.where(s.runs.c.destination == destination)
            return [self._run(row, connection) for row in connection.execute(query)]

    def days(self, limit: int = 14) -> list[tuple[str, int, int, int]]:
        """(day, confirmed, reserved, at risk) in cents, newest first."""
        with self._read() as connection:
            query = select(s.days).order_by(s.days.c.day.desc()).limit(limit)
            return [
                (row.day, row.confirmed_cents, row.reserved_cents, row.at_risk_cents)
                for row in connection.execute(query)
            ]

    # Standings

    def standings(self, identities: Iterable[str]) -> dict[str, Standing]:
        """How each known identity stands; unknown ones are left out. Claims of the dead show as `unknown`."""
        wanted = list(dict.fromkeys(identities))
        found: dict[str, Standing] = {}
        with self._read() as connection:
            dead = self._dead_owners(connection)
            for start in range(0, len(wanted), CHUNK):
                found.update(self._standings(connection, wanted[start : start + CHUNK], dead))
        return found

    def standing(self, identity: str) -> Standing | None:
        return self.standings([identity]).get(identity)

    def find(self, key: str) -> list[Standing]:
        """Standings by prediction id, identity, or its first eight or more digits."""
        with self._read() as connection:
            query = select(s.attempts.c.identity).where(s.attempts.c.prediction_id == key)
            if len(key) >= 8 and all(c in "0123456789abcdef" for c in key):
                query = query.union(
                    select(s.attempts.c.identity).where(s.attempts.c.identity.startswith(key, autoescape=True))
                )
            identities = [row.identity for row in connection.execute(query.limit(3))]
        return list(self.standings(identities).values())

    # The way of an attempt

    def claim(
        self,
        identity: str,
        *,
        run_id: str,
        price_cents: int,
        daily_cap_cents: int | None = None,
        fingerprint: str | None = None,
        now: float | None = None,
    ) -> Claimed | Found | Wait | OverBudget:
        """Claim an identity and reserve its price, or say how it stands. One committed transaction.

        A claim of this very process that nobody awaits any more (`let_go`) is `unknown`, like a dead one's.
        """
        for _ in range(5):
            try:
                return self._claim(identity, run_id, price_cents, daily_cap_cents, fingerprint, now)
            except IntegrityError:
                continue  # another run was first: look again
        return Wait()

    def _claim(
        self,
        identity: str,
        run_id: str,
        price_cents: int,
        daily_cap_cents: int | None,
        fingerprint: str | None,
        now: float | None,
    ) -> Claimed | Found | Wait | OverBudget:
        leave_by = self._leased_until - MARGIN_SECONDS
        with self._write() as connection:
            latest = self._latest(connection, identity)
            number = 1
            if latest is not None:
                if latest.state == State.CLAIMED:
                    if latest.id in self._open:
                        return Wait()
                    if latest.owner != self.owner.id and not self._is_dead(connection, latest.owner):
                        return Wait()
                    latest = self._move(connection, latest, State.UNKNOWN, error_code="submit_unknown")
                number = latest.number
                if latest.state not in VACANT:
                    if not self._granted(connection, run_id, identity, number):
                        return Found(self._standings(connection, [identity], frozenset())[identity])
                    number += 1
            moment = time.time() if now is None else now
            day = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
            values = {
                "state": State.CLAIMED,
                "owner": self.owner.id,
                "run_id": run_id,
                "day": day,
                "price_cents": price_cents,
                "quoted_cents": None,
                "prediction_id": None,
                "error_code": None,
                "error": None,
                "fingerprint": fingerprint,
                "claimed_at": moment,
                "submitted_at": None,
                "completed_at": None,
                "imported": False,
            }
            if latest is not None and number == latest.number:
                connection.execute(statements.CHANGE, {"_id": latest.id, **values})
                attempt_id = latest.id
            else:
                inserted = connection.execute(
                    statements.NEW, {"identity": identity, "number": number, **values}
                ).inserted_primary_key
                assert inserted is not None  # noqa: S101 - SQLAlchemy gives it for a single insert
                attempt_id = inserted[0]
            over = self._reserve(connection, run_id, day, price_cents, daily_cap_cents)
            if over is not None:
                connection.rollback()
                return over
        attempt = Attempt(
            id=attempt_id,
            identity=identity,
            number=number,
            state=State.CLAIMED,
            owner=self.owner.id,
            run_id=run_id,
            day=day,
            price_cents=price_cents,
            fingerprint=fingerprint,
            claimed_at=moment,
        )
        self._open.add(attempt_id)
        return Claimed(attempt, leave_by)

    def let_go(self, attempt: Attempt) -> None:
        """Nobody awaits this claim's answer any more. Whatever was not recorded by now is `unknown`."""
        self._open.discard(attempt.id)

    def record_id(self, attempt: Attempt, prediction_id: str, quoted_cents: int | None) -> Attempt:
        """The provider's id: paid, whoever holds the lease by now. `quoted_cents` None: the reserved price stands.

        An id that another identity has already is none: the attempt is then `unknown`.
        """
        try:
            with self._write() as connection:
                current = self._same(connection, attempt)
                if current.claimed_at != attempt.claimed_at or current.state in PAID:
                    current = self._beside(connection, attempt)
                return self._move(
                    connection,
                    current,
                    State.SUBMITTED,
                    prediction_id=prediction_id,
                    quoted_cents=attempt.price_cents if quoted_cents is None else quoted_cents,
                    submitted_at=time.time(),
                    error_code=None,
                    error=None,
                )
        except IntegrityError:
            return self.record_unknown(
                attempt,
                f"The provider answered with the id {prediction_id}, which belongs to another row; "
                "look this row up in the provider's dashboard and use `reelsheet resolve`.",
            )

    def _beside(self, connection: Connection, attempt: Attempt) -> Attempt:
        """A place of its own for a late answer whose claim was settled and taken anew in the meantime."""
        latest = self._latest(connection, attempt.identity)
        number = 1 if latest is None else latest.number + 1
        late = replace(attempt, number=number, state=State.REFUSED)
        values = {name: getattr(late, name) for name in Attempt.__slots__ if name != "id"}
        inserted = connection.execute(insert(s.attempts).values(**values)).inserted_primary_key
        assert inserted is not None  # noqa: S101 - SQLAlchemy gives it for a single insert
        return replace(late, id=inserted[0])

    def record_refused(self, attempt: Attempt, error_code: str | None, error: str | None) -> Attempt:
        """Certainly not accepted, or never sent: the reservation is released."""
        return self._settle(attempt, State.REFUSED, error_code=error_code, error=error)

    def record_unknown(self, attempt: Attempt, error: str) -> Attempt:
        """No definite answer: the price is at risk until a person or an id settles it."""
        return self._settle(attempt, State.UNKNOWN, error_code="submit_unknown", error=error)

    def record_completed(self, attempt: Attempt, completed_at: float | None) -> Attempt:
        """The provider has the clip."""
        return self._settle(
            attempt, State.COMPLETED, completed_at=completed_at or time.time(), error_code=None, error=None
        )

    def record_failed(self, attempt: Attempt, error_code: str, error: str, completed_at: float | None) -> Attempt:
        """The provider's verdict; what it quoted stays confirmed."""
        return self._settle(
            attempt, State.FAILED, error_code=error_code, error=error, completed_at=completed_at or time.time()
        )

    def _settle(self, attempt: Attempt, state: State, **values: Any) -> Attempt:
        with self._write() as connection:
            current = self._same(connection, attempt)
            if current.state not in _MAY_BECOME[state] or (
                state != State.UNKNOWN and current.state == State.CLAIMED and current.owner != attempt.owner
            ):
                return current  # somebody knew better in the meantime
            if current.claimed_at != attempt.claimed_at:
                return current  # another claim stands there now
            return self._move(connection, current, state, **values)

    def record_deliveries(self, attempt: Attempt, found: Sequence[Delivery]) -> None:
        """Every output is stored whole under its destination."""
        with self._write() as connection:
            for one in found:
                connection.execute(
                    statements.FORGET_DELIVERY,
                    {"_attempt": attempt.id, "_destination": one.destination, "_output": one.output},
                )
                connection.execute(statements.NEW_DELIVERY, _delivery_values(attempt.id, one))

    def forget_deliveries(self, gone: Iterable[tuple[str, str]]) -> None:
        """(destination, key) pairs whose objects are not there any more."""
        with self._write() as connection:
            for destination, key in gone:
                connection.execute(
                    delete(s.deliveries).where(s.deliveries.c.destination == destination, s.deliveries.c.key == key)
                )

    def resolve(self, identity: str, number: int, prediction_id: str | None) -> Attempt:
        """Settle an `unknown` attempt: with the provider's id it is paid; with None it never was.

        Raises LedgerError where the attempt is not unknown, or the id belongs to another row.
        """
        with self._write() as connection:
            row = connection.execute(
                select(s.attempts).where(s.attempts.c.identity == identity, s.attempts.c.number == number)
            ).first()
            if row is None:
                raise LedgerError("The ledger does not know this row; nothing was changed.")
            attempt = _attempt(row)
            if attempt.state == State.CLAIMED and self._is_dead(connection, attempt.owner):
                attempt = self._move(connection, attempt, State.UNKNOWN, error_code="submit_unknown")
            if attempt.state != State.UNKNOWN:
                raise LedgerError(f"This row is not unknown but {attempt.state}; nothing was changed.")
            if prediction_id is None:
                return self._move(connection, attempt, State.ABANDONED, error_code=None, error=None)
            taken = connection.execute(
                select(s.attempts.c.identity).where(s.attempts.c.prediction_id == prediction_id)
            ).first()
            if taken is not None:
                raise LedgerError(f"The id {prediction_id} belongs to another row already; nothing was changed.")
            return self._move(
                connection,
                attempt,
                State.SUBMITTED,
                prediction_id=prediction_id,
                quoted_cents=attempt.price_cents,
                submitted_at=attempt.claimed_at,
                error_code=None,
                error=None,
            )

    def settle_the_dead(self) -> int:
        """Turn every claim of a dead owner into `unknown`; how many there were."""
        with self._write() as connection:
            dead = self._dead_owners(connection)
            if not dead:
                return 0
            left = connection.execute(
                select(s.attempts).where(s.attempts.c.state == State.CLAIMED, s.attempts.c.owner.in_(dead))
            ).all()
            for row in left:
                self._move(connection, _attempt(row), State.UNKNOWN, error_code="submit_unknown")
            return len(left)

    # What a destination carried

    def imported(self, destination: str) -> dict[str, str]:
        """key → version of the run tables under a destination that were read already."""
        with self._read() as connection:
            query = select(s.imports.c.key, s.imports.c.version).where(s.imports.c.destination == destination)
            return {row.key: row.version for row in connection.execute(query)}

    def import_attempts(
        self, found: Iterable[tuple[Attempt, Sequence[Delivery]]], destination: str, tables: Mapping[str, str]
    ) -> int:
        """Take over what a destination tells of attempts that this ledger has not seen; how many were new.

        An `unknown` of ours that the destination knows an id for takes that id. Nothing else of ours changes.
        """
        new = 0
        with self._write() as connection:
            for told, deliveries in found:
                row = connection.execute(
                    select(s.attempts).where(
                        s.attempts.c.identity == told.identity, s.attempts.c.number == told.number
                    )
                ).first()
                ours = None if row is None else _attempt(row)
                if told.prediction_id is not None:
                    taken = connection.execute(
                        select(s.attempts.c.identity, s.attempts.c.number).where(
                            s.attempts.c.prediction_id == told.prediction_id
                        )
                    ).first()
                    if taken is not None and (taken.identity, taken.number) != (told.identity, told.number):
                        continue
                if ours is None:
                    ours = self._insert_imported(connection, told)
                    new += 1
                elif ours.state == State.UNKNOWN and told.prediction_id is not None:
                    ours = self._move(
                        connection,
                        ours,
                        told.state,
                        prediction_id=told.prediction_id,
                        quoted_cents=told.quoted_cents,
                        submitted_at=told.submitted_at,
                        completed_at=told.completed_at,
                        error_code=told.error_code,
                        error=told.error,
                    )
                if ours.prediction_id == told.prediction_id:
                    self._insert_missing(connection, ours, deliveries)
            for key, version in tables.items():
                connection.execute(
                    delete(s.imports).where(s.imports.c.destination == destination, s.imports.c.key == key)
                )
                connection.execute(insert(s.imports).values(destination=destination, key=key, version=version))
        return new

    def _insert_imported(self, connection: Connection, told: Attempt) -> Attempt:
        values = {name: getattr(told, name) for name in Attempt.__slots__ if name != "id"} | {"imported": True}
        inserted = connection.execute(insert(s.attempts).values(**values)).inserted_primary_key
        assert inserted is not None  # noqa: S101 - SQLAlchemy gives it for a single insert
        return replace(told, id=inserted[0], imported=True)

    @staticmethod
    def _insert_missing(connection: Connection, attempt: Attempt, deliveries: Sequence[Delivery]) -> None:
        there = {
            (row.destination, row.output)
            for row in connection.execute(
                select(s.deliveries.c.destination, s.deliveries.c.output).where(
                    s.deliveries.c.attempt_id == attempt.id
                )
            )
        }
        for one in deliveries:
            if (one.destination, one.output) not in there:
                connection.execute(insert(s.deliveries).values(**_delivery_values(attempt.id, one)))

    # Notes

    def write_notes(self, run_id: str, found: Sequence[Note]) -> None:
        """What the run says of these rows now; later words replace earlier ones."""
        if not found:
            return
        with self._write() as connection:
            for start in range(0, len(found), CHUNK):
                part = found[start : start + CHUNK]
                connection.execute(
                    delete(s.notes).where(
                        s.notes.c.run_id == run_id, s.notes.c.position.in_([note.position for note in part])
                    )
                )
                connection.execute(
                    insert(s.notes),
                    [
                        {
                            "run_id": run_id,
                            "position": note.position,
                            "status": note.status,
                            "error_code": note.error_code,
                            "error": note.error,
                            "warnings": json.dumps(note.warnings),
                        }
                        for note in part
                    ],
                )

    def notes(self, run_id: str) -> dict[int, Note]:
        """position → note."""
        with self._read() as connection:
            return {
                row.position: Note(
                    row.position, row.status, row.error_code, row.error, tuple(json.loads(row.warnings))
                )
                for row in connection.execute(select(s.notes).where(s.notes.c.run_id == run_id))
            }

    def status_counts(self, run_id: str) -> dict[str, int]:
        """state → how many attempts of this run stand there."""
        with self._read() as connection:
            query = (
                select(s.attempts.c.state, func.count())
                .where(s.attempts.c.run_id == run_id)
                .group_by(s.attempts.c.state)
            )
            return {state: count for state, count in connection.execute(query)}  # noqa: C416 - rows, not pairs

    # Inside a transaction

    def _latest(self, connection: Connection, identity: str) -> Attempt | None:
        row = connection.execute(statements.LATEST, {"_identity": identity}).first()
        return None if row is None else _attempt(row)

    def _same(self, connection: Connection, attempt: Attempt) -> Attempt:
        row = connection.execute(statements.SAME, {"_id": attempt.id}).first()
        if row is None:
            raise LedgerError("An attempt has vanished from the ledger; restore it from its backup before going on.")
        return _attempt(row)

    def _move(self, connection: Connection, attempt: Attempt, state: State, **values: Any) -> Attempt:
        moved = replace(attempt, state=state, **values)
        connection.execute(statements.CHANGE, {"_id": attempt.id, "state": state, **values})
        if not attempt.imported:
            before = _cents_of(attempt.state, attempt.price_cents, attempt.quoted_cents)
            after = _cents_of(moved.state, moved.price_cents, moved.quoted_cents)
            self._shift(connection, attempt, {name: after[name] - before[name] for name in after})
        return moved

    @staticmethod
    def _shift(connection: Connection, attempt: Attempt, change: Mapping[str, int]) -> None:
        if not any(change.values()):
            return
        shift = {f"_{name}": by for name, by in change.items()}
        connection.execute(statements.SHIFT_RUN, {"_run": attempt.run_id, **shift})
        connection.execute(statements.SHIFT_DAY, {"_day": attempt.day, **shift})

    @staticmethod
    def _reserve(
        connection: Connection, run_id: str, day: str, price: int, daily_cap_cents: int | None
    ) -> OverBudget | None:
        runs, days = s.runs.c, s.days.c
        done = connection.execute(statements.RESERVE_RUN, {"_run": run_id, "_price": price})
        if done.rowcount == 0:
            cap = connection.execute(select(runs.cap_cents).where(runs.run_id == run_id)).scalar()
            if cap is None:
                raise LedgerError("The run is not in the ledger; nothing was spent.")
            return OverBudget("run", cap)
        if daily_cap_cents is None:
            today = connection.execute(statements.RESERVE_DAY, {"_day": day, "_price": price})
        else:
            capped = {"_day": day, "_price": price, "_cap": daily_cap_cents}
            today = connection.execute(statements.RESERVE_DAY_CAPPED, capped)
        if today.rowcount == 0:
            there = connection.execute(select(days.day).where(days.day == day)).first()
            if there is not None or (daily_cap_cents is not None and price > daily_cap_cents):
                return OverBudget("day", daily_cap_cents or 0)
            connection.execute(
                insert(s.days).values(day=day, confirmed_cents=0, reserved_cents=price, at_risk_cents=0)
            )
        return None

    @staticmethod
    def _granted(connection: Connection, run_id: str, identity: str, number: int) -> bool:
        return connection.execute(statements.GRANTED, {"_run": run_id, "_identity": identity}).scalar() == number

    def shared_permissions(self, command: str) -> dict[str, int] | None:
        """What an unfinished run of the same command may replace, and this one with it; None: there is none."""
        with self._read() as connection:
            unfinished = self._unfinished(connection, command)
            if unfinished is None:
                return None
            query = select(s.grants.c.identity, s.grants.c.replaces).where(s.grants.c.permit == unfinished.permit)
            return {row.identity: row.replaces for row in connection.execute(query)}

    def permissions(self, run_id: str) -> dict[str, int]:
        """identity → the attempt that this run may still replace, where that is its latest."""
        with self._read() as connection:
            query = (
                select(s.grants.c.identity, s.grants.c.replaces)
                .join(s.runs, s.runs.c.permit == s.grants.c.permit)
                .where(s.runs.c.run_id == run_id)
            )
            return {row.identity: row.replaces for row in connection.execute(query)}

    def _standings(
        self, connection: Connection, identities: Sequence[str], dead: frozenset[str]
    ) -> dict[str, Standing]:
        attempts: dict[str, list[Attempt]] = {}
        by_id: dict[int, Attempt] = {}
        for row in connection.execute(statements.ATTEMPTS_OF, {"_identities": identities}):
            attempt = _attempt(row)
            if attempt.state == State.CLAIMED and attempt.owner in dead:
                attempt = replace(attempt, state=State.UNKNOWN, error_code="submit_unknown")
            attempts.setdefault(attempt.identity, []).append(attempt)
            by_id[attempt.id] = attempt
        deliveries: dict[str, list[Delivery]] = {}
        if by_id:
            for row in connection.execute(statements.DELIVERIES_OF, {"_identities": identities}):
                attempt = by_id[row.attempt_id]
                deliveries.setdefault(attempt.identity, []).append(
                    Delivery(
                        attempt.number,
                        row.destination,
                        row.output,
                        row.outputs,
                        row.key,
                        row.bytes,
                        row.sha256,
                        row.width,
                        row.height,
                        row.duration_s,
                    )
                )
        return {
            identity: Standing(tuple(found), tuple(deliveries.get(identity, ())))
            for identity, found in attempts.items()
        }

    def _dead_owners(self, connection: Connection) -> frozenset[str]:
        held = connection.execute(
            select(s.attempts.c.owner).where(s.attempts.c.state == State.CLAIMED).distinct()
        ).scalars()
        return frozenset(owner for owner in held if owner != self.owner.id and self._is_dead(connection, owner))

    def _is_dead(self, connection: Connection, owner_id: str | None) -> bool:
        row = connection.execute(select(s.owners).where(s.owners.c.id == owner_id)).first()
        if row is None or row.expires_at <= self._now(connection):
            return True
        return Owner(row.id, row.host, row.boot, row.pid, row.started).surely_dead()

    def _now(self, connection: Connection) -> float:
        """One clock for all who share the ledger: the database's own, where it has one."""
        if self.is_sqlite:
            return time.time()
        return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    def _run(self, row: Row[Any], connection: Connection | None = None) -> RunRecord:
        return RunRecord(
            run_id=row.run_id,
            verb=row.verb,
            source=row.source,
            destination=row.destination,
            permit=row.permit,
            flow_run_id=row.flow_run_id,
            options=json.loads(row.options),
            rows=row.rows,
            cap_cents=row.cap_cents,
            confirmed_cents=row.confirmed_cents,
            reserved_cents=row.reserved_cents,
            at_risk_cents=row.at_risk_cents,
            started_at=row.started_at,
            finished_at=row.finished_at,
            exit_code=row.exit_code,
            owner=row.owner,
            summary=None if row.summary is None else json.loads(row.summary),
            alive=row.finished_at is None and connection is not None and not self._is_dead(connection, row.owner),
        )

    @staticmethod
    def _unfinished(connection: Connection, command: str) -> Row[Any] | None:
        """The latest run of this command that gave permissions and neither finished nor was followed by one that did."""
        latest = connection.execute(
            select(s.runs.c.run_id, s.runs.c.permit, s.runs.c.exit_code)
            .where(s.runs.c.command == command)
            .order_by(s.runs.c.started_at.desc())
            .limit(1)
        ).first()
        if latest is None or latest.exit_code in FINISHED:
            return None
        given = connection.execute(
            select(func.count()).select_from(s.grants).where(s.grants.c.permit == latest.permit)
        ).scalar()
        return latest if given else None

    def _serialise(self, connection: Connection, command: str) -> None:
        """Two of one command at once register one after the other (SQLite's writers always do)."""
        if not self.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:command))"), {"command": command})

    # The database

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._connected() as connection, connection.execution_options(immediate=True).begin():
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._connected() as connection, connection.begin():
            yield connection

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except IntegrityError:
            raise
        except (OperationalError, DBAPIError) as error:
            raise LedgerError(
                f"The ledger at {self.shown} does not answer as it should ({_told(error)}); nothing more is sent."
            ) from error

    write, read, now, is_dead = _write, _read, _now, _is_dead  # for `reelsheet.ledger.shards`

    def _revision(self) -> str | None:
        with self._engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    def _migrate(self) -> None:
        if self._revision() == newest_revision():
            return
        from alembic import command, util
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self._write() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(5408091)"))
            if not inspect(connection).has_table("alembic_version") and inspect(connection).has_table("attempts"):
                raise LedgerError(f"The database at {self.shown} holds other tables named like a ledger's.")
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except util.CommandError as error:
                raise LedgerError(
                    f"The ledger at {self.shown} was written by a newer reelsheet; upgrade this one. Nothing was spent."
                ) from error


def newest_revision() -> str:
    """The migration that a ledger should be at, by the files' names: Alembic would take longer to say it."""
    return max(path.stem.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def spent_cents(record: RunRecord) -> int:
    """Confirmed, reserved and at risk together: what a cap is held against."""
    return record.confirmed_cents + record.reserved_cents + record.at_risk_cents


_ANSWERABLE = (State.CLAIMED, State.UNKNOWN)
_MAY_BECOME: dict[State, tuple[State, ...]] = {
    State.REFUSED: _ANSWERABLE,
    State.UNKNOWN: (State.CLAIMED,),
    State.COMPLETED: (State.SUBMITTED,),
    State.FAILED: (State.SUBMITTED,),
}


def _cents_of(state: State, price: int, quoted: int | None) -> dict[str, int]:
    return {
        "reserved_cents": price if state == State.CLAIMED else 0,
        "at_risk_cents": price if state == State.UNKNOWN else 0,
        "confirmed_cents": (price if quoted is None else quoted) if state in PAID else 0,
    }


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        row.id,
        row.identity,
        row.number,
        State(row.state),
        row.owner,
        row.run_id,
        row.day,
        row.price_cents,
        row.quoted_cents,
        row.prediction_id,
        row.error_code,
        row.error,
        row.fingerprint,
        row.claimed_at,
        row.submitted_at,
        row.completed_at,
        row.imported,
    )


def _delivery_values(attempt_id: int, one: Delivery) -> dict[str, Any]:
    return {
        "attempt_id": attempt_id,
        "destination": one.destination,
        "output": one.output,
        "outputs": one.outputs,
        "key": one.key,
        "bytes": one.bytes,
        "sha256": one.sha256,
        "width": one.width,
        "height": one.height,
        "duration_s": one.duration_s,
        "delivered_at": time.time(),
    }


_NO_LEDGER_URL = "REELSHEET_LEDGER_URL must be postgresql://user:password@host/database or sqlite:///path/to/ledger.db."


def _engine(url: str | None) -> tuple[Engine, str]:
    if url is None:
        url = f"sqlite:///{state_home() / 'ledger.db'}"
    scheme, _, rest = url.partition("://")
    if scheme in {"postgresql", "postgres", "postgresql+psycopg"}:
        try:
            engine = create_engine(
                f"postgresql+psycopg://{rest}",
                pool_size=4,
                max_overflow=2,
                pool_pre_ping=True,
                connect_args={"connect_timeout": 10, "application_name": "reelsheet"},
            )
        except (ArgumentError, ValueError):
            raise LedgerError(_NO_LEDGER_URL) from None  # the error quotes the address, and with it the password
        shown = engine.url.set(query={}).render_as_string(hide_password=True)
        return engine, shown.replace("postgresql+psycopg", "postgresql")
    if scheme != "sqlite" or not rest.startswith("/") or len(rest) < 2:
        raise LedgerError(_NO_LEDGER_URL)
    path = Path(rest[1:])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"The folder {path.parent} for the ledger cannot be made ({error.strerror}).") from error
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30.0, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine, str(path)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say so
    cursor = connection.cursor()
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _told(error: BaseException) -> str:
    """The database's own words, short, without statements, parameters or passwords."""
    origin = getattr(error, "orig", None) or error
    line = str(origin).strip().splitlines()[0] if str(origin).strip() else type(origin).__name__
    return clean(line, limit=200)
