"""The workbook holds what results.csv holds, calculates nothing, and comes back as it went."""

import csv
import io
import os
import shutil
import subprocess
import tempfile
import tracemalloc
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import openpyxl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from reelsheet.manifest.columns import result_columns
from reelsheet.manifest.rows import Manifest, Row, parse
from reelsheet.manifest.table import text_frame
from reelsheet.outcomes import CLIP, RESULT_COLUMNS, WORKBOOK_COLUMNS, ErrorCode, RowResult, Status
from reelsheet.results import earlier, workbook
from reelsheet.results.table import header, results_frame, summarise
from reelsheet.results.workbook import results_xlsx
from reelsheet.storage.errors import StorageError

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
IMAGE = "https://x.invalid/a.jpg?width=2&x=%20"
ADDRESSES = [
    "https://x.invalid/a b.jpg",
    "https://x.invalid/a.jpg#part",
    "https://x.invalid/100%.jpg",
    "https://x.invalid/é.jpg",
    "https://x.invalid/a[1].jpg",
    "https://x.invalid/a.jpg, https://x.invalid/b.jpg",
    "javascript:alert(1)",
    "internal:Totals!A1",
    "s3://bucket/key.jpg",
    "https://x.invalid/" + "a" * 2080,
    " https://x.invalid/a.jpg",
]
DELIVERED = RowResult(
    Status.SUCCEEDED,
    cost_cents=54,
    total_cost_cents=108,
    video_uri="s3://acme/autumn/videos/a.mp4",
    prediction_id="p-1",
    attempt=2,
    submitted_at=NOON,
    completed_at=NOON + timedelta(seconds=31.5),
    video_bytes=412_345,
    width=1920,
    height=1080,
    duration_s=5.04,
)


def made(results, *, cells=None, columns=("sku", "image", "prompt"), **options):
    cells = cells or [("007", IMAGE, "push in")] * len(results)
    rows = tuple(Row(at, at + 2, image=row[1].strip(), prompt=row[2], id=row[0]) for at, row in enumerate(cells))
    manifest = Manifest("sheet.csv", text_frame(columns, cells), rows, {"id": 0, "image": 1, "prompt": 2})
    summary = summarise(
        results, run_id="r1", started_at=NOON, finished_at=NOON, seconds=134, flow_run_id=None, exit_code=0
    )
    return manifest, results_xlsx(manifest, results, summary=summary, **options)


def opened(content):
    return openpyxl.load_workbook(io.BytesIO(content))


def column(name):
    """The place of a result column, counted from 1, behind three input columns."""
    return 4 + WORKBOOK_COLUMNS.index(name)


def picture(form="JPEG", size=(320, 180), **options):
    buffer = io.BytesIO()
    Image.new("RGB", size, "teal").save(buffer, form, **options)
    return buffer.getvalue()


def test_the_sheet_of_rows_comes_first_and_has_the_columns_of_results_csv_and_one_of_links():
    manifest, content = made([DELIVERED] * 3, thumbnails={0: picture()})
    book = opened(content)
    assert book.sheetnames == ["Results", "Totals"]
    names = [cell.value for cell in book["Results"][1]]
    assert sorted(names) == sorted([*header(manifest), CLIP])
    assert names[:6] == ["sku", "image", "prompt", "status", "review", CLIP]
    assert book["Results"].max_row == 4


def test_every_row_stands_in_its_place_whatever_became_of_it():
    results = [RowResult(status) for status in Status]
    _, content = made(results, cells=[(str(status), IMAGE, "") for status in Status])
    sheet = opened(content)["Results"]
    got = [(sheet.cell(line, 1).value, sheet.cell(line, column("status")).value) for line in range(2, 8)]
    assert got == [(str(status), str(status)) for status in Status]
    assert len({sheet.cell(line, column("status")).fill.fgColor.rgb for line in range(2, 8)}) == 6


awkward = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=25),
    st.sampled_from(
        ["=1+1", "+49", "@SUM(A1)", "007", "NA", "1e5", "TRUE", " x ", "<r>", "<r><t>x</t></r>", "https://x"]
    ),
)


@settings(max_examples=60)
@given(st.lists(st.tuples(awkward, awkward, awkward), min_size=1, max_size=3))
@example([("<r></r>", "{=1}", "_x0041_")])
def test_every_input_cell_is_text_and_what_it_was(cells):
    _, content = made([DELIVERED] * len(cells), cells=cells)
    sheet = opened(content)["Results"]
    for line, row in enumerate(cells, 2):
        for place, cell in enumerate(row, 1):
            got = sheet.cell(line, place)
            assert got.data_type in {"s", "inlineStr", "n"}
            # openpyxl leaves Excel's way of writing odd characters as it finds it
            assert (got.value or "").replace("_x005F_", "_").replace("_xFFFE_", "\ufffe").replace(
                "_xFFFF_", "\uffff"
            ) == cell


@settings(max_examples=40)
@given(st.lists(st.tuples(awkward, st.sampled_from(ADDRESSES), awkward), min_size=1, max_size=3))
@example([("a", IMAGE, "two\r\nlines\rand \ttabs ")])
def test_a_workbook_fed_back_as_a_manifest_is_neither_doubled_nor_changed(cells):
    _, content = made([DELIVERED] * len(cells), cells=cells, thumbnails={0: picture()}, links={0: "../a.mp4"})
    back = parse(content, "results.xlsx")
    assert back.columns == ("sku", "image", "prompt")
    assert list(back.records()) == cells
    assert {row.earlier.prediction_id for row in back.rows} == {"p-1"}


@pytest.mark.parametrize("said", ["redo", "ok", ""])
def test_what_people_choose_in_the_review_column_comes_back(said):
    book = opened(made([DELIVERED])[1])
    book["Results"].cell(2, column("review")).value = said or None
    buffer = io.BytesIO()
    book.save(buffer)
    assert parse(buffer.getvalue(), "results.xlsx").rows[0].earlier.review == said


@settings(max_examples=30)
@given(awkward, awkward)
def test_no_cell_that_we_add_is_a_formula(error, warning):
    result = RowResult(Status.FAILED, error=error, warnings=(warning,), prediction_id=error, video_uri=warning)
    _, content = made([result])
    archive = zipfile.ZipFile(io.BytesIO(content))
    for part in archive.namelist():
        assert b"<f>" not in archive.read(part)
    sheet = opened(content)["Results"]
    assert not str(sheet.cell(2, column("error")).value or "").startswith(("=", "+", "-", "@"))


def test_money_and_measures_are_numbers_and_identifiers_are_text():
    sheet = opened(made([DELIVERED])[1])["Results"]
    for name, value in {
        "cost_usd": 0.54,
        "total_cost_usd": 1.08,
        "at_risk_usd": 0,
        "attempt": 2,
        "seconds": 31.5,
    }.items():
        assert sheet.cell(2, column(name)).value == value
    assert sheet.cell(2, column("cost_usd")).number_format == "0.00"
    assert sheet.cell(2, 1).value == "007"
    assert sheet.cell(2, column("submitted_at")).value == "2026-11-23T12:00:00Z"


def test_a_picture_and_a_clip_are_links_and_their_texts_stay():
    link = "https://acme.invalid/a.mp4?X-Amz-Signature=abc&X-Amz-Expires=600"
    sheet = opened(made([DELIVERED], links={0: link})[1])["Results"]
    image, clip = sheet.cell(2, 2), sheet.cell(2, column(CLIP))
    assert (image.value, image.hyperlink.target) == (IMAGE, IMAGE)
    assert (clip.value, clip.hyperlink.target) == ("Play", link)
    assert sheet.cell(2, column("video_uri")).value == DELIVERED.video_uri


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_a_link_would_change_stays_plain_text(address):
    """Fed back, a link's target is the picture's address; it has to be the same, or the clip is paid for again."""
    sheet = opened(made([DELIVERED], cells=[("a", address, "p")])[1])["Results"]
    assert sheet.cell(2, 2).hyperlink is None
    assert sheet.cell(2, 2).value == address


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "/etc/passwd", "file:///x", "https://x/" + "a" * 3000, "a\nb", ""]
)
def test_a_link_to_anywhere_else_is_left_out(link):
    sheet = opened(made([DELIVERED], links={0: link})[1])["Results"]
    assert sheet.cell(2, column(CLIP)).hyperlink is None
    assert not sheet.cell(2, column(CLIP)).value
    assert sheet.cell(2, column("video_uri")).value == DELIVERED.video_uri


def test_a_relative_link_leads_out_of_the_folder_of_the_run():
    sheet = opened(made([DELIVERED], links={0: "../../videos/a-1 (x).mp4"})[1])["Results"]
    target = sheet.cell(2, column(CLIP)).hyperlink.target
    assert target.replace("\\", "/").replace("%20", " ") == "../../videos/a-1 (x).mp4"


def test_when_links_are_too_many_the_clips_have_theirs_first(monkeypatch):
    monkeypatch.setattr(workbook, "MOST_LINKS", 5)
    sheet = opened(made([DELIVERED] * 4, links=dict.fromkeys(range(4), "a.mp4"))[1])["Results"]
    assert [bool(sheet.cell(line, column(CLIP)).hyperlink) for line in range(2, 6)] == [True] * 4
    assert [bool(sheet.cell(line, 2).hyperlink) for line in range(2, 6)] == [True, False, False, False]


def test_clips_beyond_the_most_links_of_a_sheet_have_none_and_keep_their_address(monkeypatch):
    monkeypatch.setattr(workbook, "MOST_LINKS", 2)
    sheet = opened(made([DELIVERED] * 3, links=dict.fromkeys(range(3), "a.mp4"))[1])["Results"]
    assert [bool(sheet.cell(line, column(CLIP)).hyperlink) for line in range(2, 5)] == [True, True, False]
    assert sheet.cell(4, column("video_uri")).value == DELIVERED.video_uri


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_thumbnail_lies_on_its_image_cell_above_the_address(form):
    sheet = opened(made([DELIVERED] * 2, thumbnails={1: picture(form)})[1])["Results"]
    (image,) = sheet._images
    assert (image.anchor._from.row, image.anchor._from.col) == (2, 1)
    assert sheet.cell(3, 2).value == IMAGE
    assert sheet.row_dimensions[3].height > sheet.row_dimensions[2].height


def test_a_thumbnail_is_drawn_by_its_pixels_whatever_density_it_claims():
    sheets = [
        opened(made([DELIVERED], thumbnails={0: picture(dpi=dpi)})[1])["Results"] for dpi in [(72, 72), (300, 300)]
    ]
    ends = [(image.anchor.to.row, image.anchor.to.col) for (image,) in (sheet._images for sheet in sheets)]
    assert ends == [(1, 1), (1, 1)]


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"<svg onload=alert(1)>", picture()[:200], picture("PNG")[:60]]
)
def test_a_thumbnail_that_is_no_picture_is_left_out(content):
    sheet = opened(made([DELIVERED], thumbnails={0: content})[1])["Results"]
    assert sheet._images == []
    assert sheet.cell(2, 2).value == IMAGE


def test_the_review_column_offers_ok_and_redo_and_explains_them():
    sheet = opened(made([DELIVERED] * 3)[1])["Results"]
    (choice,) = sheet.data_validations.dataValidation
    letter = openpyxl.utils.get_column_letter(column("review"))
    assert str(choice.sqref) == f"{letter}2:{letter}4"
    assert (choice.formula1, choice.allowBlank) == ('"ok,redo"', True)
    assert "reelsheet retry" in choice.prompt


def test_the_header_stays_and_every_column_can_be_filtered():
    sheet = opened(made([DELIVERED] * 3)[1])["Results"]
    assert sheet.freeze_panes == "B2"
    assert sheet.auto_filter.ref == f"A1:{openpyxl.utils.get_column_letter(column(WORKBOOK_COLUMNS[-1]))}4"


@pytest.mark.parametrize("prompt", ["", "The cup turns slowly"])
def test_technical_columns_are_folded_away_but_there(prompt):
    sheet = opened(made([replace(DELIVERED, prompt_sent=prompt)])[1])["Results"]
    hidden = {
        name
        for name in RESULT_COLUMNS
        if any(
            dimension.hidden and dimension.min <= column(name) <= dimension.max
            for dimension in sheet.column_dimensions.values()
        )
    }
    shown = {"status", "review", "error", "warnings", "cost_usd", "at_risk_usd"} | (
        {"prompt_sent"} if prompt else set()
    )
    assert hidden == set(RESULT_COLUMNS) - shown


def test_it_prints_on_pages_as_wide_as_the_table_with_its_header_on_each():
    sheet = opened(made([DELIVERED])[1])["Results"]
    assert (sheet.page_setup.orientation, sheet.page_setup.fitToHeight) == ("landscape", 0)
    assert sheet.page_setup.fitToWidth in {None, 1}, "1 is what a workbook means that says nothing"
    assert sheet.sheet_properties.pageSetUpPr.fitToPage
    assert sheet.print_title_rows == "$1:$1"


@pytest.mark.parametrize("name", ["clip", "Clip", "review", "status"])
@pytest.mark.parametrize("moved", [False, True], ids=["as-written", "moved"])
def test_a_column_of_the_sheet_with_a_name_of_ours_stays_and_the_links_go(name, moved):
    table = text_frame((name, "image"), [("Play it", IMAGE), ("", IMAGE), ("Play", IMAGE)])
    manifest = Manifest(
        "sheet.csv", table, tuple(Row(at, at + 2, image=IMAGE) for at in range(3)), {"image": 1},
        result_columns=result_columns((name, "image")),
    )  # fmt: skip
    results = [DELIVERED, DELIVERED, RowResult(Status.FAILED)]
    summary = summarise(
        results, run_id="r", started_at=None, finished_at=None, seconds=0, flow_run_id=None, exit_code=0
    )
    content = results_xlsx(manifest, results, summary=summary, links={0: "a.mp4", 1: "b.mp4"})
    if moved:
        book = opened(content)
        book["Results"].move_range("C1:C4", cols=80)
        buffer = io.BytesIO()
        book.save(buffer)
        content = buffer.getvalue()
    back = parse(content, "results.xlsx")
    assert sorted(filter(None, back.columns)) == sorted((name, "image"))
    assert list(back.table[name]) == ["Play it", "", "Play"]
    assert [row.earlier.status for row in back.rows] == ["succeeded", "succeeded", "failed"]
    assert list(earlier.result_cells(content, "results.xlsx")["video_uri"])[:2] == [DELIVERED.video_uri] * 2


def test_a_cell_too_long_for_excel_is_cut_and_says_so():
    _, content = made([DELIVERED], cells=[("a", IMAGE, "🎬" * 20_000)])
    cell = opened(content)["Results"].cell(2, 3).value
    assert cell.endswith("… (results.csv has all of it)")
    assert len(cell.encode("utf-16-le")) // 2 <= 32_767


def test_the_totals_stand_on_a_sheet_of_their_own():
    results = [DELIVERED, RowResult(Status.FAILED, error_code=ErrorCode.GENERATION_FAILED, cost_cents=54)]
    until = datetime(2026, 11, 30, 9, 5, tzinfo=UTC)
    sheet = opened(made(results, links={0: "https://x/a.mp4"}, expires_at=until)[1])["Totals"]
    told = {row[0].value: row[1].value for row in sheet.iter_rows() if row[0].value}
    assert (told["Rows"], told["Succeeded"], told["Failed"]) == (2, 1, 1)
    assert (told["Spent in this run"], told["Wasted"], told["At risk"]) == (1.08, 0.54, 0)
    assert told["Links work until"] == "2026-11-30 09:05 UTC"


def test_an_empty_table_is_a_workbook_too():
    manifest, content = made([])
    assert {cell.value for cell in opened(content)["Results"][1]} == {*header(manifest), CLIP}


def test_the_added_cells_are_those_of_results_csv():
    result = RowResult(Status.FAILED, error="-5: no", warnings=("=odd",), run_id="r1", identity="abc", reused=True)
    sheet = opened(made([result])[1])["Results"]
    expected = dict(zip(RESULT_COLUMNS, results_frame([result]).iloc[0], strict=True))
    for name in ("status", "error", "warnings", "run_id", "identity", "reused"):
        assert sheet.cell(2, column(name)).value == expected[name]


@pytest.mark.slow
def test_libreoffice_opens_it_and_sees_the_same(tmp_path):
    """The workbook as another program reads it: its values by CSV, its pages by PDF."""
    if not (office := shutil.which("soffice")):
        told = "No LibreOffice (soffice): the workbook was NOT opened by another program."
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(told)
        pytest.skip(told)
    cells = [(f"SKU-{at}", IMAGE, "=1+1" if at == 3 else 'a "slow" push in\nat dusk') for at in range(12)]
    _, content = made([DELIVERED] * 12, cells=cells, thumbnails={at: picture() for at in range(12)}, links={0: "a.mp4"})
    (tmp_path / "results.xlsx").write_bytes(content)
    for form in ("csv:Text - txt - csv (StarCalc):44,34,76", "pdf"):
        command = [
            office,
            "--headless",
            f"-env:UserInstallation={(tmp_path / 'office').as_uri()}",
            "--convert-to",
            form,
        ]
        subprocess.run([*command, "results.xlsx"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    with Path(tmp_path / "results.csv").open(encoding="utf-8", newline="") as table:
        head, *records = list(csv.reader(table))
    assert tuple(head[3:]) == WORKBOOK_COLUMNS
    assert [tuple(record[:3]) for record in records] == cells
    assert {record[column("cost_usd") - 1] for record in records} == {"0.54"}
    assert (tmp_path / "results.pdf").stat().st_size > 5_000


def test_a_row_under_a_thumbnail_can_be_marked_and_given_to_retry():
    _, content = made([DELIVERED], thumbnails={0: picture()})
    row = parse(content, "results.xlsx").rows[0]
    assert (row.image, row.problems) == (IMAGE, ())


def test_a_workbook_for_a_folder_leads_to_the_clips_there_and_is_otherwise_the_same():
    links = {
        0: "https://b.s3.amazonaws.com/spring/videos/a%20b/%C3%A9.mp4?X-Amz-Signature=1&x=2",
        1: "../../videos/c.mp4",
        2: "https://b.s3.amazonaws.com/spring/videos/missing.mp4?X-Amz-Signature=1",
    }
    _, content = made([DELIVERED] * 3, links=links, thumbnails={0: picture()})
    local = workbook.local_workbook(content, {"videos/a b/é.mp4", "videos/c.mp4"})
    before, after = opened(content)["Results"], opened(local)["Results"]
    targets = [after.cell(line, column(CLIP)).hyperlink.target for line in (2, 3, 4)]
    assert targets == ["videos/a%20b/%C3%A9.mp4", "videos/c.mp4", before.cell(4, column(CLIP)).hyperlink.target]
    assert after.cell(2, 2).hyperlink.target == before.cell(2, 2).hyperlink.target
    assert [[cell.value for cell in row] for row in after] == [[cell.value for cell in row] for row in before]
    assert workbook.local_workbook(content, {"videos/a b/é.mp4", "videos/c.mp4"}) == local
    assert workbook.local_workbook(b"no workbook", {"videos/c.mp4"}) == b"no workbook"


@pytest.mark.parametrize("part", ["xl/worksheets/sheet1.xml", "xl/worksheets/_rels/sheet1.xml.rels"])
def test_a_workbook_that_unpacks_to_far_more_than_it_has_takes_little_memory(part, monkeypatch):
    monkeypatch.setattr(workbook, "LARGEST_LINKS_BYTES", 2**20)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr(part, bytes(2**26))
    tracemalloc.start()
    try:
        workbook.local_workbook(file.getvalue(), set())
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_folder_for_temporary_files_that_takes_nothing_is_named(tmp_path, monkeypatch):
    """A disk that fills in mid-run; the other files of the run are written all the same."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageError, match=r"temporary files, .*/gone, does not take it: No such file"):
        made([DELIVERED])
