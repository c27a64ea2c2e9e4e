"""The whole command, with Prefect's server and real signals: what the process leaves behind, and its exit code."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.faults.processes import children_of, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
COMMAND = [sys.executable, "-c", "from reelsheet.cli import main; main()"]


class Command:
    """`reelsheet …` as a process of its own; it is killed at the end of the test if it is still there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> "subprocess.Popen[str]":
        environment = {**os.environ, "PREFECT_HOME": str(self.home), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [*COMMAND, *words], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def __call__(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=180)
        assert process.returncode == code, err
        assert "Traceback" not in out + err
        return out


@pytest.fixture
def command(prefect_home):
    made = Command(prefect_home)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def ended(process: "subprocess.Popen[str]") -> tuple[float, str]:
    """Seconds from now to its end, and what it said; what it says is read meanwhile."""
    began, told = time.monotonic(), []
    reader = threading.Thread(target=lambda: told.extend(process.communicate()))
    reader.start()
    reader.join(180)  # Prefect alone takes a minute to start on a busy machine
    assert process.returncode is not None, "it did not end"
    return time.monotonic() - began, "".join(told)


def test_a_run_its_status_its_report_and_a_second_run(command, bench):
    bench.sandbox.fault("submit", prompt="lost", close="after", charged=True)
    sheet, to = str(bench.sheet(["first", "lost answer", "third"])), str(bench.destination)
    summary = json.loads(command("run", sheet, "--to", to, "--yes", "--json", code=1))
    assert (summary["succeeded"], summary["unknown"], summary["cost_usd"], summary["at_risk_usd"]) == (2, 1, 1.08, 0.54)
    assert json.loads((bench.destination / "runs" / summary["run_id"] / "summary.json").read_text()) == summary
    told = json.loads(command("status", summary["run_id"], "--json"))
    assert told["run_id"] == summary["run_id"]
    lost = next(charge for charge in bench.sandbox.charges() if "lost" in charge["prompt"])
    command("resolve", "row-1", "--id", lost["id"])
    again = json.loads(command("run", sheet, "--to", to, "--yes", "--json"))
    assert (again["succeeded"], again["cost_usd"], again["at_risk_usd"]) == (3, 0.0, 0.0)
    (bench.destination / "results.csv").unlink()
    command("report", again["run_id"])
    assert [row["status"] for row in rows(bench.destination / "results.csv")] == ["succeeded"] * 3


def test_a_table_that_cannot_be_written_is_one_sentence_before_anything_is_paid(command, bench):
    taken = bench.folder / "a-file"
    taken.touch()
    process = command.start(
        *("run", str(bench.sheet(["first"])), "--to", str(bench.destination), "--yes"),
        *("--results", str(taken / "results.csv")),
    )
    _, told = ended(process)
    assert process.returncode == 2, told
    assert told.strip().splitlines()[-1].startswith(f"reelsheet: --results {taken}/results.csv: {taken} cannot be"), (
        told
    )
    assert "Prefect" not in told
    assert bench.sandbox.charges() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_provider_does_not_answer_ends_the_run_in_time_with_its_table(command, bench, number, code):
    bench.sandbox.fault("submit", hang=True, charged=True, times=-1)
    process = command.start(
        "run", str(bench.sheet([f"row {n}" for n in range(5)])), "--to", str(bench.destination), "--yes"
    )
    until(lambda: bench.sandbox.activity()["posts"])
    process.send_signal(number)
    seconds, told = ended(process)
    assert process.returncode == code, told
    assert seconds < 60, told  # answers on their way are awaited for 40 s
    assert "Traceback" not in told
    status = [row["status"] for row in rows(bench.destination / "results.csv")]
    assert set(status) == {"unknown", "skipped"}
    assert status.count("unknown") == len(bench.sandbox.charges())


def test_a_second_signal_ends_it_at_once_and_the_ledger_knows_what_was_on_its_way(command, bench):
    bench.sandbox.fault("submit", hang=True, charged=True, times=-1)
    sheet, to = str(bench.sheet(["only"])), str(bench.destination)
    process = command.start("run", sheet, "--to", to, "--yes")
    until(lambda: bench.sandbox.activity()["posts"])
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    seconds, told = ended(process)
    assert process.returncode == 130, told
    assert seconds < 10
    bench.sandbox.clear_faults()
    assert json.loads(command("run", sheet, "--to", to, "--yes", "--json", code=1))["unknown"] == 1
    assert len(bench.sandbox.charges()) == 1


def test_after_kill_9_the_table_is_whole_report_tells_the_truth_and_the_next_run_goes_on(command, bench):
    bench.sandbox.settings(latency=4)
    sheet, to = str(bench.sheet([f"row {n}" for n in range(4)])), str(bench.destination)
    process = command.start("run", sheet, "--to", to, "--yes")
    until(lambda: len(bench.sandbox.charges()) == 4)
    time.sleep(1)  # the last answers are recorded
    process.kill()
    process.communicate()
    assert len(rows(bench.destination / "results.csv")) == 4
    run_id = next(path.name for path in (bench.destination / "runs").iterdir())
    command("status", run_id)
    command("report", run_id, code=1)
    told = rows(bench.destination / "runs" / run_id / "results.csv")
    assert {row["status"] for row in told} <= {"undelivered", "unknown"}
    done = json.loads(command("run", sheet, "--to", to, "--yes", "--json"))
    assert (done["succeeded"], done["cost_usd"]) == (4, 0.0)
    assert len(bench.sandbox.charges()) == 4


def test_the_run_finishes_when_prefects_server_dies_in_the_middle(command, bench):
    bench.sandbox.settings(latency=3)
    process = command.start(
        "run", str(bench.sheet([f"row {n}" for n in range(4)])), "--to", str(bench.destination), "--yes", "--json"
    )
    until(bench.sandbox.charges)
    server = children_of(process.pid, "flows.embedded_server")
    assert server
    for pid in server:
        os.kill(pid, signal.SIGKILL)
    _seconds, told = ended(process)
    assert process.returncode == 0, told
    assert [row["status"] for row in rows(bench.destination / "results.csv")] == ["succeeded"] * 4
    assert len(bench.sandbox.charges()) == 4
