"""The money of runs and days inside a transaction: reserve within the caps, shift between the three counters."""

from sqlalchemy import ColumnElement, Connection, Table, Update, bindparam, insert, select, update

from reelsheet.errors import LedgerError
from reelsheet.ledger.records import Money, OverBudget
from reelsheet.ledger.schema import days, runs

NO_CAP_CENTS = 2**62


class PastCap(Exception):
    """The reservation would pass a cap: the transaction is undone."""

    def __init__(self, over: OverBudget) -> None:
        super().__init__(over)
        self.over = over


def _shift(table: Table, key: str) -> Update:
    values = {name: table.c[name] + bindparam(f"_{name}") for name in Money._fields}
    return update(table).where(table.c[key] == bindparam("_key")).values(values)


def _reserve(table: Table, key: str) -> Update:
    reserved = table.c.reserved_cents + bindparam("_price")
    return update(table).where(table.c[key] == bindparam("_key")).values(reserved_cents=reserved)


def _with_price(table: Table) -> ColumnElement[int]:
    return table.c.confirmed_cents + table.c.reserved_cents + table.c.at_risk_cents + bindparam("_price")


_SHIFT_RUN, _SHIFT_DAY = _shift(runs, "run_id"), _shift(days, "day")
# The statement that takes the money also checks the cap, so that two reservations cannot both fit.
_RESERVE_RUN = _reserve(runs, "run_id").where(runs.c.cap_cents.is_(None) | (_with_price(runs) <= runs.c.cap_cents))
_RESERVE_DAY = _reserve(days, "day").where(_with_price(days) <= bindparam("_cap"))


def shift(connection: Connection, run_id: str, day: str, change: Money) -> None:
    """Add `change` to the counters of a run and a day."""
    if any(change):
        cents = {f"_{name}": difference for name, difference in change._asdict().items()}
        connection.execute(_SHIFT_RUN, {"_key": run_id, **cents})
        connection.execute(_SHIFT_DAY, {"_key": day, **cents})


def reserve(connection: Connection, run_id: str, day: str, price_cents: int, daily_cap_cents: int | None) -> None:
    """Take the price from what the run and the day have left. Raises PastCap, or LedgerError without the run."""
    if connection.execute(_RESERVE_RUN, {"_key": run_id, "_price": price_cents}).rowcount == 0:
        cap = connection.execute(select(runs.c.cap_cents).where(runs.c.run_id == run_id)).scalar()
        if cap is None:
            raise LedgerError("The run is not in the ledger; nothing was spent.")
        raise PastCap(OverBudget("run", cap))
    day_cap = NO_CAP_CENTS if daily_cap_cents is None else daily_cap_cents
    if connection.execute(_RESERVE_DAY, {"_key": day, "_price": price_cents, "_cap": day_cap}).rowcount == 0:
        known = connection.execute(select(days.c.day).where(days.c.day == day)).first()
        if known is not None or price_cents > day_cap:
            raise PastCap(OverBudget("day", day_cap))
        values = {"day": day, "confirmed_cents": 0, "reserved_cents": price_cents, "at_risk_cents": 0}
        connection.execute(insert(days).values(values))
