"""Designs of the pace side by side, over the same grid of simulated accounts: `python -m benchmarks.pacing_grid`.

Prints a row for each case and a column for each design. Takes some minutes; nothing sleeps.
"""

import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from benchmarks.pacing_simulation import (
    Both,
    Client,
    Limit,
    Places,
    Provider,
    TokenBucket,
    constant,
    greedy,
    log_normal,
    simulate,
)
from reelsheet.pacing.congestion_window import PaceView
from reelsheet.pacing.poll_schedule import PollSchedule


class Aimd:
    """The textbook's: one more place for each window of acceptances, half of them after a refusal, once a window."""

    def __init__(
        self,
        *,
        ceiling: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._ceiling, self._clock, self._rng = ceiling or 10**9, clock, rng or random.Random()
        self._window, self._slow_start = 3.0, True
        self._since_cut, self._until, self._pause_s = 0.0, 0.0, 0.05
        self.in_flight = self.refusals = 0

    @property
    def window(self) -> float:
        """How many may be in flight."""
        return min(self._window, self._ceiling)

    def sent(self) -> None:
        """A POST leaves."""
        self.in_flight += 1

    def accepted(self) -> None:
        """It was answered 2xx."""
        self._pause_s = 0.05
        self._since_cut += 1
        if self.in_flight > self._window - 1:
            self._window += 1 if self._slow_start else 1 / self._window

    def refused(self, retry_after_s: float | None) -> None:
        """It was answered 429."""
        self.in_flight -= 1
        self.refusals += 1
        self._slow_start = False
        self._until = max(self._until, self._clock() + (retry_after_s or self._pause_s * self._rng.uniform(0.75, 1.25)))
        self._pause_s = min(2 * self._pause_s, 5.0)
        if self._since_cut >= self._window:
            self._window, self._since_cut = max(1.0, self._window / 2), 0.0

    def finished(self) -> None:
        """A place is free."""
        self.in_flight -= 1

    release = finished

    def share(self, others: Sequence[int]) -> None:
        """It does without."""

    def wait(self) -> float:
        """Seconds until one may leave."""
        if self.in_flight + 1 > self.window:
            return float("inf")
        return max(0.0, self._until - self._clock())

    def snapshot(self) -> PaceView:
        """The pace as it is now."""
        return PaceView(self.in_flight, self.window, 0.0, 0.0, self.refusals)


class Bucket(Aimd):
    """The same window, and no more a second than the most that was accepted in any of the latest ten turnarounds."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._accepted_at: deque[float] = deque()
        self._began: deque[float] = deque()
        self._turnaround_s, self._sent_at = 1.0, 0.0
        self._best: deque[float] = deque(maxlen=10)

    def sent(self) -> None:
        """A POST leaves."""
        super().sent()
        self._sent_at = self._clock()

    def accepted(self) -> None:
        """It was answered 2xx."""
        super().accepted()
        now = self._clock()
        self._began.append(now)
        self._accepted_at.append(now)
        if now - self._accepted_at[0] >= self._turnaround_s:
            self._best.append(len(self._accepted_at) / (now - self._accepted_at[0]))
            self._accepted_at.clear()

    def finished(self) -> None:
        """A place is free."""
        super().finished()
        if self._began:
            self._turnaround_s += (self._clock() - self._began.popleft() - self._turnaround_s) / 8

    release = Aimd.finished

    def wait(self) -> float:
        """Seconds until one may leave."""
        next_at = self._sent_at + 1 / (1.05 * max(self._best)) if self._best and not self._slow_start else 0.0
        return max(super().wait(), next_at - self._clock())


class MedianPolls(PollSchedule):
    """The first poll after the median latency, then in growing steps."""

    def _next_age(self, one: Any) -> float:
        median = self.typical
        if median is None:
            return super()._next_age(one)
        return max(median, one.not_done + max(0.05 * median, 0.15 * one.not_done))


DESIGNS: dict[str, dict[str, Any]] = {
    "reelsheet": {},
    "AIMD": {"window": Aimd},
    "AIMD and bucket": {"window": Bucket},
    "median polls": {"schedule": MedianPolls},
}


@dataclass(frozen=True)
class Result:
    """`used`: the share of what the account allows; `refusals`: for each acceptance."""

    used: float
    refusals: float


def by_rate(
    per_minute: float, burst: int, clip_s: float, *, told: bool, jitter: float = 0.0, design: dict[str, Any]
) -> Result:
    """A token bucket, after five minutes and a clip. Three runs."""
    interval_s = 60 / per_minute
    learnt = 300 + clip_s
    until = learnt + max(200, 60 * interval_s)
    used, refusals = [], []
    for seed in (1, 2, 3):
        provider = Provider(TokenBucket(per_minute, burst, told), log_normal(clip_s, 0.25), seed=seed)
        client = Client(int(until / interval_s) + burst + 50, jitter=jitter, seed=10 + seed, **design)
        simulate(provider, client, until=until)
        steady = sum(at >= learnt for at in client.accepted_at)
        used.append(steady * interval_s / (until - learnt))
        refusals.append(sum(at >= learnt for at, _ in provider.refusals) / max(1, steady))
    return Result(statistics.mean(used), statistics.mean(refusals))


def by_places(
    places: int, clip_s: float, sigma: float, rows: int, *, told: float | None, design: dict[str, Any]
) -> Result:
    """So many places, nobody knows; against the greedy schedule of the same latencies. Three runs."""
    used, refusals = [], []
    for seed in (1, 2, 3):
        provider = Provider(Places(places, told), log_normal(clip_s, sigma) if sigma else constant(clip_s), seed=seed)
        client = Client(rows, seed=50 + seed, **design)
        simulate(provider, client)
        used.append(greedy(provider.latencies, places) / client.seconds)
        refusals.append(client.refusals / rows)
    return Result(statistics.mean(used), statistics.mean(refusals))


def by_both(places: int, per_minute: float, clip_s: float, *, told: bool, design: dict[str, Any]) -> Result:
    """So many places and a token bucket, for half an hour after the first five minutes. Three runs."""
    used, refusals = [], []
    for seed in (1, 2, 3):
        provider = Provider(Both(Places(places), TokenBucket(per_minute, told=told)), log_normal(clip_s, 0.25), seed)
        client = Client(5000, seed=30 + seed, **design)
        simulate(provider, client, until=2100)
        allowed = 1800 * min(per_minute / 60, places / statistics.mean(provider.latencies))
        used.append(sum(at >= 300 for at in client.accepted_at) / allowed)
        refusals.append(len(provider.refusals) / len(provider.latencies))
    return Result(statistics.mean(used), statistics.mean(refusals))


def shared(
    limit: Limit, clip_s: float, starts: tuple[float, ...], until: float, *, per_s: float, design: dict[str, Any]
) -> Result:
    """Several processes on one account of `per_s`, in the second half: the smallest share, 1.0 being fair and all."""
    shares, refusals = [], []
    for seed in (1, 2, 3):
        clients = [Client(2500, starts=at, seed=100 * seed + n, **design) for n, at in enumerate(starts)]
        simulate(Provider(deepcopy(limit), log_normal(clip_s, 0.25), seed=seed), *clients, until=until)
        taken = [sum(at >= until / 2 for at in client.accepted_at) for client in clients]
        shares.append(min(taken) * len(taken) / (per_s * until / 2))
        refusals.append(sum(client.refusals for client in clients) / sum(len(c.accepted_at) for c in clients))
    return Result(statistics.mean(shares), statistics.mean(refusals))


def changed(before: int, after: int, clip_s: float, *, told: float | None, design: dict[str, Any]) -> Result:
    """So many places, others after three generations; the fourth and fifth generation from then. Three runs."""
    used, refusals = [], []
    at = 3 * clip_s
    for seed in (1, 2, 3):
        provider = Provider(
            Places(lambda now: before if now < at else after, told), log_normal(clip_s, 0.25), seed=seed
        )
        simulate(provider, Client(8 * max(before, after), seed=70 + seed, **design), until=9 * clip_s)
        used.append(provider.busy(at + 2 * clip_s, at + 4 * clip_s) / after)
        refusals.append(len(provider.refusals) / len(provider.latencies))
    return Result(statistics.mean(used), statistics.mean(refusals))


Cases = Iterator[tuple[str, Callable[[dict[str, Any]], Result]]]


def cases() -> Cases:
    """Names and what to run."""
    yield from _limited_by_rate()
    yield from _limited_by_places()
    yield from _limited_by_both()
    yield from _of_several()


def _limited_by_rate() -> Cases:
    for per_minute in (5, 20, 60, 600):
        for burst in (1, 3, 10):
            for clip_s in (20, 60):
                for told in (True, False):
                    name = f"{per_minute} a minute, burst {burst}, {clip_s} s clips{', Retry-After' if told else ''}"
                    yield name, lambda d, a=(per_minute, burst, clip_s), t=told: by_rate(*a, told=t, design=d)
    for per_minute in (5, 60, 600):
        for told in (True, False):
            name = f"{per_minute} a minute, burst 1, 60 s clips{', Retry-After' if told else ''}, 20 ms jitter"
            yield name, lambda d, p=per_minute, t=told: by_rate(p, 1, 60, told=t, jitter=0.01, design=d)


def _limited_by_places() -> Cases:
    for places, clip_s, sigma, rows in (
        (30, 3, 0.0, 450),
        (60, 5, 0.25, 600),
        (60, 60, 0.25, 600),
        (10, 30, 0.25, 110),
    ):
        for after in (0.0, None):
            spread = f", sigma {sigma}" if sigma else ""
            name = f"{places} places, {clip_s} s clips{spread}{', Retry-After' if after is None else ''}"
            yield (
                name,
                lambda d, a=(places, clip_s, sigma, rows), t=after: by_places(*a, told=t, design=d),
            )
    for before, after_change in ((60, 30), (30, 60), (10, 5), (5, 10)):
        name = f"{before} places become {after_change}, 30 s clips"
        yield name, lambda d, b=before, a=after_change: changed(b, a, 30, told=0.0, design=d)


def _limited_by_both() -> Cases:
    for places, per_minute, clip_s in ((10, 60, 20), (18, 60, 20), (30, 20, 60)):
        for told in (True, False):
            name = f"{places} places and {per_minute} a minute, {clip_s} s clips{', Retry-After' if told else ''}"
            yield name, lambda d, a=(places, per_minute, clip_s), t=told: by_both(*a, told=t, design=d)


def _of_several() -> Cases:
    for name, limit, clip_s, starts, until, per_s in (
        ("2 processes, 30 places, 3 s clips", Places(30), 3, (0, 20), 140, 9.7),
        ("3 processes, 30 places, 30 s clips", Places(30), 30, (0, 60, 120), 1500, 0.97),
        ("5 processes, 60 places, 3 s clips", Places(60), 3, (0, 5, 10, 15, 20), 150, 19.4),
        ("2 processes, 60 a minute, burst 1, 20 s clips", TokenBucket(60), 20, (0, 100), 1200, 1),
        ("2 processes, 60 a minute, burst 10, 60 s clips", TokenBucket(60, 10), 60, (0, 100), 1200, 1),
        (
            "2 processes, 10 places and 60 a minute, 20 s clips",
            Both(Places(10), TokenBucket(60)), 20, (0, 100), 1200, 0.485,
        ),
    ):  # fmt: skip
        yield name, lambda d, a=(limit, clip_s, starts, until), p=per_s: shared(*a, per_s=p, design=d)


def main() -> None:
    """See the top."""
    print("| account | " + " | ".join(DESIGNS) + " |")
    print("|---" * (len(DESIGNS) + 1) + "|")
    for name, run in cases():
        results = [run(design) for design in DESIGNS.values()]
        print(f"| {name} | " + " | ".join(f"{r.used:.2f} ({r.refusals:.2f})" for r in results) + " |", flush=True)


if __name__ == "__main__":
    main()
