"""The same for a hundred rows and for many thousands: time and memory a row, and what a rerun costs."""

import json
from collections.abc import Iterator
from itertools import pairwise

from benchmarks.stage import REELSHEET, Stage
from benchmarks.table import Figure

CLIP_BYTES = 20_000  # what grows with rows is looked at here, not what grows with bytes
LATENCY = 0.2
PLACES = 300
START = 10


def growing(stage: Stage, sizes: tuple[int, ...]) -> Iterator[Figure]:
    """CPU a row and peak memory from size to size; then the largest again, with nothing left to do."""
    with stage.sandbox(latency=LATENCY, capacity=PLACES, clip_bytes=CLIP_BYTES) as sandbox:
        begun = stage.run(sandbox, stage.sheet(sandbox, START))
        a_row: dict[int, float] = {}
        peak: dict[int, float] = {}
        for rows in sizes:
            sheet, to, surroundings = (
                stage.sheet(sandbox, rows),
                stage.destination(sandbox),
                stage.surroundings(sandbox),
            )
            sandbox.reset()
            cost = stage.run(sandbox, sheet, "--concurrency", str(PLACES), to=to, environment=surroundings, limit=3000)
            a_row[rows] = 1000 * (cost.client - begun.client) / (rows - START)
            peak[rows] = cost.peak_mb
            yield Figure(f"{rows:,} rows: ms of client CPU a row", a_row[rows], None, 1, f"{cost.seconds:.0f} s in all")
        for few, many in pairwise(sizes):
            yield Figure(f"CPU a row, {many:,} rows / {few:,} rows", a_row[many] / a_row[few], 1.2)
        yield Figure(
            f"peak memory, {sizes[-1]:,} rows / {sizes[-2]:,} rows", peak[sizes[-1]] / peak[sizes[-2]], 1.5,
            note=f"{peak[sizes[-1]]:.0f} MB / {peak[sizes[-2]]:.0f} MB",
        )  # fmt: skip
        sandbox.reset()
        again = stage.run(sandbox, sheet, to=to, environment=surroundings, limit=600)
        books = sandbox.activity()
        calls = sum(books["posts"].values()) + sum(books["polls"].values())
        more = 1000 * (again.client - begun.client) / sizes[-1]
        yield Figure(f"{sizes[-1]:,} finished rows again: ms of CPU a row", more, 1.0, note=f"{again.seconds:.1f} s")
        yield Figure(f"{sizes[-1]:,} finished rows again: calls to the provider", calls, 0, 0)


def planning(stage: Stage, rows: int) -> Iterator[Figure]:
    """`plan` of a long sheet without a look at its pictures."""
    cost = stage.measure(
        REELSHEET, "plan", str(stage.sheet(None, rows)), "--no-preflight", "--json",
        environment=stage.surroundings(None) | {"REELSHEET_ALLOW_PRIVATE_HOSTS": "1"}, limit=300,
    )  # fmt: skip
    planned = json.loads(cost.out)
    if planned["pay"] != rows:
        raise RuntimeError(f"{planned['pay']} of {rows} rows were planned")
    yield Figure(f"plan of {rows:,} rows without preflight: seconds", cost.seconds, 10, 1, f"{cost.peak_mb:.0f} MB")


PARENT = "benchmarks.parent:main"


def parent(stage: Stage, few: int, many: int) -> Iterator[Figure]:
    """The process of a large run in shards: memory a row is the difference of two sheets, so that no start counts."""
    own = {"REELSHEET_ALLOW_PRIVATE_HOSTS": "1"}
    took: dict[int, dict[str, dict[str, float]]] = {}
    for rows in (few, many):
        cost = stage.measure(
            PARENT, str(stage.sheet(None, rows)), environment=stage.surroundings(None) | own, limit=1200
        )
        took[rows] = json.loads(cost.out.strip().splitlines()[-1])
    for part, end in took[many].items():
        kb = 1024 * (end["peak_mb"] - took[few][part]["peak_mb"]) / (many - few)
        note = f"{end['cpu_ms'] / many:.3f} ms of CPU a row, {end['peak_mb']:.0f} MB at {many:,} rows"
        yield Figure(f"parent of a sharded run, {part}: peak KB a row", kb, 1.5, note=note)
