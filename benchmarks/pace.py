"""How full the account is kept: rows x seconds x places against what could not be beaten."""

import threading
import time
from collections.abc import Iterator

from benchmarks.course import Course, greedy
from benchmarks.stage import Cost, Stage
from benchmarks.table import Figure
from reelsheet.sandbox.process import SandboxProcess


def known(stage: Stage, *, rows: int, latency: float, places: int, sigmas: tuple[float, ...]) -> Iterator[Figure]:
    """So many places, told by --concurrency; and the whole command beside a command of one row."""
    beside = None
    for sigma in sigmas:
        with stage.sandbox(latency=latency, latency_sigma=sigma, capacity=places, seed=7) as sandbox:
            if beside is None:
                beside = _beside(stage, sandbox)
            cost = stage.run(sandbox, stage.sheet(sandbox, rows), "--concurrency", str(places))
            course = Course.of(sandbox.activity())
        spread = f", sigma {sigma:g}" if sigma else ", constant"
        name = f"{rows} x {latency:g} s x {places}{spread}"
        yield from _figures(name, course, cost, beside, sigma=sigma, ideal=rows * latency / places, places=places)


def _beside(stage: Stage, sandbox: SandboxProcess) -> float:
    """Seconds that a command of one row takes beside its generation."""
    cost = stage.run(sandbox, stage.sheet(sandbox, 1))
    course = Course.of(sandbox.activity())
    sandbox.reset()
    return cost.seconds - course.span


def _figures(
    name: str, course: Course, cost: Cost, beside: float, *, sigma: float, ideal: float, places: int
) -> Iterator[Figure]:
    best = greedy(course.latencies, places)
    note = f"{course.span:.1f} s of {ideal:.1f} s"
    if sigma:
        yield Figure(f"{name}: first submission → last answer / greedy", course.span / best, 1.08, note=note)
    else:
        yield Figure(f"{name}: first submission → last answer / ideal", course.span / ideal, 1.05, note=note)
    whole = cost.seconds / (course.span + beside)
    yield Figure(f"{name}: whole command / (that + beside one row)", whole, 1.0, note=f"{cost.seconds:.1f} s")
    yield Figure(f"{name}: polls a prediction", course.polls, 3)
    yield Figure(f"{name}: median seconds until seen", course.late, 0.3)
    yield Figure(f"{name}: refusals a row", course.refusals, 0.1, digits=3)


def by_the_minute(stage: Stage, *, rows: int, latency: float, per_minute: int, burst: int) -> Iterator[Figure]:
    """An account that limits submissions a minute, which nobody has told; Retry-After in whole seconds."""
    with stage.sandbox(latency=latency, per_minute=per_minute, burst=burst, seed=7) as sandbox:
        stage.run(sandbox, stage.sheet(sandbox, rows))
        course = Course.of(sandbox.activity())
    ideal = (rows - burst) * 60 / per_minute + latency
    name = f"{rows} x {latency:g} s, {per_minute} a minute, burst {burst}"
    note = f"{course.span:.1f} s of {ideal:.1f} s"
    yield Figure(f"{name}: first submission → last answer / ideal", course.span / ideal, 1.05, note=note)
    yield Figure(f"{name}: refusals a row", course.refusals, 0.1, digits=3)


def unknown(stage: Stage, *, rows: int, latency: float, capacity: int) -> Iterator[Figure]:
    """A capacity that nobody has told; then one that changes when a third of the ideal time is over."""
    name = f"{rows} x {latency:g} s, unknown capacity {capacity}"
    course, _ = _unknown(stage, rows, latency, capacity, None)
    ideal = rows * latency / capacity
    note = f"{course.span:.1f} s of {ideal:.1f} s"
    yield Figure(f"{name}: first submission → last answer / ideal", course.span / ideal, 1.15, note=note)
    yield Figure(f"{name}: refusals a row", course.refusals, 0.1, digits=3)
    for word, change in (("halved", capacity // 2), ("doubled", 2 * capacity)):
        course, at = _unknown(stage, rows, latency, capacity, change)
        # "Adapts within two generations": what follows these is as full as it can be.
        full = course.in_flight(at + 2 * latency, at + 4 * latency) / change
        yield Figure(
            f"{name}, {word} in mid-run: share unused in generations 3 and 4 after it", 1 - full, 0.1,
            note=f"{course.refusals:.3f} refusals a row",
        )  # fmt: skip


def _unknown(stage: Stage, rows: int, latency: float, capacity: int, change: int | None) -> tuple[Course, float]:
    """The course, and when its capacity was changed, by the books' clock."""
    moment = [0.0]
    with stage.sandbox(latency=latency, capacity=capacity, seed=7) as sandbox:

        def watch() -> None:
            until = None
            while not over.wait(0.05):
                books = sandbox.activity()
                if until is None and books["first_submission"] is not None:
                    until = time.monotonic() + rows * latency / capacity / 3
                if until is not None and time.monotonic() >= until:
                    sandbox.settings(capacity=change)
                    moment[0] = sandbox.activity()["now"]
                    return
                over.wait(0.45)

        over = threading.Event()
        watching = threading.Thread(target=watch, daemon=True)
        if change is not None:
            watching.start()
        stage.run(sandbox, stage.sheet(sandbox, rows))
        over.set()
        if change is not None:
            watching.join()
        return Course.of(sandbox.activity()), moment[0]
