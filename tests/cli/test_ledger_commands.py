"""`resolve`, `status` and `report` on a ledger and a folder as a run leaves them, also one that was killed."""

import csv
import io
import json

import pytest

from reelsheet import settings
from reelsheet.cli import call
from reelsheet.ledger import Delivery, Ledger, Note, Sheet
from reelsheet.manifest.identity import identity_of
from reelsheet.manifest.rows import parse
from reelsheet.results.table import manifest_csv

RUN = "20260115-120000-1f3a9c"
SHEET = b"sku,image,prompt\r\nmug,https://shop.test/mug.jpg,turn\r\ndress,https://shop.test/dress.jpg,walk\r\nbad,,\r\n"
PROVIDER = {"base_url": "https://api.vibedream.ai", "model": "i2v-pro"}


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """The ledger that the command line finds."""
    url = f"sqlite:///{tmp_path / 'books.db'}"
    monkeypatch.setenv("REELSHEET_LEDGER_URL", url)
    monkeypatch.chdir(tmp_path)
    opened = Ledger.open(url)
    yield opened
    opened.close()


@pytest.fixture
def home(tmp_path):
    """A destination's folder."""
    folder = tmp_path / "clips"
    folder.mkdir()
    return folder


@pytest.fixture
def ids():
    """identity of mug, dress."""
    return [identity_of(row, settings.Settings()) for row in parse(SHEET, "m.csv").rows if not row.problems]


@pytest.fixture
def ran(ledger, home, ids, registers):
    """A run that was killed: mug is stored, dress's answer was lost."""

    def run(run_id=RUN, *, sheet=False):
        rows = Sheet((2, 3, 4), ("mug", "dress", "bad"), (*ids, "")) if sheet else None
        registers(ledger, run_id, destination=str(home), options=PROVIDER, rows=3, sheet=rows, cap_cents=200)
        folder = home / "runs" / run_id
        folder.mkdir(parents=True)
        (folder / "manifest.csv").write_bytes(SHEET)
        return run_id

    run()
    mug, dress = (ledger.claim(one, run_id=RUN, price_cents=54).attempt for one in ids)
    mug = ledger.record_completed(ledger.record_id(mug, "pred-mug", 54), None)
    (home / "videos").mkdir()
    (home / "videos" / "mug.mp4").write_bytes(b"clip")
    ledger.record_deliveries(mug, [Delivery(1, str(home), 0, 1, "videos/mug.mp4", 4, "ab", 640, 360, 5.0)])
    ledger.record_unknown(dress, "The answer was lost.")
    return run


@pytest.fixture
def killed(ran, ledger, expires):
    """The same, and its process is gone."""
    expires(ledger, ledger)
    ledger.owner = type(ledger.owner)("another", "", "", 1, "")  # this one only looks on
    ledger.heartbeat()
    return ran


def table(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


# resolve


@pytest.mark.parametrize("flags", [[], ["--id", "pred-x", "--abandon"]])
def test_resolve_wants_either_an_id_or_abandon(ran, capsys, flags):
    assert call(["resolve", "dress", *flags]) == 2
    assert "--id PREDICTION, or --abandon" in capsys.readouterr().err


@pytest.mark.parametrize("sheet", [False, True])
@pytest.mark.parametrize("way", ["identity", "beginning", "upper", "name", "line", "row"])
def test_a_row_is_named_by_identity_name_or_line(ran, ledger, ids, capsys, way, sheet):
    later = ran("20260116-120000-aaaaaa", sheet=sheet)
    row = {
        "identity": ids[1], "beginning": ids[1][:8], "upper": ids[1][:12].upper(), "name": "Dress",
        "line": f"{later}:3", "row": "row 3",
    }[way]  # fmt: skip
    assert call(["resolve", row, "--id", "pred-dress", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["identity"], told["state"], told["attempt"]) == (ids[1], "submitted", 1)
    assert (told["total_cost_usd"], told["at_risk_usd"]) == (0.54, 0.0)
    assert "at no cost" in told["next"]
    assert ledger.history(ids[1]).latest.prediction_id == "pred-dress"


def test_an_abandoned_row_is_at_risk_no_more(ran, ledger, ids, capsys):
    assert call(["resolve", "dress", "--abandon"]) == 0
    assert "never charged" in capsys.readouterr().out
    assert ledger.run(RUN).at_risk_cents == 0
    assert ledger.history(ids[1]).is_free


@pytest.mark.parametrize("wrong", ["", "../etc", "a b", "x" * 201, "-"])
def test_what_is_no_id_settles_nothing(ran, ledger, ids, capsys, wrong):
    code = call(["resolve", "dress", f"--id={wrong}"])
    if wrong == "-":  # an odd id is still one
        assert code == 0
        return
    assert code == 2
    assert "no prediction id" in capsys.readouterr().err
    assert ledger.run(RUN).at_risk_cents == 54


@pytest.mark.parametrize(
    ("row", "told"),
    [("mug", "paid for as prediction pred-mug"), ("nobody", "knows no row"), (f"{RUN}:9", "no row in line 9")],
)
def test_a_row_that_is_not_unknown_says_how_it_stands(ran, capsys, row, told):
    assert call(["resolve", row, "--abandon"]) == 2
    assert told in capsys.readouterr().err


def test_a_name_that_fits_several_unknown_rows_says_which(ledger, home, registers, capsys):
    two = SHEET.replace(b"mug,https", b"dress,https")
    registers(ledger, RUN, destination=str(home), options=PROVIDER, rows=3)
    (home / "runs" / RUN).mkdir(parents=True)
    (home / "runs" / RUN / "manifest.csv").write_bytes(two)
    both = [identity_of(row, settings.Settings()) for row in parse(two, "m.csv").rows if not row.problems]
    for one in both:
        ledger.record_unknown(ledger.claim(one, run_id=RUN, price_cents=54).attempt, "lost")
    assert call(["resolve", "dress", "--abandon"]) == 2
    told = capsys.readouterr().err
    assert all(one[:8] in told for one in both)
    assert ledger.run(RUN).at_risk_cents == 108


def test_a_row_of_a_killed_process_can_be_settled(ran, ledger, ids, expires, capsys):
    ledger.resolve(ids[1], None)
    ledger.claim(ids[1], run_id=RUN, price_cents=54)
    expires(ledger, ledger)
    assert call(["resolve", ids[1], "--id", "pred-late"]) == 0
    assert ledger.history(ids[1]).latest.prediction_id == "pred-late"


# status


def test_without_any_run_status_says_so(ledger, capsys):
    assert call(["status"]) == 0
    assert "No runs yet" in capsys.readouterr().out
    assert call(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] is None


@pytest.mark.parametrize("sheet", [False, True])
def test_status_tells_rows_and_money_of_a_running_run(ran, ledger, ids, capsys, sheet):
    if sheet:
        ledger._db.committed(
            lambda c: ledger._keep_sheet(c, RUN, Sheet((2, 3, 4), ("mug", "dress", "bad"), (*ids, "")))
        )
    assert call(["status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["run_id"], told["state"], told["alive"], told["rows"]) == (RUN, "running", True, 3)
    rest = {"invalid": 1} if sheet else {"other": 1}
    assert told["counts"] == {"succeeded": 1, "unknown": 1} | rest
    assert (told["cost_usd"], told["reserved_usd"], told["at_risk_usd"], told["cap_usd"]) == (0.54, 0.0, 0.54, 2.0)
    assert [(day["cost_usd"], day["at_risk_usd"]) for day in told["days"]] == [(0.54, 0.54)]


def test_status_of_a_finished_run_counts_its_rows_as_it_ended(ran, ledger, capsys):
    ledger.finish_run(RUN, exit_code=1, summary={"succeeded": 2, "failed": 0, "invalid": 1})
    assert call(["status", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["exit_code"], told["counts"]) == ("finished", 1, {"succeeded": 2, "invalid": 1})


def test_status_of_a_killed_run_says_so_and_fits_the_screen(killed, capsys):
    assert call(["status", RUN[:10]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "killed" in lines[0]
    assert all(len(line) <= 80 for line in lines if not line.startswith(("  From", "  To")))
    assert any("resolve ROW" in line for line in lines)


def test_a_run_that_is_not_there_is_a_sentence(ran, capsys):
    assert call(["status", "2031"]) == 2
    assert RUN in capsys.readouterr().err
    ran("20260115-120000-2b0000")
    assert call(["status", "20260115"]) == 2
    assert "several runs" in capsys.readouterr().err


# report


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


def test_a_row_that_was_invalid_in_the_sheet_stays_so(killed, home, capsys):
    """Its copy is squared to the header, and shows no more what was wrong."""
    call(["report", RUN])
    path = home / "runs" / RUN / "results.csv"
    rows = table(path)
    rows[1] |= {"status": "invalid", "error_code": "invalid_row", "error": "Row 3 has 9 cells where the header has 3."}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    call(["report", RUN])
    assert table(path)[1]["error"] == "Row 3 has 9 cells where the header has 3."


def test_a_report_has_every_row_with_the_words_that_it_was_read_with(ledger, home, registers, capsys):
    """Of the first row no text is left in the copy, and of the encoding of the second nothing can be told any more."""
    read = parse("sku,image,prompt\n\n,,,left\nmug,https://shop.test/mug.jpg,Tässe\nbad,,\n".encode("cp1252"), "m.csv")
    told = Sheet(
        tuple(row.line for row in read.rows),
        tuple(row.name for row in read.rows),
        ("", identity_of(read.rows[1], settings.Settings()), ""),
        {row.position: row.problems for row in read.rows if row.problems},
        {row.position: row.warnings for row in read.rows if row.warnings},
    )
    registers(ledger, RUN, destination=str(home), options=PROVIDER, rows=3, sheet=told, cap_cents=200)
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
    told = capsys.readouterr().err
    assert "manifest.csv is not there" in told
    assert f"reelsheet status {RUN}" in told


def test_a_destination_that_cannot_be_reached_is_a_sentence(ledger, registers, capsys, monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    registers(ledger, RUN, destination="s3://bucket/prefix", options=PROVIDER)
    assert call(["report", RUN]) == 3
    told = capsys.readouterr().err
    assert "bucket" in told
    assert "Traceback" not in told
