"""Nothing in the folder that a command is called in is executed, by any process that the product starts."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reelsheet.cli import _keep_folder_out_of_imports
from tests.security.trap import Trap

pytestmark = pytest.mark.timeout(400)
SCRIPT = [str(Path(sys.executable).with_name("reelsheet"))]


@pytest.fixture
def trap(tmp_path):
    return Trap(tmp_path)


@pytest.fixture
def surroundings(tmp_path):
    found = {**os.environ, "HOME": str(tmp_path)}
    found.pop("PREFECT_HOME", None)
    return found


def command(trap, environment, *words, code=0):
    done = subprocess.run(
        [*SCRIPT, *words], cwd=trap.folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=350, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "file"), [("queue", "queue.py"), ("prefect", "logging.yml"), ("prefect", "home"), ("flows", "flows")]
)
def test_the_trap_springs_where_nobody_is_careful(trap, surroundings, module, file):
    if module == "prefect":
        program = [sys.executable, "-P", "-c", "import prefect.logging.configuration as c; c.setup_logging()"]
    else:
        program = [sys.executable, "-c", f"import {module}"]
    subprocess.run(program, cwd=trap.folder, env=surroundings, capture_output=True, timeout=100, check=False)
    assert file in trap.sprung()


@pytest.mark.slow
def test_a_run_with_its_server_executes_nothing(sandbox, trap, surroundings, prefect_home):
    shutil.copytree(prefect_home, Path(surroundings["HOME"]) / ".prefect")
    (trap.folder / "sheet.csv").write_text(f"image,prompt\n{sandbox.pictures}/morning-mug.jpg,a\n")
    done = command(trap, surroundings, "run", "sheet.csv", "--to", "clips", "--yes", "--json")
    assert json.loads(done.stdout)["flow_run_id"], "a server was started"
    assert ".env cannot set " in done.stderr
    assert trap.sprung() == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [("plan", "sheet.csv", "--no-preflight"), ("doctor",), ("status",), ("--help",)])
def test_no_verb_executes_anything(sandbox, trap, surroundings, words):
    (trap.folder / "sheet.csv").write_text("image,prompt\nhttps://shop.test/a.jpg,a\n")
    command(trap, surroundings, *words)
    assert trap.sprung() == []


@pytest.mark.slow
def test_the_sandbox_and_its_storage_execute_nothing(trap, surroundings):
    words = ["sandbox", "--port", "0", "--s3-port", "0", "--clips", "tiny"]
    with subprocess.Popen(
        [*SCRIPT, *words], cwd=trap.folder, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert json.loads(process.stdout.readline())["s3"]
        process.terminate()
    assert trap.sprung() == []


@pytest.mark.parametrize(
    ("named", "kept"),
    [("", ""), (":/opt/modules", "/opt/modules"), (".:/opt/a:x/y:/opt/b", "/opt/a:/opt/b"), (".", "")],
)
def test_a_python_path_that_names_the_folder_has_no_effect(named, kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", named)
    parts = [str(Path(part).absolute()) for part in named.split(":")] if named else []
    monkeypatch.setattr(sys, "path", ["", *parts, "/usr/lib/python3"])
    _keep_folder_out_of_imports()
    assert sys.path == [*filter(None, kept.split(":")), "/usr/lib/python3"]
    assert os.environ["PYTHONPATH"] == kept
    assert subprocess.run([sys.executable, "-c", "import sys; exit('' in sys.path)"], check=False).returncode == 0
