"""`python -m benchmarks [--quick] [NAME…]`: figures as they come on stderr, the table at the end on stdout."""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks import cost, pace, scale, start
from benchmarks.stage import Stage
from benchmarks.table import Figure, lines

Benchmarks = dict[str, Callable[[Stage], Iterator[Figure]]]

QUICK: Benchmarks = {
    "start": lambda stage: start.one_row(stage, 1),
    "help": lambda stage: start.help_page(stage, 3),
    "finished": lambda stage: start.finished_again(stage, 10),
    "pace": lambda stage: pace.known(stage, rows=120, latency=2, places=30, sigmas=(0.0,)),
    "cost": lambda stage: cost.of_a_row(stage, rows=60, latency=1, places=30),
    "real": lambda stage: cost.of_a_row(stage, rows=60, latency=2, places=30, clip_bytes=cost.REAL_CLIP_BYTES),
}
FULL: Benchmarks = {
    "start": lambda stage: start.one_row(stage, 3),
    "help": lambda stage: start.help_page(stage, 5),
    "finished": lambda stage: start.finished_again(stage, 10),
    "pace": lambda stage: pace.known(stage, rows=600, latency=5, places=60, sigmas=(0.0, 0.25, 0.5)),
    "unknown": lambda stage: pace.unknown(stage, rows=450, latency=3, capacity=30),
    "minute": lambda stage: pace.by_the_minute(stage, rows=110, latency=20, per_minute=60, burst=1),
    "cost": lambda stage: cost.of_a_row(stage, rows=300, latency=2, places=50),
    "real": lambda stage: cost.of_a_row(stage, rows=300, latency=6, places=50, clip_bytes=cost.REAL_CLIP_BYTES),
    "plan": lambda stage: scale.planning(stage, 100_000),
    "million": lambda stage: scale.planning(stage, 1_000_000),
    "parent": lambda stage: scale.parent(stage, 20_000, 100_000),
    "scale": lambda stage: scale.growing(stage, (100, 1_000, int(os.environ.get("BENCHMARK_ROWS", "20000")))),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute instead of half an hour")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FULL)}; all of them by default")
    given = parser.parse_args()
    wanted = QUICK if given.quick else FULL
    figures: list[Figure] = []
    failed = []
    begun = time.monotonic()
    with Stage() as stage:
        _say("a first run, so that Prefect has its database and Python has compiled everything")
        stage.warm_up()
        for name in given.names or wanted:
            try:
                for figure in wanted[name](stage):
                    figures.append(figure)
                    _say(f"{time.monotonic() - begun:5.0f} s  {figure.what}: {figure.value:.{figure.digits}f}")
            except Exception as error:  # noqa: BLE001 - the others are still worth having
                failed.append(name)
                _say(f"{name} could not be measured: {error}")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, shared with the sandbox")
    print("\n".join(lines(figures)))
    return 1 if failed else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
