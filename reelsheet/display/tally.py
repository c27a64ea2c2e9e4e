"""Rows and money of a run that is going on, counted as they change: a look costs what has changed since the last."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reelsheet.ledger import State
from reelsheet.outcomes import Status
from reelsheet.planning.plan import Plan, Step, Work

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
        self._works = plan.works
        self._run_id = run_id
        self._moving: set[str] = set()
        self._seen: dict[str, _Seen] = {}
        self.rows[Status.INVALID] = self.total - sum(len(work.positions) for work in plan.works.values())
        for work in plan.works.values():
            self._count(work, self._look(work))

    def follow(self, touched: Iterable[str]) -> None:
        """Look again at the works that a step of the run has touched, and at those that were on their way."""
        self._moving.update(touched)
        for identity in list(self._moving):
            work = self._works[identity]
            before, now = self._seen[identity], self._look(work, touched=True)
            if now.at not in set(Stage):
                self._moving.discard(identity)
            if now == before:
                continue
            self.rows[before.at] -= len(work.positions)
            self.spent_cents -= before.spent_cents
            self.risk_cents -= before.risk_cents
            self._count(work, now)
            if now.at in _TROUBLE and now.at != before.at:
                self.troubles += len(work.positions)
                self.errors.append((work.row.name, _said(work)))

    @property
    def delivered(self) -> int:
        return self.rows[Status.SUCCEEDED]

    @property
    def unfinished(self) -> int:
        """Rows that this run still works on."""
        return sum(self.rows[stage] for stage in Stage)

    def _count(self, work: Work, now: _Seen) -> None:
        self._seen[work.identity] = now
        self.rows[now.at] += len(work.positions)
        self.spent_cents += now.spent_cents
        self.risk_cents += now.risk_cents

    def _look(self, work: Work, *, touched: bool = False) -> _Seen:
        standing = work.standing
        if standing is None:
            return _Seen(_place(work, touched=touched), 0, 0)
        own = [attempt for attempt in standing.attempts if attempt.run_id == self._run_id]
        return _Seen(
            _place(work, touched=touched),
            sum(attempt.paid_cents for attempt in own),
            sum(attempt.risk_cents for attempt in own if attempt.state == State.UNKNOWN),
        )


def _place(work: Work, *, touched: bool) -> str:
    if work.in_flight:
        return Stage.GENERATING
    if work.status is not None:
        return work.status
    match work.step:
        case Step.DONE:
            return Status.SUCCEEDED
        case Step.POLL if touched:
            return Stage.GENERATING
        case Step.COPY if touched:
            return Stage.COPYING
        case Step.REPORT:
            return _left_alone(work)
        case Step.REFUSE:
            return Status.INVALID
        case _:
            return Stage.WAITING


def _left_alone(work: Work) -> Status:
    state = work.standing.latest.state if work.standing is not None else State.UNKNOWN
    if state == State.FAILED:
        return Status.FAILED
    return Status.UNKNOWN if state in {State.UNKNOWN, State.CLAIMED} else Status.UNDELIVERED


def _said(work: Work) -> str:
    latest = work.standing.latest if work.standing is not None else None
    return work.error or (latest.error if latest is not None and latest.error else "")
