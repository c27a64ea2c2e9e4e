"""What a run goes on with in another process: what it began with, whatever has become of the sheet since."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from reelsheet import settings
from reelsheet.errors import ConfigurationError
from reelsheet.ledger import Ledger
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning import preparation
from reelsheet.planning.plan import OPEN, Step
from reelsheet.run.resumption import resumed_preparation
from reelsheet.run.start import start_run

FLOW_RUN = "5f0c1d1e-0000-0000-0000-000000000001"


@pytest.fixture
def sheet(tmp_path: Path, sandbox):
    path = tmp_path / "sheet.csv"

    def write(*prompts: str, image: str = "perfume-dusk.jpg") -> Path:
        lines = ["image,prompt", *[f"{sandbox.pictures}/{image},{prompt}" for prompt in prompts]]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture
def begins(tmp_path, sandbox):
    """A run that ends after `done` rows, as if its process had died; the preparation that goes on with it."""

    async def begin(sheet: Path, done: int = 0, **options):
        asked = Options(source=str(sheet), destination=str(tmp_path / "dest"), **{"preflight": False} | options)
        prepared = await preparation.prepare(asked, settings.load())
        run = await start_run(prepared, flow_run_id=FLOW_RUN)
        async with run.session():
            await run.writer.begin(run.results())
            await run.write_notes()
            for group in run.to_do()[:done]:
                assert await run.admit(group)
                await run.generate(group.identity)
                await run.store(group.identity)
        run.close()
        prepared.close()
        return run

    return begin


async def resumed():
    return await asyncio.to_thread(resumed_preparation, FLOW_RUN, settings.load())


async def finish(prepared):
    run = await start_run(prepared, flow_run_id=FLOW_RUN)
    async with run.session():
        for group in run.to_do():
            assert group.step is not Step.SUBMIT or await run.admit(group)
            await run.generate(group.identity)
            await run.store(group.identity)
    await run.refresh()
    run.close()
    prepared.close()
    return run


async def test_the_copy_of_the_sheet_counts_not_the_sheet_as_it_is_now(begins, sheet, sandbox):
    run = await begins(sheet("one", "two", "three"), done=1)
    sheet("four", "five")
    again = await finish(await resumed())
    assert again.run_id == run.run_id
    assert [row.prompt for row in again.context.manifest.rows] == ["one", "two", "three"]
    assert {result.status for result in again.results()} == {Status.SUCCEEDED}
    assert Counter(charge["prompt"] for charge in sandbox.charges()) == {"one": 1, "two": 1, "three": 1}


async def test_the_prompts_that_a_template_made_stay(begins, sheet, sandbox, tmp_path):
    first = await preparation.prepare(
        Options(source=str(sheet("one", "two")), destination=str(tmp_path / "dest"), prompt="{prompt} turns", limit=1),
        settings.load(),
    )
    run = await start_run(first, flow_run_id=None)
    async with run.session():
        await run.writer.begin(run.results())
    run.close()
    first.close()
    table = tmp_path / "dest" / "runs" / run.run_id / "results.csv"
    await begins(table, done=1, verb="retry")
    table.write_text("image,prompt\n")
    again = await finish(await resumed())
    assert {result.status for result in again.results()} == {Status.SUCCEEDED}
    assert [result.prompt_sent for result in again.results()] == ["one turns", "two turns"]
    assert [list(record)[1] for record in again.context.manifest.records()] == ["one", "two"]
    assert Counter(charge["prompt"] for charge in sandbox.charges()) == {"one turns": 1, "two turns": 1}


async def test_options_and_cap_stay(begins, sheet):
    run = await begins(sheet("one", "two"), max_cost_usd=0.6, concurrency=3, deadline_seconds=77.0)
    prepared = await resumed()
    assert (prepared.options.concurrency, prepared.options.deadline_seconds) == (3, 77.0)
    again = await start_run(prepared, flow_run_id=FLOW_RUN)
    assert again.context.record.cap_cents == run.context.record.cap_cents == 60
    again.close()
    prepared.close()


async def test_a_limit_is_not_counted_anew(begins, sheet, sandbox):
    await begins(sheet("one", "two", "three", "four"), done=1, limit=2)
    again = await finish(await resumed())
    codes = [result.error_code for result in again.results()]
    assert codes == [None, None, ErrorCode.OVER_LIMIT, ErrorCode.OVER_LIMIT]
    assert len(sandbox.charges()) == 2


async def test_a_picture_that_was_refused_is_not_paid_for(begins, sheet, sandbox):
    await begins(sheet("one", "two", image="no-such-picture.jpg"), preflight=True)
    prepared = await resumed()
    assert not prepared.plan.at_step(*OPEN)
    again = await finish(prepared)
    assert {result.status for result in again.results()} == {Status.INVALID}
    assert not sandbox.charges()


async def test_what_it_paid_for_again_is_not_paid_for_once_more(begins, sheet, sandbox):
    await finish_first(begins, sheet)
    sandbox.reset()
    await begins(sheet("one", "two"), done=1, fresh=True)
    again = await finish(await resumed())
    assert {result.status for result in again.results()} == {Status.SUCCEEDED}
    assert Counter(charge["prompt"] for charge in sandbox.charges()) == {"one": 1, "two": 1}


async def finish_first(begins, sheet):
    await begins(sheet("one", "two"), done=2)
    ledger = Ledger.open(settings.load().ledger_url)
    ledger.finish_run(ledger.recent_runs()[0].run_id, exit_code=0, summary={})
    with ledger.database.write() as connection:  # its flow run is another
        from reelsheet.ledger import schema as s

        connection.execute(s.runs.update().values(flow_run_id=None))
    ledger.close()


async def test_a_run_without_its_copy_is_prepared_from_the_sheet(begins, sheet, tmp_path):
    run = await begins(sheet("one"))
    (tmp_path / "dest" / "runs" / run.run_id / "manifest.csv").unlink()
    assert await resumed() is None


async def test_a_run_that_nobody_began_has_nothing_to_go_on_with(sandbox):
    assert await resumed() is None


@pytest.mark.parametrize(("name", "value"), [("REELSHEET_MODEL", "other"), ("VIBEDREAM_API_KEY", "")])
async def test_a_machine_that_is_set_up_otherwise_does_not_go_on_with_it(begins, sheet, name, value, monkeypatch):
    await begins(sheet("one"))
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"key|model"):
        await resumed()


async def test_a_destination_that_cannot_be_written_is_said_before_anything_is_paid_for(begins, sheet, tmp_path):
    await begins(sheet("one"))
    (tmp_path / "dest").rename(tmp_path / "moved")
    (tmp_path / "dest").write_text("a file")
    with pytest.raises(ConfigurationError):
        await resumed()


async def test_an_edited_row_of_a_results_table_is_not_submitted_by_the_run_that_goes_on(
    begins, sheet, sandbox, tmp_path
):
    asked = Options(source=str(sheet("one")), destination=str(tmp_path / "dest"), preflight=False)
    prepared = await preparation.prepare(asked, settings.load())
    run = await start_run(prepared, flow_run_id=None)
    async with run.session():
        await run.writer.begin(run.results())
        for group in run.to_do():
            await run.admit(group)
            await run.generate(group.identity)  # and not stored: paid for, and to be copied
        await run.writer.checkpoint(run.results())
    run.close()
    prepared.close()
    edited = tmp_path / "edited.csv"
    edited.write_text((tmp_path / "dest" / "results.csv").read_text().replace(",one,", ",another,"))
    await begins(edited)
    again = await resumed()
    assert [(group.step, group.held is not None) for group in again.plan.groups.values()] == [(Step.COPY, True)]
    finished = await finish(again)
    assert [result.status for result in finished.results()] == [Status.SUCCEEDED]
    assert [charge["prompt"] for charge in sandbox.charges()] == ["one"]
