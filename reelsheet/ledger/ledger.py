"""The ledger's book: claims, ids, verdicts, deliveries and the money behind them.

Every method is one transaction (or several, each true by itself). They block: call them in a thread. The money's
rules are here and nowhere else:

* `claim` is the only way to a new attempt. It reserves the price against the run's and the day's cap.
* An attempt's money stands in exactly one place: reserved (`claimed`), at risk (`unknown`), confirmed
  (`submitted`, `completed`, `failed`) or nowhere (`refused`, `abandoned`). `_move` shifts it, always.
* A claim of a dead owner is `unknown`, never vacant.
* What was paid for, or may have been, is paid for again only where a grant names that very attempt.
"""

import json
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, func, insert, select, update

from reelsheet.errors import LedgerError
from reelsheet.ledger import schema as s
from reelsheet.ledger import statements
from reelsheet.ledger.database import Database, newest_revision
from reelsheet.ledger.lease import LEASE_SECONDS, MARGIN_SECONDS, Owner, awake_and_asleep
from reelsheet.ledger.records import (
    Attempt,
    Claimed,
    DayTotal,
    Delivery,
    Found,
    IdentityHistory,
    LedgerCounts,
    Note,
    OverBudget,
    RepayPermission,
    RunRecord,
    Sheet,
    Wait,
    attempt_of,
    cents_of,
    counting,
    delivery_of,
    run_of,
    spent_cents,
)
from reelsheet.ledger.schema import PAID, VACANT, State

CHUNK = 800  # identities a query; SQLite takes 999 variables at the least
FINISHED = (0, 1)  # exit codes of a run that tried every row
WEEK = 7 * 86_400


class Ledger:
    """The book of one database. Safe to use from several threads; made by `Ledger.open`."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.shown = database.shown
        self.is_sqlite = database.is_sqlite
        self.owner = Owner.this_process()
        self._leased_until = 0.0  # on awake_and_asleep
        self._open: set[int] = set()  # claims of this process whose answer is still to come
        # for reelsheet.ledger.shards and reelsheet.ledger.seen
        self.write, self.read, self.now = database.write, database.read, database.now

    # Opening

    @classmethod
    def open(cls, url: str | None = None) -> Self:
        """Open and migrate. `url`: None (SQLite in the state folder), sqlite:///path, postgresql://…

        Raises LedgerError where it cannot be reached, is newer than this program, or is damaged.
        """
        database = Database.open(url)
        try:
            ledger = cls(database)
            ledger.heartbeat()
        except BaseException:
            database.close()
            raise
        return ledger

    def close(self) -> None:
        """Give the lease back, so that nobody waits for it."""
        with suppress(LedgerError):  # the lease runs out by itself
            self._db.committed(
                lambda connection: connection.execute(
                    update(s.owners).where(s.owners.c.id == self.owner.id).values(expires_at=0.0, awake_until=0.0)
                )
            )
        self._db.close()

    # The lease

    def heartbeat(self) -> None:
        """Renew this process's lease. A claim keeps the end that was known when it was made."""
        before = awake_and_asleep()
        self._db.committed(self._renew)
        self._leased_until = before + LEASE_SECONDS

    def _renew(self, connection: Connection) -> None:
        expires = self._db.now(connection) + LEASE_SECONDS
        lease = {"expires_at": expires, "awake_until": awake_and_asleep() + LEASE_SECONDS}
        if connection.execute(update(s.owners).where(s.owners.c.id == self.owner.id).values(**lease)).rowcount:
            return
        me = self.owner
        connection.execute(
            insert(s.owners).values(id=me.id, host=me.host, boot=me.boot, pid=me.pid, started=me.started, **lease)
        )
        # Owners that are gone and hold no claim are of no use to anybody.
        holding = select(s.attempts.c.owner).where(s.attempts.c.state == State.CLAIMED, s.attempts.c.owner.is_not(None))
        connection.execute(
            delete(s.owners).where(s.owners.c.expires_at < expires - WEEK, s.owners.c.id.not_in(holding))
        )

    def is_dead(self, connection: Connection, owner_id: str | None) -> bool:
        """True where an owner's lease is over, or its process surely gone."""
        if owner_id == self.owner.id:
            return False
        row = connection.execute(select(s.owners).where(s.owners.c.id == owner_id)).first()
        if row is None:
            return True
        owner = Owner(row.id, row.host, row.boot, row.pid, row.started)
        if self.is_sqlite and owner.shares_clock():  # whatever has been done to the machine's calendar since
            over = bool(row.awake_until <= awake_and_asleep())
        else:
            over = bool(row.expires_at <= self._db.now(connection))
        return over or owner.surely_dead()

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
        sheet: Sheet | None = None,
    ) -> RunRecord:
        """Register a run; the same `flow_run_id` (or `run_id`) again is the same run and keeps its money and cap.

        `permissions` maps identities to the attempt that may be paid for once more. The same `command` repeated
        while its run is unfinished shares the permissions given then; what these have paid for gets no new ones.
        """
        values = {
            "run_id": run_id, "verb": verb, "source": _text(source), "destination": destination, "command": command,
            "owner": self.owner.id, "flow_run_id": flow_run_id, "options": json.dumps(dict(options)), "rows": rows,
            "cap_cents": cap_cents, "confirmed_cents": 0, "reserved_cents": 0, "at_risk_cents": 0,
            "started_at": time.time(),
        }  # fmt: skip

        def register(connection: Connection) -> RunRecord:
            self._db.serialise(connection, command)
            known = self._known_run(connection, run_id, flow_run_id)
            if known is not None:
                if sheet is not None:
                    self._keep_sheet(connection, known.run_id, sheet)
                connection.execute(
                    update(s.runs)
                    .where(s.runs.c.run_id == known.run_id)
                    .values(owner=self.owner.id, finished_at=None, exit_code=None)
                )
                return replace(run_of(known), resumed=True, owner=self.owner.id, finished_at=None, exit_code=None)
            unfinished = self._unfinished(connection, command)
            permit = run_id if unfinished is None else unfinished.permit
            self._grant(connection, permit, permissions or {})
            connection.execute(insert(s.runs).values(permit=permit, **values))
            if sheet is not None:
                self._keep_sheet(connection, run_id, sheet)
            row = connection.execute(select(s.runs).where(s.runs.c.run_id == run_id)).one()
            return replace(run_of(row), continues=None if unfinished is None else unfinished.run_id)

        return self._db.committed(register)

    def finish_run(self, run_id: str, *, exit_code: int, summary: Mapping[str, Any]) -> None:
        """Close a run's line in the book."""
        closed = {"finished_at": time.time(), "exit_code": exit_code, "summary": json.dumps(dict(summary))}
        self._db.committed(
            lambda connection: connection.execute(update(s.runs).where(s.runs.c.run_id == run_id).values(**closed))
        )

    def run(self, run_id: str) -> RunRecord | None:
        """One run, by its id or an unambiguous beginning of it."""
        query = select(s.runs).where(s.runs.c.run_id.startswith(run_id, autoescape=True)).order_by(s.runs.c.run_id)
        with self._db.read() as connection:
            found = connection.execute(query.limit(2)).all()
            exact = [row for row in found if row.run_id == run_id] or (found if len(found) == 1 else [])
            return self._record(connection, exact[0]) if exact else None

    def run_of_flow(self, flow_run_id: str) -> RunRecord | None:
        """The run that a Prefect flow run stands for."""
        with self._db.read() as connection:
            row = connection.execute(select(s.runs).where(s.runs.c.flow_run_id == flow_run_id)).first()
            return None if row is None else self._record(connection, row)

    def recent_runs(self, limit: int = 20, destination: str | None = None) -> list[RunRecord]:
        """Newest first."""
        query = select(s.runs).order_by(s.runs.c.started_at.desc()).limit(limit)
        if destination is not None:
            query = query.where(s.runs.c.destination == destination)
        with self._db.read() as connection:
            return [self._record(connection, row) for row in connection.execute(query).all()]

    def sheet(self, run_id: str) -> Sheet | None:
        """Which rows a run has; None where the ledger was not told."""
        with self._db.read() as connection:
            content = connection.execute(select(s.sheets.c.content).where(s.sheets.c.run_id == run_id)).scalar()
        if content is None:
            return None
        told = json.loads(zlib.decompress(content))
        problems, warnings = (
            {int(at): tuple(texts) for at, texts in told.get(name, {}).items()} for name in ("problems", "warnings")
        )
        return Sheet(tuple(told["lines"]), tuple(told["names"]), tuple(told["identities"]), problems, warnings)

    def days(self, limit: int = 14) -> list[DayTotal]:
        """The latest days with any money, newest first."""
        query = select(s.days).order_by(s.days.c.day.desc()).limit(limit)
        with self._db.read() as connection:
            return [
                DayTotal(row.day, row.confirmed_cents, row.reserved_cents, row.at_risk_cents)
                for row in connection.execute(query)
            ]

    # Standings

    def histories(self, identities: Iterable[str]) -> dict[str, IdentityHistory]:
        """How each known identity stands; unknown ones are left out. Claims of the dead show as `unknown`."""
        wanted = list(dict.fromkeys(identities))
        found: dict[str, IdentityHistory] = {}
        with self._db.read() as connection:
            dead = self._dead_owners(connection)
            for start in range(0, len(wanted), CHUNK):
                found.update(_standings(connection, wanted[start : start + CHUNK], dead))
        return found

    def history(self, identity: str) -> IdentityHistory | None:
        return self.histories([identity]).get(identity)

    def find(self, key: str, limit: int = 10) -> list[IdentityHistory]:
        """Standings by prediction id, identity, or its first eight or more digits."""
        matches = s.attempts.c.prediction_id == key
        if len(key) >= 8 and all(c in "0123456789abcdef" for c in key.lower()):
            matches |= s.attempts.c.identity.startswith(key.lower(), autoescape=True)
        query = select(s.attempts.c.identity).where(matches).distinct().limit(limit)
        with self._db.read() as connection:
            identities = list(connection.execute(query).scalars())
        return list(self.histories(identities).values())

    def unknown_attempts(self) -> dict[str, Attempt]:
        """identity → its latest attempt that may have been charged without an answer, of each that has one."""
        query = select(s.attempts.c.identity).where(s.attempts.c.state == State.UNKNOWN).distinct()
        with self._db.read() as connection:
            identities = list(connection.execute(query).scalars())
        return {
            identity: next(a for a in reversed(history.attempts) if a.state == State.UNKNOWN)
            for identity, history in self.histories(identities).items()
        }

    def identities_of_run(self, run_id: str) -> list[str]:
        """Every identity that a run has an attempt of, in no order."""
        query = select(s.attempts.c.identity).where(s.attempts.c.run_id == run_id).distinct()
        with self._db.read() as connection:
            return list(connection.execute(query).scalars())

    def counts(self) -> LedgerCounts:
        """How many runs and attempts the ledger holds."""
        a = s.attempts.c
        with self._db.read() as connection:

            def count(table: Table, *conditions: ColumnElement[bool]) -> int:
                return connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one()

            return LedgerCounts(
                runs=count(s.runs),
                attempts=count(s.attempts, a.state.in_([*PAID, State.UNKNOWN])),
                unknown=count(s.attempts, a.state == State.UNKNOWN),
            )

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
        if self._leased_until - awake_and_asleep() < LEASE_SECONDS / 2:  # the heartbeat is late
            self.heartbeat()
        leave_by = self._leased_until - MARGIN_SECONDS
        try:
            claimed = self._db.committed(
                lambda connection: self._claim(
                    connection, identity, run_id, price_cents, daily_cap_cents, fingerprint, now
                )
            )
        except _PastCap as past:
            return past.over
        if isinstance(claimed, Found | Wait):
            return claimed
        self._open.add(claimed.id)
        return Claimed(claimed, leave_by)

    def _claim(
        self,
        connection: Connection,
        identity: str,
        run_id: str,
        price_cents: int,
        daily_cap_cents: int | None,
        fingerprint: str | None,
        now: float | None,
    ) -> Attempt | Found | Wait:
        attempts = self._attempts(connection, identity)
        for at, attempt in enumerate(attempts):
            if attempt.state == State.CLAIMED:
                if attempt.id in self._open:
                    return Wait()
                if attempt.owner != self.owner.id and not self.is_dead(connection, attempt.owner):
                    return Wait()
                attempts[at] = self._move(connection, attempt, State.UNKNOWN, error_code="submit_unknown")
        before = counting(attempts)
        if before is not None and not _is_granted(connection, run_id, identity, before.number):
            return Found(_standings(connection, [identity], frozenset())[identity])
        moment = self._db.now(connection) if now is None else now
        attempt = Attempt(
            id=0,
            identity=identity,
            number=1,
            state=State.CLAIMED,
            owner=self.owner.id,
            run_id=run_id,
            day=datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d"),
            price_cents=price_cents,
            fingerprint=fingerprint,
            claimed_at=moment,
        )
        top = attempts[-1] if attempts else None
        if top is not None and top.state in VACANT:
            attempt = replace(attempt, id=top.id, number=top.number)
            connection.execute(statements.CHANGE, {"_id": top.id, **_values(attempt)})
        else:
            attempt = _inserted(connection, replace(attempt, number=1 if top is None else top.number + 1))
        _reserve(connection, run_id, attempt.day, price_cents, daily_cap_cents)
        return attempt

    def mark_unawaited(self, attempt: Attempt) -> None:
        """Nobody awaits this claim's answer any more. Whatever was not recorded by now is `unknown`."""
        self._open.discard(attempt.id)

    def record_id(self, attempt: Attempt, prediction_id: str, quoted_cents: int | None) -> Attempt:
        """The provider's id: paid, whoever holds the lease by now. `quoted_cents` None: the reserved price stands.

        An id that another attempt has already is none: this attempt is then `unknown`.
        """

        def record(connection: Connection) -> Attempt:
            current = self._same(connection, attempt)
            if current.prediction_id == prediction_id:
                return current  # recorded, though the database did not say so
            holder = _holder(connection, prediction_id)
            if holder is not None:
                return self._settled(connection, attempt, State.UNKNOWN, _twice(holder, attempt, prediction_id))
            if current.claimed_at != attempt.claimed_at or current.state in PAID:
                current = self._beside(connection, attempt)
            told = {
                "prediction_id": prediction_id,
                "quoted_cents": attempt.price_cents if quoted_cents is None else quoted_cents,
                "submitted_at": time.time(),
                "error_code": None,
                "error": None,
            }
            return self._move(connection, current, State.SUBMITTED, **told)

        return self._db.committed(record)

    def _beside(self, connection: Connection, attempt: Attempt) -> Attempt:
        """A place of its own for a late answer whose claim was settled and taken anew in the meantime."""
        number = self._attempts(connection, attempt.identity)[-1].number + 1
        return _inserted(connection, replace(attempt, number=number, state=State.REFUSED))

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

    def _settle(self, attempt: Attempt, state: State, **told: Any) -> Attempt:
        return self._db.committed(lambda connection: self._settled(connection, attempt, state, told))

    def _settled(self, connection: Connection, attempt: Attempt, state: State, told: Mapping[str, Any]) -> Attempt:
        current = self._same(connection, attempt)
        if current.state not in _MAY_BECOME[state] or current.claimed_at != attempt.claimed_at:
            return current  # somebody knew better in the meantime, or another claim stands there now
        if state == State.REFUSED and current.state == State.CLAIMED and current.owner != attempt.owner:
            return current
        return self._move(connection, current, state, **told)

    def record_deliveries(self, attempt: Attempt, found: Sequence[Delivery]) -> None:
        """Every output is stored whole under its destination."""

        def record(connection: Connection) -> None:
            for one in found:
                connection.execute(
                    statements.FORGET_DELIVERY,
                    {"_attempt": attempt.id, "_destination": one.destination, "_output": one.output},
                )
                connection.execute(statements.NEW_DELIVERY, _delivery_values(attempt.id, one))

        self._db.committed(record)

    def forget_deliveries(self, gone: Iterable[tuple[str, str]]) -> None:
        """(destination, key) pairs whose objects are not there any more."""
        pairs = list(gone)

        def forget(connection: Connection) -> None:
            d = s.deliveries.c
            for destination, key in pairs:
                connection.execute(delete(s.deliveries).where(d.destination == destination, d.key == key))

        self._db.committed(forget)

    def resolve(self, identity: str, prediction_id: str | None) -> IdentityHistory:
        """Settle an `unknown` row. With the provider's id its last unknown attempt is paid; with None none ever was.

        Raises LedgerError where no attempt of it is unknown, or the id belongs to another one.
        """

        def settle(connection: Connection) -> None:
            attempts = self._attempts(connection, identity)
            for at, attempt in enumerate(attempts):
                if attempt.state == State.CLAIMED and attempt.id not in self._open:
                    if attempt.owner != self.owner.id and not self.is_dead(connection, attempt.owner):
                        raise LedgerError("A run is submitting this row just now; wait for it. Nothing was changed.")
                    attempts[at] = self._move(connection, attempt, State.UNKNOWN, error_code="submit_unknown")
            unknown = [attempt for attempt in attempts if attempt.state == State.UNKNOWN]
            if not unknown:
                how = counting(attempts)
                told = f"it is {how.state}" if how else "nothing was ever paid for it"
                raise LedgerError(f"This row is not unknown: {told}. Nothing was changed.")
            if prediction_id is None:
                for attempt in unknown:
                    self._move(connection, attempt, State.ABANDONED, error_code=None, error=None)
                return
            if _holder(connection, prediction_id) is not None:
                raise LedgerError(f"The id {prediction_id} belongs to another clip already; nothing was changed.")
            last = unknown[-1]
            self._move(
                connection, last, State.SUBMITTED, prediction_id=prediction_id, quoted_cents=last.price_cents,
                submitted_at=last.claimed_at, error_code=None, error=None,
            )  # fmt: skip

        self._db.committed(settle)
        history = self.history(identity)
        assert history is not None  # noqa: S101 - it has just been settled
        return history

    def expire_dead_claims(self) -> int:
        """Turn every claim of a dead owner into `unknown`; how many there were."""
        query = select(s.attempts.c.id, s.attempts.c.owner).where(s.attempts.c.state == State.CLAIMED)
        with self._db.read() as connection:
            dead = self._dead_owners(connection)
            left = [row.id for row in connection.execute(query) if row.owner in dead] if dead else []

        def settle(connection: Connection, attempt_id: int) -> bool:
            row = connection.execute(statements.SAME, {"_id": attempt_id}).first()
            if row is None or row.state != State.CLAIMED or not self.is_dead(connection, row.owner):
                return False
            self._move(connection, attempt_of(row), State.UNKNOWN, error_code="submit_unknown")
            return True

        return sum(self._db.committed(lambda connection, at=at: settle(connection, at)) for at in left)  # type: ignore[misc]

    # What a destination carried

    def imported(self, destination: str) -> dict[str, str]:
        """key → version of the run tables under a destination that were read already."""
        with self._db.read() as connection:
            query = select(s.imports.c.key, s.imports.c.version).where(s.imports.c.destination == destination)
            return {row.key: row.version for row in connection.execute(query)}

    def import_attempts(
        self, found: Iterable[tuple[Attempt, Sequence[Delivery]]], destination: str, tables: Mapping[str, str]
    ) -> int:
        """Take over what a destination tells of attempts that this ledger does not know; how many were new to it.

        An attempt of ours without an id takes the id that the destination knows for it, one that was submitted the
        verdict. Nothing else of ours changes.
        """
        told = sorted(found, key=lambda one: (one[0].identity, one[0].number))

        def insert_new(connection: Connection) -> tuple[int, list[tuple[Attempt, Sequence[Delivery]]]]:
            new, known = 0, []
            for attempt, deliveries in told:
                if _ours(connection, attempt) is not None:
                    known.append((attempt, deliveries))
                    continue
                ours = _inserted(connection, replace(attempt, imported=True))
                _insert_missing(connection, ours, deliveries)
                new += 1
            return new, known

        new, known = self._db.committed(insert_new)
        for attempt, deliveries in known:  # one by one: who locks several rows and then counters may meet others
            new += self._db.committed(lambda c, a=attempt, d=deliveries: self._learn(c, a, d))  # type: ignore[misc]

        def remember(connection: Connection) -> None:
            i = s.imports.c
            for key, version in tables.items():
                connection.execute(delete(s.imports).where(i.destination == destination, i.key == key))
                connection.execute(insert(s.imports).values(destination=destination, key=key, version=version))

        if tables:
            self._db.committed(remember)
        return new

    def _learn(self, connection: Connection, told: Attempt, deliveries: Sequence[Delivery]) -> bool:
        """What is told of an attempt that we have as well; True where it was news of money."""
        ours = _ours(connection, told)
        if ours is None:
            return False
        ours = self._same(connection, ours)
        news = False
        if told.prediction_id is not None and ours.state in VACANT:  # another ledger paid for it
            ours = replace(told, id=ours.id, number=ours.number, imported=True)
            connection.execute(statements.CHANGE, {"_id": ours.id, **_values(ours)})
            news = True
        elif told.prediction_id is not None and ours.state == State.UNKNOWN:
            ours = self._move(
                connection, ours, told.state, prediction_id=told.prediction_id, quoted_cents=told.quoted_cents,
                submitted_at=told.submitted_at, completed_at=told.completed_at, error_code=told.error_code,
                error=told.error,
            )  # fmt: skip
            news = True
        elif told.prediction_id is None and ours.state == State.REFUSED and not _is_our_run(connection, told.run_id):
            ours = replace(told, id=ours.id, number=ours.number, imported=True)
            connection.execute(statements.CHANGE, {"_id": ours.id, **_values(ours)})
            news = True
        elif (ours.state, ours.prediction_id) == (State.SUBMITTED, told.prediction_id) and told.state in _VERDICTS:
            ours = self._move(
                connection, ours, told.state, completed_at=told.completed_at or time.time(),
                error_code=told.error_code, error=told.error,
            )  # fmt: skip
        if told.prediction_id is not None and ours.prediction_id == told.prediction_id:
            _insert_missing(connection, ours, deliveries)
        return news

    # Notes

    def write_notes(self, run_id: str, found: Sequence[Note]) -> None:
        """What the run says of these rows now; later words replace earlier ones."""
        if not found:
            return

        def write(connection: Connection) -> None:
            n = s.notes.c
            for start in range(0, len(found), CHUNK):
                part = found[start : start + CHUNK]
                said = n.position.in_([note.position for note in part])
                connection.execute(delete(s.notes).where(n.run_id == run_id, said))
                rows = [
                    {
                        "run_id": run_id,
                        "position": note.position,
                        "status": note.status,
                        "error_code": note.error_code,
                        "error": _text(note.error),
                        "warnings": json.dumps(note.warnings),
                    }
                    for note in part
                    if note.status or note.warnings
                ]
                if rows:
                    connection.execute(insert(s.notes), rows)

        self._db.committed(write)

    def notes(self, run_id: str) -> dict[int, Note]:
        """position → note."""
        with self._db.read() as connection:
            return {
                row.position: Note(row.position, row.status, row.error_code, row.error, tuple(json.loads(row.warnings)))
                for row in connection.execute(select(s.notes).where(s.notes.c.run_id == run_id))
            }

    # Permission to pay again

    def shared_permissions(self, command: str) -> RepayPermission | None:
        """What an unfinished run of the same command may replace, and this one with it; None: there is none."""
        with self._db.read() as connection:
            unfinished = self._unfinished(connection, command)
            if unfinished is None:
                return None
            grants = select(s.grants.c.identity, s.grants.c.replaces).where(s.grants.c.permit == unfinished.permit)
            runs = select(s.runs.c.run_id).where(s.runs.c.permit == unfinished.permit)
            return RepayPermission(
                {row.identity: row.replaces for row in connection.execute(grants)},
                frozenset(connection.execute(runs).scalars()),
            )

    def permissions(self, run_id: str) -> dict[str, int]:
        """identity → the attempt that this run may still replace, where that is its latest."""
        query = (
            select(s.grants.c.identity, s.grants.c.replaces)
            .join(s.runs, s.runs.c.permit == s.grants.c.permit)
            .where(s.runs.c.run_id == run_id)
        )
        with self._db.read() as connection:
            return {row.identity: row.replaces for row in connection.execute(query)}

    @staticmethod
    def _grant(connection: Connection, permit: str, asked: Mapping[str, int]) -> None:
        """New permissions, except where the permit gave one already or has itself paid for what would be replaced."""
        if not asked:
            return
        given = set(connection.execute(select(s.grants.c.identity).where(s.grants.c.permit == permit)).scalars())
        paid = set(
            connection.execute(
                select(s.attempts.c.identity)
                .join(s.runs, s.runs.c.run_id == s.attempts.c.run_id)
                .where(s.runs.c.permit == permit, s.attempts.c.state.not_in(VACANT))
            ).scalars()
        )
        new = [
            {"permit": permit, "identity": identity, "replaces": number}
            for identity, number in sorted(asked.items())
            if identity not in given and identity not in paid
        ]
        if new:
            connection.execute(insert(s.grants), new)

    @staticmethod
    def _unfinished(connection: Connection, command: str) -> Row[Any] | None:
        """The latest run of this command, where it has permissions and did not finish."""
        latest = connection.execute(
            select(s.runs.c.run_id, s.runs.c.permit, s.runs.c.exit_code)
            .where(s.runs.c.command == command)
            .order_by(s.runs.c.started_at.desc(), s.runs.c.run_id.desc())
            .limit(1)
        ).first()
        if latest is None or latest.exit_code in FINISHED:
            return None
        given = select(func.count()).select_from(s.grants).where(s.grants.c.permit == latest.permit)
        return latest if connection.execute(given).scalar() else None

    # Inside a transaction

    @staticmethod
    def _attempts(connection: Connection, identity: str) -> list[Attempt]:
        """In order of their numbers, locked."""
        return [attempt_of(row) for row in connection.execute(statements.OF_IDENTITY, {"_identity": identity})]

    @staticmethod
    def _same(connection: Connection, attempt: Attempt) -> Attempt:
        row = connection.execute(statements.SAME, {"_id": attempt.id}).first()
        if row is None:
            raise LedgerError("An attempt has vanished from the ledger; restore it from its backup before going on.")
        return attempt_of(row)

    @staticmethod
    def _move(connection: Connection, attempt: Attempt, state: State, **values: Any) -> Attempt:
        moved = replace(attempt, state=state, **values)
        connection.execute(statements.CHANGE, {"_id": attempt.id, "state": state, **values})
        if not attempt.imported:
            before = cents_of(attempt.state, attempt.price_cents, attempt.quoted_cents)
            after = cents_of(moved.state, moved.price_cents, moved.quoted_cents)
            change = {f"_{name}": after[name] - before[name] for name in after}
            if any(change.values()):
                connection.execute(statements.SHIFT_RUN, {"_run": attempt.run_id, **change})
                connection.execute(statements.SHIFT_DAY, {"_day": attempt.day, **change})
        return moved

    def _dead_owners(self, connection: Connection) -> frozenset[str]:
        query = select(s.attempts.c.owner).where(s.attempts.c.state == State.CLAIMED).distinct()
        held = connection.execute(query).scalars().all()
        return frozenset(owner for owner in held if owner != self.owner.id and self.is_dead(connection, owner))

    def _record(self, connection: Connection, row: Row[Any]) -> RunRecord:
        return run_of(row, alive=row.finished_at is None and not self.is_dead(connection, row.owner))

    @staticmethod
    def _known_run(connection: Connection, run_id: str, flow_run_id: str | None) -> Row[Any] | None:
        same = s.runs.c.run_id == run_id
        if flow_run_id is not None:
            same |= s.runs.c.flow_run_id == flow_run_id
        return connection.execute(select(s.runs).where(same).with_for_update()).first()

    @staticmethod
    def _keep_sheet(connection: Connection, run_id: str, sheet: Sheet) -> None:
        told = {
            "lines": sheet.lines,
            "names": sheet.names,
            "identities": sheet.identities,
            "problems": sheet.problems,
            "warnings": sheet.warnings,
        }
        content = zlib.compress(json.dumps(told, ensure_ascii=True, separators=(",", ":")).encode())
        connection.execute(delete(s.sheets).where(s.sheets.c.run_id == run_id))
        connection.execute(insert(s.sheets).values(run_id=run_id, content=content))


_VERDICTS = (State.COMPLETED, State.FAILED)
_ANSWERABLE = (State.CLAIMED, State.UNKNOWN)
_MAY_BECOME: dict[State, tuple[State, ...]] = {
    State.REFUSED: _ANSWERABLE,
    State.UNKNOWN: (State.CLAIMED,),
    State.COMPLETED: (State.SUBMITTED,),
    State.FAILED: (State.SUBMITTED,),
}


class _PastCap(Exception):
    def __init__(self, over: OverBudget) -> None:
        super().__init__(over)
        self.over = over


def _reserve(connection: Connection, run_id: str, day: str, price: int, daily_cap_cents: int | None) -> None:
    """Take the price from what the run and the day have left, or raise _PastCap."""
    if connection.execute(statements.RESERVE_RUN, {"_run": run_id, "_price": price}).rowcount == 0:
        cap = connection.execute(select(s.runs.c.cap_cents).where(s.runs.c.run_id == run_id)).scalar()
        if cap is None:
            raise LedgerError("The run is not in the ledger; nothing was spent.")
        raise _PastCap(OverBudget("run", cap))
    if daily_cap_cents is None:
        today = connection.execute(statements.RESERVE_DAY, {"_day": day, "_price": price})
    else:
        capped = {"_day": day, "_price": price, "_cap": daily_cap_cents}
        today = connection.execute(statements.RESERVE_DAY_CAPPED, capped)
    if today.rowcount == 0:
        there = connection.execute(select(s.days.c.day).where(s.days.c.day == day)).first()
        if there is not None or (daily_cap_cents is not None and price > daily_cap_cents):
            raise _PastCap(OverBudget("day", daily_cap_cents or 0))
        connection.execute(insert(s.days).values(day=day, confirmed_cents=0, reserved_cents=price, at_risk_cents=0))


def _text(told: str) -> str:
    """As every database takes it: no NUL, no half of a character."""
    return told.replace("\0", "").encode("utf-8", "replace").decode()


def _is_granted(connection: Connection, run_id: str, identity: str, number: int) -> bool:
    return connection.execute(statements.GRANTED, {"_run": run_id, "_identity": identity}).scalar() == number


def _is_our_run(connection: Connection, run_id: str) -> bool:
    return connection.execute(select(s.runs.c.run_id).where(s.runs.c.run_id == run_id)).first() is not None


def _holder(connection: Connection, prediction_id: str) -> Attempt | None:
    """Whose id it is already."""
    row = connection.execute(statements.HOLDER, {"_prediction": prediction_id}).first()
    return None if row is None else attempt_of(row)


def _twice(holder: Attempt, attempt: Attempt, prediction_id: str) -> dict[str, Any]:
    whose = "an earlier clip of this row" if holder.identity == attempt.identity else "another row"
    told = (
        f"The provider answered with the id {prediction_id}, which belongs to {whose}; "
        "look this row up in the provider's dashboard and use `reelsheet resolve`."
    )
    return {"error_code": "submit_unknown", "error": told}


def _ours(connection: Connection, told: Attempt) -> Attempt | None:
    """The attempt that this ledger has for the one told of: the same prediction, else the same number."""
    if told.prediction_id is not None and (holder := _holder(connection, told.prediction_id)) is not None:
        return holder
    query = select(s.attempts).where(s.attempts.c.identity == told.identity, s.attempts.c.number == told.number)
    row = connection.execute(query).first()
    return None if row is None else attempt_of(row)


def _inserted(connection: Connection, attempt: Attempt) -> Attempt:
    inserted = connection.execute(statements.NEW, _values(attempt)).inserted_primary_key
    assert inserted is not None  # noqa: S101 - SQLAlchemy gives it for a single insert
    return replace(attempt, id=inserted[0])


def _values(attempt: Attempt) -> dict[str, Any]:
    return {name: getattr(attempt, name) for name in Attempt.__slots__ if name != "id"}


def _insert_missing(connection: Connection, attempt: Attempt, deliveries: Sequence[Delivery]) -> None:
    d = s.deliveries.c
    query = select(d.destination, d.output).where(d.attempt_id == attempt.id)
    there = {(row.destination, row.output) for row in connection.execute(query)}
    for one in deliveries:
        if (one.destination, one.output) not in there:
            connection.execute(statements.NEW_DELIVERY, _delivery_values(attempt.id, one))


def _delivery_values(attempt_id: int, one: Delivery) -> dict[str, Any]:
    values = {name: getattr(one, name) for name in Delivery.__slots__ if name != "attempt"}
    return values | {"attempt_id": attempt_id, "delivered_at": time.time()}


def _standings(connection: Connection, identities: Sequence[str], dead: frozenset[str]) -> dict[str, IdentityHistory]:
    attempts: dict[str, list[Attempt]] = {}
    by_id: dict[int, Attempt] = {}
    for row in connection.execute(statements.ATTEMPTS_OF, {"_identities": identities}):
        attempt = attempt_of(row)
        if attempt.state == State.CLAIMED and attempt.owner in dead:
            attempt = replace(attempt, state=State.UNKNOWN, error_code="submit_unknown")
        attempts.setdefault(attempt.identity, []).append(attempt)
        by_id[attempt.id] = attempt
    deliveries: dict[str, list[Delivery]] = {}
    if by_id:
        for row in connection.execute(statements.DELIVERIES_OF, {"_identities": identities}):
            attempt = by_id[row.attempt_id]
            deliveries.setdefault(attempt.identity, []).append(delivery_of(row, attempt.number))
    return {
        identity: IdentityHistory(tuple(found), tuple(deliveries.get(identity, ())))
        for identity, found in attempts.items()
    }


__all__ = ["FINISHED", "Ledger", "newest_revision", "spent_cents"]
