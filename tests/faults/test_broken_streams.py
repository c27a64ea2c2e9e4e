"""A run that pays, while nobody can be told anything: it does the same, with the same exit code."""

import csv
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from flows.embedded_server import EmbeddedServer
from tests.stand_in.broken_streams import fill, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
COMMAND = [sys.executable, "-c", "from reelsheet.cli import main; main()"]


@pytest.fixture(scope="module")
def prefect_api(prefect_home):
    """One Prefect server for all, so that each run starts quickly."""
    import asyncio

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(prefect_home))
        patch.delenv("PREFECT_API_URL", raising=False)
        server = EmbeddedServer()
        server.start()
        asyncio.run(server.ready())
        os.environ.pop("PREFECT_API_URL", None)
        yield server.api_url
        server.stop()


@pytest.fixture
def words(bench, prefect_api, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    bench.sandbox.fault("submit", prompt="bad", fail="it did not work")
    sheet = bench.sheet(["good", "bad"])
    return [*COMMAND, "run", str(sheet), "--to", str(bench.destination), "--yes", "--json"]


def assert_done(bench):
    with (bench.destination / "results.csv").open(newline="", encoding="utf-8") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["succeeded", "failed"]
    (run,) = (bench.destination / "runs").iterdir()
    assert {"results.csv", "summary.json", "gallery.html"} <= {path.name for path in run.iterdir()}
    assert len(bench.sandbox.charges()) == 2


@pytest.mark.parametrize(
    "kinds",
    [
        {"stdin": "closed", "stdout": "closed", "stderr": "closed"},
        {"stdout": "full", "stderr": "full"},
        {"stdout": "without a reader", "stderr": "not read"},
    ],
    ids=lambda kinds: " ".join(kinds.values()),
)
def test_a_run_without_streams(bench, words, kinds):
    with started(words, **kinds) as process:
        assert process.wait(200) == 1
    assert_done(bench)


@pytest.mark.parametrize("how", ["its readers go", "nobody reads any more"])
def test_a_run_whose_streams_break_in_the_middle(bench, words, how):
    bench.sandbox.settings(latency=2)
    with started(words) as process:
        until = time.monotonic() + 200
        while not bench.sandbox.charges():
            assert time.monotonic() < until
            time.sleep(0.05)
        if how == "its readers go":
            process.stdout.close()
            process.stderr.close()
            process.stdout = process.stderr = None
        else:
            writing = os.open(f"/proc/{process.pid}/fd/2", os.O_WRONLY)
            fill(writing)
            os.close(writing)
        assert process.wait(200) == 1
    assert_done(bench)


def test_a_signal_is_answered_where_nobody_can_be_told(bench, words):
    bench.sandbox.settings(latency=60)
    with started(words, stdout="full", stderr="not read") as process:
        until = time.monotonic() + 200
        while not bench.sandbox.charges():
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert (bench.destination / "results.csv").exists()


@pytest.mark.parametrize("is_ignored", [False, True], ids=["", "nohup"])
def test_a_terminal_that_is_closed_in_the_middle(bench, words, is_ignored):
    """As when its window is shut: a signal, and nothing can be written. Answers on their way are recorded first."""
    bench.sandbox.fault("submit", delay=3)
    ours, theirs = pty.openpty()

    # The first terminal that a session's leader opens is its own.
    ignoring = "trap '' HUP; " * is_ignored
    shell = ["/bin/sh", "-c", f'{ignoring}exec "$@" <>{os.ttyname(theirs)} >&0 2>&0', "sh"]
    process = subprocess.Popen([*shell, *words], start_new_session=True)
    while not select.select([ours], [], [], 0.05)[0]:
        assert process.poll() is None
    os.close(theirs)
    until = time.monotonic() + 200
    while not bench.sandbox.activity()["posts"]:
        assert time.monotonic() < until
        if select.select([ours], [], [], 0.05)[0]:
            os.read(ours, 65536)
    os.close(ours)
    assert process.wait(200) == (1 if is_ignored else 129)
    if is_ignored:
        assert_done(bench)
    else:
        with (bench.destination / "results.csv").open(newline="", encoding="utf-8") as file:
            assert "unknown" not in {row["status"] for row in csv.DictReader(file)}
