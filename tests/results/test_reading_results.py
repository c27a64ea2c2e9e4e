"""A results table is read alike by everybody, whatever a spreadsheet program did to it."""

import csv
import io
import re
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reelsheet
from reelsheet.errors import ManifestError
from reelsheet.manifest.rows import Manifest, Row, parse
from reelsheet.manifest.table import text_frame
from reelsheet.outcomes import RESULT_COLUMNS, ErrorCode, RowResult, Status
from reelsheet.results.earlier import past_results
from reelsheet.results.table import results_csv, summarise
from reelsheet.results.workbook import results_xlsx

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
INPUTS = ("sku", "image", "prompt", "campaign")
CELLS = [
    (f"00{n}", f"https://x.invalid/{n}.jpg", 'Café, "slow"; turns\nat dusk', campaign)
    for n, campaign in enumerate(["spring", "autumn", "spring", "winter"])
]
RESULTS = [
    RowResult(
        Status.SUCCEEDED, cost_cents=10, total_cost_cents=110, video_uri="s3://acme/videos/a.mp4", prediction_id="p-1",
        attempt=2, identity="a" * 64, submitted_at=NOON, completed_at=NOON, video_bytes=1000, video_sha256="0" * 64,
        width=1280, height=720, duration_s=5.04, run_id="20260115-120000-abcdef",
    ),
    RowResult(
        Status.FAILED, error="=refused; +1 größer", error_code=ErrorCode.MODERATED, cost_cents=54, total_cost_cents=54,
        prediction_id="p-2", attempt=1, identity="b" * 64, submitted_at=NOON, run_id="20260115-120000-abcdef",
    ),
    RowResult(Status.UNKNOWN, error_code=ErrorCode.SUBMIT_UNKNOWN, at_risk_cents=54, identity="c" * 64, cost_cents=20),
    RowResult(Status.INVALID, error="no", error_code=ErrorCode.INVALID_ROW),
]  # fmt: skip
MANIFEST = Manifest(
    "sheet.csv", text_frame(INPUTS, CELLS), tuple(Row(n, n + 2) for n in range(len(CELLS))), {"image": 1, "prompt": 2}
)
WRITTEN = results_csv(MANIFEST, RESULTS)
RECORDS = list(csv.reader(io.StringIO(WRITTEN.decode(), newline="")))
HEADER = RECORDS[0]


def saved(
    records=RECORDS, *, delimiter=",", encoding="utf-8", quoting=csv.QUOTE_MINIMAL, end="\r\n", before=""
) -> bytes:
    out = io.StringIO(newline="")
    out.write(before)
    csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows(records)
    return out.getvalue().encode(encoding)


def ordered(*names: str) -> list[list[str]]:
    """All records, with these columns first."""
    places = [HEADER.index(name) for name in names]
    places += [place for place in range(len(HEADER)) if place not in places]
    return [[record[place] for place in places] for record in RECORDS]


def replaced(old: str, new: str) -> list[list[str]]:
    return [[new if cell == old else cell for cell in record] for record in RECORDS]


def workbook(*, numbers: bool) -> bytes:
    book = openpyxl.Workbook()
    for line, record in enumerate(RECORDS):
        for place, cell in enumerate(record):
            is_number = numbers and line and HEADER[place].endswith("_usd")
            book.active.cell(line + 1, place + 1).value = float(cell) if is_number else cell.removeprefix("'=") or None
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def at_comma(records: list[list[str]]) -> list[list[str]]:
    money = [place for place, name in enumerate(HEADER) if name.endswith("_usd") or name == "duration_s"]
    return [
        [cell.replace(".", ",") if line and place in money else cell for place, cell in enumerate(record)]
        for line, record in enumerate(records)
    ]


DAMAGES = {
    "as it was written": WRITTEN,
    "semicolons": saved(delimiter=";"),
    "semicolons and decimal commas": saved(at_comma(RECORDS), delimiter=";"),
    "currency and thousands": saved(replaced("1.10", "$1.10")),
    "tabs in UTF-16, Excel's Unicode text": saved(delimiter="\t", encoding="utf-16"),
    "a byte order mark": saved(encoding="utf-8-sig"),
    "Windows-1252": saved(encoding="cp1252", delimiter=";"),
    "Excel's line that names the separator": saved(delimiter=";", before="sep=;\r\n"),
    "every cell quoted, Unix line ends": saved(quoting=csv.QUOTE_ALL, end="\n"),
    "one result column moved": saved(ordered("review")),
    "two result columns exchanged": saved(ordered(*INPUTS, "error", "status")),
    "result columns before the input": saved(ordered(*RESULT_COLUMNS)),
    "all columns in reverse": saved([record[::-1] for record in RECORDS]),
    "a column inserted among ours": saved([[*record[:8], f"note {n}", *record[8:]] for n, record in enumerate(RECORDS)]),
    "empty columns and lines at the end": saved([[*record, "", ""] for record in RECORDS] + [[""] * 5] * 3),
    "headers in capitals": saved([[name.upper() for name in HEADER], *RECORDS[1:]]),
    "blanks around our cells": saved(
        [HEADER, *([*r[: len(INPUTS)], *(f" {c} " for c in r[len(INPUTS) :])] for r in RECORDS[1:])]
    ),
    "statuses in capitals": saved([[cell.upper() if cell in set(Status) else cell for cell in r] for r in RECORDS]),
    "our own workbook": results_xlsx(MANIFEST, RESULTS, summary=summarise(
        RESULTS, run_id="r", started_at=NOON, finished_at=NOON, seconds=1, flow_run_id=None, exit_code=1)),
    "another workbook": workbook(numbers=True),
    "another workbook of text": workbook(numbers=False),
}  # fmt: skip


def money_of(content: bytes) -> list[tuple]:
    return [
        (row.identity, row.status, row.attempt, row.prediction_id, row.total_cents, row.at_risk_cents, row.video_uri)
        for row in past_results(content, "results.csv")
    ]


@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES.keys())
def test_no_damage_hides_what_was_paid(content):
    assert money_of(content) == [
        ("a" * 64, "succeeded", 2, "p-1", 110, 0, "s3://acme/videos/a.mp4"),
        ("b" * 64, "failed", 1, "p-2", 54, 0, ""),
        ("c" * 64, "unknown", 1, "", 0, 54, ""),
    ]


@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_table_is_recognised_as_a_manifest_and_as_a_frame(content, tmp_path):
    rows = parse(content, "results.csv").rows
    assert [row.earlier.identity for row in rows] == [result.identity for result in RESULTS]
    (tmp_path / "results").write_bytes(content)
    frame = reelsheet.read_results(tmp_path / "results")
    assert list(frame["identity"]) == [result.identity for result in RESULTS]
    assert frame["cost_usd"].sum() == Decimal("0.84")


orders = st.permutations(range(len(HEADER)))


@given(orders, st.sampled_from(",;\t|"), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]), st.booleans())
@settings(max_examples=40)
def test_any_order_delimiter_and_encoding_tells_the_same(order, delimiter, encoding, is_quoted):
    records = [[record[place] for place in order] for record in RECORDS]
    quoting = csv.QUOTE_ALL if is_quoted else csv.QUOTE_MINIMAL
    assert money_of(saved(records, delimiter=delimiter, encoding=encoding, quoting=quoting)) == money_of(WRITTEN)


def test_empty_cells_may_be_left_out_at_the_end_of_records():
    assert money_of(saved([record[: len(record) - (record[-1] == "")] for record in RECORDS])) == money_of(WRITTEN)


def test_a_table_that_was_cut_off_is_read_as_far_as_it_goes():
    for length in range(len(WRITTEN) // 2, len(WRITTEN), 37):
        rows = money_of(WRITTEN[:length])
        assert [row[0] for row in rows] == ["a" * 64, "b" * 64, "c" * 64][: len(rows)]
        assert rows[0] == money_of(WRITTEN)[0]


@pytest.mark.parametrize("cell", ['"https://x.invalid" /1.jpg', '"https://x.invalid/1.jpg', 'Slow 3" push'])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_quote_at_a_wrong_place_hides_no_other_row(cell, delimiter):
    content = saved(delimiter=delimiter).replace(b"https://x.invalid/1.jpg", cell.encode())
    rows = money_of(content)
    assert [row for row in rows if row[0] != "b" * 64] == [row for row in money_of(WRITTEN) if row[0] != "b" * 64]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "results.csv").write_bytes(WRITTEN)
    return tmp_path / "results.csv"


def test_a_frame_has_the_columns_of_the_file_and_documented_types(path):
    frame = reelsheet.read_results(str(path))
    assert list(frame.columns) == HEADER
    assert [tuple(cells) for cells in frame[list(INPUTS)].itertuples(index=False)] == CELLS
    assert {type(amount) for amount in frame["total_cost_usd"]} == {Decimal}
    kinds = {name: str(frame[name].dtype) for name in HEADER}
    for name in ("attempt", "seconds", "video_bytes", "width", "height", "duration_s"):
        assert kinds.pop(name) == "float64"
    for name in ("submitted_at", "completed_at"):
        assert kinds.pop(name).endswith("UTC]")
    for name in ("cost_usd", "total_cost_usd", "at_risk_usd"):
        assert kinds.pop(name) == "object"
    assert set(kinds.values()) == {"str"}
    assert frame["submitted_at"][0] == pd.Timestamp(NOON)
    assert pd.isna(frame["completed_at"][1])
    assert frame["error"][1] == "=refused; '+1 größer"


def test_the_documentation_sums_costs_by_campaign(path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    monkeypatch.chdir(path.parent)
    exec(example, {})  # noqa: S102 - our own page
    printed = dict(
        line.split() for line in capsys.readouterr().out.splitlines() if line[:6] in {"autumn", "spring", "winter"}
    )
    assert printed == {"autumn": "0.54", "spring": "0.30", "winter": "0.00"}


def test_sums_are_exact_to_the_cent(tmp_path):
    results = [RowResult(Status.SUCCEEDED, cost_cents=10) for _ in range(1000)]
    manifest = Manifest("s.csv", text_frame(("image",), [("x",)] * 1000), tuple(Row(n, n) for n in range(1000)), {})
    (tmp_path / "results.csv").write_bytes(results_csv(manifest, results))
    assert reelsheet.read_results(tmp_path / "results.csv")["cost_usd"].sum() == Decimal("100.00")


def test_a_blank_amount_is_none_and_not_summed(tmp_path):
    records = replaced("0.54", "")
    (tmp_path / "results.csv").write_bytes(saved(records))
    frame = reelsheet.read_results(tmp_path / "results.csv")
    assert frame["cost_usd"][1] is None
    assert frame["cost_usd"].sum() == Decimal("0.30")


def test_ours_are_renamed_where_the_input_has_such_a_column(tmp_path):
    content = saved([[{"campaign": "status", "status": "reelsheet_status"}.get(c, c) for c in HEADER], *RECORDS[1:]])
    (tmp_path / "results.csv").write_bytes(content)
    frame = reelsheet.read_results(tmp_path / "results.csv")
    assert list(frame["status"]) == [cells[3] for cells in CELLS]
    assert list(frame["reelsheet_status"]) == [result.status for result in RESULTS]


@pytest.mark.parametrize("content", [b"image,prompt\na,b\n", b"", b"\x89PNG\r\n", b"status,error\nfailed,no\n"])
def test_what_is_no_results_table_is_refused(tmp_path, content):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=r"table\.csv"):
        reelsheet.read_results(tmp_path / "table.csv")
    with pytest.raises(ManifestError, match="There is no file"):
        reelsheet.read_results(tmp_path / "nothing.csv")


def test_importing_reelsheet_imports_no_pandas():
    code = "import sys, reelsheet; print('pandas' in sys.modules, reelsheet.read_results.__name__)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "read_results"]
