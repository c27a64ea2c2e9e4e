"""Nights in quick succession on the stack of compose.yaml, each with another sheet and another mishap, and the morning after.

    scripts/soak                  every mishap once
    scripts/soak --nights 3       the first three
    scripts/soak --only clock     one, by a word in its name

PostgreSQL and Redis are started here, on ports of their own. What a container engine starts again (`restart:
unless-stopped`) is started again here. A night is a scheduled run of `generate-videos/nightly` with a few rows of the
night before and new ones, in shards; the morning after is a scheduled run of `reprocess-failed/morning-after`. At the end every
row is delivered or explained, each was charged once, ledger and provider agree, no run is left, and the databases are
as large as they should be. Exit code 1 where one of these is not so.
"""

import argparse
import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import psycopg

from tests.deployments.processes import descendants, free_port
from tests.deployments.stack import OwnRedis, Stack
from tests.stand_in.faulty_sandbox import FaultySandbox

ROWS, SHARD, AGAIN = 48, 16, 8  # new rows of a night, rows of a shard, rows of the night before
NIGHT_LIMIT_S, MORNING_LIMIT_S = 420, 240
HEARTBEAT_RULE_S = 75  # instead of two minutes
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
DESTINATION = "reels"


class OwnPostgres:
    """A PostgreSQL of this run only. It does not run as root, so root starts it as `postgres`."""

    def __init__(self, folder: Path) -> None:
        (programs,) = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
        self.programs, self.port, self.data = programs, free_port(), folder / "postgres"
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.as_user: dict[str, Any] = {}
        self.data.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self.data, "postgres", "postgres")
            self.as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        words = [programs / "initdb", "--pgdata", self.data, "--username", "postgres", "--auth", "trust", "--no-sync"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=self.data, **self.as_user)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 200,
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.data.parent / "postgres.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.data, *words], cwd=self.data, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, **self.as_user,
            )  # fmt: skip
        for _ in range(300):
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url, connect_timeout=3).close()
                return
            time.sleep(0.1)
        raise AssertionError("PostgreSQL did not start")

    def stop(self) -> None:
        """A fast shutdown, as a restart does it: every connection is cut."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
            self.process = None


class Storage(ThreadingHTTPServer):
    """In front of the sandbox's S3. While it is full, clips are refused."""

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.behind = behind.removeprefix("http://")
        self.is_full = False
        self.refused = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """A client that was killed is no news."""


class _Forward(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Storage

    def _forward(self) -> None:
        body = self._body()
        if self.server.is_full and self.command in {"PUT", "POST"} and ".mp4" in self.path:
            self.server.refused += 1
            content = b"<Error><Code>QuotaExceeded</Code><Message>The bucket is full.</Message></Error>"
            self._answer(403, {"Content-Type": "application/xml"}, content)
            return
        connection = HTTPConnection(self.server.behind, timeout=30)
        try:
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in {"expect", "transfer-encoding"}
            }
            headers["Content-Length"] = str(len(body))
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            self._answer(answer.status, dict(answer.getheaders()), content)
        except (OSError, HTTPException):
            self.close_connection = True
        finally:
            connection.close()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        content = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        length = len(content)
        if self.command == "HEAD":
            length = int(next((value for name, value in headers.items() if name.lower() == "content-length"), 0))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _forward  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


class KeptStack(Stack):
    """A stack whose services are started again when they end, as a container engine does."""

    def __init__(self, folder: Path, extra: dict[str, str], postgres: str) -> None:
        self.lock = threading.RLock()
        self.how: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {}
        self.restarts: Counter[str] = Counter()
        self.is_over = threading.Event()
        super().__init__(folder, extra, postgres)
        self.keeper = threading.Thread(target=self._keep, daemon=True)
        self.keeper.start()

    def start(self, service: str, name: str | None = None, *more: str, **environment: str) -> subprocess.Popen[bytes]:
        with self.lock:
            self.how[name or service] = ((service, name or service, *more), environment)
            return super().start(service, name, *more, **environment)

    def stop(self, name: str, number: int = signal.SIGTERM, seconds: float = 30) -> None:
        with self.lock:
            self.how.pop(name, None)
        super().stop(name, number, seconds)

    def close(self) -> None:
        self.is_over.set()
        self.keeper.join(15)
        super().close()

    def _keep(self) -> None:
        while not self.is_over.wait(2):
            with self.lock:
                ended = [
                    name for name in self.how if name in self.processes and self.processes[name].poll() is not None
                ]
                for name in ended:
                    self.restarts[name] += 1
                    words, environment = self.how[name]
                    super().start(*words, **environment)


@dataclass
class Night:
    """What a night was, for the table."""

    number: int
    mishap: str
    seconds: float = 0
    state: str = ""
    morning: str = ""
    lives: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    prefect_mb: float = 0
    ledger_mb: float = 0
    redis_mb: float = 0
    problems: list[str] = field(default_factory=list)

    def row(self) -> str:
        rows = ", ".join(f"{count} {status}" for status, count in self.statuses.most_common())
        return (
            f"| {self.number} | {self.mishap} | {self.state} | {self.lives} | {self.morning} | {rows} | {self.seconds:.0f} s | "
            f"{self.prefect_mb:.0f} + {self.ledger_mb:.1f} | {'; '.join(self.problems) or 'ok'} |"
        )


HEAD = """| night | mishap | the run ended | lives | the morning after | rows then | time | databases, MB | |
|---|---|---|---|---|---|---|---|---|"""


class Soak:
    """The stack, the provider and the bucket, and what a night does with them."""

    def __init__(self, stack: KeptStack, provider: FaultySandbox, storage: Storage, postgres: OwnPostgres) -> None:
        self.stack, self.provider, self.storage, self.postgres = stack, provider, storage, postgres
        self.s3 = boto3.client(
            "s3", endpoint_url=provider.s3, aws_access_key_id="sandbox", aws_secret_access_key="sandbox",
            region_name="us-east-1",
        )  # fmt: skip
        self.last_rows: list[str] = []
        self.workers = 2

    # A night

    def night(self, number: int, mishap: str, do: "Mishap") -> Night:
        night = Night(number, mishap)
        began = time.monotonic()
        new = [f"night {number} row {n}" for n in range(ROWS)]
        prompts = self.last_rows[:AGAIN] + new
        self.last_rows = new
        lines = "".join(f"{self.provider.pictures}/morning-mug.jpg,{prompt}\n" for prompt in prompts)
        self.s3.put_object(Bucket=self.provider.bucket, Key="tonight.csv", Body=f"image,prompt\n{lines}".encode())
        self.provider.settings(latency=4, capacity=16)
        try:
            self._run_and_disturb(night, do)
            self._morning(night)
        except Exception as error:  # noqa: BLE001 - the other nights are to be seen too
            traceback.print_exc()
            night.problems.append(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        self._mend()
        with suppress(Exception):
            self._look(night, prompts)
        night.seconds = time.monotonic() - began
        return night

    def _run_and_disturb(self, night: Night, do: "Mishap") -> None:
        before = len(self.provider.charges())
        flow_run = self.begun("generate-videos/nightly")
        do(self, flow_run, lambda: len(self.provider.charges()) - before)
        try:
            self.stack.until(lambda: self.is_over(flow_run), NIGHT_LIMIT_S, "the night's run to end")
        except AssertionError:
            night.problems.append("the run did not end")
            say(self.stack.logs())
        ended = self.stack.call(f"/flow_runs/{flow_run}")
        night.state, night.lives = ended["state"]["name"], ended["run_count"]
        say(f"        {ended['state']['name']}: {ended['state']['message']}")

    def _morning(self, night: Night) -> None:
        self._mend()
        self.provider.settings(latency=1)
        morning = self.begun("reprocess-failed/morning-after")
        self.stack.until(lambda: self.is_over(morning), MORNING_LIMIT_S, "the morning after to end")
        ended = self.stack.call(f"/flow_runs/{morning}")
        night.morning = ended["state"]["name"]
        say(f"        morning after: {ended['state']['name']}: {ended['state']['message']}")

    def _mend(self) -> None:
        """What people and platforms have done by the morning."""
        self.provider.clear_faults()
        self.storage.is_full = False
        for name in set(self.stack.processes) - {
            "server",
            "services",
            *(f"worker-{n}" for n in range(1, self.workers + 1)),
        }:
            self.stack.stop(name, seconds=75)

    def _look(self, night: Night, prompts: list[str]) -> None:
        """How the rows stand, and whether each has its reason and one charge."""
        body = self.s3.get_object(Bucket=self.provider.bucket, Key=f"{DESTINATION}/results.csv")["Body"].read().decode()
        rows = list(csv.DictReader(io.StringIO(body, newline="")))
        night.statuses = Counter(row["status"] for row in rows)
        if [row["prompt"] for row in rows] != prompts:
            night.problems.append(f"the table has {len(rows)} other rows")
        if bare := [row["prompt"] for row in rows if row["status"] != "succeeded" and not row["error"]]:
            night.problems.append(f"{len(bare)} rows without a reason")
        if bad := Counter(row["status"] for row in rows if row["status"] not in {"succeeded", "unknown"}):
            night.problems.append(f"left over: {dict(bad)}")
        charged = Counter(charge["prompt"] for charge in self.provider.charges())
        if twice := [prompt for prompt in prompts if charged[prompt] > 1]:
            night.problems.append(f"{len(twice)} rows charged twice")
        if unpaid := [row["prompt"] for row in rows if row["status"] == "succeeded" and charged[row["prompt"]] != 1]:
            night.problems.append(f"{len(unpaid)} rows delivered without a charge")
        with psycopg.connect(self.postgres.url) as connection:
            query = "SELECT pg_database_size(%s) / 1e6"
            sizes = [connection.execute(query, (name,)).fetchone() for name in self.stack.databases]
        night.prefect_mb, night.ledger_mb = (float(size[0]) if size else 0 for size in sizes)
        night.redis_mb = redis_bytes(self.stack.redis) / 1e6

    def begun(self, deployment: str, *, in_s: float = 12) -> str:
        """Let the schedule of a deployment fall due; its new run. Prefect looks at changed deployments every five seconds."""
        found = self.stack.call(f"/deployments/name/{deployment}")
        known = {run["id"] for run in self._due(found["id"])}
        (schedule,) = found["schedules"]
        anchor = (datetime.now(UTC) + timedelta(seconds=in_s)).isoformat()
        changed = {"active": True, "schedule": {"interval": 86_400, "anchor_date": anchor, "timezone": "UTC"}}
        self.stack.call(f"/deployments/{found['id']}/schedules/{schedule['id']}", changed, "PATCH")
        self.stack.call(f"/deployments/{found['id']}", {"parameters": found["parameters"]}, "PATCH")  # looked at now
        flow_run = str(self.stack.until(lambda: self._new(found["id"], known), 60, f"{deployment} to be scheduled"))
        # As if the night had been scheduled days ago, as nights are. Prefect tells nobody that it has scheduled a run. Of
        # what happens within five minutes after it, Prefect's automations would hear a quarter of an hour late.
        with psycopg.connect(f"{self.stack.server_url}/{self.stack.databases[0]}") as prefect:
            prefect.execute(
                "UPDATE flow_run_state SET timestamp = timestamp - interval '1 day' WHERE flow_run_id = %s", (flow_run,)
            )
        return flow_run

    def _new(self, deployment_id: str, known: set[str]) -> str | None:
        return next((run["id"] for run in self._due(deployment_id) if run["id"] not in known), None)

    def _due(self, deployment_id: str) -> list[dict[str, Any]]:
        until = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        asked = {
            "deployments": {"id": {"any_": [deployment_id]}}, "flow_runs": {"expected_start_time": {"before_": until}},
            "limit": 200, "sort": "EXPECTED_START_TIME_DESC",
        }  # fmt: skip
        return list(self.stack.call("/flow_runs/filter", asked))

    def state(self, flow_run: str) -> str:
        return str(self.stack.call(f"/flow_runs/{flow_run}")["state"]["name"])

    def is_over(self, flow_run: str) -> bool:
        """A final state that no automation takes up again."""
        state = self.stack.call(f"/flow_runs/{flow_run}")["state"]
        return state["type"] in FINAL - {"CRASHED"}

    def worker_of(self, flow_run: str) -> str:
        """The worker whose process has this run."""
        wanted = f"PREFECT__FLOW_RUN_ID={flow_run}".encode()

        def found() -> str | None:
            for name in [name for name in self.stack.processes if name.startswith("worker")]:
                for pid in descendants(self.stack.processes[name].pid):
                    with suppress(OSError):
                        if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                            return name
            return None

        return str(self.stack.until(found, 60, "the run's worker"))

    def start_worker(self, name: str, **environment: str) -> None:
        self.stack.start("worker", name, "--name", name, **environment)

    def middle(self, paid: Callable[[], int], share: float = 0.3) -> None:
        self.stack.until(lambda: paid() >= ROWS * share, 180, "the middle of the night")

    # At the end

    def check(self, nights: list[Night]) -> list[str]:
        """Each thing that is not as it should be, over all nights."""
        problems = []
        charges = self.provider.charges()
        charged = Counter(charge["prompt"] for charge in charges)
        if twice := [prompt for prompt, count in charged.items() if count > 1]:
            problems.append(f"charged more than once: {', '.join(sorted(twice))}")
        with psycopg.connect(self.stack.ledger_url) as ledger:

            def number(query: str) -> int:
                row = ledger.execute(query).fetchone()  # type: ignore[call-overload]
                return int(row[0] or 0)

            known = number("SELECT count(*) FROM attempts WHERE prediction_id IS NOT NULL")
            unknown = number("SELECT count(*) FROM attempts WHERE state = 'unknown'")
            if not known <= len(charges) <= known + unknown:
                problems.append(f"the provider has {len(charges)} charges, the ledger {known} and {unknown} unknown")
            if number("SELECT sum(confirmed_cents) FROM days") != 54 * known:
                problems.append("the days' books differ from the attempts")
            if number("SELECT sum(confirmed_cents) FROM runs") != 54 * known:
                problems.append("the runs' books differ from the attempts")
            if number("SELECT sum(at_risk_cents) FROM days") != 54 * unknown:
                problems.append("money at risk differs from the unknown rows")
            for what, query in {
                "money reserved": "SELECT sum(reserved_cents) FROM runs",
                "open claims": "SELECT count(*) FROM attempts WHERE state = 'claimed'",
                "unfinished runs": "SELECT count(*) FROM runs WHERE finished_at IS NULL",
                "shards that nobody deleted": "SELECT count(*) FROM shards",
            }.items():
                if left := number(query):
                    problems.append(f"{what}: {left}")
            tables = (
                "owners",
                "runs",
                "attempts",
                "deliveries",
                "notes",
                "shards",
                "sheets",
                "grants",
                "tries",
                "imports",
            )
            counts = [f"{number('SELECT count(*) FROM ' + table)} {table}" for table in tables]  # noqa: S608 - ours
            say(f"ledger: {', '.join(counts)}")
        problems += self._left_over()
        if len(nights) > 4:
            problems += grows(nights)
        return problems

    def _left_over(self) -> Iterator[str]:
        """Runs that wait for nobody, and what doctor and the health check say."""
        states = {"state": {"type": {"any_": ["RUNNING", "PENDING", "PAUSED", "CANCELLING", "SCHEDULED", "CRASHED"]}}}
        for run in self.stack.call("/flow_runs/filter", {"flow_runs": states, "limit": 200}):
            state = run["state"]
            is_tomorrow = state["type"] == "SCHEDULED" and run["expected_start_time"] > datetime.now(UTC).isoformat()
            if not is_tomorrow and not (state["type"] == "CRASHED" and "shard" in run["tags"]):
                yield f"{run['name']} is {state['name']}: {state['message']}"
        for service, words in {
            "worker": (str(Path(sys.executable).with_name("reelsheet")), "doctor"),
            "services": ("-m", "flows.services", "--check"),
        }.items():
            done = subprocess.run(
                [sys.executable, *words], env=self.stack.environment(service), cwd=self.stack.folder, capture_output=True,
                text=True, timeout=120, check=False,
            )  # fmt: skip
            if done.returncode:
                yield f"{words[1]}: {done.stdout[-1500:]}{done.stderr[-1500:]}"


def grows(nights: list[Night]) -> Iterator[str]:
    """A night's growth of the second half against the first: rows cost the same on the last night."""
    middle = len(nights) // 2
    for what in ("prefect_mb", "ledger_mb"):
        sizes = [getattr(night, what) for night in nights]
        first, second = (sizes[middle] - sizes[0]) / middle, (sizes[-1] - sizes[middle]) / (len(sizes) - 1 - middle)
        if second > 1.5 * first + 0.5:
            yield f"{what} grew by {first:.1f} a night, later by {second:.1f}"
    if nights[-1].redis_mb > 256:
        yield f"Redis has {nights[-1].redis_mb:.0f} MB"


def redis_bytes(redis: OwnRedis) -> float:
    from redis import Redis

    with Redis.from_url(redis.url) as client:
        return float(client.info("memory")["used_memory"])  # type: ignore[index]


# The mishaps: each gets the soak, the night's flow run, and how much of it was charged.

Mishap = Callable[[Soak, str, Callable[[], int]], None]


def nothing(_soak: Soak, _run: str, _paid: Callable[[], int]) -> None:
    """A night as it should be."""


def worker_killed(soak: Soak, run: str, paid: Callable[[], int]) -> None:
    soak.middle(paid)
    name = soak.worker_of(run)
    for pid in soak.stack.family(name):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def worker_updated(soak: Soak, run: str, paid: Callable[[], int]) -> None:
    soak.middle(paid)
    name = soak.worker_of(run)
    soak.stack.stop(name, seconds=75)
    soak.start_worker(name)


def node_drained(soak: Soak, _run: str, paid: Callable[[], int]) -> None:
    soak.middle(paid)
    names = [name for name in soak.stack.processes if name.startswith("worker")]
    for name in names:
        os.kill(soak.stack.processes[name].pid, signal.SIGTERM)
        soak.stack.how.pop(name)
    for name in names:
        soak.stack.stop(name, seconds=75)
    time.sleep(5)
    for name in names:
        soak.start_worker(name)


def server_away(soak: Soak, _run: str, paid: Callable[[], int]) -> None:
    """For longer than the rule about heartbeats waits, so that living runs are taken for lost. One waits for approval."""
    soak.provider.settings(latency=45)
    lines = "".join(f"{soak.provider.pictures}/morning-mug.jpg,approved {n}\n" for n in range(4))
    soak.s3.put_object(Bucket=soak.provider.bucket, Key="approved.csv", Body=f"image,prompt\n{lines}".encode())
    where = {
        "manifest": f"s3://{soak.provider.bucket}/approved.csv",
        "destination": f"s3://{soak.provider.bucket}/approved",
    }
    deployment = soak.stack.call("/deployments/name/generate-videos/on-demand")["id"]
    asked = {"parameters": where | {"approve_above_usd": 1}}
    waiting = soak.stack.call(f"/deployments/{deployment}/create_flow_run", asked)["id"]
    soak.stack.until(lambda: soak.state(waiting) == "Paused", 120, "a run to wait for approval")
    soak.middle(paid)
    time.sleep(35)  # until heartbeats have come while it waits
    soak.stack.stop("server")
    time.sleep(HEARTBEAT_RULE_S + 30)
    soak.stack.start("server")
    soak.stack.healthy()
    time.sleep(30)  # what was taken for lost is taken up again
    soak.stack.until(lambda: soak.state(waiting) == "Paused", 120, "the question to stand again")
    say(f"        the waiting run was begun {soak.stack.call(f'/flow_runs/{waiting}')['run_count']} times")
    assert not [one for one in soak.provider.charges() if one["prompt"].startswith("approved")], "paid without approval"
    soak.stack.call(f"/flow_runs/{waiting}/resume", {"run_input": {"decision": "approve"}})
    soak.stack.until(lambda: soak.is_over(waiting), 150, "the approved run to end")
    assert soak.state(waiting) == "Completed", soak.stack.call(f"/flow_runs/{waiting}")["state"]


def redis_gone(soak: Soak, _run: str, paid: Callable[[], int]) -> None:
    soak.middle(paid)
    soak.stack.redis.kill()
    time.sleep(10)
    soak.stack.redis.start()


def postgres_restarted(soak: Soak, _run: str, paid: Callable[[], int]) -> None:
    soak.middle(paid)
    soak.postgres.stop()
    time.sleep(5)
    soak.postgres.start()


def ledger_slow(soak: Soak, run: str, _paid: Callable[[], int]) -> None:
    """Every change of an attempt takes 0.4 s longer, which holds the locks that it has."""
    with psycopg.connect(soak.stack.ledger_url, autocommit=True) as ledger:
        ledger.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_sleep(0.4); RETURN NEW; END'"
        )
        ledger.execute(
            "CREATE TRIGGER dawdle BEFORE INSERT OR UPDATE ON attempts FOR EACH ROW EXECUTE FUNCTION dawdle()"
        )
        try:
            soak.stack.until(lambda: soak.is_over(run), NIGHT_LIMIT_S, "the slow night to end")
        finally:
            ledger.execute("DROP TRIGGER dawdle ON attempts")
            ledger.execute("DROP FUNCTION dawdle")


def provider_down(soak: Soak, run: str, paid: Callable[[], int]) -> None:
    """For half a minute nothing but 503."""
    soak.middle(paid)
    for at in ("submit", "poll"):
        soak.provider.fault(at, times=-1, answer={"status": 503, "body": "Service Unavailable"})
    end = time.monotonic() + 30
    while time.monotonic() < end and not soak.is_over(run):
        time.sleep(1)
    soak.provider.clear_faults()


def key_rotated(soak: Soak, run: str, paid: Callable[[], int]) -> None:
    """The old key is refused; the workers get the new one in the morning."""
    soak.middle(paid)
    for at in ("submit", "poll"):
        soak.provider.fault(at, times=-1, answer={"status": 401, "body": {"error": "Invalid or missing API key."}})
    soak.stack.until(lambda: soak.is_over(run), NIGHT_LIMIT_S, "the night with the old key to end")
    for name in [name for name in soak.stack.processes if name.startswith("worker")]:
        soak.stack.stop(name, seconds=75)
        soak.start_worker(name)


def bucket_full(soak: Soak, run: str, paid: Callable[[], int]) -> None:
    soak.middle(paid)
    soak.storage.is_full = True
    soak.stack.until(lambda: soak.is_over(run), NIGHT_LIMIT_S, "the night with the full bucket to end")
    assert soak.storage.refused


def overlapping(soak: Soak, _run: str, paid: Callable[[], int]) -> None:
    """The schedule falls due again while the night is going on."""
    soak.middle(paid, 0.1)
    second = soak.begun("generate-videos/nightly")
    soak.stack.until(lambda: soak.is_over(second), 90, "the second night to end")
    state = soak.stack.call(f"/flow_runs/{second}")["state"]
    say(f"        second night: {state['name']}: {state['message']}")
    assert state["name"] == "Skipped", state


def bad_worker(soak: Soak, run: str, _paid: Callable[[], int]) -> None:
    """One worker more, without the provider's key, from the beginning."""
    soak.start_worker("worker-bad", VIBEDREAM_API_KEY="")
    soak.stack.until(lambda: soak.is_over(run), NIGHT_LIMIT_S, "the night with a bad worker to end")


def clock_jump(soak: Soak, _run: str, paid: Callable[[], int]) -> None:
    """A worker's machine is five minutes fast from the middle of the night on."""
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
    assert library is not None, "not tried: Debian's package faketime is not installed"
    soak.middle(paid)
    soak.stack.stop("worker-1", seconds=75)
    soak.start_worker("worker-1", LD_PRELOAD=str(library), FAKETIME="+300", FAKETIME_DONT_FAKE_MONOTONIC="1")


def clock_right_again(soak: Soak) -> None:
    soak.stack.stop("worker-1", seconds=75)
    soak.start_worker("worker-1")


MISHAPS: dict[str, Mishap] = {
    "nothing wrong": nothing,
    "a worker killed": worker_killed,
    "a worker updated (SIGTERM)": worker_updated,
    "the node drained: both workers stopped": node_drained,
    f"Prefect's server away for {HEARTBEAT_RULE_S + 30} s, one run waits for approval": server_away,
    "Redis killed, and back empty": redis_gone,
    "PostgreSQL restarted": postgres_restarted,
    "every write of the ledger 0.4 s late": ledger_slow,
    "the provider answers 503 for 30 s": provider_down,
    "the provider's key refused until the morning": key_rotated,
    "the bucket full until the morning": bucket_full,
    "the next night due in the middle": overlapping,
    "one worker more, without a key": bad_worker,
    "a worker's clock five minutes fast": clock_jump,
}


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def a_soak(folder: Path, workers: int) -> Iterator[Soak]:
    postgres = OwnPostgres(folder)
    postgres.start()
    try:
        with FaultySandbox(clips="tiny", latency=4, cache=folder / "clips") as provider:
            storage = Storage(provider.s3)
            extra = {
                **provider.environment(),
                "AWS_ENDPOINT_URL_S3": storage.url,
                "REELSHEET_NIGHTLY_MANIFEST": f"s3://{provider.bucket}/tonight.csv",
                "REELSHEET_NIGHTLY_DESTINATION": f"s3://{provider.bucket}/{DESTINATION}",
                "PREFECT_WORKER_QUERY_SECONDS": "2",
                "PREFECT_WORKER_PREFETCH_SECONDS": "1",
            }
            stack = KeptStack(folder, extra, postgres.url)
            try:
                stack.up(workers)
                stack.hurry("heartbeat", HEARTBEAT_RULE_S)
                soak = Soak(stack, provider, storage, postgres)
                soak.workers = workers
                prepare(soak)
                yield soak
            finally:
                with suppress(psycopg.OperationalError):
                    stack.close()
                storage.shutdown()
    finally:
        postgres.stop()


def prepare(soak: Soak) -> None:
    """Schedules wait for their night, and a night is made in shards."""
    for name in ("generate-videos/nightly", "reprocess-failed/morning-after"):
        found = soak.stack.call(f"/deployments/name/{name}")
        parameters = found["parameters"] | {"shard_size": SHARD, "max_cost_usd": 100}
        soak.stack.call(f"/deployments/{found['id']}", {"parameters": parameters}, "PATCH")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=len(MISHAPS))
    parser.add_argument("--only", nargs="*", default=[], help="words in the names of mishaps")
    parser.add_argument("--workers", type=int, default=2, choices=(2, 3, 4))
    parser.add_argument("--logs", type=Path, help="keep the logs in this folder")
    asked = parser.parse_args()
    chosen = [(n, do) for n, do in MISHAPS.items() if not asked.only or any(word in n for word in asked.only)]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts this with & has it ignored
    nights: list[Night] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            with a_soak(folder, asked.workers) as soak:
                for number, (mishap, do) in enumerate(chosen[: asked.nights], 1):
                    say(f"night {number}: {mishap}")
                    nights.append(soak.night(number, mishap, do))
                    if do is clock_jump:
                        clock_right_again(soak)
                    say(nights[-1].row())
                problems = soak.check(nights)
                restarts = ", ".join(f"{name} {count} times" for name, count in soak.stack.restarts.items())
                charges = len(soak.provider.charges())
        finally:
            if asked.logs:
                asked.logs.mkdir(parents=True, exist_ok=True)
                for log in [*folder.glob("*.log"), *folder.glob("*.txt")]:
                    shutil.copy(log, asked.logs)
    say(HEAD)
    for night in nights:
        say(night.row())
    say(
        f"\n{charges} charges for {ROWS * len(nights)} rows; started again: {restarts or 'nothing'}; Redis {nights[-1].redis_mb:.0f} MB"
    )
    problems += [f"night {night.number}: {problem}" for night in nights for problem in night.problems]
    for problem in problems:
        say(f"PROBLEM {problem}")
    say(f"{len(problems)} problems" if problems else "nothing is left over")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
