"""The pace of the latest runs, from which the duration of another is estimated."""

from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Final, Self

from sqlalchemy import select

from reelsheet.ledger.database import Database
from reelsheet.ledger.schema import attempts

LATEST: Final = 1_000  # predictions that count
LONGEST_S: Final = 86_400.0  # what took longer waited for somebody, and says nothing of the provider


@dataclass(frozen=True, slots=True)
class ObservedPace:
    """`prediction_s` from submission to completion, in the median; `most_in_flight` at once, in one run."""

    prediction_s: float
    most_in_flight: int

    @classmethod
    def load(cls, database: Database, *, is_play_money: bool) -> Self | None:
        """The pace of the ledger's latest predictions; None where none was completed."""
        a = attempts.c
        query = (
            select(a.run_id, a.submitted_at, a.completed_at)
            .where(a.completed_at.is_not(None), a.submitted_at.is_not(None), a.imported.is_(False))
            .where(a.is_play_money == is_play_money)
            .order_by(a.id.desc())
            .limit(LATEST)
        )
        runs: dict[str, list[tuple[float, float]]] = {}
        for run_id, begun, done in database.fetch(query):
            if 0 < done - begun < LONGEST_S:
                runs.setdefault(run_id, []).append((begun, done))
        if not runs:
            return None
        durations = [done - begun for spans in runs.values() for begun, done in spans]
        return cls(median(durations), max(map(_most_overlapping, runs.values())))

    def estimate_s(self, count: int, concurrency: int | None = None) -> float:
        """Seconds for `count` predictions at this pace; at most `concurrency` at once."""
        places = min(self.most_in_flight, concurrency or self.most_in_flight)
        return -(-count // places) * self.prediction_s if count else 0.0


def _most_overlapping(spans: list[tuple[float, float]]) -> int:
    """How many of the spans (begin, end) overlap at most."""
    changes = sorted([(begun, 1) for begun, _ in spans] + [(done, -1) for _, done in spans])
    return max(accumulate(change for _, change in changes))
