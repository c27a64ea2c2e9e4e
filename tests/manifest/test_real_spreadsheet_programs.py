"""The same table, saved by the programs that save tables in life, is read as the same manifest."""

import csv
import io
import shutil
import subprocess
from pathlib import Path

import openpyxl
import pytest
import xlsxwriter

from reelsheet.errors import ManifestError
from reelsheet.manifest import rows

HEADER = ["SKU", "Image Link", "Caption", "enable prompt expansion", "Take", "Campaign"]
RECORDS = [
    ["007", "https://cdn.shop.example/1.jpg", "A slow push in; soft light, “golden” hour", "yes", "1", "NA"],
    ["008", "https://cdn.shop.example/2.jpg", "Zwei Zeilen\nüber Größe", "", "2", ""],
    ["NA", "https://cdn.shop.example/3.jpg", "=not a formula", "no", "", "1e5"],
    ["", "", "no picture", "", "", "TRUE"],
]
SOFFICE = shutil.which("soffice")


def as_csv(encoding: str, delimiter: str = ",", end: str = "\r\n", **style) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end, **style).writerows([HEADER, *RECORDS])
    return text.getvalue().encode(encoding)


def by_openpyxl(*, write_only: bool = False) -> bytes:
    book = openpyxl.Workbook(write_only=write_only)
    sheet = book.create_sheet("Shots", 0)
    for record in [HEADER, *RECORDS]:
        cells = [openpyxl.cell.WriteOnlyCell(sheet, text) for text in record]
        for cell in cells:
            cell.data_type = "s"
        sheet.append([cell if cell.value else None for cell in cells])
    return saved(book)


def by_xlsxwriter(**options) -> bytes:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, options) as book:
        sheet = book.add_worksheet("Shots")
        for row, record in enumerate([HEADER, *RECORDS]):
            for column, text in enumerate(record):
                sheet.write_string(row, column, text)
            if row and record[1]:
                sheet.write_url(row, 1, record[1], string="Photo")
        sheet.autofilter(0, 0, len(RECORDS), len(HEADER) - 1)
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, 20, 15, book.add_format({"bold": True}))
        sheet.conditional_format(
            "A1:F9",
            {
                "type": "text",
                "criteria": "containing",
                "value": "x",
                "format": book.add_format({"bg_color": "#FF0000"}),
            },
        )
        sheet.data_validation("D2:D9", {"validate": "list", "source": ["yes", "no"]})
    return buffer.getvalue()


def by_pandas(engine: str) -> bytes:
    pandas = pytest.importorskip("pandas")
    buffer = io.BytesIO()
    table = pandas.DataFrame(RECORDS, columns=HEADER, dtype="str")
    if engine == "csv":
        return table.to_csv(index=False).encode()
    with pandas.ExcelWriter(
        buffer,
        engine=engine,
        engine_kwargs={"options": {"strings_to_formulas": False}} if engine == "xlsxwriter" else None,
    ) as writer:
        table.replace("=not a formula", "'=not a formula" if engine == "openpyxl" else "=not a formula").to_excel(
            writer, index=False
        )
    return buffer.getvalue()


def saved(book: openpyxl.Workbook) -> bytes:
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def check(content: bytes, *, guessed: bool = False, formula: str = "=not a formula") -> None:
    found = rows.parse(content, "shop")
    assert list(found.columns) == HEADER
    expected = [[formula if text == "=not a formula" else text for text in record] for record in RECORDS]
    assert [[cell.replace("\r\n", "\n") for cell in cells] for cells in found.records()] == expected
    assert found.roles == {"image": 1, "prompt": 2, "enable_prompt_expansion": 3, "id": 0, "take": 4}
    assert [row.image for row in found.rows] == [record[1] for record in RECORDS]
    assert [row.expansion for row in found.rows] == [True, None, False, None]
    assert [row.take for row in found.rows] == [1, 2, 1, 1]
    assert [bool(row.problems) for row in found.rows] == [False, False, False, True]
    assert found.rows[0].id == "007"
    assert any("guessed encoding" in warning for warning in found.warnings) is guessed


@pytest.mark.parametrize(
    ("name", "content", "guessed"),
    [
        ("Google Sheets", as_csv("utf-8"), False),
        ("Excel, CSV UTF-8", as_csv("utf-8-sig"), False),
        ("Excel, CSV UTF-8, German", as_csv("utf-8-sig", ";"), False),
        ("Excel, CSV", as_csv("cp1252"), True),
        ("Excel, CSV, German", as_csv("cp1252", ";"), True),
        ("Excel, Unicode text", as_csv("utf-16", "\t"), False),
        ("Excel on old Macs", as_csv("utf-8", end="\r", quoting=csv.QUOTE_ALL), False),
        ("LibreOffice, all quoted", as_csv("utf-8", end="\n", quoting=csv.QUOTE_ALL), False),
        ("PostgreSQL, vertical bar", as_csv("utf-8", "|", "\n"), False),
    ],
)
def test_csv_is_read_as_programs_write_it(name, content, guessed):
    check(content, guessed=guessed)


@pytest.mark.parametrize("write_only", [False, True])
def test_openpyxl_workbooks_are_read(write_only):
    check(by_openpyxl(write_only=write_only))


@pytest.mark.parametrize("options", [{}, {"constant_memory": True}, {"use_zip64": True}])
def test_xlsxwriter_workbooks_are_read_with_their_links(options):
    check(by_xlsxwriter(**options))


@pytest.mark.parametrize("engine", ["csv", "xlsxwriter"])
def test_pandas_tables_are_read(engine):
    check(by_pandas(engine))


def test_a_pandas_table_by_openpyxl_is_read():
    check(by_pandas("openpyxl"), formula="'=not a formula")


@pytest.mark.slow
@pytest.mark.skipif(SOFFICE is None, reason="LibreOffice is not installed")
@pytest.mark.parametrize(
    ("form", "reads"),
    [
        ("xlsx", True),
        ("csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false", True),  # UTF-8, quoted where needed
        ("csv:Text - txt - csv (StarCalc):59,34,1,1,,0,false,true,false", True),  # semicolon, Windows-1252
        ("csv:Text - txt - csv (StarCalc):9,34,65535,1,,0,true,true,false", True),  # tab, UTF-16, all quoted
        ("ods", False),
        ("xls", False),
        ("pdf", False),
        ("html", False),
    ],
    ids=["xlsx", "csv", "csv-1252", "csv-utf16", "ods", "xls", "pdf", "html"],
)
def test_what_libreoffice_saves_is_read_or_refused_by_name(tmp_path, form, reads):
    assert SOFFICE is not None
    (tmp_path / "shop.xlsx").write_bytes(by_xlsxwriter())
    out = tmp_path / "out"
    profile = f"-env:UserInstallation=file://{tmp_path}/profile"
    subprocess.run(
        [SOFFICE, "--headless", profile, "--convert-to", form, "--outdir", str(out), str(tmp_path / "shop.xlsx")],
        check=True,
        capture_output=True,
        timeout=120,
    )
    (saved_as,) = out.iterdir()
    content = saved_as.read_bytes()
    if not reads:
        with pytest.raises(ManifestError, match=r"OpenDocument|\.xls|PDF|web page"):
            rows.parse(content, "shop")
    elif form == "xlsx":
        check(content)
    else:
        found = rows.parse(content, Path(saved_as).name)
        assert len(found.rows) == len(RECORDS)
        assert [row.id for row in found.rows] == [record[0] for record in RECORDS]
        assert [row.prompt for row in found.rows] == [record[2] for record in RECORDS]
