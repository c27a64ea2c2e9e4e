"""Ledgers as their tests use them: opened several times over, each time as another owner with a run of its own."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import func, select

from reelsheet.ledger import Attempt, Claimed, Ledger, RunRecord, State
from reelsheet.ledger import schema as s
from reelsheet.ledger.records import cents_of

PRICE = 54


@dataclass(frozen=True)
class Book:
    """A ledger of one owner, with one run in it."""

    ledger: Ledger
    run_id: str

    def claim(self, identity: str = "a", **told: Any) -> Any:
        return self.ledger.claim(identity, run_id=self.run_id, price_cents=PRICE, **told)

    def claimed(self, identity: str = "a") -> Attempt:
        claim = self.claim(identity)
        assert isinstance(claim, Claimed)
        return claim.attempt

    def submitted(self, identity: str = "a", prediction: str | None = None) -> Attempt:
        attempt = self.ledger.record_id(self.claimed(identity), prediction or f"{self.run_id}-{identity}", PRICE)
        self.ledger.mark_unawaited(attempt)
        return attempt

    def unknown(self, identity: str = "a") -> Attempt:
        attempt = self.ledger.record_unknown(self.claimed(identity), "no answer")
        self.ledger.mark_unawaited(attempt)
        return attempt

    def state(self, identity: str = "a") -> State:
        history = self.ledger.history(identity)
        assert history is not None
        return history.latest.state


@pytest.fixture
def opens(opened: Callable[[], Ledger], registers: Callable[..., RunRecord]) -> Callable[..., Book]:
    """Opens the ledger once more and begins a run there."""

    def open_one(run_id: str = "r1", **told: Any) -> Book:
        ledger = opened()
        registers(ledger, run_id, **told)
        return Book(ledger, run_id)

    return open_one


@pytest.fixture
def book(opens: Callable[..., Book]) -> Book:
    return opens("r1")


@pytest.fixture
def adds_up() -> Callable[[Ledger], None]:
    """Every counter is the sum of its attempts, and no identity has two live claims."""

    def check(ledger: Ledger) -> None:
        with ledger.database.read() as connection:
            attempts = connection.execute(select(s.attempts).where(s.attempts.c.imported.is_(False))).all()
            for table, key in ((s.runs, "run_id"), (s.days, "day")):
                for row in connection.execute(select(table)).all():
                    mine = [a for a in attempts if getattr(a, key) == getattr(row, key)]
                    sums = [cents_of(State(a.state), a.price_cents, a.quoted_cents) for a in mine]
                    for name in ("confirmed_cents", "reserved_cents", "at_risk_cents"):
                        assert getattr(row, name) == sum(money[name] for money in sums)
            claims = (
                select(func.count())
                .select_from(s.attempts)
                .where(s.attempts.c.state == State.CLAIMED)
                .group_by(s.attempts.c.identity)
            )
            assert set(connection.execute(claims).scalars()) <= {1}

    return check


@pytest.fixture
def identity() -> Callable[[object], str]:
    """A row's identity, by any name."""
    return lambda name: hashlib.sha256(str(name).encode()).hexdigest()


@pytest.fixture
def money() -> Callable[..., tuple[int, int, int]]:
    """(confirmed, reserved, at risk) of a run."""

    def counters(ledger: Ledger, run_id: str = "r1") -> tuple[int, int, int]:
        run = ledger.run(run_id)
        assert run is not None
        return run.confirmed_cents, run.reserved_cents, run.at_risk_cents

    return counters
