"""The ledger: a real database that decides whether money moves. Nothing else does.

`schema` says what is kept, `entries` how it travels, `owner` who holds a claim and for how long, `database` how it
is asked, `book` is the ledger itself.
"""

from reelsheet.ledger.ledger import Ledger
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
)
from reelsheet.ledger.schema import PAID, VACANT, State

__all__ = [
    "PAID",
    "VACANT",
    "Attempt",
    "Claimed",
    "DayTotal",
    "Delivery",
    "Found",
    "IdentityHistory",
    "Ledger",
    "LedgerCounts",
    "Note",
    "OverBudget",
    "RepayPermission",
    "RunRecord",
    "Sheet",
    "State",
    "Wait",
]
