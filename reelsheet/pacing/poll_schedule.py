"""When to look whether a prediction is done: often enough to see it early, seldom enough to cost little.

`PollSchedule` is pure: it is asked when to poll, and what was seen is reported to it.
`Watch` sleeps by it on an event loop.
"""

import asyncio
import itertools
import math
import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reelsheet.pacing.latencies import Latencies, Plan, learn, plan

POLLS = 2.65  # aimed at for one prediction; the first and the last ones of a run take a few more
ENDING = 1.5  # more, when few are left and the run waits for them
BUSIEST = 200.0  # polls a second for the whole run, as far as every prediction still gets its FEWEST
FEWEST = 1.5
CHEAPEST_S = 0.05  # seconds, and a hundredth of the latency: a poll that sees no earlier is not worth sending
MARGIN_S = 0.02  # seconds after the expected moment
CLOSEST_S = 0.1  # seconds between two polls of one prediction
SLOWEST_S = 1.0  # seconds from a poll to its answer
SLOW_DOWN_S = 5.0  # seconds without polls after a 429 that names no time
SAMPLES = 256  # kept at least
MOST_SAMPLES = 8192
BORROWED = 300  # predictions over which polls spent too early are saved again
RARE = 0.9  # of the predictions are done, and this one is not
WORTH_ANTICIPATING = 0.08  # seconds of expected lateness
UNSURE = 10  # samples that leave half a doubt
DAY_S = 86400.0


@dataclass(slots=True)
class _Watched:
    began: float  # on the clock
    estimate: float | None = None
    not_done: float = 0.0  # the latest age at which it surely was not
    due: float = 0.0  # age at the next poll
    scout: bool = True  # looks often while nothing is known
    asked: tuple[float, float] = (-1.0, 0.0)  # age at the latest `again`, and `not_done` before it


@dataclass(frozen=True, slots=True)
class _Sample:
    began: float
    age: float  # at completion
    estimate: float | None


class PollSchedule:
    """One per run. Ages and answers in seconds since submission; `key` names a prediction.

    The first predictions are polled the documented way, some of them often. From then on the schedule follows what
    these took, by their age or, where that tells more, by how far the provider's estimates were off.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        floor: float = 1.0,
        cap: float = 30.0,
        polls: float = POLLS,
    ) -> None:
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads polls, guards nothing
        self._floor = floor
        self._cap = cap
        self._aim = polls
        self._watched: dict[str, _Watched] = {}
        self._most = 0  # watched at once
        self._samples: deque[_Sample] = deque()
        self._forgotten = -math.inf  # of what began after this, all that is done is among the samples
        self._done = 0
        self._polls = 0
        self._news = 0.0  # samples since the plan was made
        self._by_age: Plan | None = None
        self._by_estimate: Plan | None = None  # ages counted from the estimate
        self._price = 0.3  # of a poll, in seconds of lateness
        self._shift = 0.0  # from the provider's own seconds to ours
        self._whole_seconds = True  # so far it has told nothing finer
        self._quiet_until = -math.inf
        self._unseen = (-math.inf, 0.0)
        self._slots = _Slots()
        self.generation = 0  # rises when polls that are planned already had better move

    # --- when to poll

    def started(self, key: str, age: float, estimate: float | None) -> float:
        """Seconds until the first poll of a prediction that was submitted `age` seconds ago."""
        one = self._watched[key] = _Watched(self._clock() - age, estimate)
        count = len(self._watched)
        self._most = max(self._most, count)
        if self._by_age is None:
            one.scout = self._rng.random() * count < 3 + math.sqrt(count) / 2
        one.due = self._next(one, age)
        return self._wait(one, age)

    def again(self, key: str, age: float, polls: int) -> float:  # noqa: ARG002 - the age says it
        """Seconds until the next poll of one that was not done at `age`, after `polls` polls."""
        one = self._watched.get(key)
        if one is None:
            return self.started(key, age, None)
        one.asked = (age, one.not_done)
        one.not_done = max(one.not_done, min(age, max(one.due, age - SLOWEST_S)))
        if self._by_age is not None and age > self._by_age.latencies.ages[-1]:
            self._news += 0.3  # this takes longer than anything before
            self._learn()
        one.due = max(self._next(one, age), age + CLOSEST_S)
        return self._wait(one, age)

    def due(self, key: str, age: float) -> float:
        """Seconds until the planned poll by what is known now: for sleepers that are woken (see `generation`)."""
        one = self._watched.get(key)
        if one is None:
            return 0.0
        one.due = self._next(one, one.not_done)
        return self._wait(one, age)

    # --- what was seen

    def done(self, key: str, age: float, polls: int, done_age: float | None) -> None:
        """It was seen done at `age`, after `polls` polls; the provider says `done_age`, or nothing."""
        one = self._watched.pop(key, None) or _Watched(self._clock() - age)
        if age <= one.asked[0]:  # the next poll was asked for before this answer was looked at
            one.not_done = one.asked[1]
        self._done += 1
        self._polls += polls
        self._samples.append(_Sample(one.began, self._moment(one.not_done, age, done_age), one.estimate))
        while len(self._samples) > min(MOST_SAMPLES, max(SAMPLES, 2 * len(self._watched))):
            self._forgotten = max(self._forgotten, self._samples.popleft().began)
        self._news += 1
        self._learn()

    def gone(self, key: str) -> None:
        """It is polled no more: given up, or the run stops."""
        self._watched.pop(key, None)

    def throttled(self, retry_after_s: float | None) -> None:
        """A poll was answered 429: no polls for a while. Says nothing of submissions."""
        pause_s = SLOW_DOWN_S if retry_after_s is None else retry_after_s
        self._quiet_until = max(self._quiet_until, self._clock() + pause_s)

    # --- what to expect

    def unseen(self) -> float:
        """How many are expected to be done by now, and not seen yet; 0.0 where they are seen soon anyway."""
        now = self._clock()
        at, count = self._unseen
        if now - at < max(0.02, 5e-5 * len(self._watched)):
            return count
        count = 0.0
        ruling = self._by_estimate or self._by_age
        if ruling is not None and ruling.lateness >= WORTH_ANTICIPATING:
            for one in self._watched.values():
                latencies, origin = self._model(one)
                before = latencies.done_by(one.not_done - origin)
                if before < 1:
                    count += (latencies.done_by(now - one.began - origin) - before) / (1 - before)
            count *= len(self._samples) / (len(self._samples) + UNSURE)
        self._unseen = (now, count)
        return count

    @property
    def typical(self) -> float | None:
        """Seconds that half of the predictions take at most; None before the first is done."""
        return None if self._by_age is None else self._by_age.latencies.quantile(0.5)

    # --- how

    def _next(self, one: _Watched, age: float) -> float:
        """The age at the next poll of one that was not done at `age`."""
        if self._by_age is None:
            return self._blind(one, age)
        rule, origin = self._rule(one)
        if one.not_done == 0:
            return rule.first() + origin + MARGIN_S
        # By when the latest poll left, not by when its answer came: in between it may have been done.
        planned = rule.after(one.not_done - origin)
        patience = min(self._cap, max(CLOSEST_S, (0.1 if planned is None or self._ending else 0.25) * age))
        if planned is None:
            return age + patience
        # For the last few of a distribution no poll seems worth its price, and yet somebody waits for them.
        late = rule.latencies.done_by(one.not_done - origin) > RARE
        return min(planned + origin + MARGIN_S, age + patience if late or self._ending else math.inf)

    def _blind(self, one: _Watched, age: float) -> float:
        """The same while nothing is known: as documented, every 1 to 2 s, and less often as it gets old."""
        step = max(self._floor, min(0.12 * age, 3.0))
        if not one.scout:
            step = max(10 * step, 3 * len(self._watched) / BUSIEST)
        step = min(step, self._cap) * self._rng.uniform(0.75, 1.25)
        if one.not_done == 0 and one.estimate is not None:
            return max(self._floor, min(0.6 * one.estimate, self._cap)) + step * self._rng.random()
        return age + step

    def _rule(self, one: _Watched) -> tuple[Plan, float]:
        """The plan that fits it, and the age that the plan counts from."""
        assert self._by_age is not None  # noqa: S101 - asked by those who know
        if self._by_estimate is not None and one.estimate is not None:
            return self._by_estimate, one.estimate
        return self._by_age, 0.0

    def _model(self, one: _Watched) -> tuple[Latencies, float]:
        rule, origin = self._rule(one)
        return rule.latencies, origin

    def _wait(self, one: _Watched, age: float) -> float:
        now = self._clock()
        count = len(self._watched)
        at = now + max(0.0, one.due - age, self._quiet_until - now) + self._rng.random() * min(MARGIN_S, 0.002 * count)
        at = self._slots.take(now, at, max(BUSIEST, 2 * count / (self.typical or math.inf)))
        one.due = at - now + age
        return at - now

    @property
    def _ending(self) -> bool:
        return len(self._watched) + 1 < self._most / 4

    def _moment(self, not_done: float, seen: float, done_age: float | None) -> float:
        """The age at completion: what the provider says, where that can be; else somewhere in between."""
        if done_age is None or not 0 < done_age < DAY_S:
            return self._between(not_done, seen)
        self._whole_seconds = self._whole_seconds and done_age == int(done_age)
        if self._whole_seconds and self._done > 2:
            low, high = max(not_done, done_age - 1), min(seen, done_age + 1)
            return self._between(low, high) if low < high else self._between(not_done, seen)
        if done_age + self._shift < not_done:
            self._shift = min(not_done - done_age, 2.0)
        elif done_age + self._shift > seen:
            self._shift = max(seen - done_age, -2.0)
        return min(max(done_age + self._shift, not_done), seen)

    def _between(self, low: float, high: float) -> float:
        """Somewhere between: most likely where others were."""
        others = [one.age for one in itertools.islice(reversed(self._samples), 32) if low < one.age <= high]
        if self._rng.random() * (len(others) + 1) < len(others):
            return self._rng.choice(others)
        return self._rng.uniform(low, high)

    def _learn(self) -> None:
        """Makes the plan anew when there is enough to change it."""
        if not self._samples or self._news < min(1 + 0.1 * len(self._samples), 64.0):
            return
        self._news = 0.0
        samples = [one for one in self._samples if one.began >= self._forgotten] or [self._samples[-1]]
        waiting = [one for one in self._watched.values() if one.began >= self._forgotten and one.not_done > 0]
        by_age = learn((one.age for one in samples), (one.not_done for one in waiting))
        typical = by_age.quantile(0.5)
        by_estimate = _by_estimate(samples, waiting, scale=max(1.0, 0.2 * typical))
        before = self._by_age
        self._by_age = plan(by_age, self._price)
        self._by_estimate = None
        if by_estimate is not None:
            candidate = plan(by_estimate, self._price)
            if candidate.cost < 0.9 * self._by_age.cost:
                self._by_estimate = candidate
        self._afford(self._target(typical), cheapest=max(CHEAPEST_S, 0.01 * typical))
        if before is None or _moved(before.latencies, self._by_age.latencies):
            self.generation += 1
            self._slots = _Slots()

    def _afford(self, target: float, *, cheapest: float) -> None:
        """Finds the price of a poll at which `target` polls are sent for one prediction, and plans by it."""
        assert self._by_age is not None  # noqa: S101 - it has just been made
        for _ in range(5):
            ruling = self._by_estimate or self._by_age
            if abs(ruling.polls - target) < 0.04 or (ruling.polls < target and self._price <= cheapest):
                break
            self._price = min(max(self._price * (ruling.polls / target) ** 2, cheapest), 1000.0)
            if self._by_estimate is not None:
                self._by_estimate = plan(self._by_estimate.latencies, self._price)
            else:
                self._by_age = plan(self._by_age.latencies, self._price)

    def _target(self, typical: float) -> float:
        """Polls for one prediction from now on, such that the average comes out as aimed at."""
        target = self._aim - (self._polls - self._aim * self._done) / max(BORROWED, self._done)
        target = min(target, self._aim + 0.5)
        if self._ending:
            target = max(target, self._aim) + ENDING
        return max(FEWEST, min(target, BUSIEST * typical / max(len(self._watched), 1)))


class _Slots:
    """Half seconds, of which each takes only so many polls."""

    WIDTH = 0.5  # seconds

    def __init__(self) -> None:
        self._taken: dict[int, int] = {}
        self._later: dict[int, int] = {}  # full slots, and where there may be room

    def take(self, now: float, at: float, a_second: float) -> float:
        """The earliest moment from `at` on that has room for one more."""
        if len(self._taken) > 8192:
            first = int(now / self.WIDTH)
            self._taken = {slot: count for slot, count in self._taken.items() if slot >= first}
            self._later = {slot: later for slot, later in self._later.items() if slot >= first}
        wanted = slot = int(at / self.WIDTH)
        passed = []
        while slot in self._later:
            passed.append(slot)
            slot = self._later[slot]
        count = self._taken.get(slot, 0) + 1
        self._taken[slot] = count
        if count >= a_second * self.WIDTH:
            self._later[slot] = slot + 1
        for full in passed:
            self._later[full] = slot
        return at if slot == wanted else slot * self.WIDTH + at % self.WIDTH


class Watch:
    """Sleeps until polls are due, and wakes the sleepers when the run has learned something that moves them."""

    def __init__(self, schedule: PollSchedule) -> None:
        self.schedule = schedule
        self._sleepers: dict[str, tuple[asyncio.Future[None], asyncio.TimerHandle, float]] = {}
        self._generation = schedule.generation

    async def started(self, key: str, age: float, estimate: float | None) -> None:
        """Sleeps until the first poll of a prediction that was submitted `age` seconds ago."""
        await self._sleep(key, age, self.schedule.started(key, age, estimate))

    async def again(self, key: str, age: float, polls: int) -> None:
        """Sleeps until the next poll of one that was not done at `age`, after `polls` polls."""
        wait = self.schedule.again(key, age, polls)
        self._wake()
        await self._sleep(key, age, wait)

    def done(self, key: str, age: float, polls: int, done_age: float | None) -> None:
        """See PollSchedule.done."""
        self.schedule.done(key, age, polls, done_age)
        self._wake()

    def gone(self, key: str) -> None:
        """See PollSchedule.gone."""
        self.schedule.gone(key)

    async def _sleep(self, key: str, age: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._sleepers[key] = (turn, loop.call_later(seconds, _ring, turn), loop.time() - age)
        try:
            await turn
        finally:
            self._sleepers.pop(key)[1].cancel()

    def _wake(self) -> None:
        if self.schedule.generation == self._generation:
            return
        self._generation = self.schedule.generation
        loop = asyncio.get_running_loop()
        now = loop.time()
        for key, (turn, timer, began) in self._sleepers.items():
            if turn.done():
                continue
            timer.cancel()
            self._sleepers[key] = (turn, loop.call_later(self.schedule.due(key, now - began), _ring, turn), began)


def _ring(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def _by_estimate(samples: Iterable[_Sample], waiting: Iterable[_Watched], *, scale: float) -> Latencies | None:
    """How far estimates are off; None where they are all the same, or too few."""
    known = [(one.age, one.estimate) for one in samples if one.estimate is not None]
    if len(known) < 4 or len({estimate for _, estimate in known}) == 1:
        return None
    return learn(
        (age - estimate for age, estimate in known),
        (one.not_done - one.estimate for one in waiting if one.estimate is not None),
        scale=scale,
    )


def _moved(before: Latencies, after: Latencies) -> bool:
    return any(abs(before.quantile(q) - after.quantile(q)) > 0.05 * after.quantile(q) for q in (0.1, 0.5, 0.9))


_NUMBER = re.compile(r"(\d+(?:[.,]\d+)?)\s*([a-z]*)")
_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "second": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0, "h": 3600.0}
_UNITS |= {"hr": 3600.0, "hour": 3600.0}


def estimate_seconds(text: object) -> float | None:
    """The provider's `estimatedTime` in seconds: "5 seconds", "1-2 minutes" (the longer), "1m 30s", "PT30S", 30.

    None for anything else, and for what is no time between nothing and a day.
    """
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        return None
    seconds = _seconds(text) if isinstance(text, str) else float(text)
    return seconds if seconds is not None and 0 < seconds < DAY_S else None


def _seconds(text: str) -> float | None:
    parts = _NUMBER.findall(text.strip().lower().removeprefix("pt")[:80])
    total, seen = 0.0, None
    for number, word in parts:
        unit = word.rstrip("s") if len(word) > 1 and word != "ms" else word
        if unit and unit not in _UNITS:
            return None
        value = float(number.replace(",", "."))
        if not unit:  # "1-2 minutes", "30": the unit comes later, or never
            seen = value
            continue
        total, seen = total + value * _UNITS[unit], None
    if not parts:
        return None
    return total + (seen or 0.0)
