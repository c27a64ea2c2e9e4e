"""Ledgers for tests: opened several times, each time as another process with its own run."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import func, select

from reelsheet.ledger import Attempt, Claimed, Ledger, RunRecord, State
from reelsheet.ledger import schema as s
from reelsheet.ledger.records import Money

PRICE = 54


@dataclass(frozen=True)
class Process:
    """A process's ledger with one run in it."""

    ledger: Ledger
    run_id: str

    def claim(self, identity: str = "a", **more: Any) -> Any:
        return self.ledger.claim(identity, run_id=self.run_id, price_cents=PRICE, **more)

    def claimed(self, identity: str = "a", **more: Any) -> Attempt:
        answer = self.claim(identity, **more)
        assert isinstance(answer, Claimed), answer
        return answer.attempt

    def submitted(self, identity: str = "a", prediction: str | None = None, cents: int | None = PRICE) -> Attempt:
        attempt = self.ledger.record_id(self.claimed(identity), prediction or f"p-{identity}", cents)
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


Opens = Callable[..., Process]


@pytest.fixture
def new_ledgers() -> None:
    """Here the migrations make every new ledger."""


@pytest.fixture
def opened(opened: Callable[[], Ledger]) -> Iterator[Callable[[], Ledger]]:
    """Opens the ledger again, each time as another process. At the end of the test its sums must agree."""
    ledgers: list[Ledger] = []

    def one_more() -> Ledger:
        ledgers.append(opened())
        return ledgers[-1]

    yield one_more
    if ledgers:
        assert_adds_up(ledgers[0])


@pytest.fixture
def opens(opened: Callable[[], Ledger], registers: Callable[..., RunRecord]) -> Opens:
    """`opens("r1", cap_cents=108)`: another process's ledger on the same database, with a run of that id."""

    def open_one(run_id: str = "r1", **more: Any) -> Process:
        ledger = opened()
        registers(ledger, run_id, **more)
        return Process(ledger, run_id)

    return open_one


@pytest.fixture
def process(opens: Opens) -> Process:
    return opens("r1")


@pytest.fixture
def adds_up() -> Callable[[Ledger], None]:
    return assert_adds_up


def assert_adds_up(ledger: Ledger) -> None:
    """The counters of runs and days are the sums over this ledger's own attempts; no identity has two live claims."""
    with ledger.database.read() as connection:
        attempts = [Attempt(*row) for row in connection.execute(select(s.attempts))]
        for table, keys in ((s.runs, ("run_id",)), (s.days, ("day", "is_play_money"))):
            for row in connection.execute(select(table)).all():
                own = [a for a in attempts if all(getattr(a, key) == getattr(row, key) for key in keys)]
                own = [a for a in own if not a.imported]
                sums = [a.money for a in own]
                for name in Money._fields:
                    assert getattr(row, name) == sum(getattr(money, name) for money in sums), (row, name)
        live = select(s.attempts.c.identity).where(s.attempts.c.state == State.CLAIMED)
        twice = live.group_by(s.attempts.c.identity).having(func.count() > 1)
        assert connection.execute(twice).all() == []
        runs = connection.execute(select(s.runs)).all()
    shown = ledger.attempt_money()  # what `status --by` sums up
    for name in Money._fields:
        assert sum(getattr(one, name) for one in shown) == sum(getattr(run, name) for run in runs)


@pytest.fixture
def identity() -> Callable[[object], str]:
    """An identity made from any name."""
    return lambda name: hashlib.sha256(str(name).encode()).hexdigest()


@pytest.fixture
def money() -> Callable[..., tuple[int, int, int]]:
    """(confirmed, reserved, at risk) of a run in cents."""

    def counters(ledger: Ledger, run_id: str = "r1") -> tuple[int, int, int]:
        run = ledger.run(run_id)
        assert run is not None
        return run.confirmed_cents, run.reserved_cents, run.at_risk_cents

    return counters


@pytest.fixture
def at_once() -> Callable[..., None]:
    """Runs each function in its own thread; what one raises is raised here."""

    def run(*functions: Callable[[], object]) -> None:
        start = threading.Barrier(len(functions))

        def when_all_are_ready(function: Callable[[], object]) -> None:
            start.wait()
            function()

        with ThreadPoolExecutor(len(functions)) as threads:
            for done in [threads.submit(when_all_are_ready, function) for function in functions]:
                done.result()

    return run
