"""Streams that are closed, full, without a reader, or with one that does not read: what is done stays the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reelsheet.cli import main, streams
from reelsheet.cli.interrupts import interrupts
from tests.stand_in.broken_streams import KINDS, drain, fill, started

PROGRAM = [sys.executable, "-c", "from reelsheet.cli import main; main()"]


def run(words, **kinds):
    """Exit code, stdout and stderr of the command."""
    with started([*PROGRAM, *words], **kinds) as process:
        out, err = process.communicate(timeout=100)
        return process.returncode, out, err


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(interrupts, "is_finished", lambda: False)  # a run of another test would end this process
    Path("m.csv").write_text("image,prompt\nhttps://shop.test/a.jpg,a\n")


@pytest.mark.parametrize(
    ("stdin", "stdout", "stderr"),
    [
        *(("empty", kind, "read") for kind in KINDS[:3]),
        *(("empty", "read", kind) for kind in KINDS),
        ("closed", "closed", "closed"),
        ("closed", "read", "read"),
        ("empty", "full", "full"),
        ("closed", "without a reader", "not read"),
        ("empty", "full", "closed"),
    ],
)
@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["rnu"], 2)])
def test_the_exit_code_is_the_same(stdin, stdout, stderr, words, code):
    found, out, err = run(words, stdin=stdin, stdout=stdout, stderr=stderr)
    assert found == code
    if stdout == "read":
        assert bool(out) is (code == 0)
    if stderr == "read":
        assert err.count(b"\n") == (code == 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_is_the_same(kind):
    words = ["plan", "m.csv", "--no-preflight", "--json"]
    code, out, _ = run(words, stdin="closed", stderr=kind)
    assert (code, json.loads(out)["rows"]) == (0, 1)
    if kind != "not read":
        assert run(words, stdout=kind, stderr=kind)[0] == 0


def test_no_file_gets_the_number_of_a_closed_stream():
    """What is said to stderr would be written into it."""
    script = "import os; from reelsheet.cli import streams; streams.prepare(); exit(os.open('m.csv', os.O_RDWR) < 3)"
    with started([sys.executable, "-c", script], stdin="closed", stdout="closed", stderr="closed") as process:
        assert process.wait(60) == 0


def test_a_reader_of_stdout_that_comes_late_gets_everything():
    script = "from reelsheet.cli import streams; streams.prepare(); print('x' * 300_000)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        first = process.stdout.read(1)
        assert process.poll() is None, "it waits"
        assert first + process.stdout.read() == b"x" * 300_000 + b"\n"
    assert process.returncode == 0


def test_a_reader_of_stderr_that_reads_again_gets_what_is_said_then(monkeypatch):
    monkeypatch.setattr(streams, "PATIENCE_S", 0.01)
    reading, writing = os.pipe()
    with streams._opened("stderr", writing, None) as stream:
        fill(writing)
        stream.write("dropped\n")
        assert set(drain(reading)) == set(b"x")
        stream.write("read\n" * 1000)
        assert drain(reading) == b"read\n" * 1000
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_a_stream_that_python_has_given_up_is_replaced(monkeypatch, closed):
    monkeypatch.setattr(sys, closed, None)
    for arguments, code in ((["--version"], 0), (["run", "m.csv", "--concurrency", "0"], 2)):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == code
    getattr(sys, closed).close()
