"""Where the figures are taken: a sandbox, sheets for it, and commands whose time and CPU are measured."""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reelsheet.sandbox.process import SandboxProcess

PICTURE = "perfume-dusk.jpg"
REELSHEET = "reelsheet.cli:main"
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one command took: wall seconds, CPU seconds of its process and of those it started, peak memory in MB."""

    seconds: float
    client: float
    children: float
    peak_mb: float
    exit_code: int
    out: str = field(repr=False)
    err: str = field(repr=False)

    @property
    def summary(self) -> dict[str, Any]:
        """The one line of `--json`."""
        found: dict[str, Any] = json.loads(self.out.strip().splitlines()[-1])
        return found


class Stage:
    """A temporary folder with a Prefect home that is used throughout, so that its database is made only once."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="reelsheet-benchmarks-")
        self.folder = Path(self._folder.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    @contextmanager
    def sandbox(self, **options: Any) -> Iterator[SandboxProcess]:
        """A provider and an S3 of their own, with small clips rendered beforehand."""
        with SandboxProcess(clips="tiny", cache=self.folder / "clips", **options) as sandbox:
            yield sandbox

    def warm_up(self) -> None:
        """Let Prefect make its database and Python compile what all of them import."""
        with self.sandbox(latency=0) as sandbox:
            environment = self.surroundings(sandbox)
            for peer in ("empty_flow", "tutorial_prefect", "plain_asyncio"):
                name = f"benchmarks.peers.{peer}"
                code = f"import {name}" + (f"; {name}.main()" if peer == "empty_flow" else "")
                seconds([sys.executable, "-c", code], environment)
            self.run(sandbox, self.sheet(sandbox, 1))

    def sheet(self, sandbox: SandboxProcess | None, rows: int) -> Path:
        """`rows` different prompts for one picture."""
        pictures = sandbox.pictures if sandbox else "https://pictures.example.com"
        path = self.folder / f"sheet-{rows}-{uuid.uuid4().hex[:6]}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("sku", "image", "prompt"))
            writer.writerows((f"R-{n:06}", f"{pictures}/{PICTURE}", f"Slow push in, take {n}") for n in range(rows))
        return path

    def surroundings(self, sandbox: SandboxProcess | None) -> dict[str, str]:
        """Environment variables of a new account with an empty ledger."""
        ours = ("PREFECT_", "REELSHEET_", "VIBEDREAM_", "AWS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)  # without it, each start would compile Prefect anew
        return {
            **kept,
            "PYTHONPYCACHEPREFIX": str(self.folder / "compiled"),
            **(sandbox.environment() if sandbox else {"VIBEDREAM_API_KEY": "none"}),
            "XDG_STATE_HOME": str(self.folder / f"state-{uuid.uuid4().hex[:6]}"),
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
            "DO_NOT_TRACK": "1",
            "PYTHONPATH": str(ROOT),
        }

    def destination(self, sandbox: SandboxProcess) -> str:
        """A new prefix of the sandbox's bucket."""
        return f"s3://{sandbox.bucket}/{uuid.uuid4().hex[:8]}"

    def measure(self, what: str, *arguments: str, environment: Mapping[str, str], limit: float = 900) -> Cost:
        """Run `module:function` with arguments in a process of its own."""
        report = self.folder / f"cost-{uuid.uuid4().hex}.json"
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.measured", str(report), what, *arguments],
            env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit,
            cwd=self.folder, check=False,
        )  # fmt: skip
        seconds = time.perf_counter() - begun
        if not report.exists():
            raise RuntimeError(f"{what} ended with {done.returncode}: {done.stderr[-2000:]}")
        told = json.loads(report.read_text())
        return Cost(
            seconds, told["client"], told["children"], told["peak_mb"], done.returncode, done.stdout, done.stderr
        )

    def run(
        self,
        sandbox: SandboxProcess,
        sheet: Path,
        *flags: str,
        to: str | None = None,
        environment: Mapping[str, str] | None = None,
        limit: float = 900,
    ) -> Cost:
        """`reelsheet run`; raises RuntimeError where not every row was delivered."""
        cost = self.measure(
            REELSHEET, "run", str(sheet), "--to", to or self.destination(sandbox), "--yes", "--json", *flags,
            environment=environment or self.surroundings(sandbox), limit=limit,
        )  # fmt: skip
        if cost.exit_code != 0:
            raise RuntimeError(f"reelsheet ended with {cost.exit_code}: {cost.err[-2000:]}")
        return cost


def seconds(command: list[str], environment: Mapping[str, str]) -> float:
    """Wall time of a command from start to exit; raises where it fails."""
    begun = time.perf_counter()
    subprocess.run(
        command, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=True
    )
    return time.perf_counter() - begun
