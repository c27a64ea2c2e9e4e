"""The process of a large run whose rows others do: from the sheet to the results, without a clip or a provider.

    python -m benchmarks.measured REPORT benchmarks.parent:main SHEET

Prints one JSON object: the milliseconds of CPU and the peak of memory in MB of each part.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from reelsheet.ledger import Attempt, Delivery, State
from reelsheet.ledger.records import ImportedAttempt
from reelsheet.options import Options
from reelsheet.planning.plan import RowGroup, object_key
from reelsheet.planning.preparation import prepare
from reelsheet.run import shards
from reelsheet.run.publish import publish
from reelsheet.run.run import Run
from reelsheet.run.start import start_run
from reelsheet.settings import load

AT_ONCE = 5_000  # rows that are told to the ledger in one transaction


class Parts:
    """What each part took, from the end of the one before."""

    def __init__(self) -> None:
        self.took: dict[str, dict[str, float]] = {}
        self._since_s = time.process_time()

    def end(self, name: str) -> None:
        gc.collect()
        now_s = time.process_time()
        self.took[name] = {"cpu_ms": 1000 * (now_s - self._since_s), "peak_mb": _peak_mb()}
        Path("/proc/self/clear_refs").write_text("5")  # the next peak is the next part's own
        self._since_s = time.process_time()


def main() -> None:
    with TemporaryDirectory(prefix="reelsheet-parent-") as folder:
        print(json.dumps(asyncio.run(_life(sys.argv[1], folder))))


async def _life(sheet: str, folder: str) -> dict[str, dict[str, float]]:
    parts = Parts()
    options = Options(source=sheet, verb="run", destination=folder, preflight=False)
    preparation = await prepare(options, load(), spending=False)
    parts.end("plan")
    run = await start_run(preparation, flow_run_id=None)
    await run.writer.begin(run.results())
    await shards.divide(run)
    parts.end("begin")
    groups = run.to_do()
    for half in (groups[: len(groups) // 2], groups[len(groups) // 2 :]):
        for start in range(0, len(half), AT_ONCE):  # in the place of the shards
            run.context.ledger.import_attempts(_made(run, half[start : start + AT_ONCE]))
        parts.end("the shards' part")
        await shards.take_in(run)
        await run.writer.checkpoint(run.results)
        parts.end("take in, table")
    await publish(run)
    parts.end("results and pages")
    run.close()
    preparation.close()
    return parts.took


def _made(run: Run, groups: Sequence[RowGroup]) -> Iterator[ImportedAttempt]:
    now, to = time.time(), run.context.destination.address
    for group in groups:
        attempt = Attempt(
            0, group.identity, 1, State.COMPLETED, None, run.run_id, time.strftime("%Y-%m-%d"), 54, 54,
            prediction_id=f"pred-{group.identity[:32]}", claimed_at=now, submitted_at=now, completed_at=now + 60,
        )  # fmt: skip
        key = object_key(run.context.options, run.context.manifest, group, 1, 0)
        yield ImportedAttempt(attempt, [Delivery(1, to, 0, 1, key, 5_000_000, group.identity, 1280, 720, 5.04)])


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
