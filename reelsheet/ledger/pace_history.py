"""The pace of the latest runs, for telling beforehand how long another will take."""

from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from reelsheet.ledger import schema as s

if TYPE_CHECKING:
    from reelsheet.ledger.ledger import Ledger

ENOUGH: Final = 1_000  # predictions that are looked at, the latest first
LONGEST: Final = 86_400.0  # seconds; what took longer was forgotten and not generated


@dataclass(frozen=True, slots=True)
class PaceSeen:
    """`seconds` from submission to completion, in the median; `at_once` in flight at most, in one run."""

    seconds: float
    at_once: int
    predictions: int

    def eta(self, count: int, ceiling: int | None = None) -> float:
        """Seconds for `count` predictions at this pace; `ceiling` is --concurrency."""
        places = min(self.at_once, ceiling or self.at_once)
        return -(-count // places) * self.seconds if count else 0.0


def pace_seen(ledger: "Ledger") -> PaceSeen | None:
    """The pace of the ledger's latest predictions; None where it has none that were completed."""
    query = (
        select(s.attempts.c.run_id, s.attempts.c.submitted_at, s.attempts.c.completed_at)
        .where(s.attempts.c.completed_at.is_not(None), s.attempts.c.submitted_at.is_not(None))
        .where(s.attempts.c.imported.is_(False))
        .order_by(s.attempts.c.id.desc())
        .limit(ENOUGH)
    )
    with ledger.read() as connection:
        found = [tuple(row) for row in connection.execute(query)]
    spans = [(run, begun, done) for run, begun, done in found if 0 < done - begun < LONGEST]
    if not spans:
        return None
    runs: dict[str, list[tuple[float, float]]] = {}
    for run, begun, done in spans:
        runs.setdefault(run, []).append((begun, done))
    return PaceSeen(
        median(done - begun for _, begun, done in spans), max(map(_most_at_once, runs.values())), len(spans)
    )


def _most_at_once(spans: list[tuple[float, float]]) -> int:
    """How many of the spans overlap at most."""
    changes = sorted([(begun, 1) for begun, _ in spans] + [(done, -1) for _, done in spans])
    return max(accumulate(change for _, change in changes))
