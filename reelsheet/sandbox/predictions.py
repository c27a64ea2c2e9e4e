"""Predictions from acceptance to their end, and the count of what was asked of the stand-in."""

import asyncio
import hashlib
import json
import logging
import math
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter

from reelsheet.sandbox.clips import Clips
from reelsheet.sandbox.configuration import Behaviour

logger = logging.getLogger(__name__)

FAILURES: Final = (
    "Your request was flagged by content moderation. Please modify your prompt.",
    "Generation failed. Please try again.",
)
_STARTED_AT: Final = (datetime.now(UTC), time.monotonic())


def now() -> datetime:
    """UTC, by the monotonic clock: a clock that is set does not disturb latencies."""
    at_start, monotonic_s = _STARTED_AT
    return at_start + timedelta(seconds=time.monotonic() - monotonic_s)


@dataclass(slots=True)
class Prediction:
    """One accepted submission. `error` is set from the start where it is going to fail; failed ones are charged too."""

    id: str
    model: str
    body: dict[str, Any]
    cents: int
    created: datetime
    due: datetime
    error: str | None = None
    completed: datetime | None = None
    seen: datetime | None = None  # the first poll that showed its end

    @property
    def prompt(self) -> str:
        return str(self.body.get("prompt") or "")

    @property
    def image(self) -> str:
        return str(self.body["image"])

    @property
    def status(self) -> str:
        if self.completed is None:
            return "processing"
        return "completed" if self.error is None else "failed"


SAVED: Final = TypeAdapter(list[Prediction])


class Refusal(NamedTuple):
    """Why nothing can be accepted now (`capacity` or `per_minute`), and when it is worth asking again."""

    reason: str
    retry_after_s: int


class Predictions:
    """Every prediction that was accepted since the start or the last `clear`. Lives on one event loop."""

    def __init__(self, behaviour: Behaviour, clips: Clips, *, seed: int) -> None:
        self.behaviour = behaviour
        self._clips = clips
        self._random = random.Random(seed)  # noqa: S311 - latencies and failures, no secrets
        self._in_flight: dict[str, asyncio.TimerHandle | asyncio.Task[None]] = {}
        self.clear()

    def clear(self) -> None:
        """Forget all predictions, also those in flight, and all counts."""
        for running in self._in_flight.values():
            running.cancel()
        self._in_flight.clear()
        self.by_id: dict[str, Prediction] = {}
        self.posts: Counter[str] = Counter()  # by `hash_of` the body, refused ones included
        self.polls: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.downloads = 0
        self.downloads_with_key: list[str] = []  # paths; an Authorization header there is a leak
        self.most_in_flight = 0
        self.first_submission: datetime | None = None
        self._since = self._refilled = now()
        self._tokens = math.inf  # submissions that may come at once; at most `burst`

    def count_post(self, body: dict[str, Any]) -> None:
        """A submission with a readable body arrived; nothing is said yet of how it is answered."""
        self.posts[hash_of(body)] += 1
        self.first_submission = self.first_submission or now()

    def count_poll(self, identifier: str) -> None:
        self.polls[identifier] += 1
        prediction = self.by_id.get(identifier)
        if prediction and prediction.completed:
            prediction.seen = prediction.seen or now()

    def refusal(self) -> Refusal | None:
        """None where another prediction can be accepted."""
        moment = now()
        limit, capacity = self.behaviour.per_minute, self.behaviour.capacity
        if limit is not None:
            per_s = limit / 60
            self._tokens = min(self.behaviour.burst, self._tokens + (moment - self._refilled).total_seconds() * per_s)
            self._refilled = moment
            if self._tokens < 1:
                return self._refusal("per_minute", (1 - self._tokens) / per_s if per_s else 60.0)
        if capacity is not None and len(self._in_flight) >= capacity:
            again = min((self.by_id[name].due for name in self._in_flight), default=moment)
            return self._refusal("capacity", (again - moment).total_seconds())
        return None

    def _refusal(self, reason: str, wait_s: float) -> Refusal:
        self.refusals[reason] += 1
        return Refusal(reason, max(1, math.ceil(wait_s)))

    def accept(self, model: str, body: dict[str, Any]) -> Prediction:
        """Charge it and start it."""
        sigma = self.behaviour.latency_sigma
        latency_s = self.behaviour.latency * (math.exp(sigma * self._random.gauss(0, 1)) if sigma else 1)
        fails = self._random.random() < self.behaviour.fail_rate
        self._tokens -= 1
        created = now()
        prediction = Prediction(
            id=str(uuid.uuid4()),
            model=model,
            body=body,
            cents=self.behaviour.cost_cents,
            created=created,
            due=created + timedelta(seconds=latency_s),
            error=self._random.choice(FAILURES) if fails else None,
        )
        self._add(prediction)
        return prediction

    def restore(self, saved: bytes) -> None:
        """Take up what `save` of an earlier process returned."""
        for prediction in SAVED.validate_json(saved):
            self._add(prediction)

    def save(self) -> bytes:
        return SAVED.dump_json(list(self.by_id.values()))

    def _add(self, prediction: Prediction) -> None:
        self.by_id[prediction.id] = prediction
        if prediction.completed is None:
            wait_s = max(0.0, (prediction.due - now()).total_seconds())
            loop = asyncio.get_running_loop()
            self._in_flight[prediction.id] = (
                loop.call_later(wait_s, self._finish, prediction)
                if prediction.error or self.behaviour.clips == "tiny"
                else loop.create_task(self._render(prediction, wait_s))
            )
        self.most_in_flight = max(self.most_in_flight, len(self._in_flight))

    async def _render(self, prediction: Prediction, wait_s: float) -> None:
        rendering = self._clips.rendered(prediction.image, prediction.prompt)
        _, clip = await asyncio.gather(asyncio.sleep(wait_s), rendering, return_exceptions=True)
        if isinstance(clip, BaseException):
            logger.error("The clip of %s could not be rendered.", prediction.id, exc_info=clip)
            prediction.error = FAILURES[1]
        self._finish(prediction)

    def _finish(self, prediction: Prediction) -> None:
        self._in_flight.pop(prediction.id, None)
        prediction.completed = now()

    def activity(self) -> dict[str, Any]:
        """As `GET /sandbox/activity` answers it; times are seconds since the start or the last reset."""

        def seconds(moment: datetime | None) -> float | None:
            return None if moment is None else (moment - self._since).total_seconds()

        predictions = self.by_id.values()
        charges = [
            {
                "id": prediction.id,
                "model": prediction.model,
                "body": prediction.body,
                "image": prediction.image,
                "prompt": prediction.body.get("prompt"),
                "cents": prediction.cents,
                "time": timestamp(prediction.created),
                "outcome": prediction.status,
            }
            for prediction in predictions
        ]
        return {
            "charges": charges,
            "charged_cents": sum(prediction.cents for prediction in predictions),
            "posts": dict(self.posts),
            "polls": dict(self.polls),
            "refusals": dict(self.refusals),
            "downloads": self.downloads,
            "downloads_with_key": self.downloads_with_key,
            "in_flight": len(self._in_flight),
            "most_in_flight": self.most_in_flight,
            "first_submission": seconds(self.first_submission),
            "predictions": {
                prediction.id: {
                    "accepted_at": seconds(prediction.created),
                    "done_at": seconds(prediction.completed),
                    "first_seen_done_at": seconds(prediction.seen),
                }
                for prediction in predictions
            },
            "now": seconds(now()),
        }


def hash_of(body: dict[str, Any]) -> str:
    """The name under which a body's posts are counted, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def timestamp(moment: datetime) -> str:
    """2025-01-15T12:00:00.000Z, as the provider writes times."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
