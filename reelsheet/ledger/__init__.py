"""The ledger: a real database that decides whether money moves. Nothing else does.

`schema` says what is kept, `owner` who holds a claim and for how long, `book` is the ledger itself.
"""

from reelsheet.ledger.book import (
    Attempt,
    Claimed,
    Delivery,
    Found,
    Ledger,
    Note,
    OverBudget,
    RunRecord,
    Standing,
    Wait,
)
from reelsheet.ledger.schema import PAID, VACANT, State

__all__ = [
    "PAID",
    "VACANT",
    "Attempt",
    "Claimed",
    "Delivery",
    "Found",
    "Ledger",
    "Note",
    "OverBudget",
    "RunRecord",
    "Standing",
    "State",
    "Wait",
]
