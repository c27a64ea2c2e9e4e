"""An embedded Prefect server for a single command: it keeps what ran, and never outlives its parent.

Prefect's own ephemeral server is orphaned when its parent is killed, records task runs slower than they come and
prints stack traces at the end. This one watches its parent's pipe, records in batches and writes to a log file.
Where PREFECT_API_URL is set, that server is used and none is started.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

START_LIMIT_S = 120.0
DRAIN_LIMIT_S = 60.0
DRAIN_IDLE_S = 15.0  # without a change: nothing more is coming
STOP_LIMIT_S = 10.0
RESTARTS = 3

BATCHES = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
}
QUIET = {
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_UI_ENABLED": "0",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
    "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
}


def prefect_home() -> Path:
    """Where Prefect keeps its database, as Prefect itself finds it."""
    return Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()


class EmbeddedServer:
    """`start` early, before prefect is imported; `ready` before the flow, `settled` after it, `stop` at the end."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self.api_url = os.environ.get("PREFECT_API_URL", "")

    @classmethod
    def needed(cls) -> bool:
        """False where the surroundings name a server, in the environment or in Prefect's profile."""
        if os.environ.get("PREFECT_API_URL"):
            return False
        profiles = prefect_home() / "profiles.toml"
        if not profiles.exists():
            return True
        import tomllib

        try:
            content = tomllib.loads(profiles.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return True
        active = os.environ.get("PREFECT_PROFILE") or content.get("active", "")
        return not content.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Spawn the server where none is configured; returns at once."""
        if not self.needed() or self._process is not None:
            return
        os.environ.update({name: os.environ.get(name, value) for name, value in BATCHES.items()})
        # Named protocol: without it asyncio leaves Nagle's delay on, 45 ms a request.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(512)
        self.api_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/api"
        self._process = self._spawn(self._socket.fileno())
        threading.Thread(target=self._keep_up, daemon=True).start()
        os.environ["PREFECT_API_URL"] = self.api_url

    @staticmethod
    def _spawn(fd: int) -> subprocess.Popen[bytes]:
        home = prefect_home()
        home.mkdir(parents=True, exist_ok=True)
        with (home / "reelsheet-server.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-m", "flows.embedded_server", str(fd)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(fd,),
                start_new_session=True,  # Ctrl-C is for the run, not for its server
                env={**_without_keys(), **QUIET},
            )

    def _keep_up(self) -> None:
        """A server that dies in mid-run is started again on the same socket; requests wait for it meanwhile."""
        for left in reversed(range(RESTARTS + 1)):
            process = self._process
            if process is None:
                return
            process.wait()
            if self._stopping.is_set() or self._socket is None:
                return
            if left == 0:
                self._socket.close()  # so that nobody waits for it
                return
            self._process = self._spawn(self._socket.fileno())

    def ready(self) -> None:
        """Wait until it answers. Raises ConfigurationError where it does not."""
        if self._process is None:
            return
        until = time.monotonic() + START_LIMIT_S
        url = f"{self.api_url}/health"
        while time.monotonic() < until and self._socket is not None and self._socket.fileno() >= 0:
            # The listening socket is ours already, so that the first request simply waits for its answer.
            left_s = until - time.monotonic()
            with suppress(OSError), urllib.request.urlopen(url, timeout=left_s) as answer:  # noqa: S310 - loopback
                if answer.status == 200:
                    return
            time.sleep(0.05)
        from reelsheet.errors import ConfigurationError

        raise ConfigurationError(
            f"Prefect's embedded server did not start; see {prefect_home() / 'reelsheet-server.log'}, "
            "or set PREFECT_API_URL to a running server. Nothing was spent."
        )

    async def settled(self, flow_run_id: str | None, expected: int) -> None:
        """Wait until events, logs and states of a flow run are with the server; nothing is sent after it."""
        import asyncio
        import inspect

        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogHandler

        for draining in (EventsWorker.drain_all(), APILogHandler.aflush()):
            if inspect.isawaitable(draining):
                await draining
        await asyncio.to_thread(self._drain, flow_run_id, expected)

    def _drain(self, flow_run_id: str | None, expected: int) -> int:
        """Wait until every task run of a flow run and its shards is recorded as ended; how many are."""
        if self._process is None or flow_run_id is None or expected == 0:
            return expected
        until = time.monotonic() + DRAIN_LIMIT_S
        ended, changed_at = -1, time.monotonic()
        while time.monotonic() < until and self._process.poll() is None:
            now_ended = self._ended(flow_run_id)
            if now_ended >= expected:
                return now_ended
            if now_ended != ended:
                ended, changed_at = now_ended, time.monotonic()
            elif time.monotonic() - changed_at > DRAIN_IDLE_S:
                break
            time.sleep(0.1)
        return ended

    def _ended(self, flow_run_id: str) -> int:
        body = json.dumps(
            {
                "flow_runs": {
                    "operator": "or_",
                    "id": {"any_": [flow_run_id]},
                    "parent_flow_run_id": {"any_": [flow_run_id]},
                },
                "task_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}},
            }
        ).encode()
        request = urllib.request.Request(  # noqa: S310 - http on loopback
            f"{self.api_url}/task_runs/count", body, {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return int(answer.read())
        except (OSError, ValueError):
            return -1

    def stop(self) -> None:
        """End it, gently and then not."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stdin:
                self._process.stdin.close()
            self._process = None
            os.environ.pop("PREFECT_API_URL", None)
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _without_keys() -> dict[str, str]:
    """The environment for a process that has no business with the provider, with S3 or with notifications."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("VIBEDREAM_", "REELSHEET_", "AWS_"))
    }


def serve(fd: int) -> None:
    """The server process: Prefect's API on a socket that the parent holds, gone when the parent is."""
    threading.Thread(target=_end_with_parent, args=(sys.stdin.buffer,), daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(
        create_app(), log_level="error", lifespan="on", access_log=False, timeout_graceful_shutdown=2
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])


def _end_with_parent(pipe: IO[bytes]) -> None:
    pipe.read()
    import signal

    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_LIMIT_S)
    os._exit(1)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
