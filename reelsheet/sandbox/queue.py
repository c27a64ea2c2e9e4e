"""Predictions from acceptance to their end: latency, capacity, failures, and a journal that survives a kill."""

import asyncio
import json
import logging
import math
import random
import time
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from reelsheet.sandbox.behaviour import Behaviour, charged_cents
from reelsheet.sandbox.books import Books, Charge
from reelsheet.sandbox.clips import Clips

logger = logging.getLogger(__name__)

FAILURES: Final = (
    "Your request was flagged by content moderation. Please modify your prompt.",
    "Generation failed. Please try again.",
)


@dataclass(slots=True)
class Prediction:
    """One accepted submission. `error` is set from the start where it is bound to fail."""

    id: str
    model: str
    body: dict[str, Any]
    body_hash: str
    quote: Any
    created: datetime
    due: datetime
    error: str | None = None
    completed: datetime | None = None

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

    def output_url(self, assets: str, number: int = 0) -> str:
        """The address of its `number`-th clip."""
        ended = self.completed or self.due
        return f"{assets}/assets/outputs/{self.id}/{int(ended.timestamp() * 1000)}-{number}.mp4"


class Queue:
    """Every prediction this sandbox knows. Lives on one event loop."""

    def __init__(self, behaviour: Behaviour, books: Books, clips: Clips, *, state: Path | None, seed: int) -> None:
        self.behaviour = behaviour
        self._books = books
        self._clips = clips
        self._random = random.Random(seed)  # noqa: S311 - latencies and failures, no secrets
        self._predictions: dict[str, Prediction] = {}
        self._in_flight: dict[str, asyncio.TimerHandle | asyncio.Task[None]] = {}
        self._accepted: deque[float] = deque()  # monotonic, of the last minute
        self._journal = _Journal(state / "predictions.jsonl") if state else None

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def get(self, identifier: str) -> Prediction | None:
        return self._predictions.get(identifier)

    def refusal(self) -> tuple[str, float] | None:
        """Why nothing can be accepted now, and in how many seconds it is worth asking again."""
        now = time.monotonic()
        while self._accepted and self._accepted[0] <= now - 60:
            self._accepted.popleft()
        limit, capacity = self.behaviour.per_minute, self.behaviour.capacity
        if limit is not None and len(self._accepted) >= limit:
            reason, wait = "per_minute", (self._accepted[0] + 60 - now if self._accepted else 60)
        elif capacity is not None and self.in_flight >= capacity:
            due = min((self._predictions[name].due for name in self._in_flight), default=datetime.now(UTC))
            reason, wait = "capacity", (due - datetime.now(UTC)).total_seconds()
        else:
            return None
        return reason, max(1, math.ceil(wait)) if self.behaviour.retry_after is None else self.behaviour.retry_after

    def draft(
        self, model: str, body: dict[str, Any], body_hash: str, *, quote: Any, fail: str | None = None
    ) -> Prediction:
        """A prediction that nobody has accepted yet; `fail` is the error that it is bound to end with."""
        now = datetime.now(UTC)
        if fail is None and self._random.random() < self.behaviour.fail_rate:
            fail = self._random.choice(FAILURES)
        return Prediction(
            id=str(uuid.uuid4()),
            model=model,
            body=body,
            body_hash=body_hash,
            quote=quote,
            created=now,
            due=now + timedelta(seconds=self._latency()),
            error=fail,
        )

    def accept(self, prediction: Prediction) -> None:
        """Charge and start it."""
        self._accepted.append(time.monotonic())
        if self._journal:
            self._journal.accepted(prediction)
        self._enter(prediction)

    def resume(self) -> None:
        """Take up what an earlier sandbox with the same state had accepted. Needs a running loop."""
        for prediction in self._journal.read() if self._journal else ():
            self._enter(prediction)

    def forget(self) -> None:
        """Forget every prediction, also those in flight."""
        for running in self._in_flight.values():
            running.cancel()
        self._in_flight.clear()
        self._predictions.clear()
        self._accepted.clear()
        if self._journal:
            self._journal.clear()

    def _latency(self) -> float:
        sigma = self.behaviour.latency_sigma
        return self.behaviour.latency * (math.exp(sigma * self._random.gauss(0, 1)) if sigma else 1)

    def _enter(self, prediction: Prediction) -> None:
        self._predictions[prediction.id] = prediction
        age = (datetime.now(UTC) - prediction.created).total_seconds()
        charge = Charge(
            id=prediction.id,
            body_hash=prediction.body_hash,
            body=prediction.body,
            image=prediction.image,
            prompt=prediction.body.get("prompt"),
            model=prediction.model,
            cents=charged_cents(prediction.quote),
            time=timestamp(prediction.created) or "",
            outcome=prediction.status,
        )
        if prediction.completed is None:
            self._start(prediction)
        self._books.charge(charge, time.monotonic() - age, self.in_flight)

    def _start(self, prediction: Prediction) -> None:
        wait = max(0.0, (prediction.due - datetime.now(UTC)).total_seconds())
        loop = asyncio.get_running_loop()
        if prediction.error is not None or self.behaviour.clips == "tiny":
            self._in_flight[prediction.id] = loop.call_later(wait, self._finish, prediction)
        else:
            self._in_flight[prediction.id] = loop.create_task(self._render(prediction, wait))

    async def _render(self, prediction: Prediction, wait: float) -> None:
        pause = asyncio.sleep(wait)
        rendering = self._clips.rendered(prediction.image, prediction.prompt)
        _, clip = await asyncio.gather(pause, rendering, return_exceptions=True)
        if isinstance(clip, BaseException):
            logger.error("The clip of %s could not be rendered.", prediction.id, exc_info=clip)
            prediction.error = FAILURES[1]
        self._finish(prediction)

    def _finish(self, prediction: Prediction) -> None:
        self._in_flight.pop(prediction.id, None)
        prediction.completed = datetime.now(UTC)
        self._books.done(prediction.id, prediction.status)
        if self._journal:
            self._journal.done(prediction)


def timestamp(moment: datetime | None) -> str | None:
    """2025-01-15T12:00:00.000Z, as the provider writes times."""
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


class _Journal:
    """One line per event, written before the answer leaves; a torn last line of a killed sandbox is skipped."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("ab")
        if self._file.tell() and not path.read_bytes().endswith(b"\n"):
            self._write_raw(b"\n")

    def accepted(self, prediction: Prediction) -> None:
        self._write(
            {
                "id": prediction.id,
                "model": prediction.model,
                "body": prediction.body,
                "body_hash": prediction.body_hash,
                "quote": prediction.quote,
                "created": prediction.created.isoformat(),
                "due": prediction.due.isoformat(),
                "error": prediction.error,
            }
        )

    def done(self, prediction: Prediction) -> None:
        completed = prediction.completed.isoformat() if prediction.completed else None
        self._write({"done": prediction.id, "completed": completed, "error": prediction.error})

    def read(self) -> list[Prediction]:
        found: dict[str, Prediction] = {}
        for line in self._path.read_bytes().splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if "done" not in event:
                times = {name: datetime.fromisoformat(event[name]) for name in ("created", "due")}
                found[event["id"]] = Prediction(**(event | times))
            elif event["done"] in found and event["completed"]:
                prediction = found[event["done"]]
                prediction.completed = datetime.fromisoformat(event["completed"])
                prediction.error = event["error"]
        return list(found.values())

    def clear(self) -> None:
        self._file.truncate(0)

    def _write(self, event: dict[str, Any]) -> None:
        self._write_raw(json.dumps(event).encode() + b"\n")

    def _write_raw(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()  # to the kernel: enough against a kill, which is all that a stand-in promises
