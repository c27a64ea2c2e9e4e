"""What a command takes before and after its work."""

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.stage import REELSHEET, Stage, seconds
from benchmarks.table import Figure

PROGRAM = str(Path(sys.executable).parent / "reelsheet")


def one_row(stage: Stage, times: int) -> Iterator[Figure]:
    """A single row and an instant provider, beside Prefect's own empty flow."""
    empty, ours, first = [], [], []
    with stage.sandbox(latency=0) as sandbox:
        for _ in range(times):
            empty.append(seconds([sys.executable, "-m", "benchmarks.peers.empty_flow"], stage.surroundings(None)))
            sheet, to = str(stage.sheet(sandbox, 1)), stage.destination(sandbox)
            sandbox.reset()
            ours.append(seconds([PROGRAM, "run", sheet, "--to", to, "--yes"], stage.surroundings(sandbox)))
            books = sandbox.activity()
            first.append(ours[-1] - (books["now"] - books["first_submission"]))
    ratio = statistics.median(ours) / statistics.median(empty)
    note = f"{statistics.median(ours):.1f} s / {statistics.median(empty):.1f} s"
    yield Figure("one row, instant provider / Prefect's empty flow", ratio, 1.3, note=note)
    ratio = statistics.median(first) / statistics.median(empty)
    note = f"{statistics.median(first):.1f} s / {statistics.median(empty):.1f} s"
    yield Figure("the command's start → the first submission / Prefect's empty flow", ratio, note=note)


def finished_again(stage: Stage, rows: int) -> Iterator[Figure]:
    """A sheet that has nothing left to do, beside its plan: in CPU, so that a busy machine gives the same answer."""
    with stage.sandbox(latency=0, clip_bytes=20_000) as sandbox:
        sheet, to, own = stage.sheet(sandbox, rows), stage.destination(sandbox), stage.surroundings(sandbox)
        first = stage.run(sandbox, sheet, to=to, environment=own)
        again = stage.run(sandbox, sheet, to=to, environment=own)
        plan = stage.measure(REELSHEET, "plan", str(sheet), "--to", to, "--json", environment=own)
    took, planned, paid = (one.client + one.children for one in (again, plan, first))
    note = f"{took:.1f} s - {planned:.1f} s; the run that paid: {paid:.1f} s"
    yield Figure(f"{rows} finished rows again: seconds of CPU beyond those of plan", took - planned, 1.0, note=note)


def help_page(stage: Stage, times: int) -> Iterator[Figure]:
    took = [seconds([PROGRAM, "--help"], stage.surroundings(None)) for _ in range(times)]
    yield Figure("--help: seconds", statistics.median(took), 0.25)
