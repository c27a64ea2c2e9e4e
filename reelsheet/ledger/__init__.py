"""The ledger: a real database that decides whether money moves. Nothing else does.

`ledger` is the object that others use. Its parts: `claims` (an attempt's way and its money), `histories` (what is
known of identities), `runs`, `grants` (permission to pay again), `imports`, `shards`. Below them: `attempts` and
`budget` change tables inside a transaction, `lease` says which process is alive, `database` runs transactions,
`schema` defines the tables, `records` is what travels. No module outside this package contains SQL.
"""

from reelsheet.ledger.ledger import Ledger
from reelsheet.ledger.records import (
    Attempt,
    Claimed,
    DayTotal,
    Delivery,
    IdentityHistory,
    ImportedAttempt,
    Known,
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
    "IdentityHistory",
    "ImportedAttempt",
    "Known",
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
