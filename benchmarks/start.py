"""What a command takes before and after its work."""

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.stage import Stage, seconds
from benchmarks.table import Figure

PROGRAM = str(Path(sys.executable).parent / "reelsheet")


def one_row(stage: Stage, times: int) -> Iterator[Figure]:
    """A single row and an instant provider, beside Prefect's own empty flow."""
    empty, ours = [], []
    with stage.sandbox(latency=0) as sandbox:
        for _ in range(times):
            empty.append(seconds([sys.executable, "-m", "benchmarks.peers.empty_flow"], stage.surroundings(None)))
            sheet, to = str(stage.sheet(sandbox, 1)), stage.destination(sandbox)
            ours.append(seconds([PROGRAM, "run", sheet, "--to", to, "--yes"], stage.surroundings(sandbox)))
    ratio = statistics.median(ours) / statistics.median(empty)
    note = f"{statistics.median(ours):.1f} s / {statistics.median(empty):.1f} s"
    yield Figure("one row, instant provider / Prefect's empty flow", ratio, 1.3, note=note)


def help_page(stage: Stage, times: int) -> Iterator[Figure]:
    took = [seconds([PROGRAM, "--help"], stage.surroundings(None)) for _ in range(times)]
    yield Figure("--help: seconds", statistics.median(took), 0.25)
