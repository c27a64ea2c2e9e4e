"""Whatever happens in whatever order: the counters are the sums, caps hold, one live claim, no id lost or doubled."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text

from reelsheet.errors import LedgerError
from reelsheet.ledger import Ask, Attempt, Claimed, ImportedAttempt, Ledger, RepayRequest, State, schema
from reelsheet.ledger.database import Database

IDENTITIES = ("a", "b", "c")
PRICE = 50
CAP = 300
DAY_CAP = 500
identities = st.sampled_from(IDENTITIES)
processes = st.integers(0, 1)
quotes = st.sampled_from([None, 0, 40, 50])  # never above the price, so that the caps are exact


class Processes(RuleBasedStateMachine):
    """Two processes with a ledger each on one database; POSTs whose answers come, come late, or never."""

    database: Database  # shared: what the processes have of their own is their lease
    adds_up: Any

    def __init__(self) -> None:
        super().__init__()
        with self.database.write() as connection:
            for table in schema.metadata.tables:
                connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our own names
        self.ledgers = [self._process(), self._process()]
        self.in_flight: list[tuple[Ledger, Attempt]] = []
        self.ids: dict[str, str] = {}  # every id that the provider gave, or a person → identity
        self.by_hand: set[str] = set()  # those that a person gave
        self.count = 0
        self.runs = [self._run(0, {}), self._run(1, {})]

    def _process(self) -> Ledger:
        ledger = Ledger(self.database)
        ledger.heartbeat()
        return ledger

    def _run(self, process: int, permissions: dict[str, int], command: str | None = None) -> str:
        self.count += 1
        run_id = f"run{self.count}"
        asks = frozenset({Ask.FRESH})
        requests = {identity: RepayRequest(number, asks) for identity, number in permissions.items()}
        self.ledgers[process].open_run(
            run_id=run_id, verb="run", source="m", destination="/d", command=command or run_id, flow_run_id=None,
            options={}, rows=3, cap_cents=CAP, asks=asks, requests=requests,
        )  # fmt: skip
        return run_id

    @rule(process=processes, identity=identities)
    def submit(self, process: int, identity: str) -> None:
        ledger = self.ledgers[process]
        before = ledger.history(identity)
        answer = ledger.claim(identity, run_id=self.runs[process], price_cents=PRICE, daily_cap_cents=DAY_CAP)
        if isinstance(answer, Claimed):
            self.in_flight.append((ledger, answer.attempt))
            if before is not None and not before.is_free:
                assert ledger.permissions(self.runs[process])[identity].replaces == before.latest.number

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), cents=quotes, reuse=st.booleans())
    def accepted(self, data: st.DataObject, cents: int | None, reuse: bool) -> None:
        ledger, attempt = self._answered(data)
        if reuse and self.ids:  # a provider that gives one id twice
            prediction = data.draw(st.sampled_from(sorted(self.ids)))
        else:
            self.count += 1
            prediction = f"p{self.count}"
            self.ids[prediction] = attempt.identity
        ledger.record_id(attempt, prediction, cents)
        ledger.mark_unawaited(attempt)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), lost=st.booleans())
    def not_accepted(self, data: st.DataObject, lost: bool) -> None:
        ledger, attempt = self._answered(data)
        if lost:
            ledger.record_unknown(attempt, "no answer")
        else:
            ledger.record_refused(attempt, "rejected", "no")
        ledger.mark_unawaited(attempt)

    def _answered(self, data: st.DataObject) -> tuple[Ledger, Attempt]:
        return self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))

    @rule(process=processes)
    def dies(self, process: int) -> None:
        """Its lease is over, but what it sent may still be answered."""
        old = self.ledgers[process]
        with old.database.write() as connection:
            connection.execute(
                schema.owners.update()
                .where(schema.owners.c.id == old.lease.owner.id)
                .values(expires_at=0.0, awake_until=0.0)
            )
        self.ledgers[process] = self._process()
        self.runs[process] = self._run(process, {})

    @rule(process=processes)
    def takes_up(self, process: int) -> None:
        self.ledgers[process].expire_dead_claims()

    @rule(process=processes, identity=identities, completed=st.booleans())
    def verdict(self, process: int, identity: str, completed: bool) -> None:
        ledger = self.ledgers[process]
        history = ledger.history(identity)
        if history is None:
            return
        if completed:
            ledger.record_completed(history.latest, None)
        else:
            ledger.record_failed(history.latest, "generation_failed", "no", None)

    @rule(process=processes, repeated=st.booleans())
    def permitted(self, process: int, repeated: bool) -> None:
        """A new run that may replace everything that was paid for, or may have been."""
        histories = self.ledgers[process].histories(IDENTITIES)
        asked = {i: s.latest.number for i, s in histories.items() if not s.is_free and s.latest.state != State.CLAIMED}
        self.runs[process] = self._run(process, asked, "the same" if repeated else None)

    @rule(process=processes, identity=identities, abandon=st.booleans())
    def resolved(self, process: int, identity: str, abandon: bool) -> None:
        self.count += 1
        prediction = None if abandon else f"p{self.count}"
        try:
            self.ledgers[process].resolve(identity, prediction)
        except LedgerError:
            return
        kept = {attempt.prediction_id for attempt in self.ledgers[process].history(identity).attempts}
        for given in [given for given in self.by_hand if self.ids.get(given) == identity and given not in kept]:
            del self.ids[given]  # a person may be wrong, and says so
        if prediction is not None:
            self.ids[prediction] = identity
            self.by_hand.add(prediction)

    @rule(process=processes, identity=identities, state=st.sampled_from([State.UNKNOWN, State.COMPLETED]))
    def told_by_a_destination(self, process: int, identity: str, state: State) -> None:
        self.count += 1
        prediction = None if state == State.UNKNOWN else f"p{self.count}"
        ledger = self.ledgers[process]
        told = Attempt(
            id=0, identity=identity, number=1, state=state, owner=None, run_id="elsewhere", day="2026-01-01",
            price_cents=PRICE, quoted_cents=None if prediction is None else PRICE, prediction_id=prediction,
            claimed_at=1.0, imported=True,
        )  # fmt: skip
        ledger.import_attempts([ImportedAttempt(told)])
        taken = ledger.history(identity)
        if prediction is not None and any(a.prediction_id == prediction for a in taken.attempts):
            self.ids[prediction] = identity

    @invariant()
    def every_id_is_kept_once_where_it_belongs(self) -> None:
        with self.ledgers[0].database.read() as connection:
            kept = {
                row.prediction_id: row.identity
                for row in connection.execute(schema.attempts.select())
                if row.prediction_id is not None
            }
        assert kept == self.ids

    @invariant()
    def the_money_adds_up_and_caps_hold(self) -> None:
        self.adds_up(self.ledgers[0])
        with self.ledgers[0].database.read() as connection:
            runs = connection.execute(schema.runs.select()).all()
            days = connection.execute(schema.days.select()).all()
        for row in runs:
            assert row.confirmed_cents + row.reserved_cents + row.at_risk_cents <= self._cap_of(row, CAP)
        for row in days:
            assert row.confirmed_cents + row.reserved_cents + row.at_risk_cents <= self._cap_of(row, DAY_CAP)

    def _cap_of(self, row: Any, cap: int) -> int:
        """A late id, or one that a person gives, is money spent already: it may pass a cap, a claim never does."""
        return cap if row.confirmed_cents <= cap else row.confirmed_cents + row.reserved_cents + row.at_risk_cents


@pytest.mark.parametrize("examples", [25, pytest.param(150, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_the_ledger_keeps_its_promises_in_every_order(ledger_url, adds_up, examples):
    quick = settings(
        max_examples=examples, stateful_step_count=25, suppress_health_check=list(HealthCheck),
        print_blob=True,
    )  # fmt: skip
    database = Database.open(ledger_url)
    kind = type("Processes", (Processes,), {"database": database, "adds_up": staticmethod(adds_up)})
    run_state_machine_as_test(kind, settings=quick)
    database.close()
