"""A provider and its clients on a clock that jumps: the pace and the polls, simulated in a second instead of an hour.

`simulate(clients, provider)` runs the very Gate, Pace, PollSchedule and Watch of a real run on an event loop whose time
is made up. Nothing sleeps, nothing is random but by seed, and the figures are the same on any machine.
"""

import asyncio
import heapq
import math
import random
import selectors
import statistics
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from reelsheet.pacing.congestion_window import CongestionWindow
from reelsheet.pacing.gate import Gate
from reelsheet.pacing.poll_schedule import PollSchedule, Watch


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while it works and jumps to the next timer when it would sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.now


class _Jump(selectors.SelectSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits for something that never comes")
        self._loop.now += max(0.0, timeout)
        return []


def jump(main: Coroutine[Any, Any, Any]) -> Any:
    """asyncio.run on a JumpingLoop."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)


# --- the provider ---------------------------------------------------------------------------------------------------


class Limit(Protocol):
    """Says of each submission whether it is taken. `running`: predictions in flight at the provider."""

    def refuses(self, now: float, running: int, soonest: float) -> float | None:
        """None: taken. Else the Retry-After in seconds, 0.0 for none. Counts what it takes."""


@dataclass
class Places:
    """So many predictions at once; `capacity` is a number or a function of the time."""

    capacity: float | Callable[[float], float]
    retry_after: float | None = 0.0  # None: whole seconds until the next place is free, at least one

    def refuses(self, now: float, running: int, soonest: float) -> float | None:
        capacity = self.capacity(now) if callable(self.capacity) else self.capacity
        if running < capacity:
            return None
        return max(1.0, math.ceil(soonest)) if self.retry_after is None else self.retry_after


@dataclass
class TokenBucket:
    """So many submissions a minute, refilled evenly; up to `burst` at once."""

    per_minute: float
    burst: float = 1.0
    told: bool = True  # says in Retry-After, in whole seconds, when the next token is there
    tokens: float = field(init=False)
    since: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def refuses(self, now: float, running: int, soonest: float) -> float | None:  # noqa: ARG002 - the clock decides
        rate = self.per_minute / 60
        self.tokens = min(self.burst, self.tokens + (now - self.since) * rate)
        self.since = now
        if self.tokens >= 1:
            self.tokens -= 1
            return None
        return float(math.ceil((1 - self.tokens) / rate)) if self.told else 0.0


@dataclass
class FixedWindow:
    """So many submissions in each minute of the clock."""

    per_minute: int
    told: bool = True
    minute: int = -1
    used: int = 0

    def refuses(self, now: float, running: int, soonest: float) -> float | None:  # noqa: ARG002 - the clock decides
        if int(now // 60) != self.minute:
            self.minute, self.used = int(now // 60), 0
        if self.used < self.per_minute:
            self.used += 1
            return None
        return float(math.ceil(60 - now % 60)) if self.told else 0.0


@dataclass
class Both:
    """The first that refuses, refuses."""

    first: Limit
    second: Limit

    def refuses(self, now: float, running: int, soonest: float) -> float | None:
        told = self.first.refuses(now, running, soonest)
        return told if told is not None else self.second.refuses(now, running, soonest)


@dataclass
class Provider:
    """Answers at once, renders for `latency(rng)` seconds, keeps books."""

    limit: Limit
    latency: Callable[[random.Random], float]
    seed: int = 1
    running: int = 0
    most: int = 0
    latencies: list[float] = field(default_factory=list)
    trace: list[tuple[float, int]] = field(default_factory=list)
    refusals: list[tuple[float, float]] = field(default_factory=list)  # (when, Retry-After)
    arrivals: list[float] = field(default_factory=list)
    board: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._ends: list[float] = []

    def submit(self, now: float) -> tuple[float, None] | tuple[None, float]:
        """(when it will be done, None) or (None, Retry-After)."""
        self.settle(now)
        self.arrivals.append(now)
        told = self.limit.refuses(now, self.running, self._ends[0] - now if self._ends else 0.0)
        if told is not None:
            self.refusals.append((now, told))
            return None, told
        seconds = self.latency(self.rng)
        self.latencies.append(seconds)
        heapq.heappush(self._ends, now + seconds)
        self.running += 1
        self.most = max(self.most, self.running)
        self.trace.append((now, self.running))
        return now + seconds, None

    def settle(self, now: float) -> None:
        """Ends what is done by `now`."""
        while self._ends and self._ends[0] <= now:
            self.running -= 1
            self.trace.append((heapq.heappop(self._ends), self.running))

    def busy(self, since: float, until: float) -> float:
        """Predictions in flight on average between two moments; `settle` first."""
        area, running, at = 0.0, 0, since
        for moment, count in self.trace:
            if moment >= until:
                break
            if moment > since:
                area += running * (moment - at)
                at = moment
            running = count
        return (area + running * (until - at)) / (until - since)


def constant(seconds: float) -> Callable[[random.Random], float]:
    return lambda _: seconds


def log_normal(median: float, sigma: float) -> Callable[[random.Random], float]:
    return lambda rng: median * math.exp(rng.gauss(0.0, sigma))


def whole_seconds(latency: float) -> float:
    """An honest estimate, as people like to read it."""
    return max(1.0, round(latency))


def greedy(latencies: Sequence[float], places: int) -> float:
    """Seconds that the same latencies take, in order, where each place is taken again the moment it is free."""
    free = [0.0] * places
    for seconds in latencies:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


# --- the clients ----------------------------------------------------------------------------------------------------


@dataclass
class Client:
    """One process of reelsheet with so many rows to do."""

    rows: int
    ceiling: int | None = None
    starts: float = 0.0
    trip: float = 0.03  # seconds there and back
    jitter: float = 0.0  # seconds more each way, on average
    estimate: float | Callable[[float], float] | None = None  # what the provider tells of a latency
    told: bool = True  # the provider says when a prediction was done
    seed: int = 7
    peers: bool = True
    window: Callable[..., Any] = CongestionWindow  # the design of the pace
    schedule: Callable[..., Any] = PollSchedule  # the design of the polls
    # what came of it
    first: float = math.inf
    last: float = 0.0
    done: int = 0
    polls: int = 0
    lateness: list[float] = field(default_factory=list)
    accepted_at: list[float] = field(default_factory=list)
    windows: list[tuple[float, int, float]] = field(default_factory=list)
    most: int = 0
    pace: Any = field(init=False)

    @property
    def seconds(self) -> float:
        return self.last - self.first

    @property
    def refusals(self) -> int:
        return self.pace.refusals

    async def group(self, provider: Provider) -> None:
        clock = asyncio.get_running_loop().time
        rng = random.Random(self.seed)
        self._jitter = random.Random(-self.seed)
        schedule = self.schedule(clock=clock, rng=rng)
        watch = Watch(schedule)
        self.pace = self.window(ceiling=self.ceiling, clock=clock, rng=rng)
        gate = Gate(self.pace)
        await asyncio.sleep(self.starts)
        beat = asyncio.create_task(self._share(provider, gate))
        await asyncio.gather(*(self._row(index, provider, gate, watch) for index in range(self.rows)))
        beat.cancel()
        provider.board.pop(self.seed, None)

    async def _share(self, provider: Provider, gate: Gate) -> None:
        while True:
            await asyncio.sleep(10)
            others = [n for seed, n in provider.board.items() if seed != self.seed]
            provider.board[self.seed] = gate.pace.in_flight
            if self.peers:
                gate.pace.share(others)
                gate.changed()

    async def _row(self, index: int, provider: Provider, gate: Gate, watch: Watch) -> None:
        clock = asyncio.get_running_loop().time
        key = f"{self.seed}-{index}"
        while True:
            await gate.admit(index)
            sent = clock()
            self.first = min(self.first, sent)
            self.most = max(self.most, gate.pace.in_flight)
            self.windows.append((sent, gate.pace.in_flight, gate.pace.window))
            await self._travel()
            created = clock()
            done, told = provider.submit(created)
            await self._travel()
            if done is not None:
                break
            gate.refused(told or None)
        gate.accepted()
        self.accepted_at.append(clock())
        polls = 0
        estimate = self.estimate(done - created) if callable(self.estimate) else self.estimate
        await watch.started(key, clock() - sent, estimate)
        while True:
            polls += 1
            await self._travel()
            seen = clock() >= done
            await self._travel()
            if seen:
                break
            await watch.again(key, clock() - sent)
        watch.done(key, clock() - sent, done - created if self.told else None)
        gate.finished()
        self.polls += polls
        self.done += 1
        self.lateness.append(clock() - done)
        self.last = clock()

    async def _travel(self) -> None:
        await asyncio.sleep(self.trip / 2 + (self._jitter.expovariate(1 / self.jitter) if self.jitter else 0.0))

    def figures(self) -> str:
        """The run in a line."""
        late = self.lateness
        return (
            f"{self.seconds:7.1f} s  refusals a row {self.refusals / max(1, self.rows):.3f}  "
            f"polls {self.polls / max(1, self.done):.2f}  "
            f"seen after {statistics.median(late):.2f} s (median), {statistics.mean(late):.2f} s (mean)  "
            f"most in flight {self.most}"
        )


def simulate(provider: Provider, *clients: Client, until: float = math.inf) -> Provider:
    """Runs the clients against the provider to the end, or for `until` seconds."""

    async def main() -> None:
        jobs = asyncio.gather(*(client.group(provider) for client in clients))
        if math.isinf(until):
            await jobs
        else:
            await asyncio.wait([asyncio.ensure_future(jobs)], timeout=until)
            jobs.cancel()
            await asyncio.gather(jobs, return_exceptions=True)

    jump(main())
    provider.settle(math.inf)
    return provider
