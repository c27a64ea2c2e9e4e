"""The money of runs and days: reserve within the caps, shift between the three counters; a day's totals.

The money at a loopback API address is a sandbox's: it is kept, and capped, apart from the rest.
"""

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Table, Update, bindparam, func, insert, select, update

from reelsheet.errors import LedgerError
from reelsheet.ledger.database import Database
from reelsheet.ledger.records import Attempt, DayTotal, Money, OverBudget
from reelsheet.ledger.schema import days, runs

NO_CAP_CENTS = 2**62


class PastCap(Exception):
    """The reservation would pass a cap: the transaction is undone."""

    def __init__(self, over: OverBudget) -> None:
        super().__init__(over)
        self.over = over


class Days:
    """What was spent on each UTC day over all runs of the ledger."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def days(self, limit: int = 14, *, is_play_money: bool = False) -> list[DayTotal]:
        """The latest days with any money, newest first."""
        query = select(days).where(days.c.is_play_money == is_play_money).order_by(days.c.day.desc()).limit(limit)
        return [DayTotal(**row._asdict()) for row in self._db.fetch(query)]

    def today(self, *, is_play_money: bool = False) -> DayTotal:
        """The day that a claim would count for now."""
        with self._db.read() as connection:
            day = day_of(connection, self._db.now(connection))
            row = connection.execute(
                select(days).where(days.c.day == day, days.c.is_play_money == is_play_money)
            ).first()
        return DayTotal(day, is_play_money=is_play_money) if row is None else DayTotal(**row._asdict())


def day_of(connection: Connection, now: float) -> str:
    """The UTC day of `now`; where a clock went back, the latest day that had any money: no day begins twice."""
    today = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
    return max(today, connection.execute(select(func.max(days.c.day))).scalar() or today)


def _set_sums(table: Table) -> Update:
    return update(table).values({name: table.c[name] + bindparam(f"_{name}") for name in Money._fields})


def _reserve(table: Table) -> Update:
    return update(table).values(reserved_cents=table.c.reserved_cents + bindparam("_price"))


def _with_price(table: Table) -> ColumnElement[int]:
    return table.c.confirmed_cents + table.c.reserved_cents + table.c.at_risk_cents + bindparam("_price")


_OF_RUN = runs.c.run_id == bindparam("_run")
_OF_DAY = (days.c.day == bindparam("_day")) & (days.c.is_play_money == bindparam("_play"))
_SHIFT_RUN, _SHIFT_DAY = _set_sums(runs).where(_OF_RUN), _set_sums(days).where(_OF_DAY)
# The statement that takes the money also checks the cap, so that two reservations cannot both fit.
_RESERVE_RUN = _reserve(runs).where(_OF_RUN, runs.c.cap_cents.is_(None) | (_with_price(runs) <= runs.c.cap_cents))
_RESERVE_DAY = _reserve(days).where(_OF_DAY, _with_price(days) <= bindparam("_cap"))
_IS_KNOWN_DAY = select(days.c.day).where(_OF_DAY)


def shift(connection: Connection, attempt: Attempt, change: Money) -> None:
    """Add `change` to the counters of the attempt's run and day."""
    if any(change):
        cents = {f"_{name}": difference for name, difference in change._asdict().items()}
        connection.execute(_SHIFT_RUN, {"_run": attempt.run_id, **cents})
        connection.execute(_SHIFT_DAY, {**_day(attempt), **cents})


def lock(connection: Connection, run_id: str) -> None:
    """Wait until no other transaction reserves or shifts the run's money."""
    connection.execute(select(runs.c.run_id).where(runs.c.run_id == run_id).with_for_update())


def reserve(connection: Connection, claim: Attempt, daily_cap_cents: int | None) -> None:
    """Take the price from what the run and the day have left. Raises PastCap, or LedgerError without the run."""
    price, day = {"_price": claim.price_cents}, _day(claim)
    if connection.execute(_RESERVE_RUN, {"_run": claim.run_id, **price}).rowcount == 0:
        cap = connection.execute(select(runs.c.cap_cents).where(runs.c.run_id == claim.run_id)).scalar()
        if cap is None:
            raise LedgerError("The run is not in the ledger; nothing was spent.")
        raise PastCap(OverBudget("run", cap))
    day_cap = NO_CAP_CENTS if daily_cap_cents is None else daily_cap_cents
    if connection.execute(_RESERVE_DAY, {**day, **price, "_cap": day_cap}).rowcount == 0:
        known = connection.execute(_IS_KNOWN_DAY, day).first()
        if known is not None or claim.price_cents > day_cap:
            raise PastCap(OverBudget("day", day_cap))
        total = DayTotal(claim.day, reserved_cents=claim.price_cents, is_play_money=claim.is_play_money)
        connection.execute(insert(days).values({name: getattr(total, name) for name in DayTotal.__slots__}))


def _day(attempt: Attempt) -> dict[str, object]:
    return {"_day": attempt.day, "_play": attempt.is_play_money}
