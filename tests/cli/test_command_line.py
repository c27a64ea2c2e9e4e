"""The command line: what it says when it is not meant like that, and what it refuses before anything slow."""

import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from reelsheet import __version__
from reelsheet.cli import call, execute, verb_first, verbs_of
from reelsheet.cli.usage import SPENDING
from reelsheet.cli.verbs import app

HEAVY = ("apprise", "boto3", "jinja2", "openpyxl", "pandas", "PIL", "prefect", "pydantic", "rich.table", "sqlalchemy")
VERBS = ("demo", "plan", "run", "retry", "resolve", "status", "report", "fetch", "sandbox", "init", "doctor", "worker")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working folder: no .env, no manifest."""
    monkeypatch.chdir(tmp_path)


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = call(list(words))
    output = capsys.readouterr()
    return code, output.out, output.err


# Help


def test_nothing_heavy_is_imported_for_help():
    script = f"import sys, reelsheet.cli.verbs; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_alone_it_shows_its_verbs(capsys):
    code, out, _ = command(capsys)
    assert code == 0
    assert all(re.search(rf"│ {verb}\b", out) for verb in VERBS)


def test_the_verbs_are_those_of_the_contract():
    assert set(verbs_of(app)) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_every_flag_a_sentence(verb, capsys):
    code, out, _ = command(capsys, verb, "--help")
    assert code == 0
    assert "[default" not in out
    for argument in app[verb].assemble_argument_collection():
        if argument.name != "*":  # the model whose fields are the flags
            assert (argument.parameter.help or "").endswith("."), argument.name


def test_help_shows_an_example_of_each_verb_that_works_as_it_stands_and_spends_nothing_unasked(capsys):
    out = command(capsys, "--help")[1]
    for verb in VERBS:
        (example,) = re.findall(rf"^reelsheet ({verb}\b.*?) *$", out, re.MULTILINE)
        assert f"Example: reelsheet {example}" in command(capsys, verb, "--help")[1]
        assert not SPENDING & set(example.split())


def test_help_marks_what_is_required(capsys):
    out = command(capsys, "run", "--help")[1]
    assert out.startswith("Usage: reelsheet run MANIFEST --to DEST")
    assert re.search(r"--to DEST .*\(required\)", out)
    assert out.count("[required]") == 1  # MANIFEST


def test_the_version_is_told(capsys):
    assert command(capsys, "--version") == (0, f"reelsheet {__version__}\n", "")


# What is not meant like that


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("rnu", "x"), "There is no command 'rnu'. Did you mean run?"),
        (("--json",), "--json needs a command beside it, such as run."),
        (("run",), "`reelsheet run` needs MANIFEST."),
        (("run", "a", "b"), "'b' is one word too many; put text with spaces in quotes."),
        (("run", "x", "--max-costs", "3"), "There is no --max-costs. Did you mean --max-cost?"),
        (("run", "x", "--to", "y", "--limit", "abc"), "--limit takes a whole number, not 'abc'."),
        (("run", "x", "--to", "y", "--deadline", "soon"), "--deadline takes a number, not 'soon'."),
        (("run", "x", "--to", "y", "--to", "z"), "--to is given twice."),
        (("run", "x", "--concurrency"), "--concurrency needs a value after it."),
        (("plan", "x", "--limit", "0"), "--limit must be at least 1."),
        (("run", "x", "--to", "y", "--deadline", "1e9"), "--deadline must be at most 86400."),
        (
            ("run", "x", "--to", "y", "--max-cost", "lots"),
            "'lots' is not an amount in US dollars; write it like 12.50.",
        ),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(words, sentence, capsys):
    code, out, err = command(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"reelsheet: {sentence}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("flag", ["--dest", "--destination", "--output", "--out", "--target", "--too"])
def test_other_words_for_the_destination_mean_to(capsys, flag):
    assert "Did you mean --to?" in command(capsys, "run", "x", flag, "y")[2]


@pytest.mark.parametrize("flag", sorted(SPENDING))
def test_no_hint_leads_to_a_flag_that_spends(capsys, flag):
    typos = {flag + "s", flag + flag[-1], flag[:-1], flag[:3] + flag[4:], flag[:-2] + flag[-1] + flag[-2]} - {
        flag,
        "--y",
    }
    for verb in ("run", "resolve"):
        for typo in typos:
            code, out, err = command(capsys, verb, "x", typo)
            assert (code, out) == (2, "")
            hint = err.partition("Did you mean ")[2].partition("?")[0]
            assert hint not in SPENDING
            assert not hint.startswith("--no-")


def test_every_flag_that_pays_or_skips_a_question_is_known_as_such():
    pays = re.compile(r"\b(pay again|paid for before|without asking|charged|hidden rows)\b", re.IGNORECASE)
    for verb in VERBS:
        for argument in app[verb].assemble_argument_collection():
            if pays.search(argument.parameter.help or "") and argument.hint is bool:
                assert argument.name in SPENDING


def test_the_hint_names_the_verb(capsys):
    assert "See `reelsheet run --help`." in command(capsys, "run")[2]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--json", "run", "m.csv"], ["run", "--json", "m.csv"]),
        (["--to", "run", "plan", "m.csv"], ["plan", "--to", "run", "m.csv"]),
        (["--help", "run"], ["run", "--help"]),
        (["run", "--to", "plan"], ["run", "--to", "plan"]),
        (["--version"], ["--version"]),
    ],
)
def test_flags_may_come_before_the_verb(words, meant):
    assert verb_first(words, app) == meant


# What is refused before anything slow


def test_without_a_destination_a_run_is_refused(capsys):
    code, _, err = command(capsys, "run", "m.csv", "--yes")
    assert code == 2
    assert "--to" in err


def test_a_table_is_not_written_under_a_workbook_s_name(capsys, tmp_path):
    sheet = tmp_path / "spring.xlsx"
    sheet.write_bytes(b"the sheet itself")
    for words in (("run", str(sheet), "--to", "out", "--yes"), ("report", "20260115")):
        code, _, err = command(capsys, *words, "--results", str(sheet))
        assert (code, "ends in .csv" in err) == (2, True)
    assert sheet.read_bytes() == b"the sheet itself"


def test_a_table_replaces_no_pipe_and_no_folder(capsys, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        code, _, err = command(capsys, "run", "a.csv", "--to", "out", "--yes", "--results", str(path))
        assert (code, f"{path} is no file" in err) == (2, True)


def test_without_a_terminal_a_run_wants_consent_before_it_looks_at_anything(capsys, monkeypatch):
    monkeypatch.setenv("VIBEDREAM_API_KEY", "a-key-of-some-length")
    code, out, err = command(capsys, "run", "there-is-no-such.csv", "--to", "clips")
    assert (code, out) == (2, "")
    assert "--yes, or --max-cost USD. Nothing was spent." in err
    assert not Path("clips").exists()


def test_a_working_folder_that_is_gone_is_told(tmp_path):
    words = 'mkdir x; cd x; rmdir ../x; exec "$0" -P -c "from reelsheet.cli import main; main()" plan /a.csv --to clips'
    done = subprocess.run(
        ["/bin/sh", "-c", words, sys.executable], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "reelsheet: The folder that you are in no longer exists: change to another one. Nothing was spent.\n"
    )


def test_without_a_key_a_run_is_refused_before_prefect_is_started(capsys, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", None)  # nothing may be started
    code, _, err = command(capsys, "run", "m.csv", "--to", "clips", "--yes")
    assert code == 2
    assert "VIBEDREAM_API_KEY" in err


def test_ctrl_c_is_told_in_a_sentence(capsys, monkeypatch):
    """The library that reads the flags would end the process without a word."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(execute, "show_plan", interrupted)
    code, _, err = command(capsys, "plan", "m.csv")
    assert code == 130
    assert "Interrupted." in err
    assert "pays for nothing twice" in err


ONESELF = "threading.Timer(0.3, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)).start()"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_taken_care_of_before_anything_is_imported_that_takes_time(number):
    script = (
        "import os, sys\nfrom reelsheet.cli import main, streams\n"
        "def prepare():\n    print({'asyncio', 'logging', 'typing'} & set(sys.modules), flush=True)\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "streams.prepare = prepare\nmain(['run', 'm.csv', '--to', 'clips', '--yes'])\n"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (process.returncode, process.stdout) == (128 + number, "set()\n")
    assert process.stderr.startswith("reelsheet: Interrupted.")
    assert process.stderr.count("\n") == 1


def test_after_a_run_the_process_ends_without_an_interval_in_which_a_signal_would_change_its_code():
    script = (
        "import atexit, sys\nfrom reelsheet.cli import interrupts, main\n"
        "interrupts.interrupts.is_finished = lambda: True\natexit.register(print, 'late')\nmain(['--version'])\n"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0
    assert process.stdout.startswith("reelsheet ")
    assert "late" not in process.stdout


@pytest.mark.parametrize("at_once", ["pass", ONESELF], ids=["while it waits", "where it interrupts no read"])
def test_ctrl_c_at_the_question_ends_the_command(at_once):
    """asyncio alone would note the signal and go on waiting for an answer."""
    script = (
        "import asyncio, signal, threading\nfrom reelsheet.cli import execute\nexecute.interrupts.install()\n"
        f"async def ask():\n    {at_once}\n    execute._agreed(100)\n"
        "asyncio.run(ask())\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", script], stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(ours, 1024)
    if at_once == "pass":
        process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    os.close(ours)
    assert b"Spend up to $1.00?" in shown


@pytest.mark.parametrize(
    ("answer", "agreed"), [("y\n", True), ("Ja\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_only_a_yes_is_a_yes(answer, agreed, monkeypatch, tmp_path):
    (tmp_path / "answer").write_text(answer)
    with (tmp_path / "answer").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert execute._agreed(100) is agreed


@contextmanager
def terminal(monkeypatch):
    """What is written to the first is typed; the second is where it shows what is asked.

    No fixture: pytest puts its own streams back between a fixture and its test.
    """
    ours, theirs = pty.openpty()
    asked, shown = os.pipe()
    with os.fdopen(theirs, closefd=True) as keys, os.fdopen(shown, "w") as screen:
        monkeypatch.setattr("sys.stdin", keys)
        monkeypatch.setattr("sys.stderr", screen)
        yield ours, asked
    os.close(ours)
    os.close(asked)


@pytest.mark.parametrize("early", [b"y\n", b"y\ny\n", b"y"])
@pytest.mark.parametrize(("answer", "agreed"), [(b"n\n", False), (b"y\n", True), (b"\n", False)])
def test_what_was_typed_before_the_question_is_no_answer(monkeypatch, early, answer, agreed):
    def reply():
        assert b"[y/N]" in os.read(asked, 1024)
        os.write(keyboard, answer)

    with terminal(monkeypatch) as (keyboard, asked), ThreadPoolExecutor(1) as person:
        os.write(keyboard, early)
        replied = person.submit(reply)
        assert execute._agreed(100) is agreed
        replied.result()


def test_a_program_that_answers_before_the_question_and_hangs_up_is_not_waited_for(monkeypatch):
    with terminal(monkeypatch) as (keyboard, _):
        os.write(keyboard, b"y\n\x04")  # as `echo y | script -c …` does
        assert execute._agreed(100) is False


# plan


def sheet(*rows: str) -> str:
    Path("m.csv").write_text("\n".join(["sku,image,prompt", *rows]) + "\n")
    return "m.csv"


def test_a_plan_needs_no_key_and_no_destination(capsys):
    code, out, err = command(capsys, "plan", sheet("A,https://example.com/a.jpg,push in"), "--no-preflight")
    assert (code, err) == (0, "")
    assert "m.csv: 1 row" in out
    assert "$0.54 (1 × $0.54)" in out  # noqa: RUF001


def test_a_bucket_without_s3_in_front_is_no_new_folder(capsys):
    rows = sheet("A,https://example.com/a.jpg,push in")
    for verb in ("plan",), ("run", "--yes"):
        code, _, err = command(capsys, *verb, rows, "--no-preflight", "--to", "my-bucket/x")
        assert code == 2
        assert "s3://my-bucket/x, or a new folder, ./my-bucket/x?" in err
    assert command(capsys, "plan", rows, "--no-preflight", "--to", "./my-bucket/x")[0] == 0
    Path("my-bucket").mkdir()
    assert command(capsys, "plan", rows, "--no-preflight", "--to", "my-bucket/x")[0] == 0


@pytest.mark.parametrize(("answer", "asked"), [("folder", "./my-bucket/x"), ("B\n", "s3://my-bucket/x"), ("", None)])
def test_on_a_terminal_it_is_asked(monkeypatch, capsys, answer, asked):
    monkeypatch.setattr(execute, "_can_ask", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    seen = []

    async def plan(options, *_, **__):
        seen.append(options.destination)
        return 0

    monkeypatch.setattr(execute, "_show_plan", plan)
    code, _, err = command(capsys, "plan", "m.csv", "--to", "my-bucket/x")
    assert (code, seen) == ((0, [asked]) if asked else (2, []))
    assert "[bucket/folder]" in err


def test_a_strict_plan_fails_where_rows_cannot_run(capsys):
    good, bad = "A,https://example.com/a.jpg,push in", "B,,push in"
    for rows, code in ((good,), 0), ((good, bad), 1):
        assert command(capsys, "plan", sheet(*rows), "--no-preflight", "--strict")[0] == code
    assert command(capsys, "plan", "no-such-sheet.csv", "--strict")[0] == 2


@pytest.mark.parametrize("amount", ["", " "])
def test_an_amount_that_a_shell_ate_is_explained(capsys, amount):
    code, _, err = command(capsys, "plan", "m.csv", "--max-cost", amount)
    assert code == 2
    assert "A shell takes $5 for a variable: write --max-cost 5." in err


def test_a_plan_with_bad_rows_is_still_a_plan(capsys):
    code, out, _ = command(capsys, "plan", sheet("A,,push in"), "--no-preflight", "--json")
    assert code == 0
    output = json.loads(out)
    assert (output["invalid"], output["problems"][0]["line"]) == (1, 2)


def test_a_manifest_that_cannot_be_read_is_exit_2(capsys):
    code, out, err = command(capsys, "plan", "there-is-no-such.csv")
    assert (code, out) == (2, "")
    assert err.startswith("reelsheet: ")


def test_a_template_over_columns_that_are_not_there_is_exit_2(capsys):
    code, _, err = command(
        capsys, "plan", sheet("A,https://example.com/a.jpg,x"), "--no-preflight", "--name", "{brand}"
    )
    assert code == 2
    assert "{brand}" in err
    assert "{sku}" in err


def test_what_the_run_logs_stands_where_stderr_is_at_that_moment(capsys, monkeypatch):
    import io
    import logging

    before = logging.getLogger("reelsheet")
    kept = (before.handlers, before.level, before.propagate)
    try:
        execute.quiet_prefect()
        later = io.StringIO()
        monkeypatch.setattr("sys.stderr", later)
        logging.getLogger("reelsheet").warning("stopped \x1b[2J")
        assert later.getvalue() == "reelsheet: stopped ␛[2J\n"
    finally:
        before.handlers, before.level, before.propagate = kept


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_the_sandbox_ends_its_servers(tmp_path, end):
    command = [sys.executable, "-c", "from reelsheet.cli import main; main()", "sandbox"]
    flags = ["--port", "0", "--s3-port", "0", "--clips", "tiny"]
    with (
        (tmp_path / "stderr").open("wb") as stderr,
        subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(end)
        process.wait(20)
        assert process.stdout.read() == ""  # closed by all who held it
    found = json.loads(line or "{}")
    assert not answering(found["api"])
    deadline = time.monotonic() + 20
    while answering(found["s3"]) and time.monotonic() < deadline:  # it sees that the other is gone, and follows
        time.sleep(0.05)
    assert not answering(found["s3"])


def answering(origin: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(origin.rpartition(":")[2])), timeout=5).close()
    except OSError:
        return False
    return True


def test_the_sandbox_is_served_until_ctrl_c(tmp_path):
    command = [sys.executable, "-c", "from reelsheet.cli import main; main()", "sandbox"]
    flags = ["--port", "0", "--s3-port", "0", "--clips", "tiny", "--state", str(tmp_path / "state")]
    with (
        (tmp_path / "stderr").open("wb") as stderr,
        subprocess.Popen(
            [*command, *flags], stdout=subprocess.PIPE, stderr=stderr, process_group=0, text=True
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
    assert "api" in json.loads(line or "{}"), (tmp_path / "stderr").read_text()
