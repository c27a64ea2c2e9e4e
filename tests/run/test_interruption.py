"""A signal in the middle of whatever hangs: answers are awaited for a while, all is recorded, the end comes."""

import asyncio
import signal
import threading
from pathlib import Path

import pytest

from reelsheet import settings
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning import preparation
from reelsheet.planning.plan import Step
from reelsheet.results import publication
from reelsheet.run import delivery, polling, stop_control
from reelsheet.run.start import start_run
from reelsheet.run.submission import Submitter

GRACE = 0.4


@pytest.fixture
def starts(sandbox, tmp_path, monkeypatch):
    """A run of `count` rows that is interrupted once `when` is true; its results."""
    monkeypatch.setattr(stop_control, "ANSWER_GRACE_S", GRACE)
    monkeypatch.setattr(delivery, "COPY_GRACE_S", GRACE)

    async def start(when, count=3, number=signal.SIGINT, **options):
        lines = ["image,prompt", *[f"{sandbox.pictures}/perfume-dusk.jpg,row {n}" for n in range(count)]]
        sheet = tmp_path / "sheet.csv"
        sheet.write_text("\n".join(lines) + "\n")
        asked = Options(source=str(sheet), destination=str(tmp_path / "dest"), preflight=False, **options)
        prepared = await preparation.prepare(asked, settings.load())
        run = await start_run(prepared, flow_run_id=None)
        try:
            async with asyncio.timeout(15), run.session():
                await run.writer.begin(run.results())
                walking = asyncio.create_task(walk(run))
                while not when(run, sandbox):
                    await asyncio.sleep(0.01)
                run.stops.interrupt(int(number))
                await walking
            await run.refresh()
            return run, run.results()
        finally:
            run.close()
            prepared.close()

    return start


async def walk(run):
    async def row(group):
        if group.step is not Step.COPY:
            await run.generate(group.identity)
        if group.step is Step.COPY:
            await run.store(group.identity)

    async with asyncio.TaskGroup() as rows:
        for group in run.to_do():
            if group.step is Step.SUBMIT and not await run.admit(group):
                break
            rows.create_task(row(group))


def posted(run, sandbox):
    return bool(sandbox.activity()["posts"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_answer_that_comes_in_time_is_recorded(starts, sandbox, number):
    sandbox.fault("submit", delay=0.2, times=-1)
    run, found = await starts(posted, number=number)
    assert run.stops.exit_code(found) == 128 + number
    assert {line.status for line in found} <= {Status.UNDELIVERED, Status.SKIPPED}
    charged = {charge["id"] for charge in sandbox.charges()}
    assert charged == {line.prediction_id for line in found} - {""}


async def test_an_answer_that_does_not_come_in_time_is_unknown_and_at_risk(starts, sandbox):
    sandbox.fault("submit", hang=True, charged=True, times=-1)
    run, found = await starts(posted)
    status = [line.status for line in found]
    assert Status.UNKNOWN in status
    for line in found:
        assert line.at_risk_cents == (54 if line.status is Status.UNKNOWN else 0)
        assert line.error_code is (ErrorCode.SUBMIT_UNKNOWN if line.at_risk_cents else ErrorCode.INTERRUPTED)
    assert run.context.ledger.run(run.run_id).reserved_cents == 0


async def test_a_claim_that_had_not_left_is_given_back(starts, sandbox, monkeypatch):
    """The signal comes between the claim and the POST."""
    send = Submitter._send

    async def late(self, group, claim, image):
        while self._stops.signal is None:
            await asyncio.sleep(0.01)
        return await send(self, group, claim, image)

    monkeypatch.setattr(Submitter, "_send", late)
    _, found = await starts(lambda run, _: bool(run.in_flight))
    assert sandbox.charges() == []
    assert {line.status for line in found} == {Status.SKIPPED}
    assert sum(line.at_risk_cents for line in found) == 0


async def test_a_poll_that_hangs_is_not_waited_for(starts, sandbox):
    sandbox.fault("poll", prompt="row", hang=True, times=-1)
    _, found = await starts(
        lambda run, sandbox: any("0000-0000" not in polled for polled in sandbox.activity()["polls"])
    )
    assert {line.status for line in found} <= {Status.UNDELIVERED, Status.SKIPPED}
    assert Status.UNDELIVERED in {line.status for line in found}


async def test_a_download_that_drips_is_given_up_and_nothing_half_done_stays(starts, sandbox, tmp_path):
    sandbox.fault("asset", drip=200.0, times=-1)
    _, found = await starts(lambda run, sandbox: sandbox.activity()["downloads"])
    assert Status.SUCCEEDED not in {line.status for line in found}
    assert list((tmp_path / "dest").rglob("*.part")) == []
    assert list((tmp_path / "dest" / "videos").glob("*.mp4")) == []


async def test_storage_that_hangs_does_not_hold_up_the_end(starts, sandbox, monkeypatch):
    from reelsheet.storage.folder_destination import FolderUpload

    release = threading.Event()

    def hang(self, content):
        release.wait(10)

    part = FolderUpload.part

    def only_clips(self, content):
        return hang(self, content) if self._path.suffix == ".mp4" else part(self, content)

    monkeypatch.setattr(FolderUpload, "part", only_clips)
    monkeypatch.setattr(delivery, "ABORT_LIMIT_S", 0.1)
    try:
        _, found = await starts(lambda run, sandbox: sandbox.activity()["downloads"])
    finally:
        release.set()
    assert Status.UNDELIVERED in {line.status for line in found}


async def test_rows_that_wait_for_another_run_are_left(starts, sandbox, monkeypatch):
    from reelsheet.ledger import Wait
    from reelsheet.ledger.claims import Claims

    monkeypatch.setattr(Claims, "claim", lambda self, *_, **__: Wait())
    _, found = await starts(lambda run, _: bool(run._open.submitter._other_claims._waiting))
    assert {line.status for line in found} == {Status.SKIPPED}
    assert sandbox.charges() == []


async def test_a_second_interruption_changes_nothing_here(starts, sandbox):
    """The process's own handler ends it at once; the run itself has one end."""
    sandbox.fault("submit", delay=0.2, times=-1)
    run, _ = await starts(posted, number=signal.SIGINT)
    run.stops.interrupt(int(signal.SIGTERM))
    assert run.stops.signal == signal.SIGINT


async def test_polling_begins_no_more_after_a_signal(starts, sandbox):
    sandbox.settings(latency=30)
    _, found = await starts(posted)
    assert {line.error_code for line in found} == {ErrorCode.INTERRUPTED}
    assert polling.FAILED_STREAK == 10


async def test_the_table_is_kept_on_this_machine_where_the_destination_hangs(starts, sandbox, monkeypatch, tmp_path):
    from reelsheet.storage.folder_destination import FolderDestination

    sandbox.settings(latency=30)
    run, found = await starts(posted)
    release = threading.Event()
    write = FolderDestination.write

    def hang(self, key, content, content_type):
        if self is run.context.destination:
            release.wait(10)
        write(self, key, content, content_type)

    run.threads._pool = type(run.threads._pool)(4)
    monkeypatch.setattr(FolderDestination, "write", hang)
    monkeypatch.setattr(publication, "HURRY_LIMIT_S", 0.2)
    try:
        files = await run.writer.finish_tables(found, hurry=True)
    finally:
        release.set()
        run.threads.close()
    assert files.fallback
    assert (await asyncio.to_thread(Path(files.fallback).read_text)).startswith("image,prompt,status")


async def test_an_older_table_is_not_written_over_a_newer_one(starts, sandbox, tmp_path):
    run, _ = await starts(lambda run, _: all(group.step is Step.DONE for group in run.plan.groups.values()))
    newest = run.writer._next_number()
    for copy in run.writer._copies:
        copy.write(b"newest", newest)
        copy.write(b"older", newest - 1)
    assert (tmp_path / "dest" / "results.csv").read_bytes() == b"newest"
    assert (tmp_path / "dest" / "runs" / run.run_id / "results.csv").read_bytes() == b"newest"
