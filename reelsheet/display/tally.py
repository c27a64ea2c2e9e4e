"""Rows and money of a run in progress, counted as they change: an update costs what has changed since the last."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from reelsheet.ledger import State
from reelsheet.outcomes import Status
from reelsheet.planning.plan import Plan, RowGroup
from reelsheet.run.row_status import Stage, stage_or_status

LAST_ERRORS: Final = 2
_TROUBLE: Final = frozenset({Status.FAILED, Status.UNDELIVERED, Status.UNKNOWN})


class RowError(NamedTuple):
    """What went wrong with a row: its name for people and one sentence."""

    row: str
    error: str


@dataclass(frozen=True, slots=True)
class _Counted:
    place: Stage | Status
    spent_cents: int
    risk_cents: int


class Tally:
    """`rows` and `clips` by stage or status, and what the run `run_id` has spent and put at risk so far, in cents.

    Rows that ask for the same share one clip.
    """

    def __init__(self, plan: Plan, run_id: str) -> None:
        self.rows: Counter[str] = Counter()
        self.clips: Counter[str] = Counter()
        self.spent_cents = self.risk_cents = 0
        self.total = len(plan.manifest.rows)
        self.errors: deque[RowError] = deque(maxlen=LAST_ERRORS)  # the latest of this run
        self.troubles = 0  # how many rows have ended with such an error in this run
        self._groups = plan.groups
        self._run_id = run_id
        self._moving: set[str] = set()
        self._counted: dict[str, _Counted] = {}
        without_identity = self.total - sum(len(group.positions) for group in plan.groups.values())
        hidden = sum(1 for row in plan.manifest.rows if row.problems and row.left_out is not None)
        self.rows.update({Status.INVALID: without_identity - hidden, Status.SKIPPED: hidden})
        for group in plan.groups.values():
            self._count(group, self._read(group, is_touched=False))

    def update(self, touched: Iterable[str]) -> None:
        """Count the identities that a step was taken for again, and those that were on their way."""
        self._moving.update(touched)
        for identity in list(self._moving):
            group = self._groups[identity]
            before, now = self._counted[identity], self._read(group, is_touched=True)
            if not isinstance(now.place, Stage):
                self._moving.discard(identity)
            if now == before:
                continue
            self.rows[before.place] -= len(group.positions)
            self.clips[before.place] -= 1
            self.spent_cents -= before.spent_cents
            self.risk_cents -= before.risk_cents
            self._count(group, now)
            if now.place in _TROUBLE and now.place != before.place:
                self.troubles += len(group.positions)
                self.errors.append(RowError(group.row.name, _error(group)))

    @property
    def delivered(self) -> int:
        return self.rows[Status.SUCCEEDED]

    @property
    def unfinished(self) -> int:
        """Rows that this run still works on."""
        return sum(self.rows[stage] for stage in Stage)

    def _count(self, group: RowGroup, now: _Counted) -> None:
        self._counted[group.identity] = now
        self.rows[now.place] += len(group.positions)
        self.clips[now.place] += 1
        self.spent_cents += now.spent_cents
        self.risk_cents += now.risk_cents

    def _read(self, group: RowGroup, *, is_touched: bool) -> _Counted:
        history = group.history
        place = stage_or_status(group.step, history, group.outcome, run_id=self._run_id, is_live=True)
        if isinstance(place, Stage) and (place is Stage.SENDING or not is_touched):
            place = Stage.WAITING
        if group.in_flight:
            place = Stage.GENERATING
        own = [attempt for attempt in history.attempts if attempt.run_id == self._run_id] if history else []
        return _Counted(
            place,
            sum(attempt.paid_cents for attempt in own),
            sum(attempt.risk_cents for attempt in own if attempt.state == State.UNKNOWN),
        )


def _error(group: RowGroup) -> str:
    return group.error or (group.latest.error if group.latest and group.latest.error else "")
