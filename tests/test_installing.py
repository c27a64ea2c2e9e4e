"""The wheel, installed by plain pip into an environment of its own, far from the checkout."""

import csv
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def call(*command: str | Path, cwd: Path, environment: dict[str, str]) -> str:
    """Its stdout; where it fails, the test does, with all that was said."""
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_installed_wheel_runs_the_demo_from_an_empty_folder_and_pays_nothing_the_second_time(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PYTHON"))}
    environment |= {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "NO_COLOR": "1"}
    for name in ("home", "empty"):
        (tmp_path / name).mkdir()
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=ROOT, environment=environment)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    programs, empty = tmp_path / "venv" / "bin", tmp_path / "empty"
    pip = (programs / "pip", "install", "--quiet", "--no-compile")
    call(*pip, f"{wheel}[sandbox]", cwd=empty, environment=dict(os.environ))

    first = call(programs / "reelsheet", "demo", cwd=empty, environment=environment)
    assert "8 of 8 rows have their clip, 1 without paying again" in first
    home = empty / "out" / "reelsheet-demo" / "demo"
    with (home / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["status"] for row in rows} == {"succeeded"}
    bucket = home.parent
    clips = {row["video_uri"].removeprefix("s3://reelsheet-demo/") for row in rows}
    assert len(clips) == 7
    assert all((bucket / clip).read_bytes()[4:8] == b"ftyp" for clip in clips)
    (gallery,) = home.glob("runs/*/gallery.html")
    assert gallery.stat().st_size

    second = call(programs / "reelsheet", "demo", cwd=empty, environment=environment)
    assert "8 of 8 rows have their clip, 8 without paying again" in second
    assert "$0.00" in second
