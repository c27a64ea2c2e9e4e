"""Ctrl-C and SIGTERM in each phase of the command: it ends at once, wherever it waits, and nothing is paid for."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.faults.processes import children_of, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
COMMAND = [sys.executable, "-c", "from reelsheet.cli import main; main()"]
AT_ONCE_S = 5  # a second, on a machine that does much else


class Silent:
    """A server that takes every connection and answers none."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.was_asked = threading.Event()
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            try:
                self._kept.append(self.socket.accept()[0])
            except OSError:
                return
            self.was_asked.set()

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in self._kept:
            connection.close()


@pytest.fixture
def silent():
    server = Silent()
    yield server
    server.close()


@pytest.fixture
def start(prefect_home):
    """Starts the command in the background."""
    started = []

    def begin(*words, **more):
        environment = {**os.environ, "PREFECT_HOME": str(prefect_home), **more}
        started.append(
            subprocess.Popen(
                [*COMMAND, *words], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def interrupt(process, number):
    """What it says at its end, which comes at once."""
    process.send_signal(number)
    _, said = process.communicate(timeout=AT_ONCE_S)
    assert process.returncode == 128 + number, said
    assert "Interrupted." in said
    assert "Traceback" not in said


def servers_of(process):
    """The Prefect servers that it has started."""
    return children_of(process.pid, "embedded_server")


@contextlib.contextmanager
def frozen(servers):
    """They answer nothing, and do not notice that their parent ends; they are killed at the end."""
    try:
        for server in servers:
            os.kill(server, signal.SIGSTOP)
        yield
    finally:
        for server in servers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server, signal.SIGKILL)


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        ("the sheet is fetched for a plan", signal.SIGTERM),
        ("the sheet is fetched", signal.SIGINT),
        ("the destination does not answer", signal.SIGTERM),
        ("a picture does not come", signal.SIGINT),
        ("the provider does not say if the key is good", signal.SIGTERM),
    ],
)
def test_a_signal_ends_it_at_once_while(phase, number, bench, silent, start):
    sheet, to, more = str(bench.sheet(["one"])), str(bench.destination), {}
    match phase:
        case "the sheet is fetched for a plan" | "the sheet is fetched":
            sheet = f"{silent.url}/sheet.csv"
        case "the destination does not answer":
            to, more = "s3://bucket/x", {"AWS_ENDPOINT_URL_S3": silent.url}
        case "a picture does not come":
            Path(sheet).write_text(f"image,prompt\n{silent.url}/a.jpg,a\n")
        case _:
            more = {"VIBEDREAM_BASE_URL": silent.url}
    words = ["plan", sheet, "--to", to] if "plan" in phase else ["run", sheet, "--to", to, "--yes"]
    process = start(*words, **more)
    assert silent.was_asked.wait(60)
    interrupt(process, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_while_prefect_starts(number, bench, start):
    process = start("run", str(bench.sheet(["one"])), "--to", str(bench.destination), "--yes")
    until(lambda: servers_of(process))
    with frozen(servers_of(process)):  # as slow as can be
        for line in process.stderr:
            if line.startswith("Names"):  # the end of the plan
                break
        interrupt(process, number)
    assert bench.sandbox.charges() == []


def test_a_prefect_server_that_hangs_does_not_keep_an_interrupted_run(bench, start):
    """What is paid for is recorded and the results are written, with or without Prefect."""
    bench.sandbox.settings(latency=3)
    process = start("run", str(bench.sheet(["one", "two"])), "--to", str(bench.destination), "--yes", "--json")
    until(lambda: len(bench.sandbox.charges()) == 2)
    with frozen(servers_of(process)):
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert '"undelivered": 2' in out
    assert (bench.destination / "results.csv").exists()
    assert "Traceback" not in said
