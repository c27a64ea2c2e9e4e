"""What a row says when a second try, another ledger, a cap or a broken ledger came between."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from reelsheet.errors import LedgerError
from reelsheet.ledger import Ledger
from reelsheet.ledger.claims import Claims

OK = "a calm push in"
ODD = "the odd one"


def another_laptop(bench, monkeypatch, name="another-laptop"):
    monkeypatch.setenv("XDG_STATE_HOME", str(bench.folder / name))


async def test_a_second_try_that_was_refused_leaves_the_first_clip_and_costs_nothing_later(bench):
    """Nor may a plain run take the vacant second attempt for a row that nobody has paid for."""
    sheet = bench.sheet([OK])
    first = await bench.deliver(sheet)
    bench.sandbox.fault("submit", times=1, answer={"status": 422, "body": {"error": "not today"}})
    fresh = await bench.deliver(sheet, fresh=True)
    assert fresh.statuses() == ["failed"]
    assert (fresh.results[0].prediction_id, fresh.results[0].cost_cents) == ("", 0)
    plain = await bench.deliver(sheet)
    assert plain.statuses() == ["succeeded"]
    assert plain.results[0].prediction_id == first.results[0].prediction_id
    assert plain.results[0].reused


async def test_a_failed_row_stays_failed_for_run_when_its_retry_was_refused(bench):
    bench.sandbox.fault("submit", prompt=ODD, fail="flagged by content moderation")
    sheet = bench.sheet([ODD])
    first = await bench.deliver(sheet)
    bench.sandbox.fault("submit", times=1, answer={"status": 402})
    retried = await bench.deliver(bench.destination, verb="retry")
    assert retried.codes() == ["no_balance"]
    plain = await bench.deliver(sheet)
    assert plain.codes() == first.codes() == ["moderated"]


@pytest.mark.charges(2)
async def test_a_retry_that_had_no_balance_may_still_be_made(bench):
    bench.sandbox.fault("submit", prompt=ODD, fail="the queue broke down", times=1)
    await bench.deliver(bench.sheet([ODD]))
    bench.sandbox.fault("submit", times=1, answer={"status": 402})
    await bench.deliver(bench.destination, verb="retry")
    done = await bench.deliver(bench.destination, verb="retry")
    assert done.statuses() == ["succeeded"]
    assert done.results[0].attempt == 2


async def test_an_unknown_row_stays_unknown_where_a_cap_forbids_its_retry_and_on_another_laptop(bench, monkeypatch):
    """A table that called it skipped would have a fresh ledger pay for it."""
    bench.sandbox.fault("submit", prompt=ODD, charged=True, close="after", times=1)
    sheet = bench.sheet([ODD])
    await bench.deliver(sheet)
    capped = await bench.deliver(sheet, retry_unknown=True, max_cost_usd=0.10)
    assert capped.statuses() == ["unknown"]
    assert capped.results[0].at_risk_cents == 54
    assert "--max-cost" in capped.results[0].error
    assert capped.exit_code == 4
    another_laptop(bench, monkeypatch)
    assert (await bench.deliver(sheet)).statuses() == ["unknown"]


async def test_rows_that_fresh_did_not_come_to_are_skipped_and_keep_their_clips(bench):
    sheet = bench.sheet([OK, ODD])
    await bench.deliver(sheet)
    capped = await bench.deliver(sheet, fresh=True, max_cost_usd=0)
    assert capped.codes() == ["over_budget", "over_budget"]
    assert [line.total_cost_cents for line in capped.results] == [54, 54]
    plain = await bench.deliver(sheet)
    assert plain.statuses() == ["succeeded", "succeeded"]


async def test_what_another_ledger_paid_for_meanwhile_is_not_paid_again(bench, monkeypatch):
    """Ours was refused for want of balance; a colleague with a ledger of his own ran the sheet into the same place."""
    sheet = bench.sheet([OK])
    bench.sandbox.fault("submit", times=1, answer={"status": 402})
    assert (await bench.deliver(sheet)).codes() == ["no_balance"]
    home = bench.folder / "ours"
    ours = os.environ["XDG_STATE_HOME"]
    shutil.copytree(ours, home)
    another_laptop(bench, monkeypatch)
    assert (await bench.deliver(sheet)).statuses() == ["succeeded"]
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    done = await bench.deliver(sheet)
    assert done.statuses() == ["succeeded"]
    assert (done.summary.cost_cents, done.results[0].reused) == (0, True)


@pytest.mark.parametrize("is_answered", [False, True])
async def test_a_row_names_the_clip_that_it_has_although_another_run_is_replacing_it(bench, registers, is_answered):
    sheet = bench.sheet([OK])
    first = (await bench.deliver(sheet)).results[0]
    ledger = Ledger.open(None)

    async def replace(_run):
        registers(ledger, "another-run", permissions={first.identity: 1})
        claim = ledger.claim(first.identity, run_id="another-run", price_cents=54)
        if is_answered:
            ledger.record_id(claim.attempt, "another-prediction", 54)

    line = (await bench.deliver(sheet, meanwhile=replace)).results[0]
    ledger.close()
    assert (line.status, line.attempt, line.prediction_id) == ("succeeded", 1, first.prediction_id)
    assert (line.video_uri, line.reused) == (first.video_uri, True)
    assert line.total_cost_cents + line.at_risk_cents == 2 * 54


@pytest.mark.charges(2)
@pytest.mark.parametrize("is_gone", [False, True], ids=["copied", "fetched again"])
async def test_a_clip_whose_name_another_ledgers_clip_has_is_stored_beside_it(bench, monkeypatch, is_gone):
    """Two colleagues with ledgers of their own paid for one row, and now both deliver it to one place."""
    sheet, elsewhere = bench.sheet([OK]), bench.folder / "elsewhere"
    ours = await bench.deliver(sheet, destination=str(elsewhere))
    home = os.environ["XDG_STATE_HOME"]
    another_laptop(bench, monkeypatch)
    theirs = await bench.deliver(sheet)
    monkeypatch.setenv("XDG_STATE_HOME", home)
    if is_gone:
        shutil.rmtree(elsewhere)
    done = await bench.deliver(sheet)
    assert (done.statuses(), done.summary.cost_cents) == (["succeeded"], 0)
    assert done.results[0].prediction_id == ours.results[0].prediction_id
    assert done.results[0].video_uri != theirs.results[0].video_uri
    assert Path(theirs.results[0].video_uri).name in " ".join(done.results[0].warnings)
    again = await bench.deliver(sheet)
    assert (again.results[0].video_uri, again.results[0].reused) == (done.results[0].video_uri, True)
    assert len(list((bench.destination / "videos").iterdir())) == 2


async def test_a_workbook_of_results_is_enough_for_retry_to_pay_for_nothing_twice(bench, monkeypatch):
    """No ledger, no tables at the destination: only the workbook that a person kept."""
    bench.sandbox.fault("submit", prompt="lost answer", charged=True, close="after")
    bench.sandbox.fault("poll", prompt="slow", status=["processing"])
    first = await bench.deliver(bench.sheet([OK, "lost answer", "slow one"]), deadline_seconds=0.2)
    assert first.statuses() == ["succeeded", "unknown", "undelivered"]
    kept = bench.folder / "kept.xlsx"
    shutil.copy(bench.destination / "runs" / first.run.run_id / "results.xlsx", kept)
    shutil.rmtree(bench.destination)
    another_laptop(bench, monkeypatch)
    bench.sandbox.clear_faults()
    done = await bench.deliver(kept, verb="retry", destination=str(bench.destination))
    assert done.statuses() == ["succeeded", "unknown", "succeeded"]
    assert done.summary.cost_cents == 0
    assert sum(bench.posted().values()) == 3


async def test_a_kept_copy_of_the_results_says_itself_where_its_clips_belong(bench):
    """As a person has it elsewhere: the workbook, or the table as Excel saves it where commas are decimal signs."""
    first = await bench.deliver(bench.sheet([OK]))
    written = bench.destination / "runs" / first.run.run_id
    (bench.folder / "desk").mkdir()
    workbook, table = bench.folder / "desk" / "kept.xlsx", bench.folder / "desk" / "kept.csv"
    shutil.copy(written / "results.xlsx", workbook)
    table.write_text((written / "results.csv").read_text().replace(",", ";"))
    for kept in (workbook, table):
        done = await bench.deliver(kept, verb="retry")
        assert done.run.context.destination.address == str(bench.destination)
        assert (done.statuses(), done.summary.cost_cents) == (["succeeded"], 0)


@pytest.mark.charges(2)
async def test_every_attempt_and_output_is_adopted_from_a_bucket_alone(bench, monkeypatch, bucket):
    for name, value in bench.sandbox.environment().items():
        if not name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    import boto3

    bench.sandbox.fault("poll", prompt=OK, outputs=2)
    sheet, place = bench.sheet([OK]), f"s3://{bucket}/c"
    await bench.deliver(sheet, destination=place)
    second = await bench.deliver(sheet, destination=place, fresh=True)
    client = boto3.client("s3")
    for found in client.list_objects_v2(Bucket=bucket)["Contents"]:
        if "/videos/" not in found["Key"]:
            client.delete_object(Bucket=bucket, Key=found["Key"])
    another_laptop(bench, monkeypatch)
    done = await bench.deliver(sheet, destination=place)
    assert done.statuses() == ["succeeded"]
    assert done.results[0].attempt == 2
    assert done.results[0].total_cost_cents == 108
    assert done.results[0].video_uri == second.results[0].video_uri
    assert done.results[0].more_video_uris == second.results[0].more_video_uris != ()


@pytest.mark.parametrize(
    ("fault", "status", "later"),
    [
        ({"close": "after", "charged": True}, "unknown", "unknown"),
        ({"answer": {"status": 422, "body": {"error": "rude"}}}, "failed", "unknown"),
    ],
)
async def test_an_answer_that_the_ledger_cannot_take_is_told_as_it_was(bench, monkeypatch, fault, status, later):
    """Nobody can tell afterwards what the ledger was not told, so that a later run calls it unknown."""
    bench.sandbox.fault("submit", prompt=ODD, times=1, **fault)
    claim, broken = Claims.claim, []

    def then_full(self, *args, **kwargs):
        found = claim(self, *args, **kwargs)
        broken.append(1)
        return found

    def full(self, *args, **kwargs):
        raise LedgerError("The ledger cannot be written (disk full).")

    with monkeypatch.context() as patched:
        patched.setattr(Claims, "claim", then_full)
        patched.setattr(Claims, "record_unknown", full)
        patched.setattr(Claims, "record_refused", full)
        patched.setattr("reelsheet.run.submission.COMMIT_PAUSES_S", (0.01,))
        first = await bench.deliver(bench.sheet([ODD, OK]), concurrency=1)
    assert first.statuses() == [status, "skipped"]
    assert first.codes()[1] == "storage"
    assert first.exit_code == 3
    second = await bench.deliver(bench.sheet([ODD, OK]))
    assert second.statuses() == [later, "succeeded"]


async def test_what_the_ledger_could_not_take_at_first_is_told_to_it_before_the_end(bench, monkeypatch):
    record, refusals = Claims.record_id, []

    def at_first_full(self, *args):
        if len(refusals) < 2:
            refusals.append(1)
            raise LedgerError("The ledger cannot be written (disk full).")
        return record(self, *args)

    monkeypatch.setattr(Claims, "record_id", at_first_full)
    monkeypatch.setattr("reelsheet.run.submission.COMMIT_PAUSES_S", (0.01,))
    done = await bench.deliver(bench.sheet([OK]))
    assert done.statuses() == ["succeeded"]
    assert done.run.ledger_session.unrecorded_ids == {}
    with_id = Ledger.open()
    history = with_id.history(done.results[0].identity)
    with_id.close()
    assert (history.latest.prediction_id, history.latest.state) == (done.results[0].prediction_id, "completed")
    assert history.delivered(str(bench.destination))


async def test_the_highest_of_the_latest_quotes_is_what_is_reserved(bench):
    """A provider that changes its mind with every row does not get past the cap."""
    bench.sandbox.settings(cost_cents=54)
    bench.sandbox.fault("submit", nth=[2, 4, 6], cents=80, times=-1)
    done = await bench.deliver(bench.sheet([f"row {n}" for n in range(8)]), max_cost_usd=3.00, concurrency=1)
    assert done.exit_code == 4
    assert sum(line.cost_cents for line in done.results) <= 300


async def test_a_picture_address_that_cannot_be_signed_is_one_bad_row(bench, monkeypatch):
    from reelsheet.images import preflight

    address = preflight.provider_address

    async def odd(image, *more):
        if "balloons" in image:
            raise RuntimeError("no credentials for s3://pictures?X-Amz-Signature=secretsecret")
        return await address(image, *more)

    monkeypatch.setattr(preflight, "provider_address", odd)
    sheet = bench.sheet([OK, ODD])
    sheet.write_text(sheet.read_text().replace("perfume-dusk.jpg,the", "balloons-dawn.jpg,the"))
    done = await bench.deliver(sheet)
    assert done.statuses() == ["succeeded", "invalid"]
    assert "secretsecret" not in done.results[1].error


async def test_a_broken_page_leaves_the_table_and_the_exit_code_alone(bench, monkeypatch, caplog):
    from reelsheet.results import gallery

    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(gallery, "gallery_html", broken)
    done = await bench.deliver(bench.sheet([OK]))
    assert done.table()[0]["status"] == "succeeded"
    assert "gallery.html could not be written (ZeroDivisionError" in caplog.text


async def test_a_ledger_that_fails_when_the_table_is_written_does_not_make_the_table_fail(bench, monkeypatch):
    from reelsheet.results import earlier

    def full(*_):
        raise LedgerError("full")

    monkeypatch.setattr(earlier, "mark_imported", full)
    done = await bench.deliver(bench.sheet([OK]))
    assert done.table()[0]["status"] == "succeeded"


@pytest.mark.parametrize("failures", [1, 3])
async def test_a_clip_whose_delivery_the_ledger_did_not_take_is_named_in_the_results(bench, monkeypatch, failures):
    record, left = Claims.record_deliveries, [failures]

    def away(self, *arguments):
        if left[0]:
            left[0] -= 1
            raise LedgerError("away")
        record(self, *arguments)

    monkeypatch.setattr(Claims, "record_deliveries", away)
    done = await bench.deliver(bench.sheet([OK, ODD]))
    assert [row["status"] for row in done.table()] == ["succeeded"] * 2
    assert all(Path(row["video_uri"]).is_file() for row in done.table())


async def test_a_destination_that_fails_while_it_is_listed_is_a_sentence_and_spends_nothing(bench, monkeypatch):
    from reelsheet.errors import ConfigurationError
    from reelsheet.storage.errors import StorageError
    from reelsheet.storage.folder_destination import FolderDestination

    def down(self, under=""):
        raise StorageError("The bucket does not answer.")

    monkeypatch.setattr(FolderDestination, "listing", down)
    with pytest.raises(ConfigurationError, match="Nothing was spent"):
        await bench.deliver(bench.sheet([OK]))


async def test_a_finished_sheet_asks_the_provider_nothing(bench):
    sheet = bench.sheet([OK])
    await bench.deliver(sheet)
    before = bench.sandbox.activity()
    again = await bench.deliver(sheet)
    after = bench.sandbox.activity()
    assert again.statuses() == ["succeeded"]
    assert (after["posts"], after["polls"]) == (before["posts"], before["polls"])


async def test_a_run_that_ends_while_another_one_sends_the_row_does_not_say_that_it_was_lost(bench):
    bench.sandbox.fault("submit", times=1, delay=4.0)
    sheet = bench.sheet([OK])
    sending = asyncio.create_task(bench.deliver(sheet, destination=str(bench.folder / "first")))
    while not bench.posted():
        await asyncio.sleep(0.05)

    async def stop(run):
        while not run._open.submitter._other_claims._waiting:
            await asyncio.sleep(0.02)
        run.stops.interrupt(15)

    second = await bench.deliver(sheet, destination=str(bench.folder / "second"), meanwhile=stop)
    first = await sending
    assert second.statuses() == ["unknown"]
    assert second.results[0].error.startswith(f"Run {first.run.run_id} was sending this row")
    assert "retry-unknown" not in second.results[0].error
    assert first.statuses() == ["succeeded"]
