"""How long predictions take, learned from those that are done and from those that are not, and when to look at one.

`learn` gives the distribution, `plan` the ages at which a poll is worth its price. All times in seconds; an age counts
from submission, or from whatever else the caller counts from, and may then be negative.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

STEPS = 48  # of a distribution; finer gains nothing that can be measured
GUESS = 1.0  # how many samples it is worth that the next may be unlike all before
GUESS_SPREAD = 0.35  # of the scale
TAIL = tuple(0.8**step for step in range(12))  # how what has lasted longer than all seen thins out
TAIL_STEP = 1.08
PROMPT = 0.3  # seconds; seen within this is prompt
PROMPTNESS = 1.0  # seconds of lateness that missing it is worth


@dataclass(frozen=True, slots=True)
class Latencies:
    """A line through (age, share done by then): `shares` rise from 0 to 1."""

    ages: tuple[float, ...]
    shares: tuple[float, ...]

    def done_by(self, age: float) -> float:
        """The share that is done at `age`."""
        ages, shares = self.ages, self.shares
        if age <= ages[0]:
            return shares[0]
        if age >= ages[-1]:
            return 1.0
        k = bisect_right(ages, age)
        return shares[k - 1] + (shares[k] - shares[k - 1]) * (age - ages[k - 1]) / (ages[k] - ages[k - 1])

    def quantile(self, share: float) -> float:
        """The age at which `share` is done."""
        ages, shares = self.ages, self.shares
        k = min(max(bisect_left(shares, share), 1), len(ages) - 1)
        return ages[k - 1] + (ages[k] - ages[k - 1]) * (share - shares[k - 1]) / (shares[k] - shares[k - 1])


def learn(done: Iterable[float], waiting: Iterable[float], *, scale: float | None = None) -> Latencies:
    """The distribution behind ages at completion (at least one) and ages at which others were not done.

    Kaplan and Meier: without those still waiting, the first ones done, which are the quick ones, would stand for all.
    `scale` is how far off the unseen may be; by default the ages themselves.
    """
    ages, others = sorted(done), sorted(waiting)
    middle = ages[len(ages) // 2]
    atoms: list[tuple[float, float]] = []
    left, k = 1.0, 0
    for index, age in enumerate(ages):
        while k < len(others) and others[k] < age:
            k += 1
        mass = left / (len(ages) - index + len(others) - k)
        left -= mass
        atoms.append((age, mass))
    longest = max(ages[-1], others[-1]) if others else ages[-1]
    reach = scale or longest
    weight = left / sum(TAIL)
    atoms += [(longest + reach * (TAIL_STEP ** (step + 1) - 1), weight * thin) for step, thin in enumerate(TAIL)]
    guess = GUESS / (GUESS + len(ages))
    atoms = [(age, mass * (1 - guess)) for age, mass in atoms]
    spread = GUESS_SPREAD * (scale or middle)
    atoms += [(middle + spread * z, guess / len(_NORMAL)) for z in _NORMAL]
    atoms.sort()
    return _line(atoms)


_NORMAL = (-1.53, -0.89, -0.49, -0.16, 0.16, 0.49, 0.89, 1.53)  # eighths of the normal distribution


def _line(atoms: Sequence[tuple[float, float]]) -> Latencies:
    """At most STEPS points, about equal shares apart; the mass of each atom lies between it and the one before."""
    shares = list(accumulate(mass for _, mass in atoms))
    first = atoms[0][0]
    points = [(first - max(0.005, 0.01 * abs(first)), 0.0)]
    for (age, _), share in zip(atoms, shares, strict=True):
        reached = share / shares[-1]
        if reached - points[-1][1] >= 1 / STEPS or reached > 1 - 1e-9 > points[-1][1]:
            points.append((max(age, points[-1][0] + 1e-6), reached))
    points[-1] = (points[-1][0], 1.0)
    return Latencies(tuple(age for age, _ in points), tuple(share for _, share in points))


@dataclass(frozen=True, slots=True)
class Plan:
    """When to poll, by what is known of the latencies."""

    latencies: Latencies
    polls: float  # expected for one prediction
    lateness: float  # expected: from completion to the poll that sees it
    cost: float  # of lateness, missed promptness and polls together, in seconds of lateness
    following: tuple[int, ...] = field(repr=False)

    def first(self) -> float:
        """The age at the first poll."""
        return self.latencies.ages[self.following[0]]

    def after(self, age: float) -> float | None:
        """The age at the next poll of one that was not done at `age`; None beyond all that is known."""
        ages = self.latencies.ages
        k = bisect_right(ages, age) - 1
        return ages[self.following[max(k, 0)]] if k < len(ages) - 1 else None


def plan(latencies: Latencies, price: float) -> Plan:
    """The cheapest ages to poll at, where a poll costs `price` seconds of lateness; exact, by backward induction."""
    ages, shares = latencies.ages, latencies.shares
    n = len(ages)
    moments = [0.0] * n  # ages weighed by shares, for the mean lateness
    for k in range(1, n):
        moments[k] = moments[k - 1] + (shares[k] - shares[k - 1]) * (ages[k] + ages[k - 1]) / 2
    missed = [latencies.done_by(age - PROMPT) for age in ages]
    cost, polls, late = [0.0] * n, [0.0] * n, [0.0] * n
    following = [n - 1] * n
    for i in range(n - 2, -1, -1):
        done, moment = shares[i], moments[i]
        best, choice = math.inf, n - 1
        for j in range(i + 1, n):
            total = ages[j] * (shares[j] - done) - (moments[j] - moment) + cost[j]
            if missed[j] > done:
                total += PROMPTNESS * (missed[j] - done)
            if total < best:
                best, choice = total, j
        following[i] = choice
        cost[i] = best + price * (1 - done)
        polls[i] = polls[choice] + 1 - done
        late[i] = late[choice] + ages[choice] * (shares[choice] - done) - (moments[choice] - moment)
    return Plan(latencies, polls[0], late[0], cost[0], tuple(following))
