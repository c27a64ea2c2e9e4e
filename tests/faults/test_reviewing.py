"""A review file from the gallery, given to `retry`: what it says is done once, with any ledger."""

import csv
from pathlib import Path

import pytest

from reelsheet import settings
from reelsheet.ledger import Ledger


def review_of(done, words: dict[str, str], destination: str, path: Path) -> Path:
    """The file that the gallery of this run gives, with a note beside each word."""
    prompts = [row.prompt for row in done.run.context.manifest.rows]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["run_id", "identity", "attempt", "review", "note", "destination"])
        for prompt, result in zip(prompts, done.results, strict=True):
            if prompt in words:
                note = f"about {prompt}"
                writer.writerow([result.run_id, result.identity, result.attempt, words[prompt], note, destination])
    return path


def gallery_of(done) -> str:
    content = done.run.context.destination.read(f"runs/{done.run.context.run_id}/gallery.html")
    return content.decode()


def forget(monkeypatch, bench) -> None:
    """Another machine: a ledger that has seen nothing."""
    url = f"sqlite:///{bench.folder / 'new.db'}"
    monkeypatch.setenv("REELSHEET_LEDGER_URL", url)
    Ledger.open(settings.load().ledger_url).close()


@pytest.mark.charges(2)
@pytest.mark.parametrize("has_ledger", [True, False], ids=["same-ledger", "new-ledger"])
async def test_a_review_of_a_run_on_s3_pays_for_redo_once(bench, bucket, monkeypatch, has_ledger):
    destination = f"s3://{bucket}/spring"
    first = await bench.deliver(bench.sheet(["one", "two", "three"]), destination=destination)
    review = review_of(first, {"one": "ok", "two": "redo"}, destination, bench.folder / "review.csv")
    if not has_ledger:
        forget(monkeypatch, bench)
    done = await bench.deliver(review, verb="retry")
    assert bench.charged() == {"one": 1, "two": 2, "three": 1}
    assert done.statuses() == ["succeeded"] * 3
    assert [result.attempt for result in done.results] == [1, 2, 1]
    assert done.run.context.destination.address == destination
    assert list(done.run.context.manifest.table["review_note"]) == ["about one", "about two", ""]
    assert "<title>sheet.csv</title>" in gallery_of(first)
    assert (
        "<title>sheet.csv</title>" if has_ledger else f"<title>Run {first.run.context.run_id}</title>"
    ) in gallery_of(done)
    again = await bench.deliver(review, verb="retry")
    assert bench.charged() == {"one": 1, "two": 2, "three": 1}
    assert any("redo was not followed: attempt" in warning for warning in again.results[1].warnings)


async def test_where_counts_the_rows_that_it_chose_beside_all_of_them(bench):
    done = await bench.deliver(bench.sheet(["one", "two", "three"]), where=("sku!=row-1",))
    chosen = done.run.monitor.chosen
    assert (chosen.rows, chosen.succeeded, chosen.skipped, chosen.cost_cents) == (2, 2, 0, 108)
    assert (done.summary.rows, done.summary.skipped, done.summary.cost_cents) == (3, 1, 108)
