"""The stand-in's own books: who was charged, how often each body was posted, how the queue went."""

import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Charge:
    """One accepted submission. `outcome`: processing, completed or failed; failed ones are charged as well."""

    id: str
    body_hash: str
    body: dict[str, Any]
    image: str
    prompt: str | None
    model: str
    cents: int
    time: str  # ISO 8601 UTC
    outcome: str = "processing"


@dataclass(slots=True)
class Course:
    """When a prediction was accepted, done, and first seen to be done by a poll; seconds since the books began."""

    accepted_at: float
    done_at: float | None = None
    first_seen_done_at: float | None = None


@dataclass(slots=True)
class Downloads:
    """What went over the asset addresses, which never want a key."""

    requests: int = 0
    bytes: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    with_authorization: list[str] = field(default_factory=list)  # paths; an Authorization header is a leak


class Books:
    """All counts since the start or the last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.began = time.monotonic()
        self.charges: dict[str, Charge] = {}
        self.courses: dict[str, Course] = {}
        self.posts: Counter[str] = Counter()
        self.post_answers: Counter[str] = Counter()
        self.polls: Counter[str] = Counter()
        self.poll_answers: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.downloads = Downloads()
        self.most_in_flight = 0
        self.first_submission: float | None = None
        self.last_completion: float | None = None

    def now(self) -> float:
        return time.monotonic() - self.began

    def posted(self, body_hash: str) -> None:
        """A POST with a readable body arrived, whatever became of it."""
        self.posts[body_hash] += 1
        if self.first_submission is None:
            self.first_submission = self.now()

    def charge(self, charge: Charge, accepted_at: float, in_flight: int) -> None:
        """`accepted_at` by this machine's monotonic clock."""
        self.charges[charge.id] = charge
        self.courses[charge.id] = Course(accepted_at - self.began)
        self.most_in_flight = max(self.most_in_flight, in_flight)

    def done(self, identifier: str, outcome: str) -> None:
        now = self.now()
        if identifier in self.charges:  # else the books were reset meanwhile
            self.charges[identifier].outcome = outcome
            self.courses[identifier].done_at = now
            self.last_completion = now

    def polled(self, identifier: str, *, terminal: bool) -> None:
        self.polls[identifier] += 1
        course = self.courses.get(identifier)
        if terminal and course is not None and course.first_seen_done_at is None:
            course.first_seen_done_at = self.now()

    def page(self, *, in_flight: int) -> dict[str, Any]:
        """Everything, as `GET /sandbox/books` answers it."""
        charges = [asdict(charge) for charge in self.charges.values()]
        return {
            "charges": charges,
            "charged": len(charges),
            "charged_cents": sum(charge["cents"] for charge in charges),
            "posts": dict(self.posts),
            "post_answers": dict(self.post_answers),
            "polls": dict(self.polls),
            "poll_answers": dict(self.poll_answers),
            "in_flight": in_flight,
            "most_in_flight": self.most_in_flight,
            "refusals": dict(self.refusals),
            "first_submission": self.first_submission,
            "last_completion": self.last_completion,
            "predictions": {identifier: asdict(course) for identifier, course in self.courses.items()},
            "assets": {
                "requests": self.downloads.requests,
                "bytes": self.downloads.bytes,
                "answers": dict(self.downloads.answers),
                "with_authorization": self.downloads.with_authorization,
            },
            "now": self.now(),
        }
