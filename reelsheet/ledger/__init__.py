"""The ledger: a real database that decides whether money moves. Nothing else does.

`ledger` is the object that others use. Its parts: `claims` (an attempt's way and its money), `histories` (what is
known of identities), `runs`, `grants` (permission to pay again), `imports`, `shards`. Below them: `attempts` and
`budget` change tables inside a transaction, `sequence` says what came first, `lease` says which process is alive,
`database` runs transactions, `schema` defines the tables, `records` is what travels. No module outside this package
contains SQL.
"""

from reelsheet.ledger.claims import ClaimUncertain
from reelsheet.ledger.ledger import Ledger
from reelsheet.ledger.records import (
    Ask,
    Attempt,
    AttemptMoney,
    Claimed,
    DayTotal,
    Delivery,
    Grant,
    IdentityHistory,
    ImportedAttempt,
    Known,
    LedgerCounts,
    Note,
    OverBudget,
    RepayRequest,
    RunRecord,
    Sheet,
    UnfinishedRun,
    Wait,
)
from reelsheet.ledger.schema import PAID, VACANT, State

__all__ = [
    "PAID",
    "VACANT",
    "Ask",
    "Attempt",
    "AttemptMoney",
    "ClaimUncertain",
    "Claimed",
    "DayTotal",
    "Delivery",
    "Grant",
    "IdentityHistory",
    "ImportedAttempt",
    "Known",
    "Ledger",
    "LedgerCounts",
    "Note",
    "OverBudget",
    "RepayRequest",
    "RunRecord",
    "Sheet",
    "State",
    "UnfinishedRun",
    "Wait",
]
