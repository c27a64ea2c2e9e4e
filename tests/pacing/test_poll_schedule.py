"""When predictions are polled: learned latencies, plans, and the schedule on a clock that jumps."""

import asyncio
import importlib.util
import random
import statistics
import sys
from pathlib import Path
from types import ModuleType

import pytest

from reelsheet.pacing.poll_schedule import PollSchedule, Watch


def _chance(seed: int) -> random.Random:
    return random.Random(seed)


def _benchmark(name: str) -> ModuleType:
    """A module of benchmarks/, which is no package."""
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sim = sys.modules.get("pacing_simulation") or _benchmark("pacing_simulation")


class Clock:
    """A clock that tests wind."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- the schedule


def _poll(schedule, clock, key, latency, *, estimate=None, told=True):
    """One prediction alone, to its end; returns polls and lateness."""
    began = clock.now
    clock.now += schedule.started(key, 0.0, estimate)
    polls = 1
    while clock.now - began < latency:
        clock.now += schedule.again(key, clock.now - began)
        polls += 1
    schedule.done(key, clock.now - began, latency if told else None)
    return polls, clock.now - began - latency


def _schedule():
    clock = Clock()
    return PollSchedule(clock=clock, rng=_chance(3)), clock


def test_the_first_polls_come_every_one_to_two_seconds():
    schedule, _ = _schedule()
    waits = [schedule.started("a", 0.0, None)]
    age = waits[0]
    for _ in range(1, 8):
        waits.append(schedule.again("a", age))
        age += waits[-1]
    assert all(0.7 <= wait <= 2.0 for wait in waits)


def test_an_old_prediction_is_polled_less_and_less_often_but_never_less_than_the_cap():
    schedule, clock = _schedule()
    schedule.started("a", 0.0, None)
    assert 2 < schedule.again("a", 60.0) < 5
    for n in range(20):
        _poll(schedule, clock, str(n), 5.0)
    schedule.started("b", 0.0, None)
    assert 20 < schedule.again("b", 1200.0) <= 30.1


def test_a_constant_latency_is_soon_met_with_one_poll():
    schedule, clock = _schedule()
    runs = [_poll(schedule, clock, str(n), 7.3) for n in range(40)]
    assert statistics.mean(polls for polls, _ in runs[20:]) < 1.3
    assert statistics.median(late for _, late in runs[20:]) < 0.1


def test_without_the_providers_times_it_learns_from_what_it_saw():
    schedule, clock = _schedule()
    runs = [_poll(schedule, clock, str(n), 7.3, told=False) for n in range(80)]
    assert statistics.mean(polls for polls, _ in runs[40:]) < 3.5
    assert statistics.mean(late for _, late in runs[40:]) < 0.2


def test_a_latency_that_changes_is_learned_anew():
    schedule, clock = _schedule()
    for n in range(100):
        _poll(schedule, clock, f"a{n}", 5.0)
    runs = [_poll(schedule, clock, f"b{n}", 12.0) for n in range(300)]
    assert statistics.mean(late for _, late in runs[60:]) < 0.6
    assert statistics.mean(polls for polls, _ in runs[250:]) < 3


def test_quick_failures_do_not_spoil_the_rest():
    schedule, clock = _schedule()
    chance = _chance(5)
    late = []
    for n in range(200):
        failing = chance.random() < 0.3
        _, after = _poll(schedule, clock, str(n), 5.0 if failing else 30.0)
        if n > 50 and not failing:
            late.append(after)
    assert statistics.median(late) < 0.3


def test_an_estimate_that_tells_more_than_the_latencies_is_followed():
    schedule, clock = _schedule()
    chance = _chance(5)
    runs = []
    for n in range(150):
        latency = chance.uniform(4, 40)
        runs.append(_poll(schedule, clock, str(n), latency, estimate=float(round(latency))))
    assert statistics.median(late for _, late in runs[50:]) < 0.25
    assert statistics.mean(polls for polls, _ in runs[50:]) < 3.2


def test_an_estimate_that_is_always_the_same_and_wrong_does_no_harm():
    schedule, clock = _schedule()
    runs = [_poll(schedule, clock, str(n), 30.0, estimate=5.0) for n in range(90)]
    assert statistics.median(late for _, late in runs[20:]) < 0.1
    assert statistics.mean(polls for polls, _ in runs[60:]) < 2


def test_an_estimate_that_means_nothing_is_not_followed():
    schedule, clock = _schedule()
    chance = _chance(5)
    runs = [_poll(schedule, clock, str(n), 10.0, estimate=chance.uniform(1, 60)) for n in range(80)]
    assert statistics.median(late for _, late in runs[40:]) < 0.1


def test_times_in_whole_seconds_are_not_taken_for_exact():
    schedule, clock = _schedule()
    chance = _chance(5)
    late = []
    for n in range(150):
        latency = 8 + chance.random()
        began = clock.now
        clock.now += schedule.started(str(n), 0.0, None)
        polls = 1
        while clock.now - began < latency:
            clock.now += schedule.again(str(n), clock.now - began)
            polls += 1
        schedule.done(str(n), clock.now - began, float(int(latency)))
        late.append(clock.now - began - latency)
    assert statistics.median(late[75:]) < 0.35


@pytest.mark.parametrize("told", [-5.0, 0.0, 1e12, float("nan"), float("inf")])
def test_a_completion_time_that_cannot_be_is_not_believed(told):
    schedule, clock = _schedule()
    for n in range(30):
        key = str(n)
        began = clock.now
        clock.now += schedule.started(key, 0.0, None)
        polls = 1
        while clock.now - began < 5:
            clock.now += schedule.again(key, clock.now - began)
            polls += 1
        schedule.done(key, clock.now - began, told)
    assert schedule.typical == pytest.approx(5, abs=1.5)


def test_after_a_429_no_poll_is_due_for_a_while():
    schedule, clock = _schedule()
    for n in range(10):
        _poll(schedule, clock, str(n), 3.0)
    schedule.throttled(7.0)
    assert schedule.started("a", 0.0, None) >= 7.0
    assert schedule.again("a", 5.0) >= 7.0
    assert schedule.due("a", 5.0) >= 7.0
    clock.now += 7.0
    assert schedule.again("a", 12.0) < 3.0


def test_what_is_polled_no_more_is_forgotten():
    schedule, _ = _schedule()
    schedule.started("a", 0.0, None)
    schedule.gone("a")
    schedule.gone("a")
    assert schedule.due("a", 3.0) == 0.0


def test_a_prediction_that_was_never_started_is_polled_all_the_same():
    schedule, _ = _schedule()
    assert schedule.again("from an earlier run", 3600.0) > 0
    schedule.done("of another", 30.0, None)


def test_memory_does_not_grow_with_the_run():
    schedule, clock = _schedule()
    for n in range(1500):
        schedule.started(str(n), 0.0, None)
        clock.now += 3
        schedule.done(str(n), 3.0, 2.9)
    assert len(schedule._samples) <= 256
    assert not schedule._watched


# --- whole runs, simulated


def _run(latency, *, rows=600, places=60, **more):
    provider = sim.Provider(sim.Places(10_000), latency)
    client = sim.Client(rows, ceiling=places, **more)
    sim.simulate(provider, client)
    ratio = client.seconds / sim.greedy(provider.latencies, places)
    return ratio, client.polls / rows, statistics.median(client.lateness), client


def test_constant_latencies_cost_next_to_nothing_over_the_ideal():
    ratio, polls, late, _ = _run(sim.constant(5))
    assert ratio <= 1.05
    assert polls <= 3
    assert late <= 0.3


@pytest.mark.parametrize("sigma", [0.25, 0.5])
def test_jittered_latencies_with_honest_estimates_stay_close_to_the_greedy_schedule(sigma):
    ratio, polls, late, _ = _run(sim.log_normal(5, sigma), estimate=sim.whole_seconds)
    assert ratio <= 1.08
    assert polls <= 3
    assert late <= 0.3


@pytest.mark.parametrize(("sigma", "floor"), [(0.25, 0.40), (0.5, 0.77)])
def test_without_estimates_three_polls_are_kept_and_lateness_is_near_its_floor(sigma, floor):
    """The floor is the mean lateness of the best ages for three polls, where the distribution is known beforehand."""
    _, polls, _, client = _run(sim.log_normal(5, sigma), rows=900)
    assert polls <= 3.05
    assert statistics.mean(client.lateness) <= 1.5 * floor


@pytest.mark.slow
def test_thousands_in_flight_are_polled_about_twice():
    _, polls, _, client = _run(sim.log_normal(30, 0.25), rows=6000, places=3000)
    assert polls <= 2.6
    assert statistics.mean(client.lateness[-300:]) < 3.5


def test_the_last_are_seen_early():
    """The run waits for them."""
    _, _, _, client = _run(sim.log_normal(5, 0.5))
    assert statistics.mean(client.lateness[-15:]) < statistics.mean(client.lateness[:-15])


def test_polls_are_spread_and_not_sent_in_bursts():
    """Sixty that began within a moment: not ten of their first polls in the same hundredth of a second."""
    clock = Clock()
    schedule = PollSchedule(clock=clock, rng=_chance(3))
    for n in range(30):
        _poll(schedule, clock, f"a{n}", 5.0)
    due = []
    for n in range(60):
        clock.now += 0.003
        due.append(clock.now + schedule.started(str(n), 0.0, None))
    due.sort()
    assert all(b - a >= 0.01 for a, b in zip(due, due[9:], strict=False))


# --- the watch


def test_a_sleeper_is_woken_when_the_run_has_learned():
    async def main():
        loop = asyncio.get_running_loop()
        schedule = PollSchedule(clock=loop.time, rng=_chance(3))
        watch = Watch(schedule)
        schedule.started("scout", 0.0, None)
        for n in range(200):
            schedule.started(f"other {n}", 0.0, None)
        sleeper = asyncio.create_task(watch.started("late", 0.0, 200.0))
        await asyncio.sleep(4)
        assert not sleeper.done()
        for n in range(6):
            schedule.again(f"other {n}", 3.5)
            watch.done(f"other {n}", 4.0, 3.9)
        await sleeper
        return loop.time()

    assert sim.jump(main()) < 6


def test_a_sleeper_that_is_cancelled_leaves_nothing_behind():
    async def main():
        loop = asyncio.get_running_loop()
        watch = Watch(PollSchedule(clock=loop.time, rng=_chance(3)))
        sleeper = asyncio.create_task(watch.started("a", 0.0, None))
        await asyncio.sleep(0.1)
        sleeper.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeper
        watch.gone("a")
        watch.done("b", 3.0, None)
        assert not watch.schedule._watched

    sim.jump(main())
