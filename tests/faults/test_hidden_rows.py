"""Rows that a workbook hides from its author are not paid for, and keep what they have."""

import csv
from pathlib import Path

import openpyxl
import pytest

from reelsheet import settings
from reelsheet.ledger import Ledger
from reelsheet.run.rebuild import load_run


def workbook(bench, prompts, *, hidden=(), name="sheet.xlsx") -> Path:
    """A workbook with a row for each prompt; `hidden` are row numbers as Excel counts."""
    book = openpyxl.Workbook()
    book.active.append(["sku", "image", "prompt"])
    for n, prompt in enumerate(prompts):
        book.active.append([f"row-{n}", f"{bench.sandbox.pictures}/perfume-dusk.jpg", prompt])
    for row in hidden:
        book.active.row_dimensions[row].hidden = True
    book.save(bench.folder / name)
    return bench.folder / name


def marked(path: Path, *, review: dict[str, str]) -> Path:
    """The same results table with these words in the `review` cells of these rows."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *records = csv.reader(file)
    sku, cell = header.index("sku"), header.index("review")
    for record in records:
        record[cell] = review.get(record[sku], record[cell])
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *records])
    return path


async def test_hidden_rows_are_skipped_and_do_not_count_for_the_exit_code(bench):
    done = await bench.deliver(workbook(bench, ["one", "two", "three"], hidden=[3, 4]))
    assert bench.charged() == {"one": 1}
    assert done.statuses() == ["succeeded", "skipped", "skipped"]
    assert done.codes() == ["", "hidden", "hidden"]
    assert "--include-hidden" in done.results[1].error
    assert done.exit_code == 0


async def test_retry_pays_for_hidden_rows_only_when_asked_to(bench):
    await bench.deliver(workbook(bench, ["one", "two"], hidden=[3]))
    table = bench.destination / "results.csv"
    for verb in ("retry", "run"):
        done = await bench.deliver(table, verb=verb, destination=str(bench.destination))
        assert (done.statuses(), done.codes()) == (["succeeded", "skipped"], ["", "hidden"])
        assert (bench.charged(), done.exit_code) == ({"one": 1}, 0)
    done = await bench.deliver(table, verb="retry", include_hidden=True)
    assert done.statuses() == ["succeeded", "succeeded"]
    assert bench.charged() == {"one": 1, "two": 1}


@pytest.mark.charges(2)
async def test_a_hidden_row_keeps_its_clip_and_its_verdict(bench):
    bench.sandbox.fault("submit", prompt="bad", fail="the queue broke down", times=1)
    first = await bench.deliver(workbook(bench, ["one", "bad", "two"]))
    assert first.statuses() == ["succeeded", "failed", "succeeded"]
    done = await bench.deliver(workbook(bench, ["one", "bad", "two"], hidden=[2, 3]), fresh=True, max_cost_usd=9)
    assert bench.charged() == {"one": 1, "bad": 1, "two": 2}
    assert done.statuses() == ["succeeded", "failed", "succeeded"]
    assert done.results[0].video_uri == first.results[0].video_uri
    assert done.exit_code == 0, "the failed row is hidden"


@pytest.mark.charges(2)
async def test_redo_on_a_hidden_row_is_answered_and_not_paid(bench):
    await bench.deliver(workbook(bench, ["one", "two"]))
    table = marked(bench.destination / "results.csv", review={"row-0": "redo", "row-1": "redo"})
    book = openpyxl.Workbook()
    with table.open(newline="", encoding="utf-8") as file:
        for record in csv.reader(file):
            book.active.append(record)
    book.active.row_dimensions[3].hidden = True
    book.save(bench.folder / "review.xlsx")
    done = await bench.deliver(bench.folder / "review.xlsx", verb="retry", destination=str(bench.destination))
    assert bench.charged() == {"one": 2, "two": 1}
    assert not any("Redo" in warning for warning in done.results[0].warnings)
    assert any("Redo was not followed" in warning for warning in done.results[1].warnings)


async def test_a_hidden_row_that_is_the_same_as_a_shown_one_is_delivered_with_it(bench):
    done = await bench.deliver(workbook(bench, ["one", "one", "two"], hidden=[2, 4]))
    assert bench.charged() == {"one": 1}
    assert done.statuses() == ["succeeded", "succeeded", "skipped"]
    assert [result.cost_cents for result in done.results] == [0, 54, 0], "money stands on the row that was to be run"


async def test_a_report_of_the_run_says_the_same_of_hidden_rows(bench):
    done = await bench.deliver(workbook(bench, ["one", "one", "", "two"], hidden=[2, 4, 5]))
    current = settings.load()
    ledger = Ledger.open(current.ledger_url)
    try:
        again = load_run(ledger.run(done.run.run_id), ledger, current)
        results = again.results()
        again.close()
        assert again.exit_code(results) == done.exit_code == 0
    finally:
        ledger.close()
    said = [(result.status, result.error_code, result.error, result.cost_cents) for result in results]
    assert said == [(result.status, result.error_code, result.error, result.cost_cents) for result in done.results]
