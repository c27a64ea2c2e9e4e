"""Ledgers to try: one process's book, a second one on the same database, and sums that must agree."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import func, select, update

from reelsheet.ledger import Attempt, Claimed, Ledger, State
from reelsheet.ledger import schema as s
from reelsheet.ledger.records import cents_of

PRICE = 54


class Book:
    """A ledger with a run of its own, as one process has it."""

    def __init__(self, ledger: Ledger, run_id: str) -> None:
        self.ledger = ledger
        self.run_id = run_id

    def claim(self, identity: str = "a", **more: Any) -> Any:
        return self.ledger.claim(identity, run_id=self.run_id, price_cents=PRICE, **more)

    def claimed(self, identity: str = "a", **more: Any) -> Attempt:
        found = self.claim(identity, **more)
        assert isinstance(found, Claimed), found
        return found.attempt

    def submitted(self, identity: str = "a", prediction: str | None = None, cents: int | None = PRICE) -> Attempt:
        attempt = self.ledger.record_id(self.claimed(identity), prediction or f"p-{identity}", cents)
        self.ledger.mark_unawaited(attempt)
        return attempt

    def unknown(self, identity: str = "a") -> Attempt:
        attempt = self.claimed(identity)
        found = self.ledger.record_unknown(attempt, "no answer")
        self.ledger.mark_unawaited(attempt)
        return found

    def state(self, identity: str = "a") -> State:
        history = self.ledger.history(identity)
        assert history is not None
        return history.latest.state


Opens = Callable[..., Book]


@pytest.fixture
def opens(ledger_url: str) -> Iterator[Opens]:
    """`opens("r1", cap_cents=108)`: another process's ledger on the same database, with a run of that id."""
    made: list[Ledger] = []

    def open_one(run_id: str = "r1", *, cap_cents: int | None = 10_000, **more: Any) -> Book:
        ledger = Ledger.open(ledger_url)
        made.append(ledger)
        register(ledger, run_id, cap_cents=cap_cents, **more)
        return Book(ledger, run_id)

    yield open_one
    if made:
        assert_adds_up(made[0])
    for ledger in made:
        ledger.close()


@pytest.fixture
def book(opens: Opens) -> Book:
    return opens()


def register(ledger: Ledger, run_id: str, **more: Any) -> Any:
    options: dict[str, Any] = {
        "verb": "run", "source": "m.csv", "destination": "/d", "command": run_id, "flow_run_id": None, "options": {},
        "rows": 1, "cap_cents": 10_000,
    }  # fmt: skip
    return ledger.open_run(run_id=run_id, **options | more)


def expire(ledger: Ledger, owner: Ledger) -> None:
    """As if `owner` had not been heard of for longer than a lease."""
    with ledger.database.write() as connection:
        connection.execute(
            update(s.owners).where(s.owners.c.id == owner.lease.owner.id).values(expires_at=0.0, awake_until=0.0)
        )


def assert_adds_up(ledger: Ledger) -> None:
    """The counters of runs and days are the sums over this ledger's own attempts; no identity has two live claims."""
    names = ("confirmed_cents", "reserved_cents", "at_risk_cents")
    with ledger.database.read() as connection:
        attempts = [Attempt(*row) for row in connection.execute(select(s.attempts))]
        for table, key in ((s.runs, "run_id"), (s.days, "day")):
            for row in connection.execute(select(table)).all():
                own = [a for a in attempts if not a.imported and getattr(a, key) == getattr(row, key)]
                sums = [cents_of(a.state, a.price_cents, a.quoted_cents) for a in own]
                for name in names:
                    assert getattr(row, name) == sum(one[name] for one in sums), (row, name)
        live = select(s.attempts.c.identity).where(s.attempts.c.state == State.CLAIMED)
        twice = live.group_by(s.attempts.c.identity).having(func.count() > 1)
        assert connection.execute(twice).all() == []


@pytest.fixture
def adds_up() -> Callable[[Ledger], None]:
    return assert_adds_up


@pytest.fixture
def expires() -> Callable[[Ledger, Ledger], None]:
    return expire


@pytest.fixture
def registers() -> Callable[..., Any]:
    return register
