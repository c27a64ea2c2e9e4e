"""`scripts/kill-runs`: kill the real command again and again, repeat it until it is finished, and compare the books."""

import argparse
import asyncio
import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from flows.embedded_server import EmbeddedServer
from reelsheet.ledger import schema
from reelsheet.ledger.database import Database
from tests.hunt.ledgers import ledger
from tests.stand_in.faulty_sandbox import FaultySandbox

PHASES = ("start", "preflight", "submitting", "polling", "copying", "writing", "finishing")
ROOT = Path(__file__).parents[2]
PICTURE = (ROOT / "data" / "pictures" / "perfume-dusk.jpg").read_bytes()
ROWS = 6
LATENCY_S = 1.5  # of a prediction
ANSWER_S, PICTURE_S = 0.4, 0.4  # that an answer to a submission, and a picture, take
CLIP_BYTES, CLIP_BYTES_PER_S = 400_000, 500_000
END_LIMIT_S = 180.0
FINISHED = (0, 1)


class Pictures(ThreadingHTTPServer):
    """Serves a picture slowly at /SHEET/ROW.jpg, and counts for each sheet how often it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _PictureHandler)
        self.asked: Counter[str] = Counter()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _PictureHandler(BaseHTTPRequestHandler):
    server: Pictures

    def do_GET(self) -> None:
        self.server.asked[self.path.split("/")[1]] += 1
        time.sleep(PICTURE_S)
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(PICTURE)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(PICTURE)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@dataclass
class Tally:
    """What came of the kills in one phase."""

    kills: int = 0
    unknown: int = 0  # rows that a kill left without an answer
    double: int = 0  # charges beyond the first of a row
    unequal: int = 0  # times that a charge was missing from the ledger, or a table from the books


@dataclass
class Campaign:
    """Shared by all workers. `faults`: sentences."""

    sandbox: FaultySandbox
    pictures: Pictures
    folder: Path
    environment: dict[str, str]
    wanted: int
    chance: random.Random
    tallies: dict[str, Tally] = field(default_factory=lambda: {phase: Tally() for phase in PHASES})
    faults: list[str] = field(default_factory=list)
    started: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_over(self) -> bool:
        return bool(self.faults) or sum(tally.kills for tally in self.tallies.values()) >= self.wanted

    def next_phase(self, since: str | None) -> str | None:
        """A phase that was seldom met, not before `since` (a continued run does not begin again); None: let it end."""
        later = PHASES if since is None else PHASES[max(PHASES.index(since), 2) :]
        if self.is_over or (since is not None and self.chance.random() < 0.4):
            return None
        fewest = min(self.tallies[phase].kills for phase in later)
        return self.chance.choice([phase for phase in later if self.tallies[phase].kills <= fewest + 1])


class Sheet:
    """One sheet, its destination and its ledger: the command on it is killed and repeated."""

    def __init__(self, campaign: Campaign, name: str, ledger_url: str, *, fresh: bool) -> None:
        self.campaign, self.name, self.ledger_url = campaign, name, ledger_url
        self.folder = campaign.folder / name
        self.folder.mkdir()
        self.to = self.folder / "to"
        self.path = self.folder / "sheet.csv"
        self.prompts = [f"{name} row {row}" for row in range(ROWS)]
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["sku", "image", "prompt"])
            for row, prompt in enumerate(self.prompts):
                writer.writerow([f"row-{row}", f"{campaign.pictures.address}/{name}/{row}.jpg", prompt])
        words = ["run", str(self.path), "--to", str(self.to), "--max-cost", "50"]
        self.command = [str(Path(sys.executable).with_name("reelsheet")), *words, *(["--fresh"] if fresh else [])]
        self._unknown = self._double = self._summaries = 0

    def hunt(self) -> None:
        """Kill it in one phase after the other, until it is left to end."""
        phase: str | None = None
        while True:
            phase = self.campaign.next_phase(phase)
            code, log = self._run(phase)
            if phase is None or code != -signal.SIGKILL:
                break
            with self.campaign.lock:
                self.campaign.tallies[phase].kills += 1
            self._compare(phase)
        if code not in FINISHED and code != -signal.SIGKILL:
            self._fault(phase or "start", f"exit {code}: {log[-500:]}")
        elif code in FINISHED:
            self._compare_table(phase or "start")

    def _run(self, phase: str | None) -> tuple[int, str]:
        with self.campaign.lock:
            self.campaign.started += 1
        environment = self.campaign.environment | {"REELSHEET_LEDGER_URL": self.ledger_url}
        self._summaries = len(list(self.to.glob("runs/*/summary.json")))
        log = self.folder / "log"
        with log.open("w") as out:
            process = subprocess.Popen(self.command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            try:
                if phase is not None and self._reaches(phase, process):
                    process.kill()
                code = process.wait(END_LIMIT_S)
            finally:
                process.kill()
                process.wait()
        return code, log.read_text(errors="replace")

    def _reaches(self, phase: str, process: "subprocess.Popen[bytes]") -> bool:
        """Wait until the process is somewhere in `phase`; False where it ends before."""
        begun: Callable[[], bool]
        charges, polls, pictures = len(self._charges()), self._polls(), self.campaign.pictures.asked[self.name]
        clips = len(list(self.to.glob("videos/*.mp4")))
        match phase:
            case "start":
                begun, lasts_s = (lambda: True), 3.0
            case "preflight":
                begun, lasts_s = (lambda: self.campaign.pictures.asked[self.name] > pictures), PICTURE_S
            case "submitting":
                begun, lasts_s = (lambda: len(self._charges()) > charges), ANSWER_S * 1.5
            case "polling":
                begun, lasts_s = (lambda: self._polls() > polls), LATENCY_S
            case "copying":
                begun, lasts_s = (lambda: bool(list(self.to.glob("videos/.*")))), CLIP_BYTES / CLIP_BYTES_PER_S
            case "writing":
                begun, lasts_s = (lambda: len(list(self.to.glob("videos/*.mp4"))) == self._expected(clips)), 0.6
            case _:
                begun, lasts_s = (lambda: len(list(self.to.glob("runs/*/summary.json"))) > self._summaries), 0.6
        while not begun():
            if process.poll() is not None:
                return False
            time.sleep(0.02)
        time.sleep(self.campaign.chance.random() * lasts_s)
        return process.poll() is None

    def _expected(self, clips: int) -> int:
        """Clips at the end, as far as can be known from outside."""
        return max(clips, ROWS - self._unknown)

    def _polls(self) -> int:
        activity = self.campaign.sandbox.activity()
        return sum(activity["polls"].get(c["id"], 0) for c in activity["charges"] if c["prompt"] in self.prompts)

    def _charges(self) -> list[dict[str, Any]]:
        return [c for c in self.campaign.sandbox.charges() if c["prompt"] in self.prompts]

    def _fault(self, phase: str, sentence: str) -> None:
        with self.campaign.lock:
            self.campaign.tallies[phase].unequal += 1
            self.campaign.faults.append(f"{self.name}, {phase}: {sentence}")

    def _compare(self, phase: str) -> None:
        """Every charge is in the ledger, with its id or as unknown; none is double."""
        charges = self._charges()
        database = Database.open(self.ledger_url)
        with database.read() as connection:
            attempts = list(connection.execute(select(schema.attempts)).all())
            runs = connection.execute(select(schema.runs).where(schema.runs.c.source == str(self.path))).all()
        database.close()
        own = {run.run_id for run in runs}
        attempts = [attempt for attempt in attempts if attempt.run_id in own]
        ids = {attempt.prediction_id for attempt in attempts if attempt.prediction_id}
        maybe = sum(attempt.state in {"claimed", "unknown"} for attempt in attempts)
        lacking = [charge for charge in charges if charge["id"] not in ids]
        double = sum(count - 1 for count in Counter(charge["prompt"] for charge in charges).values())
        with self.campaign.lock:
            tally = self.campaign.tallies[phase]
            tally.unknown += max(0, maybe - self._unknown)
            tally.double += double - self._double
        if double > self._double:
            self._fault(phase, f"{double - self._double} charges are double")
        self._unknown, self._double = maybe, double
        if len(lacking) > maybe or ids - {charge["id"] for charge in charges}:
            self._fault(phase, f"{len(lacking)} charges have no id in the ledger, {maybe} attempts are unknown")

    def _compare_table(self, phase: str) -> None:
        self._compare(phase)
        charges = self._charges()
        with (self.to / "results.csv").open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if [row["prompt"] for row in rows] != self.prompts:
            self._fault(phase, "the table does not have every row once")
        total = sum(round(float(row["total_cost_usd"]) * 100) for row in rows)
        risk = sum(round(float(row["at_risk_usd"]) * 100) for row in rows)
        known = {charge["id"]: charge["cents"] for charge in charges}
        told = sum(known.get(row["prediction_id"], 0) for row in rows)
        if total != told or not total <= sum(known.values()) <= total + risk:
            self._fault(phase, f"the table says {total} and {risk} at risk, the books {sum(known.values())} cents")
        if {row["status"] for row in rows} - {"succeeded", "unknown"}:
            self._fault(phase, f"statuses {Counter(row['status'] for row in rows)}")


def campaign(kills: int, urls: Sequence[str], folder: Path, *, seed: int, workers: int = 2) -> Campaign:
    """Kill `kills` times in all, over `workers` sheets at once in `folder`, on the ledgers at `urls` in turn."""
    with contextlib.ExitStack() as opened:
        prefect = opened.enter_context(_prefect(folder))
        sandbox = opened.enter_context(
            FaultySandbox(clips="tiny", latency=LATENCY_S, clip_bytes=CLIP_BYTES, cache=folder / "cache")
        )
        sandbox.fault("submit", times=-1, delay=ANSWER_S)
        sandbox.fault("asset", times=-1, drip=CLIP_BYTES_PER_S)
        pictures = Pictures()
        opened.callback(pictures.server_close)
        opened.callback(pictures.shutdown)
        environment = dict(os.environ) | sandbox.environment() | prefect | {"XDG_STATE_HOME": str(folder / "state")}
        going = Campaign(sandbox, pictures, folder, environment, kills, random.Random(seed))
        numbers = iter(range(10**6))

        def work() -> None:
            while not going.is_over:
                with going.lock:
                    number = next(numbers)
                try:
                    Sheet(going, f"sheet-{number}", urls[number % len(urls)], fresh=number % 4 >= 2).hunt()
                except Exception as error:  # noqa: BLE001 - the campaign is over, and says why
                    going.faults.append(f"sheet-{number}: {type(error).__name__}: {error}")

        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return going


@contextlib.contextmanager
def _prefect(folder: Path) -> Iterator[dict[str, str]]:
    """One Prefect server for all; a run that starts its own takes three times as long."""
    home = str(folder / "prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", home)
        patch.delenv("PREFECT_API_URL", raising=False)
        with EmbeddedServer() as server:
            asyncio.run(server.ready())
            yield {"PREFECT_HOME": home, "PREFECT_API_URL": server.api_url}


def table(going: Campaign) -> str:
    """For people and for docs/never-paying-twice.md."""
    lines = ["| killed while | kills | rows unknown | double charges | books unequal |", "|---|---|---|---|---|"]
    sums: defaultdict[str, int] = defaultdict(int)
    for phase, tally in going.tallies.items():
        lines.append(f"| {phase} | {tally.kills} | {tally.unknown} | {tally.double} | {tally.unequal} |")
        for name in ("kills", "unknown", "double", "unequal"):
            sums[name] += getattr(tally, name)
    lines.append(f"| all | {sums['kills']} | {sums['unknown']} | {sums['double']} | {sums['unequal']} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/kill-runs", description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--ledger", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--workers", type=int, default=2, help="commands at once")
    asked = parser.parse_args()
    kinds = ["sqlite", "postgresql"] if asked.ledger == "both" else [asked.ledger]
    begun = time.monotonic()
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="kills-", ignore_cleanup_errors=True)))
        urls = [opened.enter_context(ledger(kind, folder)) for kind in kinds]
        going = campaign(asked.kills, urls, folder, seed=asked.seed, workers=asked.workers)
    sys.stdout.write(
        f"{table(going)}\n\nseed {asked.seed}, {going.started} commands, {time.monotonic() - begun:.0f} s\n"
    )
    sys.stdout.writelines(f"FAULT {fault}\n" for fault in going.faults)
    return 1 if going.faults else 0


if __name__ == "__main__":
    sys.exit(main())
