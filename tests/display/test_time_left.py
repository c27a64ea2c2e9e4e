"""The time that a run still takes: by the plan until a generation of clips is over, then by what was seen."""

import heapq
import math
import random
from types import SimpleNamespace

import pytest

from reelsheet.display.live import View
from reelsheet.ledger.pace_history import ObservedPace
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.manifest.table import text_frame
from reelsheet.pacing.congestion_window import CongestionWindow
from reelsheet.pacing.gate import Gate
from reelsheet.pacing.poll_schedule import PollSchedule
from reelsheet.planning.plan import Plan, RowGroup, Step
from reelsheet.run.run import RunMonitor
from reelsheet.run.stop_control import StopControl

STEP_S = 0.25


class Run:
    """Rows on an account with `places`, by a clock of its own; `slow_s` is what the machine needs for each row."""

    def __init__(
        self,
        rows: int,
        places: int,
        *,
        slow_s: float = 0.0,
        expected: ObservedPace | None = None,
        ceiling: int | None = None,
    ) -> None:
        self.now, self.places, self.slow_s = 1000.0, places, slow_s
        identities = [f"{n:064x}" for n in range(rows)]
        self.groups = [RowGroup(one, Row(n, n + 2), [n], step=Step.SUBMIT) for n, one in enumerate(identities)]
        sheet = Manifest("s.csv", text_frame(["image"], [[""]] * rows), tuple(g.row for g in self.groups), {"image": 0})
        plan = Plan(sheet, dict(zip(identities, self.groups, strict=True)), 54)
        rng = random.Random(7)
        self.pace = CongestionWindow(ceiling=ceiling, clock=self.clock, rng=rng)
        self.schedule = PollSchedule(clock=self.clock, rng=rng)
        gate = Gate(self.pace)
        context = SimpleNamespace(plan=plan, run_id="20260115-120000-abcdef", record=SimpleNamespace(cap_cents=None))
        self.monitor = RunMonitor(context, StopControl(gate.close), gate, self.schedule, self.now)
        self.view = View(self.monitor, expected, self.clock)

    def clock(self) -> float:
        return self.now

    def go(self, latency) -> list[tuple[float, float | None, bool]]:
        """(seconds so far, seconds that are left as shown, is a generation over) at each step, until all is done."""
        began, waiting, seen = self.now, list(reversed(self.groups)), []
        ends: list[tuple[float, float, str, RowGroup]] = []
        free_at = 0.0  # the machine sends no other before
        while waiting or ends:
            while ends and ends[0][0] <= self.now:
                _, lasted, key, group = heapq.heappop(ends)
                self.schedule.done(key, lasted, lasted)
                self.pace.finished()
                group.in_flight, group.step = False, Step.DONE
                self.monitor.touched.add(group.identity)
            while waiting and self.now >= free_at and self.pace.wait() <= 0:
                self.pace.sent()
                if len(ends) == self.places:
                    self.pace.refused(1.0)
                    continue
                self.pace.accepted()
                group, lasts = waiting.pop(), latency()
                group.in_flight, free_at = True, self.now + self.slow_s
                self.monitor.touched.add(group.identity)
                self.schedule.started(group.identity, 0.0, None)
                heapq.heappush(ends, (self.now + lasts, lasts, group.identity, group))
            self.view.update()
            seen.append((self.now - began, self.view.seconds_left, self.schedule.finished >= self.pace.in_flight > 0))
            self.now += STEP_S
        return seen


def worst(seen, end_s: float, *, spare_s: float) -> float:
    """The largest share by which the time left was wrong, beyond `spare_s`."""
    return max(max(0.0, abs(left - (end_s - at)) - spare_s) / (end_s - at) for at, left in seen if at < end_s)


@pytest.mark.parametrize(
    ("rows", "places", "latency_s", "sigma"),
    [(12, 3, 8, 0), (36, 12, 30, 0), (200, 20, 60, 0), (120, 12, 30, 0.1), (240, 24, 45, 0.25)],
)
def test_once_a_generation_is_over_the_time_left_of_a_steady_run_is_within_30_percent(rows, places, latency_s, sigma):
    rng = random.Random(3)
    seen = Run(rows, places).go(lambda: latency_s * math.exp(rng.gauss(0, sigma)))
    told = [(at, left) for at, left, is_over in seen if is_over]
    assert all(left is not None for _, left in told)
    if sigma:  # nobody knows how long the last clips take
        told = [(at, left) for at, left in told if seen[-1][0] - at > 1.5 * latency_s]
    assert worst(told, seen[-1][0], spare_s=3) < 0.3


@pytest.mark.parametrize("sigma", [0, 0.1, 0.25])
def test_the_first_clip_that_is_done_does_not_make_a_first_run_look_long(sigma):
    """17 s into a run of 30 s, one clip was done: it said ten minutes."""
    rng = random.Random(5)
    seen = Run(60, 12).go(lambda: 30 * math.exp(rng.gauss(0, sigma)))
    lefts = [(at, left) for at, left, is_over in seen if not is_over and left is not None]
    assert {left for at, left in lefts if at < 15} <= {None}
    assert all(left < 1.3 * (seen[-1][0] - at) + 3 for at, left in lefts if at < 60)


@pytest.mark.parametrize(("rows", "places"), [(12, 12), (60, 12)])
def test_with_earlier_runs_the_time_left_is_true_from_the_start(rows, places):
    seen = Run(rows, places, expected=ObservedPace(30.0, places)).go(lambda: 30.0)
    assert worst([(at, left) for at, left, _ in seen], seen[-1][0], spare_s=3) < 0.3


def test_on_a_slow_machine_the_time_left_falls_as_time_passes():
    """It needs longer for a row than the provider: the places are never all taken."""
    seen = Run(60, 6, slow_s=3.0).go(lambda: 10.0)
    told = [(at, left) for at, left, is_over in seen if is_over]
    assert worst(told, seen[-1][0], spare_s=3) < 0.5
    every_20_s = [left for at, left in told if at % 20 == 0]
    assert every_20_s == sorted(every_20_s, reverse=True)


@pytest.mark.parametrize(("ceiling", "slow_s"), [(30, 1.0), (300, 1.0), (300, 0.5)])
def test_a_machine_that_cannot_fill_the_places_is_what_the_time_left_goes_by(ceiling, slow_s):
    """With --concurrency 300 and 31 at once it said 20 s for 1,000 rows at 285 a minute."""
    seen = Run(400, 400, slow_s=slow_s, ceiling=ceiling).go(lambda: 5.0)
    told = [(at, left) for at, left, is_over in seen if is_over and at > 40]
    assert worst(told, seen[-1][0], spare_s=6) < 0.3
