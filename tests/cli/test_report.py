"""`report`: results and gallery again, from the ledger and the folder."""

import csv
import io
import json

from reelsheet import settings
from reelsheet.cli import call
from reelsheet.ledger import Note, Sheet
from reelsheet.manifest.identity import identity_of
from reelsheet.manifest.rows import parse
from reelsheet.results.table import manifest_csv

RUN = "20260115-120000-1f3a9c"
PROVIDER = {"base_url": "https://api.vibedream.ai", "model": "i2v-pro"}


def table(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


def test_report_rebuilds_a_killed_run_from_ledger_and_folder(killed, home, ledger, capsys):
    ledger.write_notes(RUN, [Note(0, "", None, "", ("Larger than usual.",)), Note(1, "succeeded", None, "a lie")])
    assert call(["report", RUN, "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert [summary[key] for key in ("rows", "succeeded", "unknown", "invalid")] == [3, 1, 1, 1]
    assert (summary["cost_usd"], summary["at_risk_usd"], summary["exit_code"]) == (0.54, 0.54, 1)
    rows = table(home / "runs" / RUN / "results.csv")
    assert [row["status"] for row in rows] == ["succeeded", "unknown", "invalid"]
    assert rows[0]["warnings"] == "Larger than usual."
    assert rows[1]["error"] == "The answer was lost."
    assert rows[0]["video_uri"].endswith("videos/mug.mp4")
    written = {path.name for path in (home / "runs" / RUN).iterdir()}
    assert {"failed.csv", "gallery.html", "results.csv", "results.xlsx", "summary.json"} <= written
    assert ledger.run(RUN).finished_at is None  # what was killed stays unfinished: its permissions go on


def test_a_clip_that_is_gone_is_undelivered_in_the_report(killed, home, capsys):
    (home / "videos" / "mug.mp4").unlink()
    assert call(["report", RUN]) == 1
    assert table(home / "runs" / RUN / "results.csv")[0]["status"] == "undelivered"


def test_a_report_tells_how_a_row_was_settled_since(killed, home, ledger, ids, capsys):
    ledger.write_notes(RUN, [Note(1, "unknown", "submit_unknown", "The answer was lost.")])
    call(["resolve", "dress", "--abandon"])
    assert call(["report", RUN]) == 1
    row = table(home / "runs" / RUN / "results.csv")[1]
    assert (row["status"], row["at_risk_usd"]) == ("skipped", "0.00")
    assert "never charged" in row["error"]


def test_a_manifest_that_is_not_the_one_that_the_run_read_is_a_sentence(killed, home, capsys):
    path = home / "runs" / RUN / "manifest.csv"
    path.write_bytes(path.read_bytes() + b"https://shop.test/another.jpg\n")
    assert call(["report", RUN]) == 2
    assert "is not the one that this run read" in capsys.readouterr().err


def test_a_report_has_every_row_with_the_words_that_it_was_read_with(ledger, home, registers, capsys):
    """Of the first row no text is left in the copy, and of the encoding of the second nothing is known any more."""
    read = parse("sku,image,prompt\n\n,,,left\nmug,https://shop.test/mug.jpg,Tässe\nbad,,\n".encode("cp1252"), "m.csv")
    recorded = Sheet(
        tuple(row.line for row in read.rows),
        tuple(row.name for row in read.rows),
        ("", identity_of(read.rows[1], settings.Settings()), ""),
        {row.position: row.problems for row in read.rows if row.problems},
        {row.position: row.warnings for row in read.rows if row.warnings},
    )
    registers(ledger, RUN, destination=str(home), options=PROVIDER, rows=3, sheet=recorded, cap_cents=200)
    (home / "runs" / RUN).mkdir(parents=True)
    (home / "runs" / RUN / "manifest.csv").write_bytes(manifest_csv(read))
    assert call(["report", RUN]) == 1
    rows = table(home / "results.csv")
    assert [row["sku"] for row in rows] == ["", "mug", "bad"]
    assert [row["status"] for row in rows] == ["invalid", "skipped", "invalid"]
    assert rows[0]["error"] == read.rows[0].problems[0]
    assert "guessed encoding" in rows[1]["warnings"]


def test_a_report_of_an_older_run_leaves_the_latest_table_alone(killed, home, tmp_path, capsys):
    (home / "results.csv").write_text("the latest")
    killed("20260116-120000-aaaaaa")
    copy = tmp_path / "copy.csv"
    assert call(["report", RUN, "--results", str(copy)]) == 1
    assert (home / "results.csv").read_text() == "the latest"
    assert len(table(copy)) == 3
    call(["report", "20260116-120000-aaaaaa"])
    assert len(table(home / "results.csv")) == 3


def test_a_finished_run_keeps_its_exit_code(killed, ledger, home, capsys):
    ledger.finish_run(RUN, exit_code=4, summary={})
    assert call(["report", RUN]) == 4
    assert json.loads((home / "runs" / RUN / "summary.json").read_text())["exit_code"] == 4


def test_a_run_without_its_manifest_is_a_sentence(killed, home, capsys):
    (home / "runs" / RUN / "manifest.csv").unlink()
    assert call(["report", RUN]) == 2
    output = capsys.readouterr().err
    assert "manifest.csv is not there" in output
    assert f"reelsheet status {RUN}" in output


def test_a_destination_that_cannot_be_reached_is_a_sentence(ledger, registers, capsys, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    registers(ledger, RUN, destination="s3://bucket/prefix", options=PROVIDER)
    assert call(["report", RUN]) == 3
    output = capsys.readouterr().err
    assert "bucket" in output
    assert "Traceback" not in output
