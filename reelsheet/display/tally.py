"""Rows and money of a run that is going on, counted as they change: a look costs what has changed since the last."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reelsheet.ledger import State
from reelsheet.outcomes import Status
from reelsheet.planning.plan import Plan, RowGroup, Step

LAST_ERRORS: Final = 2


class Stage(StrEnum):
    """Where a row is on its way; the other ends of the way are in `Status`."""

    WAITING = "waiting"
    GENERATING = "generating"
    COPYING = "copying"


_TROUBLE: Final = frozenset({Status.FAILED, Status.UNDELIVERED, Status.UNKNOWN})


@dataclass(frozen=True, slots=True)
class _Seen:
    at: str  # a Stage or a Status
    spent_cents: int
    risk_cents: int


class Tally:
    """`rows` by stage or status, and what the run `run_id` has spent and put at risk so far, in cents."""

    def __init__(self, plan: Plan, run_id: str) -> None:
        self.rows: Counter[str] = Counter()
        self.spent_cents = self.risk_cents = 0
        self.total = len(plan.manifest.rows)
        self.errors: deque[tuple[str, str]] = deque(maxlen=LAST_ERRORS)  # (row's name, sentence), of this run
        self.troubles = 0  # how many rows have come to such an error in this run
        self._works = plan.groups
        self._run_id = run_id
        self._moving: set[str] = set()
        self._seen: dict[str, _Seen] = {}
        self.rows[Status.INVALID] = self.total - sum(len(group.positions) for group in plan.groups.values())
        for group in plan.groups.values():
            self._count(group, self._look(group))

    def follow(self, touched: Iterable[str]) -> None:
        """Look again at the works that a step of the run has touched, and at those that were on their way."""
        self._moving.update(touched)
        for identity in list(self._moving):
            group = self._works[identity]
            before, now = self._seen[identity], self._look(group, touched=True)
            if now.at not in set(Stage):
                self._moving.discard(identity)
            if now == before:
                continue
            self.rows[before.at] -= len(group.positions)
            self.spent_cents -= before.spent_cents
            self.risk_cents -= before.risk_cents
            self._count(group, now)
            if now.at in _TROUBLE and now.at != before.at:
                self.troubles += len(group.positions)
                self.errors.append((group.row.name, _said(group)))

    @property
    def delivered(self) -> int:
        return self.rows[Status.SUCCEEDED]

    @property
    def unfinished(self) -> int:
        """Rows that this run still works on."""
        return sum(self.rows[stage] for stage in Stage)

    def _count(self, group: RowGroup, now: _Seen) -> None:
        self._seen[group.identity] = now
        self.rows[now.at] += len(group.positions)
        self.spent_cents += now.spent_cents
        self.risk_cents += now.risk_cents

    def _look(self, group: RowGroup, *, touched: bool = False) -> _Seen:
        history = group.history
        if history is None:
            return _Seen(_place(group, touched=touched), 0, 0)
        own = [attempt for attempt in history.attempts if attempt.run_id == self._run_id]
        return _Seen(
            _place(group, touched=touched),
            sum(attempt.paid_cents for attempt in own),
            sum(attempt.risk_cents for attempt in own if attempt.state == State.UNKNOWN),
        )


def _place(group: RowGroup, *, touched: bool) -> str:
    if group.in_flight:
        return Stage.GENERATING
    if group.status is not None:
        return group.status
    match group.step:
        case Step.DONE:
            return Status.SUCCEEDED
        case Step.POLL if touched:
            return Stage.GENERATING
        case Step.COPY if touched:
            return Stage.COPYING
        case Step.REPORT:
            return _left_alone(group)
        case Step.REFUSE:
            return Status.INVALID
        case _:
            return Stage.WAITING


def _left_alone(group: RowGroup) -> Status:
    state = group.history.latest.state if group.history is not None else State.UNKNOWN
    if state == State.FAILED:
        return Status.FAILED
    return Status.UNKNOWN if state in {State.UNKNOWN, State.CLAIMED} else Status.UNDELIVERED


def _said(group: RowGroup) -> str:
    latest = group.history.latest if group.history is not None else None
    return group.error or (latest.error if latest is not None and latest.error else "")
