"""The XML of .xlsx, as libraries and Excel write it, and as nobody should."""

import io
import re
import zipfile
from datetime import date, datetime, time, timedelta

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.manifest import worksheet, xlsx
from reelsheet.manifest.worksheet import Oddity, SpreadsheetError, link_of, link_source_of
from reelsheet.manifest.xlsx import Workbook

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/spreadsheetml/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def saved(book: openpyxl.Workbook) -> bytes:
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def of_rows(*rows) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    return saved(book)


def by_hand(sheet: str, *, strings: str = "", relations: str = "", prefix: str = "", namespace: str = MAIN) -> bytes:
    """A workbook of one sheet from its XML, as a program with its own mind might write it."""
    colon = f"{prefix}:" if prefix else ""
    declared = f'xmlns{":" + prefix if prefix else ""}="{namespace}" xmlns:r="{RELATIONS}"'
    types = ("worksheet", "worksheets/sheet1.xml"), ("sharedStrings", "sharedStrings.xml")
    links = "".join(
        f'<Relationship Id="rId{at}" Type="{RELATIONS}/{kind}" Target="{target}"/>'
        for at, (kind, target) in enumerate(types)
    )
    parts = {
        "_rels/.rels": '<Relationships><Relationship Id="a" Target="/xl/workbook.xml"'
        f' Type="{RELATIONS}/officeDocument"/></Relationships>',
        "xl/workbook.xml": f"<{colon}workbook {declared}><{colon}sheets>"
        f'<{colon}sheet name="One" sheetId="1" r:id="rId0"/></{colon}sheets></{colon}workbook>',
        "xl/_rels/workbook.xml.rels": f"<Relationships>{links}</Relationships>",
        "xl/worksheets/sheet1.xml": f"<{colon}worksheet {declared}>{sheet}</{colon}worksheet>",
        "xl/sharedStrings.xml": f"<{colon}sst {declared}>{strings}</{colon}sst>",
        "xl/worksheets/_rels/sheet1.xml.rels": f"<Relationships>{relations}</Relationships>",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def grid(content: bytes, tab: int = 0):
    book = Workbook(content)
    return book.grid(book.tabs[tab])


def first(content: bytes) -> list[str]:
    return grid(content).rows[0][1]


def test_everything_is_text_as_people_see_it():
    row = ["007", 7, 7.0, 7.5, 0.1 + 0.2, 4006381333931, -3, 1e21, True, False, None, "NA", "#N/A", " a "]
    expected = ["007", "7", "7", "7.5", "0.3", "4006381333931", "-3", "1e+21", "TRUE", "FALSE", "", "NA", "#N/A", " a "]
    assert first(of_rows(row)) == expected


def test_a_long_number_of_an_article_keeps_every_digit():
    assert first(of_rows([1234567890123456, 10**15])) == ["1234567890123456", "1000000000000000"]


def test_dates_are_iso():
    row = [date(2026, 1, 15), datetime(2026, 1, 15, 9, 30), time(9, 30), timedelta(hours=30)]  # noqa: DTZ001 - as Excel
    assert first(of_rows(row)) == ["2026-01-15", "2026-01-15T09:30:00", "09:30:00", "1 day, 6:00:00"]


def test_dates_that_count_from_1904_are_the_same_dates():
    book = openpyxl.Workbook()
    book.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
    book.active.append([date(2026, 1, 15)])
    assert first(saved(book)) == ["2026-01-15"]


def test_a_number_that_is_shown_with_zeros_in_front_has_them():
    book = openpyxl.Workbook()
    for column, (value, shown) in enumerate([(7, "00000"), (7, "0"), (0.25, "0%"), (1234.5, "#,##0.00")], 1):
        book.active.cell(1, column, value).number_format = shown
    assert first(saved(book)) == ["00007", "7", "0.25", "1234.5"]


def test_a_number_beyond_all_dates_stays_a_number():
    book = openpyxl.Workbook()
    book.active.cell(1, 1, 99_999_999_999).number_format = "yyyy-mm-dd"
    assert first(saved(book)) == ["99999999999"]


def test_blank_rows_and_columns_are_left_out_and_rows_keep_their_numbers():
    book = openpyxl.Workbook()
    book.active["B3"] = "image"
    book.active["B7"] = "a"
    book.active["D7"] = " "
    book.active["B9"] = " "
    assert grid(saved(book)).rows == [(3, ["", "image"]), (7, ["", "a", "", " "])]


def test_hyperlinks_are_found_with_their_fragments_and_ranges():
    sheet = (
        '<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>one</t></is></c></row>'
        '<row r="2"><c r="B2"><v>1</v></c></row><row r="3"><c r="A3"><v>1</v></c></row></sheetData><hyperlinks>'
        '<hyperlink ref="A1" r:id="r1" location="page=2"/><hyperlink ref="A2:B3" r:id="r2"/>'
        '<hyperlink ref="A4" location="Sheet2!A1"/><hyperlink ref="A5" r:id="nowhere"/></hyperlinks>'
    )
    relations = "".join(
        f'<Relationship Id="{name}" Type="{RELATIONS}/hyperlink" Target="{target}" TargetMode="External"/>'
        for name, target in {"r1": "https://a.example/?a=1&amp;b=2", "r2": "https://b.example/"}.items()
    )
    assert grid(by_hand(sheet, relations=relations)).links == {
        (1, 0): "https://a.example/?a=1&b=2#page=2",
        **dict.fromkeys([(2, 0), (2, 1), (3, 0), (3, 1)], "https://b.example/"),
    }


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ('HYPERLINK("https://a.example/1.jpg","Photo")', "https://a.example/1.jpg"),
        ('=HYPERLINK("https://a.example/1.jpg";"Photo")', "https://a.example/1.jpg"),
        ('= hyperlink( "https://a.example/1.jpg" )', "https://a.example/1.jpg"),
        ('_xlfn.IMAGE("https://a.example/1.jpg",,1)', "https://a.example/1.jpg"),
        ('=HYPERLINK("https://a.example/say ""hi"".jpg","x")', 'https://a.example/say "hi".jpg'),
        ('=HYPERLINK("https://a.example/"&A2,"x")', ""),
        ("=HYPERLINK(A2)", ""),
        ("=1+1", ""),
    ],
)
def test_the_address_in_a_formula_is_taken_where_it_stands_there_whole(formula, expected):
    assert link_of(formula) == expected


@pytest.mark.parametrize(
    ("formula", "source"),
    [
        ('HYPERLINK(D2,"view")', "D2"),
        ("=_xlfn.IMAGE($D$2)", "$D$2"),
        ("=image( AB12 ;;1)", "AB12"),
        ('=HYPERLINK("https://a.example/"&A2,"x")', '"https://a.example/"&A2'),
        ('=IMAGE(VLOOKUP(A2,Links!A:B,2,0),"x")', "VLOOKUP(A2,Links!A:B,2,0)"),
        ('=HYPERLINK(Table1[[#This Row],[link]],"x")', "Table1[[#This Row],[link]]"),
        ('=HYPERLINK(CONCAT("a,b)",C2))', 'CONCAT("a,b)",C2)'),
        ('=HYPERLINK("https://a.example/1.jpg","x")', ""),
        ('=IF(A2="","",IMAGE(D2))', ""),
        ("=IMAGE(D2", "D2"),
    ],
)
def test_where_a_formula_takes_an_address_from_is_told(formula, source):
    assert link_source_of(formula) == source


def test_formulas_give_their_saved_value_or_are_told_to_have_none():
    sheet = (
        '<sheetData><row r="1">'
        '<c r="A1" t="str"><f>B1&amp;".jpg"</f><v>cup.jpg</v></c>'
        '<c r="B1"><f>1+1</f><v>2</v></c>'
        '<c r="C1"><f>A1&amp;B1</f></c>'
        '<c r="D1" t="str"><f>IF(1=2,"x","")</f><v></v></c>'
        '<c r="E1" t="e"><f>1/0</f><v>#DIV/0!</v></c>'
        '<c r="F1" t="str"><f>HYPERLINK("https://a.example/1.jpg","Photo")</f><v>Photo</v></c>'
        '<c r="G1"><f t="shared" ref="G1:G2" si="0">HYPERLINK("https://a.example/2.jpg","Photo")</f></c>'
        '</row><row r="2"><c r="G2" t="str"><f t="shared" si="0"/><v>Photo</v></c></row></sheetData>'
    )
    found = grid(by_hand(sheet))
    assert found.rows[0][1] == ["cup.jpg", "2", "=A1&B1", "", "#DIV/0!", "Photo", "https://a.example/2.jpg"]
    assert found.odd == {(1, 2): Oddity.UNSAVED, (1, 4): Oddity.FAILED}
    assert found.links == {
        (1, 5): "https://a.example/1.jpg",
        (1, 6): "https://a.example/2.jpg",
        (2, 6): "https://a.example/2.jpg",
    }


def test_a_merged_cell_counts_for_each_of_its_rows():
    text = '<c r="{}" t="inlineStr"><is><t>{}</t></is></c>'
    rows = {
        1: [("A1", "sku"), ("B1", "image"), ("C1", "prompt")],
        2: [("A2", "one"), ("B2", "a"), ("C2", "turn")],
        3: [("A3", "two"), ("C3", "what the merged cell covers")],
        6: [("A6", "six")],
        7: [("A7", "seven"), ("B7", "b"), ("C7", "of its own")],
    }
    sheet = "".join(
        f'<row r="{row}">{"".join(text.format(*cell) for cell in cells)}</row>' for row, cells in rows.items()
    )
    merges = "".join(f'<mergeCell ref="{ref}"/>' for ref in ("C2:C6", "B2:B6", "A8:A9", "D1:E1", "D2:F3", "nonsense"))
    found = grid(by_hand(f"<sheetData>{sheet}</sheetData><mergeCells>{merges}</mergeCells>"))
    assert [(row, [cell for cell in cells if cell]) for row, cells in found.rows] == [
        (1, ["sku", "image", "prompt"]),
        (2, ["one", "a", "turn"]),
        (3, ["two", "a", "turn"]),
        (6, ["six", "a", "turn"]),
        (7, ["seven", "b", "of its own"]),
    ]


def test_what_is_known_of_a_merged_cell_counts_for_each_of_its_rows():
    sheet = (
        '<sheetData><row r="1"><c r="A1"><v>1</v></c></row>'
        '<row r="2"><c r="A2"><v>1</v></c><c r="B2" t="e"><v>#N/A</v></c><c r="C2"><f>IMAGE(A2)</f></c></row>'
        '<row r="3"><c r="A3"><v>1</v></c></row></sheetData>'
        '<mergeCells><mergeCell ref="B2:B3"/><mergeCell ref="C2:C3"/><mergeCell ref="D2:D3"/></mergeCells>'
        '<hyperlinks><hyperlink ref="D2" r:id="r1"/></hyperlinks>'
    )
    relations = f'<Relationship Id="r1" Type="{RELATIONS}/hyperlink" Target="https://a.example" TargetMode="External"/>'
    found = grid(by_hand(sheet, relations=relations))
    assert found.odd[3, 1] is Oddity.FAILED
    assert found.link_sources[3, 2] == "A2"
    assert found.links[3, 3] == "https://a.example"


def test_columns_that_are_named_in_a_merged_cell_are_not_named_again_below():
    sheet = '<sheetData><row r="1"><c r="A1" t="str"><v>image</v></c></row><row r="2"><c r="B2"><v>1</v></c></row>'
    found = grid(by_hand(f'{sheet}</sheetData><mergeCells><mergeCell ref="A1:A2"/></mergeCells>'))
    assert found.rows[1] == (2, ["", "1"])


def test_endlessly_many_merged_cells_are_refused(monkeypatch):
    monkeypatch.setattr(xlsx, "_LINK_LIMIT", 100)
    rows = "".join(f'<row r="{row}"><c r="A{row}"><v>1</v></c></row>' for row in range(1, 30))
    merges = '<mergeCell ref="B2:B1048576"/>' * 5
    with pytest.raises(SpreadsheetError, match="more merged cells"):
        grid(by_hand(f"<sheetData>{rows}</sheetData><mergeCells>{merges}</mergeCells>"))


def anchor(kind, *corners, shape="pic"):
    """An anchor of a drawing; `corners` are (column, row) from 0."""
    places = "".join(
        f"<xdr:{name}><xdr:col>{column}</xdr:col><xdr:colOff>9</xdr:colOff><xdr:row>{row}</xdr:row></xdr:{name}>"
        for name, (column, row) in zip(("from", "to"), corners, strict=False)
    )
    return f"<xdr:{kind}>{places}<xdr:{shape}><xdr:blipFill/></xdr:{shape}></xdr:{kind}>"


def test_pictures_in_and_over_cells_are_found():
    sheet = (
        '<sheetData><row r="1"><c r="A1"><v>1</v></c></row><row r="2"><c r="B2" t="e" vm="1"><v>#VALUE!</v></c>'
        '<c r="C2" t="str"><f>_xlfn.DISPIMG("ID_1",1)</f><v>=DISPIMG("ID_1",1)</v></c>'
        '<c r="D2" t="e" vm="1"><f>_xlfn.IMAGE("https://a.example/1.jpg")</f><v>#VALUE!</v></c></row></sheetData>'
        '<drawing r:id="r1"/>'
    )
    drawing = (
        '<xdr:wsDr xmlns:xdr="x">'
        + anchor("twoCellAnchor", (4, 4), (5, 6))
        + anchor("oneCellAnchor", (0, 8))
        + anchor("twoCellAnchor", (0, 10), (1, 11), shape="graphicFrame")
        + anchor("absoluteAnchor")
        + "</xdr:wsDr>"
    )
    relations = f'<Relationship Id="r1" Type="{RELATIONS}/drawing" Target="../drawings/drawing1.xml"/>'
    found = grid(_replaced(by_hand(sheet, relations=relations), "xl/drawings/drawing1.xml", drawing))
    over = [(5, 4), (6, 4), (7, 4), (9, 0)]
    assert found.odd == dict.fromkeys([(2, 1), (2, 2)], Oddity.PICTURE) | dict.fromkeys(over, Oddity.COVERED)
    assert found.links == {(2, 3): "https://a.example/1.jpg"}


def test_rich_text_is_joined_and_phonetic_guides_are_left_out():
    strings = (
        "<si><r><t>red </t></r><r><rPr><b/></rPr><t>cup</t></r></si>"
        "<si><t>東京</t><rPh sb='0' eb='2'><t>トウキョウ</t></rPh></si><si><t>a_x000D_\nb_xD83D_</t></si><si/>"
    )
    sheet = '<sheetData><row><c t="s"><v>0</v></c><c t="s"><v>1</v></c><c t="s"><v>2</v></c><c t="s"><v>9</v></c>'
    assert first(by_hand(sheet + "</row></sheetData>", strings=strings)) == ["red cup", "東京", "a\r\nb_xD83D_"]


@pytest.mark.parametrize(("prefix", "namespace"), [("", MAIN), ("x", MAIN), ("", STRICT), ("s", STRICT)])
def test_prefixes_and_the_strict_form_make_no_difference(prefix, namespace):
    colon = f"{prefix}:" if prefix else ""
    sheet = (
        f'<{colon}sheetData><{colon}row r="2"><{colon}c r="B2" t="s"><{colon}v>0</{colon}v></{colon}c></{colon}row>'
        f"</{colon}sheetData>"
    )
    strings = f"<{colon}si><{colon}t>cup</{colon}t></{colon}si>"
    content = by_hand(sheet, strings=strings, prefix=prefix, namespace=namespace)
    assert grid(content).rows == [(2, ["", "cup"])]


def test_tabs_are_listed_in_order_and_charts_are_none():
    book = openpyxl.Workbook()
    book.active.title = "Hidden"
    book.active.sheet_state = "hidden"
    book.create_chartsheet("Chart")
    book.create_sheet("Äpfel & <Birnen>")["A1"] = "here"
    content = saved(book)
    assert [(tab.name, tab.hidden) for tab in Workbook(content).tabs] == [("Hidden", True), ("Äpfel & <Birnen>", False)]
    assert grid(content, 1).rows == [(1, ["here"])]


def test_a_million_formatted_blank_rows_cost_nothing():
    blank = '<row r="{}" s="1" customFormat="1"><c r="A{}" s="1"/><c r="B{}" s="1"/></row>'
    sheet = '<dimension ref="A1:XFD1048576"/><sheetData><row r="1"><c r="A1"><v>1</v></c></row>'
    sheet += "".join(blank.format(row, row, row) for row in range(2, 60_000)) + '<row r="1048576"/></sheetData>'
    assert grid(by_hand(sheet)).rows == [(1, ["1"])]


@pytest.mark.parametrize(
    "attributes",
    ['hidden="1"', "hidden='true'", 'hidden="1" outlineLevel="2" collapsed="1"', 'ht="0" customHeight="1"', 'ht="0.0"'],
)
def test_rows_that_are_not_shown_are_told_however_they_are_hidden(attributes):
    cell = "<c t='n'><v>1</v></c>"
    shown = 'hidden="0" ht="15.75"', 'hidden="false" outlineLevel="1"', 'ht="0.75"', ""
    rows = "".join(f"<row {other}>{cell}</row>" for other in (*shown, attributes))
    found = grid(by_hand(f"<sheetData>{rows}<row {attributes}/></sheetData>"))
    assert [row for row, _ in found.rows] == [1, 2, 3, 4, 5]
    assert found.hidden == {5}


@pytest.mark.parametrize(
    ("sheet", "says"),
    [
        ('<sheetData><row r="99999999"><c><v>1</v></c></row></sheetData>', "row numbered 99999999"),
        ('<sheetData><row r="0"><c><v>1</v></c></row></sheetData>', "row numbered 0"),
        ('<sheetData><row r="x"><c><v>1</v></c></row></sheetData>', "damaged"),
        ('<sheetData><row><c r="ZZZZZ1"><v>1</v></c></row></sheetData>', "column named"),
        ('<sheetData><row><c r="?1"><v>1</v></c></row></sheetData>', "cell named"),
        ('<sheetData><row r="5"><c r="XFD5"><v>1</v></c></row></sheetData>', "row 5 has something in column 16384"),
        ("<sheetData><row>", "damaged"),
        ("&undefined;", "damaged"),
    ],
)
def test_nonsense_is_refused(sheet, says):
    with pytest.raises(SpreadsheetError, match=says):
        grid(by_hand(sheet))


def test_a_document_type_is_refused_since_entities_could_grow_without_bounds():
    content = by_hand("")
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><worksheet>&b;</worksheet>'
    with pytest.raises(SpreadsheetError, match="document type"):
        grid(_replaced(content, "xl/worksheets/sheet1.xml", bomb))


def test_an_unknown_encoding_is_damage():
    with pytest.raises(SpreadsheetError, match="damaged"):
        grid(_replaced(by_hand(""), "xl/worksheets/sheet1.xml", "<?xml version='1.0' encoding='UTF-C'?><worksheet/>"))


def test_an_archive_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(xlsx, "_XML_LIMIT", 10_000)
    content = by_hand(" " * 20_000)
    assert len(content) < 5_000
    with pytest.raises(SpreadsheetError, match="unpacks to more than"):
        grid(content)


def test_too_many_cells_and_links_are_refused(monkeypatch):
    monkeypatch.setattr(worksheet, "_CELL_LIMIT", 100)
    with pytest.raises(SpreadsheetError, match="more cells"):
        grid(by_hand('<sheetData><row><c r="BZ1"><v>1</v></c></row><row><c r="BZ2"><v>1</v></c></row></sheetData>'))
    monkeypatch.setattr(xlsx, "_LINK_LIMIT", 100)
    with pytest.raises(SpreadsheetError, match="more links"):
        grid(linked('<hyperlink ref="A1:XFD1048576" r:id="r1"/>' * 21, rows=5))  # the same five cells, again and again


FORMULAS = '<row><c r="A1"><f>{}</f></c><c r="B1"><f>{}</f></c></row>' * 60
ODD_CELLS = {
    "pictures": FORMULAS.replace("{}", "DISPIMG("),
    "values that are not saved": FORMULAS.replace("{}", "A1"),
    "links to cells": FORMULAS.replace("{}", "HYPERLINK(A1)"),
    "links": FORMULAS.replace("{}", 'HYPERLINK("https://a.example")'),
}


@pytest.mark.parametrize("cells", ODD_CELLS)
def test_endlessly_many_odd_cells_are_refused(monkeypatch, cells):
    """Each is noted in memory, and a file of a few kilobytes can have millions of them."""
    monkeypatch.setattr(worksheet, "NOTE_LIMIT", 100)
    with pytest.raises(SpreadsheetError, match="more formulas"):
        grid(by_hand(f"<sheetData>{ODD_CELLS[cells]}</sheetData>"))


@pytest.mark.parametrize("element", ["<hyperlink/>", "<mergeCell/>", "<drawing/>"])
def test_endlessly_many_notes_behind_the_cells_are_refused(monkeypatch, element):
    monkeypatch.setattr(worksheet, "NOTE_LIMIT", 100)
    with pytest.raises(SpreadsheetError, match="more links or merged cells"):
        grid(by_hand(f"<sheetData/>{element * 101}"))


@pytest.mark.parametrize(
    ("part", "before", "element"),
    [
        ("xl/workbook.xml", "<sheets>", '<sheet name="a" r:id="r1"/>'),
        ("xl/styles.xml", "<cellXfs>", "<xf/>"),
        ("xl/_rels/workbook.xml.rels", "", "<Relationship/>"),
    ],
)
def test_endlessly_many_sheets_styles_and_relations_are_refused(monkeypatch, part, before, element):
    monkeypatch.setattr(xlsx, "NOTE_LIMIT", 100)
    with zipfile.ZipFile(io.BytesIO(of_rows(["image"]))) as archive:
        text = archive.read(part).decode()
    start = re.search(f"{before[:-1]}[^>]*>" if before else "<Relationships[^>]*>", text)
    content = _replaced(of_rows(["image"]), part, text.replace(start[0], start[0] + element * 101, 1))
    with pytest.raises(SpreadsheetError, match="more sheets, styles or links"):
        grid(content)


def test_endlessly_many_texts_and_cells_without_a_name_are_refused(monkeypatch):
    monkeypatch.setattr(worksheet, "_CELL_LIMIT", 100)
    with pytest.raises(SpreadsheetError, match="more texts"):
        grid(by_hand("<sheetData/>", strings="<si/>" * 101))
    with pytest.raises(SpreadsheetError, match="row 1 has more than 16384 cells"):
        grid(by_hand(f"<sheetData><row>{'<c/>' * 16_385}</row></sheetData>"))


def test_a_text_that_no_cell_takes_is_not_put_into_the_next_one():
    cells = '<c r="A1" t="n"><is><t>lost</t></is><v>1</v></c><c r="B1" t="inlineStr"><is><t>kept</t></is></c>'
    assert grid(by_hand(f"<sheetData><row>{cells}</row></sheetData>")).rows == [(1, ["1", "kept"])]


def linked(links: str, *, rows: int) -> bytes:
    """A workbook of so many rows with one cell each, and links to one address."""
    relations = f'<Relationship Id="r1" Type="{RELATIONS}/hyperlink" Target="https://a.example" TargetMode="External"/>'
    cells = "".join(f'<row r="{row}"><c r="A{row}"><v>1</v></c></row>' for row in range(1, rows + 1))
    return by_hand(f"<sheetData>{cells}</sheetData><hyperlinks>{links}</hyperlinks>", relations=relations)


def test_a_link_over_a_whole_column_costs_only_the_rows_that_are_there():
    found = grid(linked('<hyperlink ref="A1:XFD1048576" r:id="r1"/>', rows=3))
    assert found.links == {(row, 0): "https://a.example" for row in (1, 2, 3)}


def test_a_long_formula_that_is_dragged_down_is_read_once(monkeypatch):
    read = []
    monkeypatch.setattr(worksheet, "link_of", lambda text: read.append(text) or "")
    rows = "".join(f'<row r="{row}"><c r="A{row}"><f t="shared" si="0"/><v>1</v></c></row>' for row in range(2, 30))
    first_row = '<row r="1"><c r="A1"><f t="shared" si="0">SUM(B1)</f><v>1</v></c></row>'
    assert len(grid(by_hand(f"<sheetData>{first_row}{rows}</sheetData>")).rows) == 29
    assert set(read) == {"SUM(B1)"}
    assert len(read) < 3


@pytest.mark.parametrize("way", ["shared text", "dragged link", "link to cells", "merged cell"])
def test_one_long_text_in_endlessly_many_cells_is_refused(monkeypatch, way):
    monkeypatch.setattr(xlsx, "_TEXT_LIMIT", 10_000)
    text, rows = "https://a.example/" + "x" * 1000, range(2, 20)
    cells = dict.fromkeys(rows, "<v>1</v>")
    strings = relations = behind = ""
    match way:
        case "shared text":
            strings = f"<si><t>{text}</t></si>"
            body = "".join(f'<row r="{row}"><c r="A{row}" t="s"><v>0</v></c></row>' for row in rows)
        case "dragged link":
            cells = dict.fromkeys(rows, '<f t="shared" si="0"/>')
            cells[2] = f'<f t="shared" si="0">HYPERLINK("{text}","x")</f>'
            body = "".join(f'<row r="{row}"><c r="A{row}">{cell}</c></row>' for row, cell in cells.items())
        case "link to cells":
            body = "".join(f'<row r="{row}"><c r="A{row}"><v>1</v></c></row>' for row in rows)
            behind = '<hyperlinks><hyperlink ref="A2:A20" r:id="r1"/></hyperlinks>'
            relations = f'<Relationship Id="r1" Type="x/hyperlink" Target="{text}" TargetMode="External"/>'
        case _:
            body = "".join(f'<row r="{row}"><c r="B{row}"><v>1</v></c></row>' for row in rows)
            body = body.replace('<c r="B2">', f'<c r="A2" t="str"><v>{text}</v></c><c r="B2">')
            behind = '<mergeCells><mergeCell ref="A2:A20"/></mergeCells>'
    head = '<row r="1"><c r="A1" t="str"><v>image</v></c></row>'
    content = by_hand(f"<sheetData>{head}{body}</sheetData>{behind}", strings=strings, relations=relations)
    assert len(content) < 5_000
    with pytest.raises(SpreadsheetError, match="more text"):
        grid(content)


def test_parts_that_are_read_again_and_again_count_each_time(monkeypatch):
    monkeypatch.setattr(xlsx, "_XML_LIMIT", 30_000)
    book = Workbook(by_hand(" " * 10_000))
    book.grid(book.tabs[0])
    with pytest.raises(SpreadsheetError, match="unpacks to more than"):
        [book.grid(book.tabs[0]) for _ in range(3)]


def test_a_missing_part_is_named():
    content = _replaced(by_hand(""), "xl/worksheets/sheet1.xml", None)
    with pytest.raises(SpreadsheetError, match=r"sheet1\.xml"):
        grid(content)


@given(st.data())
def test_a_damaged_archive_is_read_or_refused_and_nothing_else(data):
    content = bytearray(_SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        book = Workbook(bytes(content))
        for tab in book.tabs:
            book.grid(tab)
    except SpreadsheetError as error:
        assert str(error)  # noqa: PT017 - or a table, either is right


@given(st.text(st.sampled_from("<>/=\"' rcvftsi:A1&;#x0-_"), max_size=80))
def test_a_damaged_sheet_is_read_or_refused_and_nothing_else(text):
    try:
        grid(
            _replaced(
                _SAMPLE, "xl/worksheets/sheet1.xml", f"<worksheet><sheetData><row>{text}</row></sheetData></worksheet>"
            )
        )
    except SpreadsheetError as error:
        assert str(error)  # noqa: PT017 - or a table, either is right


def _replaced(content: bytes, part: str, text: str | None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            if name != part:
                new.writestr(name, old.read(name))
        if text is not None:
            new.writestr(part, text)
    return buffer.getvalue()


_SAMPLE = by_hand(
    '<sheetData><row r="1"><c r="A1" t="s"><v>0</v></c></row></sheetData>', strings="<si><t>image</t></si>"
)
