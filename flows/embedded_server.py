"""An embedded Prefect server for a single command: it keeps what ran, and never outlives its parent.

Prefect's own ephemeral server is orphaned when its parent is killed, records task runs slower than they come and
prints stack traces at the end. This one watches its parent's pipe, records in batches and writes to a log file.
Where PREFECT_API_URL is set, that server is used and none is started.
"""

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import httpx

from flows import working_folder
from reelsheet.redaction import clean
from reelsheet.surroundings import prefect_setup
from reelsheet.surroundings.machine import why_unusable
from reelsheet.surroundings.prefect_setup import prefect_home
from reelsheet.surroundings.problems import UnusableSurroundings

START_LIMIT_S = 300.0  # its first start makes a database, which takes long on a busy machine
DRAIN_LIMIT_S = 60.0
DRAIN_IDLE_S = 15.0  # without a change: nothing more is coming
STOP_LIMIT_S = 10.0
RESTARTS = 3
LOG_TAIL_BYTES = 20_000

BATCHES = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
}
QUIET = {
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_API_BASE_PATH": "/api",  # a server of the user's own may have another, for all commands
    "PREFECT_UI_ENABLED": "0",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
    "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
}


class EmbeddedServer:
    """`start` before prefect is imported; `ready` before the flow, `settled` after it, `stop` at the end."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._headers: dict[str, str] = {}  # of our own questions to it
        self._log_start = 0  # where this server's part of the log begins
        self.is_needed = self.needed()
        self.api_url = os.environ.get("PREFECT_API_URL", "")

    @staticmethod
    def needed() -> bool:
        """False where the surroundings name a server, in the environment or in Prefect's profile."""
        try:
            return not prefect_setup.active_profile().value("PREFECT_API_URL")
        except UnusableSurroundings:  # who needs a server is told by `prefect_setup.check`
            return not os.environ.get("PREFECT_API_URL")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Spawn the server where none is configured; returns at once."""
        if not self.is_needed or self._process is not None:
            return
        os.environ.update({name: os.environ.get(name, value) for name, value in BATCHES.items()})
        if login := prefect_setup.active_profile().value("PREFECT_SERVER_API_AUTH_STRING"):
            os.environ["PREFECT_API_AUTH_STRING"] = login  # this server asks for it too, whatever another one asks for
            self._headers = prefect_setup.login_header(login)
        # Named protocol: without it asyncio leaves Nagle's delay on, 45 ms a request.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(512)
        self.api_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/api"
        with suppress(OSError):
            self._log_start = (prefect_home() / "reelsheet-server.log").stat().st_size
        self._process = self._spawn(self._socket.fileno())
        threading.Thread(target=self._keep_up, daemon=True).start()
        os.environ["PREFECT_API_URL"] = self.api_url

    @staticmethod
    def _spawn(fd: int) -> subprocess.Popen[bytes]:
        home = prefect_home().absolute()
        home.mkdir(parents=True, exist_ok=True)
        with (home / "reelsheet-server.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-P", "-m", "flows.embedded_server", str(fd)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(fd,),
                start_new_session=True,  # Ctrl-C is for the run, not for its server
                cwd=Path(__file__).parents[1],  # Prefect's migrations import from the folder that they are started in
                env={**_without_keys(), **QUIET, "PREFECT_HOME": str(home)},
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

    async def ready(self) -> None:
        """Wait until it answers. Raises ConfigurationError where it does not."""
        if self._process is None:
            return
        import httpx

        until = time.monotonic() + START_LIMIT_S
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:  # noqa: S501 - http on loopback
            while time.monotonic() < until and self._socket is not None and self._socket.fileno() >= 0:
                # The listening socket is ours already, so that the first request simply waits for its answer.
                with suppress(httpx.HTTPError):
                    answer = await client.get(f"{self.api_url}/health", timeout=until - time.monotonic())
                    if answer.status_code == 200:
                        return
                await asyncio.sleep(0.05)
        from reelsheet.errors import ConfigurationError

        log, why = prefect_home() / "reelsheet-server.log", why_unusable(prefect_home()) or self._last_words()
        database = prefect_setup.database_setting(prefect_setup.active_profile())
        home = f"Correct {database}" if database else "Set PREFECT_HOME to another folder"
        raise ConfigurationError(
            f"Prefect's embedded server did not start{f' ({why})' if why else ''}. {home}, "
            f"or set PREFECT_API_URL to a running server; {log} has the details. Nothing was spent."
        )

    def _last_words(self) -> str:
        """The last error that the server has written to its log since it was started."""
        with suppress(OSError), (prefect_home() / "reelsheet-server.log").open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()
            errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Refused|Exit)\b", line)]
            return clean(errors[-1], limit=200) if errors else ""
        return ""

    async def settled(self, flow_run_id: str, expected: int) -> None:
        """Wait until events, logs and states of a flow run are with the server; nothing is sent after it."""
        import inspect

        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogHandler

        for draining in (EventsWorker.drain_all(), APILogHandler.aflush()):
            if inspect.isawaitable(draining):
                await draining
        if self._process is not None and expected:
            await self._drain(flow_run_id, expected)

    async def _drain(self, flow_run_id: str, expected: int) -> int:
        """Wait until every task run of a flow run and its shards is recorded as ended; how many are."""
        import httpx

        until = time.monotonic() + DRAIN_LIMIT_S
        ended, changed_at = -1, time.monotonic()
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=10) as client:  # noqa: S501 - http on loopback
            while time.monotonic() < until and self._process is not None and self._process.poll() is None:
                now_ended = await self._ended(client, flow_run_id)
                if now_ended >= expected:
                    return now_ended
                if now_ended != ended:
                    ended, changed_at = now_ended, time.monotonic()
                elif time.monotonic() - changed_at > DRAIN_IDLE_S:
                    break
                await asyncio.sleep(0.1)
        return ended

    async def _ended(self, client: "httpx.AsyncClient", flow_run_id: str) -> int:
        import httpx

        body = {
            "flow_runs": {
                "operator": "or_",
                "id": {"any_": [flow_run_id]},
                "parent_flow_run_id": {"any_": [flow_run_id]},
            },
            "task_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}},
        }
        try:
            answer = await client.post(f"{self.api_url}/task_runs/count", json=body, headers=self._headers)
            return int(answer.text)
        except (httpx.HTTPError, ValueError):
            return -1

    def stop(self, *, wait: bool = True) -> None:
        """End it, gently and then not; `wait` False leaves it to its own end."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_LIMIT_S if wait else 0)
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
    threading.Thread(target=_end_with_parent, daemon=True).start()
    working_folder.ignore()
    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(
        create_app(), log_level="error", lifespan="on", access_log=False, timeout_graceful_shutdown=2
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    import signal

    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_LIMIT_S)
    os._exit(1)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
