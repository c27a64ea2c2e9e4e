"""A results table saved again by a program: `run` and `retry` charge nothing, against a provider that keeps books."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.planning import programs

SOFFICE = shutil.which("soffice")
PROMPTS = [
    "slow push in\r\nthen hold",
    "湯気がゆっくり立ちのぼる",
    "=orbit left",
    "café, 24 frames",
    "still waiting",
    "lost",
]
UTF8, WINDOWS, UTF16 = (f"csv:Text - txt - csv (StarCalc):{how}" for how in ("44,34,76,1", "59,34,1,1", "9,34,65535,1"))


async def deliver_all_ways(bench):
    """Rows that are delivered, one that is not ready at the deadline, one whose answer was lost; the table of them."""
    bench.sandbox.fault("poll", prompt="still waiting", status=["processing"])
    bench.sandbox.fault("submit", prompt="lost", charged=True, close="after", times=1)
    done = await bench.deliver(bench.sheet(PROMPTS), deadline_seconds=1)
    assert sorted(set(done.statuses())) == ["succeeded", "undelivered", "unknown"]
    return (bench.destination / "results.csv").read_bytes().decode()


async def nothing_is_charged_for(bench, path, name):
    before = sum(bench.charged().values())
    for verb in ("run", "retry"):
        done = await bench.deliver(path, verb=verb, destination=str(bench.destination), deadline_seconds=1)
        assert done.statuses().count("succeeded") == 4, name
        assert done.statuses().count("unknown") == 1, name
        assert done.summary.cost_cents == 0
    assert sum(bench.charged().values()) == before == len(PROMPTS), name


def by_libreoffice(path, form, out):
    """The table opened and saved by LibreOffice itself."""
    profile = f"-env:UserInstallation=file://{out.parent}/profile"
    read_as = ["--infilter=Text - txt - csv (StarCalc):44,34,76,1"] if path.suffix == ".csv" else []
    command = [SOFFICE, "--headless", profile, *read_as, "--convert-to", form, "--outdir", str(out), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return next(out.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(SOFFICE is None, reason="LibreOffice is not installed")
@pytest.mark.parametrize("steps", [[WINDOWS], [UTF16], ["xlsx"], ["xlsx", UTF8]], ids=["1252", "utf16", "xlsx", "both"])
async def test_what_libreoffice_saves_is_charged_for_nothing(bench, steps):
    await deliver_all_ways(bench)
    path = Path(shutil.copy(bench.destination / "results.csv", bench.folder / "mine.csv"))
    for number, form in enumerate(steps):
        path = by_libreoffice(path, form, bench.folder / f"out{number}")
    await nothing_is_charged_for(bench, path, steps)


@pytest.mark.slow
async def test_what_programs_make_of_it_is_charged_for_nothing(bench):
    """The plans of all of them are tested in tests/planning."""
    table = await deliver_all_ways(bench)
    for change in (programs.code_page, programs.letters_apart, programs.pandas_round_trip, programs.deleted_columns):
        saved = programs.opened(table)
        change(saved, random.Random(7))
        path = bench.folder / saved.name
        path.write_bytes(saved.content())
        await nothing_is_charged_for(bench, path, change.__name__)
