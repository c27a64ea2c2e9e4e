"""Clips that are paid for and cannot be stored: each row says why, and nothing more is bought where none could be."""

import asyncio
import csv
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reelsheet.planning.plan import Step
from reelsheet.run import delivery
from reelsheet.run.submission import Submitter
from reelsheet.storage.destination import conflict
from reelsheet.storage.errors import ObjectCorrupted, StorageError
from reelsheet.storage.folder_destination import FolderDestination

UNFORESEEN = [
    RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."),
    KeyError("ETag"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ZeroDivisionError(),
    ssl.SSLError("bad record mac"),
    MemoryError(),
    TypeError("'NoneType' object is not iterable"),
]


@pytest.fixture
def fails(monkeypatch):
    """Makes the uploads of some rows (by their numbers) fail, or of all."""
    open_upload = FolderDestination.open_upload

    def arrange(error, *rows):
        def failing(self, key, *args, **kwargs):
            if key.startswith(tuple(f"videos/row-{row}-" for row in rows) or "videos/"):
                raise error(self, key) if callable(error) else error
            return open_upload(self, key, *args, **kwargs)

        monkeypatch.setattr(FolderDestination, "open_upload", failing)

    return arrange


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
async def test_an_error_that_nobody_foresaw_is_the_row_s_sentence_and_keeps_its_traceback(bench, fails, caplog, error):
    fails(error, 1)
    sheet = bench.sheet(["zero", "one", "two"])
    done = await bench.deliver(sheet, concurrency=1)
    assert done.statuses() == ["succeeded", "undelivered", "succeeded"]
    assert (done.results[1].error_code, done.exit_code) == ("storage", 1)
    assert type(error).__name__ in done.results[1].error
    assert str(error)[:40] in done.results[1].error
    assert any(record.exc_info and record.exc_info[1] is error for record in caplog.records)
    fails(error, 9)
    again = await bench.deliver(sheet)
    assert (again.statuses(), again.summary.cost_cents) == (["succeeded"] * 3, 0)


ROWS = [f"prompt {number}" for number in range(20)]


@pytest.mark.parametrize(
    "error",
    [
        KeyError("ETag"),
        StorageError("S3: writing failed (InternalError)."),
        ObjectCorrupted("It does not hold what was sent."),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.usefixtures("keeps_up")
async def test_five_copies_in_a_row_that_fail_stop_submitting(bench, fails, error):
    fails(error)
    done = await bench.deliver(bench.sheet(ROWS))
    paid = done.statuses().count("undelivered")
    assert delivery.FAILED_STREAK <= paid <= delivery.FAILED_STREAK + 3  # those that were on their way
    assert done.statuses() == ["undelivered"] * paid + ["skipped"] * (len(ROWS) - paid)
    assert (set(done.codes()), done.exit_code) == ({"storage"}, 3)
    assert sum(bench.charged().values()) == paid
    assert "5 clips in a row" in done.results[-1].error


@pytest.mark.usefixtures("keeps_up")
async def test_a_file_where_the_clips_folder_should_be_stops_submitting(bench):
    (bench.destination / "videos").mkdir(parents=True)
    (bench.destination / "videos" / "spring").touch()
    done = await bench.deliver(bench.sheet(ROWS), name="spring/{sku}")
    paid = done.statuses().count("undelivered")
    assert delivery.FAILED_STREAK <= paid <= delivery.FAILED_STREAK + 3
    assert (set(done.codes()), done.exit_code) == ({"storage"}, 3)
    assert sum(bench.charged().values()) == paid
    (bench.destination / "videos" / "spring").unlink()
    again = await bench.deliver(bench.sheet(ROWS), name="spring/{sku}")
    assert again.statuses() == ["succeeded"] * len(ROWS)


@pytest.mark.usefixtures("one_by_one")
async def test_a_clip_that_is_stored_between_resets_the_count(bench, fails):
    fails(KeyError("ETag"), 0, 1, 2, 3, 5, 6, 7, 8)
    done = await bench.deliver(bench.sheet(ROWS[:10]), concurrency=1)
    assert done.statuses().count("skipped") == 0
    assert done.statuses().count("succeeded") == 2
    assert done.exit_code == 1


async def test_what_is_wrong_with_the_clips_themselves_does_not_stop_submitting(bench, fails):
    """Their names belong to other objects, or the provider's host has no clips."""
    fails(conflict, 0, 1, 2, 3, 4, 5)
    bench.sandbox.fault(
        "asset", times=-1, answer={"status": 200, "body": "no film", "headers": {"content-type": "a/b"}}
    )
    done = await bench.deliver(bench.sheet(ROWS[:12]), concurrency=1)
    assert set(done.statuses()) == {"undelivered"}
    assert done.codes() == ["storage"] * 6 + ["asset_corrupt"] * 6
    assert done.exit_code == 1


def admit_behind(monkeypatch, most):
    """A row is paid for when at most that many earlier ones are on their way, however slow this machine is."""
    admit = Submitter.admit

    async def later(self, group):
        groups = list(self._context.plan.groups.values())
        while sum(one.step is not Step.DONE and one.outcome is None for one in groups[: groups.index(group)]) > most:
            await asyncio.sleep(0.01)
        return await admit(self, group)

    monkeypatch.setattr(Submitter, "admit", later)


@pytest.fixture
def keeps_up(monkeypatch):
    admit_behind(monkeypatch, 3)


@pytest.fixture
def one_by_one(monkeypatch):
    admit_behind(monkeypatch, 0)


@pytest.mark.usefixtures("keeps_up")
async def test_credentials_that_end_in_the_middle_stop_the_run_and_say_so(bench, bucket, monkeypatch, tmp_path):
    """As a person has it whose single sign-on ends at noon: what is bought meanwhile is only what was on its way."""
    for name, value in bench.sandbox.environment().items():
        if not name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    answer, process = tmp_path / "answer.json", tmp_path / "give-credentials"
    ends = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    good = {"Version": 1, "AccessKeyId": "testing", "SecretAccessKey": "testing", "Expiration": ends}
    answer.write_text(json.dumps(good))
    process.write_text(f'#!/bin/sh\ncat "{answer}"\n')
    process.chmod(0o755)
    (tmp_path / "config").write_text(f"[profile work]\ncredential_process = {process}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    async def at_noon(run):
        while not any(group.step == "done" for group in run.plan.groups.values()):
            await run.stops.pause(0.5)
        answer.write_text(json.dumps(good | {"Expiration": "2020-01-01T00:00:00Z"}))

    place, copy = f"s3://{bucket}/c", tmp_path / "mine.csv"
    done = await bench.deliver(bench.sheet(ROWS), destination=place, results=str(copy), meanwhile=at_noon)
    assert done.exit_code == 3
    for table in (copy, Path(done.run.monitor.files.fallback)):
        with table.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        assert [line["status"] for line in lines] == done.statuses()
        assert {line["cost_usd"] for line in lines if line["status"] != "skipped"} == {"0.54"}
    assert set(done.statuses()) == {"succeeded", "undelivered", "skipped"}
    assert set(done.codes()) == {"", "storage"}
    assert all("could not be renewed" in result.error for result in done.results if result.status != "succeeded")
    assert sum(bench.charged().values()) == len(ROWS) - done.statuses().count("skipped")
