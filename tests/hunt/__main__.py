"""`scripts/hunt`: hunts for as long as one likes, on SQLite and PostgreSQL in turn."""

import argparse
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import run_state_machine_as_test

from tests.hunt.ledgers import ledger
from tests.hunt.machine import Hunt
from tests.hunt.provider import Provider
from tests.hunt.simulation import simulated

ROUND_EXAMPLES = 40
SHRINKING_S = 120  # for a shorter example of what was found


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/hunt", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="of the first round; the next ones count up")
    parser.add_argument("--steps", type=int, default=15, help="of one example")
    parser.add_argument("--ledger", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--quick", action="store_true", help="show what is found as it is, however long")
    asked = parser.parse_args()
    seed = secrets.randbelow(10**6) if asked.seed is None else asked.seed
    engine.MAX_SHRINKING_SECONDS = SHRINKING_S
    kinds = ["sqlite", "postgresql"] if asked.ledger == "both" else [asked.ledger]
    end = time.monotonic() + asked.minutes * 60
    rounds = 0
    with _home() as home, contextlib.ExitStack() as opened:
        urls = [opened.enter_context(ledger(kind, home)) for kind in kinds]
        hunts = [
            type("Hunt", (Hunt,), {"provider": Provider(home / "clips"), "ledger_url": url, "scratch": home})
            for url in urls
        ]
        while time.monotonic() < end:
            hunt = hunts[rounds % len(hunts)]
            sys.stdout.write(f"seed {seed + rounds}, {kinds[rounds % len(kinds)]} … ")
            sys.stdout.flush()
            try:
                _round(hunt, seed + rounds, asked.steps, quick=asked.quick)
            except BaseException as error:  # noqa: BLE001 - shown, and the hunt is over
                traceback.print_exception(error, limit=-3, chain=False, file=sys.stdout)
                sys.stdout.write(f"As it was found first:\n{hunt.found}\n")
                sys.stdout.write(f"Found with seed {seed + rounds} after {_sum(hunts)} commands.\n")
                return 1
            rounds += 1
            sys.stdout.write(f"{_sum(hunts)} commands so far, nothing found\n")
    return 0


def _round(hunt: type[Hunt], seed: int, steps: int, *, quick: bool) -> None:
    told = settings(
        max_examples=ROUND_EXAMPLES, stateful_step_count=steps, deadline=None, database=None, print_blob=False,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate] if quick else [Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
    )  # fmt: skip
    with simulated():
        run_state_machine_as_test(with_seed(seed)(hunt), settings=told)


def _sum(hunts: list[type[Hunt]]) -> int:
    return sum(hunt.commands for hunt in hunts)


@contextlib.contextmanager
def _home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="hunt-"))
    os.environ["XDG_STATE_HOME"] = str(home / "state")
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
