"""How long predictions take, learned from those that are done and those that are not yet, and when to look at one.

`Latencies` is the learned distribution; `plan` turns it into the ages at which a poll is worth its price.
All times in seconds since submission.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

STEPS = 48  # of the distribution in a plan; finer gains nothing that can be measured
BLIND_WEIGHT = 1.0  # how many samples the guess before the first sample is worth
BLIND_SPREAD = 0.35
PROMPT = 0.3  # seconds; seen within this counts as prompt
PROMPTNESS = 1.0  # what missing that costs, in seconds of lateness


@dataclass(frozen=True, slots=True)
class Latencies:
    """A distribution as a line through (age, share that is done by then); the shares end at 1."""

    ages: tuple[float, ...]
    shares: tuple[float, ...]

    def done_by(self, age: float) -> float:
        """The share that is done at `age`, 0 to 1."""
        ages, shares = self.ages, self.shares
        if age <= ages[0]:
            return shares[0]
        if age >= ages[-1]:
            return 1.0
        k = bisect_right(ages, age)
        low, high = ages[k - 1], ages[k]
        return shares[k - 1] + (shares[k] - shares[k - 1]) * (age - low) / (high - low)

    def quantile(self, share: float) -> float:
        """The age at which `share` is done."""
        k = bisect_left(self.shares, share)
        if k <= 0:
            return self.ages[0]
        if k >= len(self.ages):
            return self.ages[-1]
        low, high = self.shares[k - 1], self.shares[k]
        return self.ages[k - 1] + (self.ages[k] - self.ages[k - 1]) * (share - low) / (high - low)


def learn(done: Iterable[float], waiting: Iterable[float]) -> Latencies:
    """The distribution behind ages at completion and ages at which others were not done (Kaplan and Meier).

    Without those still waiting, the first ones done, which are the quick ones, would be taken for all.
    At least one in `done`.
    """
    ages = sorted(done)
    others = sorted(waiting)
    atoms: list[tuple[float, float]] = []
    left, count, k = 1.0, len(ages), 0
    peers = len(others)
    for index, age in enumerate(ages):
        while k < peers and others[k] < age:
            k += 1
        mass = left / (count - index + peers - k)
        left -= mass
        atoms.append((age, mass))
    # What is left lies beyond the longest seen: nobody knows how far, so it thins out.
    longest = max(ages[-1], others[-1] if others else 0.0)
    if left > 1e-9:
        weights = [0.8**step for step in range(12)]
        atoms += [(longest * 1.08 ** (step + 1), left * w / sum(weights)) for step, w in enumerate(weights)]
    guess = BLIND_WEIGHT / (BLIND_WEIGHT + count)
    middle = ages[count // 2]
    atoms = [(age, mass * (1 - guess)) for age, mass in atoms]
    atoms += [(middle * math.exp(BLIND_SPREAD * z), guess / len(_NORMAL)) for z in _NORMAL]
    atoms.sort()
    return _smooth(atoms)


def _smooth(atoms: Sequence[tuple[float, float]]) -> Latencies:
    """A line through at most STEPS points, equal shares apart; each atom's mass lies between it and the one before."""
    ages = [age for age, _ in atoms]
    shares = list(accumulate(mass for _, mass in atoms))
    total = shares[-1]
    points: list[tuple[float, float]] = [(max(0.0, ages[0] - max(0.005, 0.01 * ages[0])), 0.0)]
    taken = 0.0
    for age, share in zip(ages, shares, strict=True):
        reached = share / total
        if reached - taken >= 1 / STEPS or (reached > 1 - 1e-9 and taken < 1):
            points.append((max(age, points[-1][0] + 1e-6), reached))
            taken = reached
    points[-1] = (points[-1][0], 1.0)
    return Latencies(tuple(age for age, _ in points), tuple(share for _, share in points))


_NORMAL = (-1.53, -0.89, -0.49, -0.16, 0.16, 0.49, 0.89, 1.53)  # eighths of the normal distribution


@dataclass(frozen=True, slots=True)
class Plan:
    """When to poll. `ages` are polls one after the other for a prediction that was never looked at before."""

    latencies: Latencies
    price: float  # of a poll, in seconds of lateness
    polls: float  # expected for one prediction
    lateness: float  # expected, mean
    following: tuple[int, ...] = field(repr=False)

    def first(self) -> float:
        """The age at the first poll."""
        return self.latencies.ages[self.following[0]]

    def after(self, age: float) -> float | None:
        """The age at the next poll of one that was not done at `age`; None beyond all that is known."""
        ages = self.latencies.ages
        k = bisect_right(ages, age) - 1
        if k >= len(ages) - 1:
            return None
        return ages[self.following[max(k, 0)]]


def plan(latencies: Latencies, price: float) -> Plan:
    """The cheapest poll ages where each poll costs `price` seconds of lateness; exact, by backward induction."""
    ages, shares = latencies.ages, latencies.shares
    n = len(ages)
    # Up to k: the share-weighted ages, for the mean lateness; what is done PROMPT before k, for the promptness.
    moments = [0.0] * n
    for k in range(1, n):
        moments[k] = moments[k - 1] + (shares[k] - shares[k - 1]) * (ages[k] + ages[k - 1]) / 2
    prompt = [latencies.done_by(age - PROMPT) for age in ages]
    cost = [0.0] * n
    polls = [0.0] * n
    late = [0.0] * n
    following = [n - 1] * n
    for i in range(n - 2, -1, -1):
        open_, moment = shares[i], moments[i]
        best, choice = math.inf, n - 1
        for j in range(i + 1, n):
            lateness = ages[j] * (shares[j] - open_) - (moments[j] - moment)
            missed = prompt[j] - open_
            if missed > 0:
                lateness += PROMPTNESS * missed
            total = lateness + cost[j]
            if total < best:
                best, choice = total, j
        following[i] = choice
        cost[i] = best + price * (1 - open_)
        polls[i] = polls[choice] + 1 - open_
        late[i] = late[choice] + ages[choice] * (shares[choice] - open_) - (moments[choice] - moment)
    return Plan(latencies, price, polls[0], late[0], tuple(following))
