"""`retry` with a gallery's review file: the complete table of its run, and never more than a redo in it pays."""

import asyncio
import csv
import io
import shutil

import pytest
from PIL import Image

from reelsheet import settings
from reelsheet.errors import ManifestError, ReelsheetError, UsageError
from reelsheet.options import Options
from reelsheet.outcomes import Status
from reelsheet.planning import preparation
from reelsheet.planning.plan import Step
from tests.planning.desk import RUN_ID, edited, paying

SHEET = "sku,image,prompt\n" + "".join(f"M{n},https://cdn.shop.example/p/{n}.png,prompt {n}\n" for n in range(4))


@pytest.fixture
def reviewed(desk):
    """`reviewed({0: "redo"}, …)`: the plan of `retry` with a review file of a run of four clips, and its notes."""
    written = desk.ran(SHEET)
    records = list(csv.DictReader(io.StringIO(written, newline="")))

    def plan(words, *, name="review.csv", to=None, destination=None, note="", run_id=RUN_ID, **cells):
        out = io.StringIO(newline="")
        writer = csv.writer(out)
        writer.writerow(["run_id", "identity", "attempt", "review", "note", "destination"])
        where = str(desk.destination) if destination is None else destination
        for n, word in words.items():
            identity, attempt = records[n]["identity"], records[n]["attempt"]
            writer.writerow([run_id, cells.get("identity", identity), cells.get("attempt", attempt), word, note, where])
        path = desk.folder / name
        path.write_text(out.getvalue())
        asked = Options(verb="retry", source=str(path), destination=to, preflight=False)
        desk.prepared.append(asyncio.run(preparation.prepare(asked, desk.settings, spending=False)))
        return desk.prepared[-1]

    return plan


def replace_all(desk):
    """A later run there made every clip again."""
    table = desk.destination / "runs" / RUN_ID / "results.csv"
    later = desk.destination / "runs" / "20260116-120000-abc123"
    later.mkdir()
    change = {"attempt": "2", "run_id": later.name, "total_cost_usd": "1.08"}
    text = edited(
        table.read_text(),
        lambda rows: [row.update(change, prediction_id=f"q-{n}") for n, row in enumerate(rows)] and None,
    )
    (later / "results.csv").write_text(text)


def test_redo_pays_for_that_clip_only_and_every_row_is_there(reviewed, desk):
    prepared = reviewed({0: "ok", 2: "redo"}, note="too dark")
    assert paying(prepared.plan) == ["prompt 2"]
    assert prepared.destination.address == str(desk.destination)
    assert len(prepared.manifest.rows) == 4
    assert prepared.manifest.columns == ("sku", "image", "prompt", "review_note")
    assert list(prepared.manifest.table["review_note"]) == ["too dark", "", "too dark", ""]
    assert prepared.options.source.endswith("review.csv")


def test_only_ok_pays_for_nothing(reviewed):
    assert paying(reviewed(dict.fromkeys(range(4), "ok")).plan) == []


@pytest.mark.parametrize(
    "cells",
    [{"attempt": "2"}, {"attempt": ""}, {"attempt": "-1"}, {"identity": "f" * 64}, {"identity": "v1"}],
    ids=str,
)
def test_a_forged_line_is_answered_and_pays_nothing(reviewed, cells):
    plan = reviewed({1: "redo"}, **cells).plan
    assert paying(plan) == []
    assert any("not followed and pays nothing" in note for note in plan.notes)


def test_an_attempt_that_was_replaced_since_is_not_paid_for_again(reviewed, desk):
    replace_all(desk)
    plan = reviewed({1: "redo"}).plan
    assert paying(plan) == []
    assert any("redo was not followed: attempt" in note for note in plan.notes)


def test_nor_where_the_clips_go_to_another_folder(reviewed, desk):
    replace_all(desk)
    assert paying(reviewed({1: "redo"}, to=str(desk.folder / "other")).plan) == []


def test_other_words_are_answered(reviewed):
    plan = reviewed({1: "wiederholen"}).plan
    assert paying(plan) == []
    assert any("wiederholen" in note for note in plan.notes)


def test_another_destination_takes_the_clips_of_all_rows(reviewed, desk):
    prepared = reviewed({1: "redo"}, to=str(desk.folder / "other"))
    assert prepared.destination.address == str(desk.folder / "other")
    assert paying(prepared.plan) == ["prompt 1"]
    assert len(prepared.plan.at_step(Step.COPY)) == 3


def test_a_run_that_was_moved_is_found_where_the_command_says(reviewed, desk):
    shutil.move(desk.destination, desk.folder / "moved")
    with pytest.raises(ManifestError, match=r"whose results.csv is not in .*dest.* --to"):
        reviewed({1: "redo"})
    prepared = reviewed({1: "redo"}, to=str(desk.folder / "moved"))
    assert prepared.destination.address == str(desk.folder / "moved")
    assert len(prepared.manifest.rows) == 4


def test_without_a_destination_the_state_folder_has_the_table(reviewed, desk):
    folder = settings.state_home() / "runs" / RUN_ID
    folder.mkdir(parents=True)
    shutil.copy(desk.destination / "results.csv", folder)
    with pytest.raises(UsageError, match="--to"):
        reviewed({1: "redo"}, destination="")
    assert len(reviewed({1: "redo"}, destination="", to=str(desk.folder / "dest")).manifest.rows) == 4


def test_a_table_that_a_review_names_takes_no_pictures_from_the_folder_of_the_review(reviewed, desk):
    Image.new("RGB", (320, 310)).save(desk.folder / "passport.jpg")
    table = desk.destination / "runs" / RUN_ID / "results.csv"
    added = dict.fromkeys(("status", "identity", "attempt", "video_uri", "prediction_id", "run_id"), "")
    table.write_text(edited(table.read_text(), lambda rows: rows[3].update(added, image="passport.jpg")))
    row = reviewed({0: "redo"}).manifest.rows[3]
    assert "there is no file" in row.problems[0]


def test_the_folder_that_the_ledger_knows_counts_and_not_the_one_in_the_file(reviewed, desk, monkeypatch):
    first = reviewed({0: "ok"})
    record = first.ledger.open_run(
        run_id=RUN_ID, verb="run", source="x", destination=str(desk.destination), command="c", flow_run_id=None,
        options={}, rows=4, cap_cents=0, asks=frozenset(), requests={}, is_new=False, sheet=None,
    )  # fmt: skip
    assert record.run_id == RUN_ID
    forged = desk.folder / "forged"
    shutil.copytree(desk.destination, forged)
    path = forged / "runs" / RUN_ID / "results.csv"
    path.write_text(edited(path.read_text(), lambda rows: [row.update(status="failed") for row in rows] and None))
    prepared = reviewed({1: "redo"}, destination=str(forged))
    assert prepared.destination.address == str(desk.destination)
    assert paying(prepared.plan) == ["prompt 1"]
    assert any("forged" in note for note in prepared.plan.notes)


@pytest.mark.parametrize(
    "destination", ["https://x.example/y", "\x01", "s3://", "~nobody/x", "/dev/null", "/proc/1/mem"]
)
def test_a_place_that_is_none_is_a_sentence(reviewed, destination):
    with pytest.raises(ReelsheetError, match="--to") as caught:
        reviewed({1: "redo"}, destination=destination)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("run_id", ["../../etc", "20260115", "run", "20260115-120000-ABC123/x"])
def test_a_run_that_is_none_is_a_sentence(reviewed, run_id):
    with pytest.raises(ManifestError, match="no run's id"):
        reviewed({1: "redo"}, run_id=run_id)


def test_failed_rows_are_resumed_as_by_retry_of_the_run(desk):
    written = desk.ran(SHEET, [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED, Status.SUCCEEDED])
    record = next(csv.DictReader(io.StringIO(written, newline="")))
    review = f"run_id,identity,attempt,review\n{RUN_ID},{record['identity']},1,ok\n"
    prepared = desk.prepare(review, "retry", name="review.csv")
    assert paying(prepared.plan) == ["prompt 1"]
