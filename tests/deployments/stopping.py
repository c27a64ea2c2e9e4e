"""Jobs, workers and runs that get SIGTERM at a random moment, and what must be true afterwards.

    .venv/bin/python -m tests.deployments.stopping --moments 50

Each trial is one flow run on a real Prefect server: its process is stopped, checked, and the run is taken up again.
A job is the first process of a process namespace (`unshare`, which needs root), as in a container.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelsheet.ledger import Ledger
from tests.deployments.processes import descendants, free_port
from tests.stand_in.faulty_sandbox import FaultySandbox

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ROWS = 10
LIMIT_S = 60.0  # from the signal to the end of the process
BOUGHT_LIMIT_S = 2.0  # from the signal to the last charge


@dataclass
class Setup:
    """A Prefect server, a sandbox whose answers take a while, and a ledger."""

    folder: Path
    sandbox: FaultySandbox
    api: str
    environment: Mapping[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def call(self, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.api}{path}", content, {"content-type": "application/json"})  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")

    def spawn(self, *words: str, **extra: str) -> subprocess.Popen[bytes]:
        with (self.folder / "processes.log").open("ab") as log:
            process = subprocess.Popen(
                words, env={**self.environment, **extra}, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def new_run(self, name: str) -> str:
        """A flow run of a new sheet."""
        sheet = self.folder / f"{name}.csv"
        lines = [f"{self.sandbox.pictures}/morning-mug.jpg,{name} {n}" for n in range(ROWS)]
        sheet.write_text("\n".join(["image,prompt", *lines]) + "\n", encoding="utf-8")
        (deployment,) = self.call("/deployments/filter", {"deployments": {"name": {"any_": ["trial"]}}})
        parameters = {"manifest": str(sheet), "destination": str(self.folder / "out" / name)}
        made = self.call(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        return str(made["id"])

    def state(self, flow_run_id: str) -> dict[str, Any]:
        return dict(self.call(f"/flow_runs/{flow_run_id}")["state"])

    def statuses(self, name: str) -> Counter[str]:
        """How the attempts of a sheet stand in the ledger."""
        ledger = Ledger.open(self.environment["REELSHEET_LEDGER_URL"])
        try:
            runs = [run for run in ledger.recent_runs(10_000) if f"/{name}.csv" in run.source]
            found: Counter[str] = Counter()
            for run in runs:
                sheet = ledger.sheet(run.run_id)
                identities = [] if sheet is None else list(sheet.identities)
                for history in ledger.histories(identities).values():
                    found.update(str(attempt.state) for attempt in history.attempts)
            return found
        finally:
            ledger.close()

    def phase(self, name: str, flow_run_id: str) -> str:
        attempts, paid = self.statuses(name), sum(self.charged(name).values())
        return f"{self.state(flow_run_id)['name']}, {paid} of {ROWS} paid, {attempts['claimed']} on their way"

    def problems_of_stop(self, name: str, ended_s: float, code: int | None) -> list[str]:
        """What is not as it should be when the process has ended, before another takes its run up."""
        attempts = self.statuses(name)
        problems = [f"ended after {ended_s:.0f} s"] if ended_s > LIMIT_S else []
        problems += [f"ended with {code}"] if code else []
        problems += [f"unknown: {attempts['unknown']}"] if attempts["unknown"] else []
        return problems

    def take_up(self, kind: str, flow_run_id: str) -> None:
        """The next worker, or the next job, brings a run to its end."""
        if self.is_final(flow_run_id):
            return
        if kind == "job":
            job(self, flow_run_id).process.wait(150)
        elif kind == "worker":
            self.next_worker_ends(flow_run_id)
        else:
            until(lambda: self.is_final(flow_run_id), 150, f"the worker to end {flow_run_id}")

    def next_worker_ends(self, *flow_run_ids: str) -> None:
        """Start another worker, which brings these runs to their ends."""
        next_worker = worker(self).process
        until(lambda: all(map(self.is_final, flow_run_ids)), 150, "the next worker to end the runs")
        next_worker.terminate()
        next_worker.wait(75)

    def is_final(self, flow_run_id: str) -> bool:
        return self.state(flow_run_id)["type"] in {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}

    def problems_of_end(self, name: str, flow_run_id: str) -> list[str]:
        """Every row delivered, one charge each."""
        state = self.state(flow_run_id)
        problems = [] if state["name"] == "Completed" else [f"finally {state['name']}: {state['message']}"]
        charged = self.charged(name)
        if charged != {f"{name} {n}": 1 for n in range(ROWS)}:
            problems.append(f"charged {dict(charged)}")
        return problems

    def charged(self, name: str) -> Counter[str]:
        return Counter(c["prompt"] for c in self.sandbox.charges() if c["prompt"].rpartition(" ")[0] == name)


@contextmanager
def a_setup(folder: Path, api: str | None = None) -> Iterator[Setup]:
    """Everything that a trial needs, with a Prefect server of its own unless `api` is one; all of it ended afterwards."""
    port = free_port()
    server, api = api is None, api or f"http://127.0.0.1:{port}/api"
    with FaultySandbox(clips="tiny", latency=1.5, cache=folder / "clips") as sandbox:
        environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            **sandbox.environment(),
            "HOME": str(folder),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "REELSHEET_LEDGER_URL": f"sqlite:///{folder / 'ledger.db'}",
            "XDG_STATE_HOME": str(folder / "state"),
            "DO_NOT_TRACK": "1",
        }
        sandbox.fault("submit", delay=0.8, times=-1)
        setup = Setup(folder, sandbox, api, environment)
        try:
            if server:
                setup.spawn(str(BIN / "prefect"), "server", "start", "--port", str(port), "--no-ui")
                until(lambda: setup.call("/health"), 120, "the server")
            deploy(setup)
            yield setup
        finally:
            for process in setup.processes:
                for pid in [*descendants(process.pid), process.pid]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.wait()


def deploy(setup: Setup) -> None:
    """The pool `reelsheet` and one deployment in it, as prefect.yaml would make them."""
    pool = {"name": "reelsheet", "type": "process", "base_job_template": {}}
    setup.call("/work_pools/", pool)
    flow = setup.call("/flows/", {"name": "generate-videos"})
    setup.call("/deployments/", {
        "name": "trial", "flow_id": flow["id"], "work_pool_name": "reelsheet", "pull_steps": [],
        "entrypoint": "flows.generate_videos.generate_videos", "enforce_parameter_schema": False,
    })  # fmt: skip


def until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError):
            if found := true():
                return found
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


@dataclass(frozen=True)
class Trial:
    """What one signal did. `code` is the process's, where this process was its parent."""

    kind: str
    after_s: float
    phase: str
    ended_s: float
    code: int | None
    state: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.kind:7}{self.after_s:5.1f} s  {self.phase:48}ended after {self.ended_s:4.1f} s "
            f"with {self.code}: {self.state}  {'; '.join(self.problems) or 'ok'}"
        )


def trial(setup: Setup, kind: str, after_s: float) -> Trial:
    """One flow run, stopped `after_s` seconds after its process began, and taken up again."""
    name = f"{kind}-{uuid.uuid4().hex[:6]}"
    flow_run_id = setup.new_run(name)
    stopped = START[kind](setup, flow_run_id)
    time.sleep(after_s)
    phase = setup.phase(name, flow_run_id)
    since = time.monotonic()
    with suppress(ProcessLookupError):
        os.kill(stopped.target, signal.SIGTERM)
    time.sleep(BOUGHT_LIMIT_S)
    paid = setup.charged(name)
    until(lambda: not Path(f"/proc/{stopped.target}").exists() or stopped.process.poll() is not None, 75, "its end")
    ended_s = time.monotonic() - since
    code = stopped.process.wait(5) if stopped.is_parent else None
    problems = setup.problems_of_stop(name, ended_s, code)
    if stopped.is_parent and setup.charged(name) != paid:
        problems.append("it went on buying")
    state = setup.state(flow_run_id)["name"]
    setup.take_up(kind, flow_run_id)
    if not stopped.is_parent:
        stopped.process.terminate()
        stopped.process.wait(75)
    return Trial(kind, after_s, phase, ended_s, code, state, (*problems, *setup.problems_of_end(name, flow_run_id)))


@dataclass(frozen=True)
class Stopped:
    """Who gets the signal, and the process of ours that it belongs to."""

    target: int
    process: subprocess.Popen[bytes]
    is_parent: bool = True


def job(setup: Setup, flow_run_id: str) -> Stopped:
    """A job as the first process of its namespace, as a worker of Kubernetes would start it."""
    setup.call(f"/flow_runs/{flow_run_id}/set_state", {"state": {"type": "PENDING"}, "force": True})
    words = ("unshare", "--pid", "--fork", "--kill-child", sys.executable, "-m", "flows.job")
    outer = setup.spawn(*words, PREFECT__FLOW_RUN_ID=flow_run_id)
    return Stopped(until(lambda: descendants(outer.pid), 20, "the job's process")[0], outer)


def worker(setup: Setup, _flow_run_id: str = "") -> Stopped:
    process = setup.spawn(str(BIN / "reelsheet"), "worker", "--name", f"worker-{uuid.uuid4().hex[:4]}")
    return Stopped(process.pid, process)


def run(setup: Setup, flow_run_id: str) -> Stopped:
    """The process of a run, under a worker that goes on and may take it up again."""
    process = worker(setup, flow_run_id).process
    return Stopped(process_of(flow_run_id, process), process, is_parent=False)


def process_of(flow_run_id: str, process: subprocess.Popen[bytes]) -> int:
    """The process of a run, below its worker."""

    def found() -> int | None:
        wanted = f"PREFECT__FLOW_RUN_ID={flow_run_id}".encode()
        with suppress(OSError):
            for pid in descendants(process.pid):
                if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    return pid
        return None

    return int(until(found, 90, "the run's process"))


START: dict[str, Callable[[Setup, str], Stopped]] = {"job": job, "worker": worker, "run": run}


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=50, help="for each kind")
    parser.add_argument("--kinds", nargs="*", default=list(START), choices=START)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    asked = parser.parse_args()
    dice = random.Random(asked.seed)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts this with & has it ignored
    say(f"seed {asked.seed}")
    bad = 0
    with tempfile.TemporaryDirectory() as folder, a_setup(Path(folder)) as setup:
        for kind in asked.kinds:
            began = time.monotonic()
            setup.take_up("worker" if kind == "run" else kind, setup.new_run(f"{kind}-undisturbed"))
            whole_s = time.monotonic() - began
            for _ in range(asked.moments):
                found = trial(setup, kind, dice.uniform(0, whole_s))
                bad += bool(found.problems)
                say(found)
    say(f"{bad} of {asked.moments * len(asked.kinds)} moments went wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
