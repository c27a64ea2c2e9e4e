"""`status --all` and `status --by`: the list of runs, and the money by a column; their sums are the ledger's."""

import csv
import io
import json
import shutil

import pytest

from reelsheet.cli import call
from reelsheet.ledger import Sheet

SHEET = (
    b"sku,Campaign,image\r\na,spring,https://shop.test/a.jpg\r\nb, spring ,https://shop.test/b.jpg\r\n"
    b"c,,https://shop.test/c.jpg\r\nd,=autumn,https://shop.test/d.jpg\r\na2,winter,https://shop.test/a.jpg\r\n"
)
IDS = tuple(letter * 64 for letter in "abcd")
FIRST, SECOND, THIRD = "20260115-120000-aaaa", "20260116-120000-bbbb", "20260117-120000-cccc"


@pytest.fixture
def runs(ledger, home, registers):
    """Three runs. The first pays for a, b, c and loses the answer for d; the second pays for a again, and its table
    is gone; the third, of a sheet without that column, pays for one more."""

    def register(run_id, identities, content):
        rows = Sheet(tuple(range(2, 2 + len(identities))), tuple(identities), tuple(identities))
        registers(
            ledger, run_id, source=f"/x/{run_id[-4:]}.csv", destination=str(home), rows=len(identities), sheet=rows
        )
        folder = home / "runs" / run_id
        folder.mkdir(parents=True)
        (folder / "manifest.csv").write_bytes(content)

    def pay(identity, run_id, cents):
        attempt = ledger.claim(identity, run_id=run_id, price_cents=54).attempt
        ledger.record_completed(ledger.record_id(attempt, f"{run_id}-{identity[0]}", cents), None)

    register(FIRST, (*IDS, IDS[0]), SHEET)
    for identity, cents in zip(IDS[:3], (54, 55, 57), strict=True):
        pay(identity, FIRST, cents)
    ledger.record_unknown(ledger.claim(IDS[3], run_id=FIRST, price_cents=54).attempt, "The answer was lost.")
    register(SECOND, (IDS[0],), SHEET.splitlines(keepends=True)[0] + SHEET.splitlines(keepends=True)[1])
    pay("e" * 64, SECOND, 101)
    shutil.rmtree(home / "runs" / SECOND)
    register(THIRD, ("f" * 64,), b"image\r\nhttps://shop.test/f.jpg\r\n")
    pay("f" * 64, THIRD, 3)
    ledger.finish_run(FIRST, exit_code=1, summary={"succeeded": 3})
    return ledger


def output(capsys, *words):
    assert call(["status", *words]) == 0
    return capsys.readouterr().out


def test_the_costs_of_a_column_add_up_to_the_ledger(runs, capsys):
    costs = json.loads(output(capsys, "--by", "campaign", "--json"))
    assert [(line["kind"], line["value"], line["clips"], line["cost_usd"], line["at_risk_usd"]) for line in
            costs["values"]] == [
        ("value", "spring", 2, 1.09, 0.0),
        ("value", "=autumn", 1, 0.0, 0.54),
        ("no value", None, 2, 0.6, 0.0),
        ("not found", None, 1, 1.01, 0.0),
    ]  # fmt: skip
    counters = [runs.run(run_id) for run_id in (FIRST, SECOND, THIRD)]
    assert costs["total"]["cost_usd"] == sum(run.confirmed_cents for run in counters) / 100 == 2.70
    assert costs["total"]["at_risk_usd"] == sum(run.at_risk_cents for run in counters) / 100
    assert costs["total"]["cost_usd"] == sum(day.confirmed_cents for day in runs.days()) / 100


def test_the_table_for_people_names_what_has_no_value_and_ends_with_the_total(runs, capsys):
    lines = [line.split() for line in output(capsys, "--by", "Campaign").splitlines()]
    assert lines[0] == ["Campaign", "clips", "cost", "at", "risk"]
    assert lines[1] == ["spring", "2", "$1.09", "$0.00"]
    assert any(line[:2] == ["(no", "value)"] for line in lines)
    assert any(line[:2] == ["(not", "found:"] for line in lines)
    assert lines[-1] == ["total", "6", "$2.70", "$0.54"]


def test_the_csv_form_adds_up_and_starts_no_formula(runs, capsys):
    lines = list(csv.DictReader(io.StringIO(output(capsys, "--by", "campaign", "--csv"))))
    assert sum(round(float(line["cost_usd"]) * 100) for line in lines) == 270
    assert [line["campaign"] for line in lines] == [
        "spring",
        "'=autumn",
        "(no value)",
        "(not found: the run's table is gone)",
    ]


def test_values_are_found_in_the_results_where_the_manifest_is_gone(runs, home, capsys):
    from reelsheet.outcomes import RESULT_COLUMNS

    folder = home / "runs" / FIRST
    (folder / "manifest.csv").unlink()
    columns = ["sku", "Campaign", *RESULT_COLUMNS]
    cells = [["a", "summer", *(IDS[0] if name == "identity" else "" for name in RESULT_COLUMNS)]]
    (folder / "results.csv").write_text("\n".join(",".join(line) for line in (columns, *cells)) + "\n")
    costs = json.loads(output(capsys, "--by", "campaign", "--json"))
    line = next(line for line in costs["values"] if line["kind"] == "value")
    assert (line["value"], line["cost_usd"]) == ("summer", 0.54)
    assert costs["total"]["cost_usd"] == 2.70


def test_a_destination_that_is_away_leaves_the_total_as_it_is(runs, registers, monkeypatch, capsys):
    from reelsheet.storage import folder_destination
    from reelsheet.storage.errors import StorageError

    def away(self, key):
        raise StorageError("The disk is away.")

    monkeypatch.setattr(folder_destination.FolderDestination, "read", away)
    assert call(["status", "--by", "campaign", "--json"]) == 0
    printed = capsys.readouterr()
    costs = json.loads(printed.out)
    assert [line["kind"] for line in costs["values"]] == ["not found"]
    assert costs["total"]["cost_usd"] == 2.70
    assert "The disk is away." in printed.err


def test_since_takes_whole_days_of_the_ledger(runs, capsys):
    today = runs.today().day
    assert json.loads(output(capsys, "--by", "campaign", "--since", today, "--json"))["total"]["cost_usd"] == 2.70
    later = json.loads(output(capsys, "--by", "campaign", "--since", "2999-01-01", "--json"))
    assert (later["values"], later["total"]["clips"]) == ([], 0)


def test_play_money_is_not_mixed_with_money(runs, capsys, monkeypatch):
    play = runs.claim("9" * 64, run_id=FIRST, price_cents=70, is_play_money=True).attempt
    runs.record_id(play, "play", 70)
    assert json.loads(output(capsys, "--by", "campaign", "--json"))["total"]["cost_usd"] == 2.70
    monkeypatch.setenv("VIBEDREAM_BASE_URL", "http://127.0.0.1:9")
    assert json.loads(output(capsys, "--by", "campaign", "--json"))["total"]["cost_usd"] == 0.70


def test_all_lists_every_run_with_its_money(runs, capsys):
    listed = json.loads(output(capsys, "--all", "--json"))
    assert [
        (run["run_id"], run["sheet"], run["rows"], run["delivered"], run["cost_usd"]) for run in listed["runs"]
    ] == [
        (THIRD, "cccc.csv", 1, 0, 0.03),
        (SECOND, "bbbb.csv", 1, 0, 1.01),
        (FIRST, "aaaa.csv", 5, 3, 1.66),
    ]
    assert [total["cost_usd"] for total in listed["totals"]] == [2.70]
    assert listed["runs"][2]["state"] == "finished"
    lines = output(capsys, "--all").splitlines()
    assert FIRST in lines[3]
    assert lines[-1].split() == ["total", "$2.70", "$0.54"]
    assert len(output(capsys, "--all", "--csv").splitlines()) == 4


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--by", "campaign", "--all"], "two different tables"),
        (["--since", "2026-01-01"], "--by COLUMN"),
        (["--by", "campaign", "--since", "yesterday"], "2026-01-31"),
        ([FIRST, "--all"], "leave out"),
        (["--all", "--csv", "--json"], "two forms"),
    ],
)
def test_flags_that_do_not_fit_together_are_a_sentence(ledger, capsys, words, named):
    assert call(["status", *words]) == 2
    assert named in capsys.readouterr().err


def test_an_empty_ledger_has_empty_tables(ledger, capsys):
    assert "No runs yet" in output(capsys, "--all")
    assert json.loads(output(capsys, "--by", "campaign", "--json"))["total"]["cost_usd"] == 0


def test_a_column_that_no_sheet_has_is_a_sentence_with_those_that_are_there(runs, capsys):
    assert call(["status", "--by", "campain"]) == 2
    assert "they have 'image', 'sku', 'Campaign'. Did you mean 'Campaign'?" in capsys.readouterr().err
