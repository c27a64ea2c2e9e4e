"""The tables are exact, inert in a spreadsheet, and add up."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelsheet.manifest.rows import Manifest, Row, parse
from reelsheet.manifest.table import text_frame
from reelsheet.outcomes import RESULT_COLUMNS, ErrorCode, RowResult, Status
from reelsheet.results.table import failed_csv, header, inert, manifest_csv, results_csv, results_frame, summarise

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
FORMULA_LEADS = "=+-@\t\r\n＝＋－＠"  # noqa: RUF001 - the full-width forms are the point
SUMMARY_FIELDS = [
    "run_id", "rows", "succeeded", "failed", "undelivered", "unknown", "skipped", "invalid", "reused",
    "cost_usd", "at_risk_usd", "wasted_usd", "started_at", "finished_at", "seconds", "flow_run_id", "exit_code",
]  # fmt: skip

texts = st.text(st.characters(codec="utf-8"), max_size=30)
nasty = st.one_of(
    texts,
    st.sampled_from(
        [
            "=1+1",
            "+49",
            "-5",
            "@SUM(A1)",
            '"',
            '""',
            ",",
            ";",
            "a\rb",
            "a\nb",
            "a\r\nb",
            "\r",
            "\n",
            "\t",
            " x ",
            "\ufeff",
        ]
    ),
    st.text(st.sampled_from("\",;\r\n\t ='a"), max_size=12),
)
statuses = st.sampled_from(list(Status))
cents = st.integers(0, 1_000_000)
moments = st.none() | st.floats(1e9, 4e9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
row_results = st.builds(
    RowResult,
    status=statuses,
    error=nasty,
    error_code=st.none() | st.sampled_from(list(ErrorCode)),
    warnings=st.lists(nasty, max_size=3).map(tuple),
    cost_cents=cents,
    total_cost_cents=cents,
    at_risk_cents=cents,
    video_uri=nasty,
    more_video_uris=st.lists(nasty, max_size=2).map(tuple),
    prediction_id=nasty,
    reused=st.booleans(),
    submitted_at=moments,
    completed_at=moments,
    run_id=nasty,
    review=nasty,
)


def manifest_of(columns: list[str], records: list[list[str]]) -> Manifest:
    rows = tuple(Row(at, at + 2) for at in range(len(records)))
    return Manifest("sheet.csv", text_frame(columns, records), rows, {"image": 0})


def read(table: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(table.decode("utf-8"), newline=""), strict=True))


@st.composite
def sheets(draw: st.DrawFn) -> tuple[Manifest, list[RowResult]]:
    width = draw(st.integers(1, 4))
    cells = st.lists(nasty, min_size=width, max_size=width)
    manifest = manifest_of(draw(cells), draw(st.lists(cells, max_size=5)))
    return manifest, [draw(row_results) for _ in manifest.rows]


@settings(max_examples=60)
@given(sheets())
def test_every_input_cell_comes_back_as_it_was_in_its_place(sheet):
    manifest, results = sheet
    head, *records = read(results_csv(manifest, results))
    width = len(manifest.columns)
    assert head[:width] == list(manifest.columns)
    assert tuple(head[width:]) == RESULT_COLUMNS
    assert [tuple(record[:width]) for record in records] == list(manifest.records())
    assert [record[width] for record in records] == [str(result.status) for result in results]
    assert {len(record) for record in records} <= {len(head)}


@settings(max_examples=60)
@given(sheets())
def test_no_cell_that_we_add_starts_a_formula(sheet):
    manifest, results = sheet
    for record in read(results_csv(manifest, results))[1:]:
        for cell in record[len(manifest.columns) :]:
            assert not cell.lstrip().startswith(tuple(FORMULA_LEADS))
            assert "\n" not in cell
            assert "\r" not in cell


@settings(max_examples=60)
@given(sheets())
def test_pandas_reads_the_table_like_the_csv_module(sheet):
    manifest, results = sheet
    table = results_csv(manifest, results)
    frame = pd.read_csv(io.BytesIO(table), dtype="str", keep_default_na=False, header=None)
    assert frame.iloc[1:].to_numpy().tolist() == read(table)[1:]


@pytest.mark.parametrize("lead", FORMULA_LEADS)
def test_a_formula_in_an_error_or_a_warning_becomes_text(lead):
    result = RowResult(Status.FAILED, error=f"{lead}cmd|' /C calc'!A0", warnings=(f"{lead}1+1",))
    cells = dict(zip(RESULT_COLUMNS, results_frame([result]).iloc[0], strict=True))
    for name in ("error", "warnings"):
        assert not cells[name].startswith(tuple(FORMULA_LEADS))
        assert cells[name].removeprefix("'").startswith((lead, "cmd", "1+1"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("The picture is not there: 404.", "The picture is not there: 404."),
        ("=1+1", "'=1+1"),
        ("  =1+1", "'=1+1"),
        ("-5: refused", "'-5: refused"),
        ("two\r\nlines\x1b[31m", "two lines [31m"),
        ("half \ud83d a character", "half \ufffd a character"),
        ("refused;=HYPERLINK(0)", "refused;'=HYPERLINK(0)"),
        ("refused; -5 and so on", "refused; '-5 and so on"),
        ("s3://clips/a=b/-c.mp4", "s3://clips/a=b/-c.mp4"),
        ("é – 東京 🎬", "é – 東京 🎬"),  # noqa: RUF001 - a dash of the trade
    ],
)
def test_added_text_is_one_line_that_calculates_nothing(text, shown):
    assert inert(text) == shown


@settings(max_examples=60)
@given(texts)
def test_making_text_inert_twice_changes_nothing_more(text):
    assert inert(inert(text)) == inert(text)


def test_only_rows_that_did_not_succeed_are_in_failed_csv_with_the_same_columns():
    manifest = manifest_of(["image"], [[f"https://x/{status}.jpg"] for status in Status])
    results = [RowResult(status) for status in Status]
    head, *records = read(failed_csv(manifest, results))
    assert head == header(manifest)
    assert [record[1] for record in records] == ["failed", "undelivered", "unknown", "skipped", "invalid"]


@settings(max_examples=60)
@given(sheets())
def test_manifest_csv_is_the_input_alone(sheet):
    manifest, _ = sheet
    assert [tuple(record) for record in read(manifest_csv(manifest))] == [
        manifest.columns,
        *manifest.records(),
    ]


@settings(max_examples=60)
@given(st.lists(st.tuples(nasty, nasty, nasty, row_results), min_size=1, max_size=4))
def test_results_fed_back_as_a_manifest_are_neither_doubled_nor_changed(records):
    columns = ["sku", "image", "prompt", "=note"]
    picture = "https://x.invalid/a.jpg"
    manifest = manifest_of(columns, [[a, picture, b, c] for a, b, c, _ in records])
    results = [result for *_, result in records]
    table = results_csv(manifest, results)
    back = parse(table, "results.csv")
    assert results_csv(back, results) == table
    assert [row.earlier.status for row in back.rows] == [str(result.status) for result in results]


def test_our_columns_take_the_names_that_the_manifest_gives_them():
    renamed = tuple("reelsheet_status" if name == "status" else name for name in RESULT_COLUMNS)
    table = text_frame(("image", "status"), [("x", "ours")])
    manifest = Manifest("s.csv", table, (Row(0, 2),), {"image": 0}, result_columns=renamed)
    head, record = read(results_csv(manifest, [RowResult(Status.SKIPPED)]))
    assert head[:4] == ["image", "status", "reelsheet_status", "error"]
    assert record[:3] == ["x", "ours", "skipped"]


def test_a_table_has_no_byte_order_mark_and_ends_its_lines_as_the_standard_says():
    table = results_csv(manifest_of(["image"], [["a\rb"]]), [RowResult(Status.SKIPPED)])
    assert table.startswith(b"image,")
    assert table.endswith(b"\r\n")
    assert b'"a\rb"' in table


def test_rows_and_results_of_different_number_are_never_written():
    with pytest.raises(ValueError, match="2 rows, but 1 results"):
        results_csv(manifest_of(["image"], [["a"], ["b"]]), [RowResult(Status.SKIPPED)])


def summary_of(results, **changes):
    told = {
        "run_id": "r1",
        "started_at": NOON,
        "finished_at": NOON + timedelta(seconds=134),
        "seconds": 134.04,
        "flow_run_id": None,
        "exit_code": 1,
    }
    return summarise(results, **(told | changes))


@settings(max_examples=60)
@given(st.lists(row_results, max_size=20))
def test_the_books_add_up_to_the_cent(results):
    summary = summary_of(results)
    told = summary.as_json()
    assert sum(told[str(status)] for status in Status) == told["rows"] == len(results)
    assert round(told["cost_usd"] * 100) == sum(result.cost_cents for result in results)
    assert round(told["at_risk_usd"] * 100) == sum(result.at_risk_cents for result in results)
    assert summary.wasted_cents <= summary.cost_cents
    assert json.loads(json.dumps(told)) == told


def test_the_summary_has_the_fields_of_the_contract_in_their_order():
    told = summary_of([RowResult(Status.SUCCEEDED, cost_cents=54, reused=True)]).as_json()
    assert list(told) == SUMMARY_FIELDS
    assert told["cost_usd"] == 0.54
    assert told["started_at"] == "2026-11-23T12:00:00Z"
    assert told["seconds"] == 134.0


def test_wasted_is_what_this_run_paid_for_failed_and_lost_clips_only():
    results = [
        RowResult(Status.SUCCEEDED, cost_cents=54),
        RowResult(Status.FAILED, error_code=ErrorCode.GENERATION_FAILED, cost_cents=54),
        RowResult(Status.FAILED, error_code=ErrorCode.MODERATED, cost_cents=0, total_cost_cents=54),
        RowResult(Status.UNDELIVERED, error_code=ErrorCode.LOST, cost_cents=55),
        RowResult(Status.UNDELIVERED, error_code=ErrorCode.DEADLINE, cost_cents=54),
        RowResult(Status.UNKNOWN, error_code=ErrorCode.SUBMIT_UNKNOWN, at_risk_cents=54),
    ]
    told = summary_of(results).as_json()
    assert (told["cost_usd"], told["wasted_usd"], told["at_risk_usd"]) == (2.17, 1.09, 0.54)


def test_a_run_that_is_still_going_has_no_end_yet():
    told = summary_of([], finished_at=None, exit_code=None).as_json()
    assert (told["finished_at"], told["exit_code"], told["rows"]) == (None, None, 0)
