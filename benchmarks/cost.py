"""What a row costs this machine, beside others doing the same job in the same minutes."""

from collections.abc import Iterator

from benchmarks.course import Course
from benchmarks.stage import Cost, Stage
from benchmarks.table import Figure
from reelsheet.sandbox.process import SandboxProcess

PLAIN = "benchmarks.peers.plain_asyncio:main"
TUTORIAL = "benchmarks.peers.tutorial_prefect:main"
CLIP_BYTES = 400_000  # a sandbox's
REAL_CLIP_BYTES = 5_000_000
FEW = 10


def of_a_row(stage: Stage, *, rows: int, latency: float, places: int, clip_bytes: int = CLIP_BYTES) -> Iterator[Figure]:
    """CPU of the client process, without what a start takes: two runs of different length are subtracted."""
    with stage.sandbox(latency=latency, capacity=places, clip_bytes=clip_bytes) as sandbox:
        ours, ours_span = _measured(stage, sandbox, "", rows, places)
        plain, plain_span = _measured(stage, sandbox, PLAIN, rows, places)
        tutorial, tutorial_span = _measured(stage, sandbox, TUTORIAL, rows, places)
    ideal = rows * latency / places
    name = f"{rows} x {latency:g} s x {places}, clips of {clip_bytes / 1e6:g} MB"
    yield Figure(f"{name}: ms of client CPU a row", ours[0], plain[0] + 15, 1, "goal: the plain script + 15 ms")
    yield Figure(f"{name}: the same / tutorial", ours[0] / tutorial[0], 0.33, 2)
    yield Figure(f"{name}: ms of client CPU a row, start included", ours[1], plain[1] + 15, 1)
    yield Figure(
        f"{name}: ms of client CPU a row, plain asyncio script", plain[0], None, 1, f"{plain[1]:.1f} with start"
    )
    yield Figure(
        f"{name}: ms of client CPU a row, tutorial Prefect", tutorial[0], None, 1, f"{tutorial[1]:.1f} with start"
    )
    yield Figure(f"{name}: ms of CPU a row of the Prefect server", ours[2], None, 1, f"tutorial: {tutorial[2]:.1f}")
    yield Figure(f"{name}: first submission → last answer / ideal", ours_span / ideal, plain_span / ideal)
    yield Figure(f"{name}: the same, plain asyncio script", plain_span / ideal)
    yield Figure(f"{name}: the same, tutorial Prefect", tutorial_span / ideal)


def _measured(
    stage: Stage, sandbox: SandboxProcess, what: str, rows: int, places: int
) -> tuple[tuple[float, float, float], float]:
    """Milliseconds a row of the client without and with its start, of the server; and the longer run's span."""
    few = _once(stage, sandbox, what, FEW, places)
    many = _once(stage, sandbox, what, rows, places)
    course = Course.of(sandbox.activity())
    more = rows - FEW
    return (
        1000 * (many.client - few.client) / more,
        1000 * many.client / rows,
        1000 * (many.children - few.children) / more,
    ), course.span


def _once(stage: Stage, sandbox: SandboxProcess, what: str, rows: int, places: int) -> Cost:
    sandbox.reset()
    sheet = stage.sheet(sandbox, rows)
    if not what:
        return stage.run(sandbox, sheet, "--concurrency", str(places))
    prefix = stage.destination(sandbox).rpartition("/")[2]
    cost = stage.measure(what, str(sheet), sandbox.bucket, prefix, str(places), environment=stage.surroundings(sandbox))
    if cost.exit_code:
        raise RuntimeError(f"{what} ended with {cost.exit_code}: {cost.err[-2000:]}")
    return cost
