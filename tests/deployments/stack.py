"""The stack of deployments/compose.yaml as processes here: same commands and environment, other addresses."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from tests.deployments.processes import descendants, free_port

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text(encoding="utf-8"))
POSTGRES = os.environ.get("TEST_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/postgres")


class OwnRedis:
    """A Redis for one stack only, which may be killed."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", ""],  # noqa: S607 - the one on PATH
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("redis-server did not start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Stack:
    """Services by their names in compose.yaml. `close` ends everything that was started."""

    def __init__(self, folder: Path, extra: Mapping[str, str], postgres: str = POSTGRES) -> None:
        self.folder = folder
        self.postgres = postgres
        self.port = free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.databases = [f"reelsheet_test_{which}_{uuid.uuid4().hex[:8]}" for which in ("prefect", "ledger")]
        self.server_url = postgres.rpartition("/")[0]
        self.ledger_url = f"{self.server_url}/{self.databases[1]}"
        self.redis = OwnRedis(folder)
        self.extra = dict(extra)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._started_workers = 0
        self._waits: dict[str, int] = {}  # of rules that were hurried, by name
        self._sql(*(f'CREATE DATABASE "{name}"' for name in self.databases))
        self.redis.start()

    def environment(self, service: str) -> dict[str, str]:
        """What the container would see, with this machine's addresses."""
        given = {
            name: self.extra.get(name) if value is None else value
            for name, value in COMPOSE["services"][service]["environment"].items()
        }
        told = {name: self._here(str(value)) for name, value in given.items() if value is not None}
        surroundings = {name: os.environ[name] for name in ("PATH", "LANG", "SSL_CERT_FILE") if name in os.environ}
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return {
            **surroundings,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "PREFECT_HOME": str(home / ".prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
            "DO_NOT_TRACK": "1",
            "XDG_STATE_HOME": str(home / "state"),
            **{name: value for name, value in told.items() if value},
            **(self.extra if service == "worker" else {}),
        }

    def run(self, service: str, seconds: float = 120) -> str:
        """Run a service that ends by itself; its output."""
        done = subprocess.run(
            self.command(service), env=self.environment(service), cwd=self._cwd(), capture_output=True, text=True,
            timeout=seconds, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{service}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout + done.stderr

    def start(self, service: str, name: str | None = None, *more: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a service that keeps running, under its own name."""
        name = name or service
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.command(service), *more], env={**self.environment(service), **environment}, cwd=self._cwd(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.processes[name] = process
        return process

    def up(self, workers: int = 2) -> None:
        """Migrations first, then server and services, bootstrap, workers."""
        self.run("migrate")
        self.start("server")
        self.start("services")
        self.healthy()
        self.run("bootstrap", 180)
        for _ in range(workers):
            self.start_worker()

    def start_worker(self) -> str:
        """The name of one worker more."""
        self._started_workers += 1
        name = f"worker-{self._started_workers}"
        self.start("worker", name, "--name", name)
        return name

    def end_workers(self) -> None:
        """Workers and all that they started, at once."""
        for name in [name for name in self.processes if name.startswith("worker-")]:
            self.stop(name, signal.SIGKILL)

    def healthy(self, seconds: float = 90) -> None:
        self.until(self._answers, seconds, "the server to answer")

    def stop(self, name: str, number: int = signal.SIGTERM, seconds: float = 30) -> None:
        """End a service as a container engine does: all processes of its session."""
        process = self.processes.pop(name)
        for pid in [*descendants(process.pid), process.pid] if number == signal.SIGKILL else [process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        for name in list(self.processes):
            left = descendants(self.processes[name].pid)
            self.stop(name, signal.SIGTERM, 5)
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._sql(*(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)' for name in self.databases))
        self.redis.kill()

    def until(self, true: Callable[[], Any], seconds: float, what: str) -> Any:
        """Wait for something; fails with the ends of all logs."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(OSError):
                if found := true():
                    return found
            time.sleep(0.25)
        raise AssertionError(f"waited {seconds:.0f} s for {what}\n{self.logs()}")

    def logs(self) -> str:
        return "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in self.folder.glob("*.log")
        )

    def prefect(self, *words: str) -> str:
        """Prefect's own command line, as an operator would use it."""
        program = str(Path(sys.executable).with_name("prefect"))
        done = subprocess.run(
            [program, *words], env=self.environment("bootstrap"), cwd=self._cwd(), capture_output=True, text=True,
            timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self, service: str) -> list[str]:
        words = [str(word) for word in COMPOSE["services"][service]["command"]]
        words = ["127.0.0.1" if word == "0.0.0.0" else str(self.port) if word == "4200" else word for word in words]  # noqa: S104 - replaced
        program = shutil.which(words[0], path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        assert program is not None
        return [program, *words[1:]]

    def _here(self, value: str) -> str:
        value = re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}", lambda m: self.extra.get(m[1]) or m[2] or "", value)
        value = re.sub(
            r"postgresql(\+asyncpg)?://prefect:.*", rf"postgresql\1{self._server()}/{self.databases[0]}", value
        )
        value = re.sub(r"postgresql://reelsheet:.*", self.ledger_url, value)
        value = re.sub(r"redis://redis:6379/\d", self.redis.url, value)
        return value.replace("http://server:4200", f"http://127.0.0.1:{self.port}").replace(":4200", f":{self.port}")

    def call(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """One request to Prefect's API: a GET, or a POST where there is a body."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - http on loopback
            f"{self.api}{path}", content, {"content-type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - http on loopback
            return json.loads(answer.read() or b"null")

    def runs_of(self, flow: str) -> list[dict[str, Any]]:
        """Every flow run of a flow, the oldest first."""
        asked = {"flows": {"name": {"any_": [flow]}}, "limit": 200, "sort": "EXPECTED_START_TIME_ASC"}
        return list(self.call("/flow_runs/filter", asked))

    def automations(self) -> dict[str, dict[str, Any]]:
        """Every automation by its name."""
        return {found["name"]: found for found in self.call("/automations/filter", {"limit": 100})}

    def hurry(self, word: str, seconds: int) -> None:
        """Shorten the wait of the automation with this word in its name."""
        rule = next(found for name, found in self.automations().items() if word in name)
        self._waits.setdefault(rule["name"], rule["trigger"]["within"])
        hurried = {key: rule[key] for key in ("name", "description", "enabled", "trigger", "actions")}
        hurried["trigger"]["within"] = seconds
        self.call(f"/automations/{rule['id']}", hurried, "PUT")

    def restore_waits(self) -> None:
        """What was hurried waits as before."""
        for name, seconds in list(self._waits.items()):
            self.hurry(name, seconds)
        self._waits.clear()

    def run_of_sheet(self, manifest: str, destination: str, *more: str) -> str:
        """Start `generate-videos/on-demand` as an operator would; the flow run's id."""
        known = {found["id"] for found in self.runs_of("generate-videos")}
        parameters = (f"manifest={manifest}", f"destination={destination}", *more)
        self.prefect(
            "deployment", "run", "generate-videos/on-demand",
            *(word for parameter in parameters for word in ("--param", parameter)),
        )  # fmt: skip
        (flow_run_id,) = [found["id"] for found in self.runs_of("generate-videos") if found["id"] not in known]
        return str(flow_run_id)

    def ended(self, flow_run_id: str) -> dict[str, Any] | None:
        """A flow run in a final state, else None."""
        found: dict[str, Any] = self.call(f"/flow_runs/{flow_run_id}")
        return found if found["state"]["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None

    def family(self, name: str) -> list[int]:
        """A service's process and all below it."""
        return [self.processes[name].pid, *descendants(self.processes[name].pid)]

    def _server(self) -> str:
        return self.server_url.removeprefix("postgresql")

    def _cwd(self) -> Path:
        return ROOT

    def _answers(self) -> bool:
        with urllib.request.urlopen(f"{self.api}/health", timeout=2) as answer:  # noqa: S310 - http on loopback
            return bool(answer.status == 200)

    def _sql(self, *statements: str) -> None:
        import psycopg

        with psycopg.connect(self.postgres, autocommit=True, connect_timeout=3) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]
