"""Every copy of the table is true, however the places fail that take it: each is written on its own."""

import asyncio
import csv
import json
import threading
from pathlib import Path

import pytest

from reelsheet.errors import ConfigurationError
from reelsheet.ledger.claims import Claims
from reelsheet.results import gallery, publication, workbook
from reelsheet.storage.errors import StorageError
from reelsheet.storage.folder_destination import FolderDestination

FULL = StorageError("The disk is full.")


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def statuses(path):
    return [line["status"] for line in read(path)]


@pytest.fixture
def refuses(bench, monkeypatch):
    """From when the last row is paid for, some files below the destination, or anywhere, cannot be written."""
    write, record = FolderDestination.write, Claims.record_completed
    paid = threading.Event()

    def completed(self, *args):
        paid.set()
        return record(self, *args)

    def arrange(error, matches):
        def failing(self, key, *args):
            if paid.is_set() and matches(f"{self.root}/{key}"):
                raise error
            return write(self, key, *args)

        monkeypatch.setattr(FolderDestination, "write", failing)

    monkeypatch.setattr(Claims, "record_completed", completed)
    return arrange


ERRORS = [FULL, KeyError("ETag"), RuntimeError("still expired"), TimeoutError("timed out")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_destination_that_takes_no_table_at_the_end_leaves_the_others_true(bench, refuses, caplog, error):
    refuses(error, lambda path: path.startswith(str(bench.destination)))
    copy = bench.folder / "mine.csv"
    done = await bench.deliver(bench.sheet(["one", "two"]), results=str(copy))
    assert (done.exit_code, done.summary.exit_code) == (3, 3)
    kept = done.run.monitor.files.fallback
    assert statuses(copy) == statuses(Path(kept)) == ["succeeded", "succeeded"]
    assert [line["cost_usd"] for line in read(copy)] == ["0.54", "0.54"]
    assert f"{bench.destination}/results.csv" in caplog.text
    assert kept in caplog.text
    assert str(copy) not in caplog.text


async def test_the_latest_table_that_is_refused_leaves_the_run_s_own(bench, refuses, caplog):
    refuses(FULL, lambda path: path == f"{bench.destination}/results.csv")
    done = await bench.deliver(bench.sheet(["one"]))
    files = done.run.monitor.files
    assert (done.exit_code, files.fallback) == (3, "")
    assert statuses(Path(files.results)) == ["succeeded"]
    assert f"could not be written to {bench.destination}/results.csv (The disk is full)" in caplog.text


async def test_the_run_s_own_table_that_is_refused_leaves_the_latest(bench, refuses):
    refuses(FULL, lambda path: path.startswith(f"{bench.destination}/runs"))
    done = await bench.deliver(bench.sheet(["one"]))
    assert done.exit_code == 3
    assert statuses(bench.destination / "results.csv") == ["succeeded"]
    assert statuses(Path(done.run.monitor.files.fallback)) == ["succeeded"]


@pytest.mark.parametrize("name", ["mine.csv", "./mine.csv", "new/mine.csv", "~/mine.csv", "{}/mine.csv"])
async def test_a_results_file_is_written_wherever_its_name_says(bench, monkeypatch, name):
    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("HOME", str(bench.folder))
    done = await bench.deliver(bench.sheet(["one"]), results=name.format(bench.folder / "far"))
    assert done.exit_code == 0
    (copy,) = bench.folder.rglob("mine.csv")
    assert copy.read_bytes() == Path(done.run.monitor.files.results).read_bytes()


@pytest.mark.parametrize("name", ["a-file/x.csv", "/proc/1/x.csv", "dangling.csv", "/dev/null/x.csv", "x" * 300])
async def test_a_results_file_that_cannot_be_written_is_refused_before_there_is_a_run(bench, name):
    (bench.folder / "a-file").touch()
    (bench.folder / "dangling.csv").symlink_to("/proc/1/x.csv")
    path = str(bench.folder / name)
    with pytest.raises(ConfigurationError) as caught:
        await bench.deliver(bench.sheet(["one"]), results=path)
    assert str(caught.value).startswith(f"--results {path}: ")
    assert str(caught.value).endswith("Nothing was spent.")
    assert not bench.posted()
    assert not bench.destination.exists()


async def test_a_results_file_that_is_there_stays_as_it_is_until_there_is_a_run(bench, monkeypatch):
    copy = bench.folder / "mine.csv"
    copy.write_text("mine")
    (bench.folder / "videos").touch()  # it is nobody's business what else is there
    monkeypatch.setenv("REELSHEET_NOTIFY_URL", "nonsense")
    with pytest.raises(ConfigurationError, match="REELSHEET_NOTIFY_URL"):
        await bench.deliver(bench.sheet(["one"]), results=str(copy))
    assert copy.read_text() == "mine"
    assert sorted(path.name for path in bench.folder.iterdir()) == ["dest", "mine.csv", "sheet.csv", "videos"]


def test_a_results_file_in_the_root_folder_is_not_written_elsewhere(monkeypatch):
    written = []
    monkeypatch.setattr(FolderDestination, "write", lambda place, key, *_: written.append((place.address, key)))
    publication._write_local("/mine.csv", b"")
    assert written == [("/", "mine.csv")]


def test_a_link_as_a_results_file_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
    publication._write_local(str(tmp_path / "link.csv"), b"id")
    assert (tmp_path / "target.csv").read_bytes() == b"id"
    assert (tmp_path / "link.csv").is_symlink()


async def test_a_results_file_that_cannot_be_written_any_more_is_named_and_not_the_destination(bench, refuses, caplog):
    copy = bench.folder / "mine.csv"
    refuses(FULL, lambda path: path == str(copy))
    done = await bench.deliver(bench.sheet(["one"]), results=str(copy))
    assert (done.statuses(), done.exit_code) == (["succeeded"], 3)
    files = done.run.monitor.files
    assert (files.fallback, files.failed) == ("", (str(copy),))
    assert statuses(bench.destination / "results.csv") == statuses(Path(files.results)) == ["succeeded"]
    assert f"could not be written to {copy} (The disk is full); they are in {files.results}" in caplog.text
    summary = Path(files.folder) / "summary.json"
    assert json.loads(summary.read_text())["exit_code"] == 3


async def test_a_place_on_this_machine_that_is_full_as_well_ends_no_run(bench, refuses):
    refuses(FULL, lambda path: "mine.csv" not in path)
    copy = bench.folder / "mine.csv"
    done = await bench.deliver(bench.sheet(["one"]), results=str(copy))
    assert (done.statuses(), done.exit_code) == (["succeeded"], 3)
    assert statuses(copy) == ["succeeded"]


PAGES = {
    "gallery.html": lambda broken: (gallery, "gallery_html", broken),
    "results.xlsx": lambda broken: (workbook, "results_xlsx", broken),
    "failed.csv": lambda broken: (publication.table, "failed_csv", broken),
}


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_that_cannot_be_made_leaves_the_others(bench, monkeypatch, caplog, page):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(*PAGES[page](broken))
    done = await bench.deliver(bench.sheet(["one"]))
    names = {path.name for path in Path(done.run.monitor.files.folder).iterdir()}
    assert {"results.csv", "summary.json", *PAGES} - names == {page}
    assert f"{page} could not be written (ZeroDivisionError" in caplog.text
    assert done.exit_code == 0


async def test_a_page_that_the_destination_refuses_leaves_the_others(bench, refuses, caplog):
    refuses(FULL, lambda path: path.endswith("summary.json"))
    done = await bench.deliver(bench.sheet(["one"]))
    names = {path.name for path in Path(done.run.monitor.files.folder).iterdir()}
    assert {"results.csv", *PAGES} <= names
    assert "summary.json could not be written (The disk is full)" in caplog.text


async def test_a_destination_that_hangs_in_the_middle_leaves_the_other_copy_fresh(bench, monkeypatch):
    """And one that fails has its table on this machine, for a run that is killed then."""
    monkeypatch.setattr(publication, "TABLE_INTERVAL_S", 0.05)
    write, hanging, release = FolderDestination.write, threading.Event(), threading.Event()

    def slow(self, key, *args):
        if hanging.is_set() and key == "results.csv" and self.root == bench.destination:
            release.wait(20)
        if hanging.is_set() and key.startswith("runs/") and self.root == bench.destination and not release.is_set():
            raise FULL
        return write(self, key, *args)

    monkeypatch.setattr(FolderDestination, "write", slow)
    copy, sheet = bench.folder / "mine.csv", bench.sheet(["one", "two"])
    seen = []

    async def meanwhile(run):
        hanging.set()
        while not all(group.step == "done" for group in run.plan.groups.values()):
            await run.writer.checkpoint(run.results)
            await asyncio.sleep(0.02)
        for _ in range(2):
            await asyncio.sleep(0.1)
            await run.writer.checkpoint(run.results)
        seen.extend(statuses(path) for path in (copy, Path(run.writer._kept.place)))
        release.set()

    monkeypatch.setattr(publication, "TABLE_SHARE", 0)
    done = await bench.deliver(sheet, results=str(copy), meanwhile=meanwhile)
    assert seen == [["succeeded", "succeeded"]] * 2
    assert statuses(bench.destination / "results.csv") == ["succeeded", "succeeded"]
    assert done.exit_code == 0
