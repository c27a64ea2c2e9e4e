"""What the sandbox's books say of a run: when each prediction came, was done, was seen; and how it could have gone."""

import heapq
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Course:
    """The predictions in the order of their acceptance; seconds since the books began."""

    accepted: tuple[float, ...]
    done: tuple[float, ...]
    seen: tuple[float, ...]
    first_submission: float
    polls: float  # for one prediction
    refusals: float  # for one prediction
    most_in_flight: int

    @classmethod
    def of(cls, books: Mapping[str, Any]) -> "Course":
        """From `GET /sandbox/activity`, of predictions that are all done and seen."""
        found = sorted(books["predictions"].values(), key=lambda one: one["accepted_at"])
        count = len(found)
        return cls(
            tuple(one["accepted_at"] for one in found),
            tuple(one["done_at"] for one in found),
            tuple(one["first_seen_done_at"] for one in found),
            books["first_submission"],
            sum(books["polls"].values()) / count,
            sum(books["refusals"].values()) / count,
            books["most_in_flight"],
        )

    @property
    def span(self) -> float:
        """From the first submission to the last answer."""
        return max(self.seen) - self.first_submission

    @property
    def late(self) -> float:
        """Median seconds from done to seen."""
        return statistics.median(seen - done for seen, done in zip(self.seen, self.done, strict=True))

    @property
    def latencies(self) -> list[float]:
        return [done - accepted for done, accepted in zip(self.done, self.accepted, strict=True)]

    def in_flight(self, since: float, until: float) -> float:
        """The mean number in flight between two moments."""
        overlaps = (
            max(0.0, min(done, until) - max(accepted, since))
            for accepted, done in zip(self.accepted, self.done, strict=True)
        )
        return sum(overlaps) / (until - since)


def greedy(latencies: Sequence[float], places: int) -> float:
    """Seconds that these latencies take when each place is taken again the moment it is free."""
    free = [0.0] * places
    end = 0.0
    for latency in latencies:
        begun = heapq.heappop(free)
        heapq.heappush(free, begun + latency)
        end = max(end, begun + latency)
    return end
