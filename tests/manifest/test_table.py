"""Bytes as programs save them, decoded into records."""

import csv
import gzip
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.errors import ManifestError
from reelsheet.manifest import table as sheets
from reelsheet.manifest.table import Form, RawTable


def read(content, **flags) -> RawTable:
    options = {"sheet": None, "page": False, "accepts": lambda header: "image" in header} | flags
    return sheets.read(content.encode() if isinstance(content, str) else content, "x.csv", **options)


def refusal(content, **flags) -> str:
    with pytest.raises(ManifestError) as caught:
        read(content, **flags)
    return str(caught.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_delimiter_and_line_end_is_read(delimiter, end):
    table = read(end.join([f"image{delimiter}n", f"a{delimiter}1", f"b{delimiter}2", ""]))
    assert table.header == ("image", "n")
    assert table.records == [(2, ["a", "1"]), (3, ["b", "2"])]


def test_the_header_alone_decides_on_the_delimiter():
    table = read("image;n\na,b,c;1\nd,e,f;2\n")
    assert table.records == [(2, ["a,b,c", "1"]), (3, ["d,e,f", "2"])]


def test_a_header_that_two_delimiters_could_divide_is_refused_and_shown():
    told = refusal("image,x;image\na,b\n")
    assert "comma or a semicolon" in told
    assert "image,x;image" in told


def test_a_delimiter_inside_a_quoted_header_divides_nothing():
    assert read('"a;b",image\n1,2\n').header == ("a;b", "image")


def test_excels_own_hint_at_the_delimiter_is_followed():
    table = read("sep=|\r\nimage|n;m\r\na|1\r\n")
    assert table.header == ("image", "n;m")
    assert table.records == [(3, ["a", "1"])]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_is_read_as_it_was_saved(encoding):
    table = read("image,née\na,Größe 日本 😀\n".encode(encoding))
    assert table.header == ("image", "née")
    assert table.records == [(2, ["a", "Größe 日本 😀"])]
    assert not table.decoded.is_guessed
    assert not table.warnings


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_utf_16_of_either_order_is_read(mark):
    body = "image\nü\n".encode("utf-16-le" if mark == b"\xff\xfe" else "utf-16-be")
    assert read(mark + body).records == [(2, ["ü"])]


def test_what_excel_saves_in_western_europe_is_windows_1252_with_a_warning():
    table = read("image,n\na,Caf\u00e9 \u201eGr\u00f6\u00dfe\u201c \u20ac\n".encode("cp1252"))
    assert table.records == [(2, ["a", "Café „Größe“ €"])]
    assert (table.decoded.encoding, table.decoded.others) == ("cp1252", ())
    assert "guessed encoding" in table.warnings[0]


def test_a_few_other_bytes_in_marked_utf_8_garble_only_themselves():
    table = read("\ufeffimage,n\na,Größe 日本\n".encode() + b"b,Caf\xe9\n")
    assert table.header == ("image", "n")
    assert [cells for _, cells in table.records] == [["a", "Größe 日本"], ["b", "Caf\ufffd"]]
    assert "except for a few bytes" in table.warnings[0]


def test_a_second_byte_order_mark_is_no_part_of_the_first_name():
    assert read(b"\xef\xbb\xbf\xef\xbb\xbfimage\na\n").header == ("image",)


def test_quoted_line_ends_stay_in_their_cell_and_lines_are_counted_on():
    table = read('image,prompt\r\n"a","one\r\ntwo\nthree\rfour"\r\nb,five\r\n')
    assert table.records == [(2, ["a", "one\r\ntwo\nthree\rfour"]), (6, ["b", "five"])]


def test_all_three_line_ends_may_stand_in_one_file():
    assert read("image,n\na,1\r\nb,2\rc,3\n").records == [(2, ["a", "1"]), (3, ["b", "2"]), (4, ["c", "3"])]


def test_blank_lines_are_no_records_but_are_counted():
    table = read('\n\nimage,n\n\n , \n"",""\n\t\na,1\n,,,\n')
    assert table.header == ("image", "n")
    assert table.records == [(8, ["a", "1"])]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('image,n\na,1\nb,"2\nc,3\nd,4\n', 3),
        ('image,n\n"a\nb",1\n"c\nd","2\nc,3\n', 5),
        ('image,n\na,"1\nb,"2"\nc,3\n', 2),
        ('image,n\na,"one" two\nb,2\n', 2),
        ('image,n\r\n\r\na,"1\r\n', 3),
        ('image,"n\na,1\n', 1),
        ('sep=;\nimage;n\na;"1\n', 3),
        ('image,n\na,"', 2),
        ('"image', 1),
    ],
)
def test_a_quote_that_does_not_close_is_refused_with_the_line_where_it_opened(text, line):
    assert f"In line {line} of x.csv" in refusal(text)


def test_a_quote_inside_an_unquoted_cell_is_a_quote():
    assert read('image,n\na,5" nails\n').records == [(2, ["a", '5" nails'])]


def test_a_cell_may_be_longer_than_the_csv_module_likes():
    long = "x" * 500_000
    assert read(f"image,n\na,{long}\n").records == [(2, ["a", long])]


def test_one_column_needs_no_delimiter():
    table = read("image\nhttps://a.example/w_3,h_2/1.jpg\n")
    assert table.records == [(2, ["https://a.example/w_3,h_2/1.jpg"])]


def test_the_cells_of_a_record_are_neither_cut_nor_filled_up():
    assert read("image,n\na\nb,1,2\n").records == [(2, ["a"]), (3, ["b", "1", "2"])]


def test_a_sheet_cannot_be_chosen_in_a_csv_file():
    assert "--sheet was ignored" in read("image\na\n", sheet="Summer").warnings[0]


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"   ", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b",,,\n,,\n", b"sep=;\n"]
)
def test_nothing_is_refused_as_empty(content):
    assert "is empty" in refusal(content)


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(b"image\na\n", mtime=0), "gunzip"),
        (b"BZh91AY&SY", "bzip2"),
        (b"Rar!\x1a\x07\x01", "RAR"),
        (b"\x00\x00\x00\x18ftypmp42", "film"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "7-Zip"),
        (b"%PDF-1.7\n", "PDF"),
        (b"{\\rtf1\\ansi", "RTF"),
        (b"PAR1\x15\x04", "Parquet"),
        (b"SQLite format 3\x00", "database"),
        (b"\x89PNG\r\n\x1a\n", "picture"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "picture"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "picture"),
        (b"GIF89a", "picture"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "old Excel file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "password"),
        (zipped("mimetype", "content.xml"), "OpenDocument"),
        (zipped("Index/Document.iwa"), "Numbers"),
        (zipped("xl/workbook.bin"), ".xlsb"),
        (zipped("word/document.xml"), "Word"),
        (zipped("pictures/1.jpg"), "Excel workbook"),
        (b"PK\x03\x04 cut short", "damaged"),
        (b"PK\x05\x06" + bytes(18), "zip archive"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"\xef\xbb\xbf  <html>", "web page"),
        (b"<?xml version='1.0'?><Workbook>", "web page or XML"),
        (b'[{"image": "https://a.example/1.jpg"}]', "JSON"),
        (b'\n{\n  "image": "https://a.example/1.jpg"}', "JSON"),
        ("image\na\n".encode("utf-16-le"), "UTF-16"),
        ("image\na\n".encode("utf-16-be"), "UTF-16"),
        (b"\xff\xfei", "UTF-16"),
        (b"\xff\xfe\x00\xd8i\x00", "UTF-16"),
    ],
)
def test_what_is_no_table_is_told_for_what_it_is(content, says):
    assert says in refusal(content)


@pytest.mark.parametrize("name", ["PK", "RIFF", "GIF8", "BZh", "PAR1", "%PDF", "{id}", "[id]", "sep"])
def test_a_column_may_be_called_like_the_beginning_of_another_form(name):
    assert read(f"{name},image\n1,a\n").header == (name, "image")


def test_a_page_from_the_web_is_taken_for_a_sign_in_page():
    assert "share the sheet so that anyone with the link can view" in refusal(b"<html>Sign in", page=True)


def test_a_table_that_is_sent_as_a_page_is_still_a_table():
    assert read(b"image\na\n", page=True).records == [(2, ["a"])]


def test_a_manifest_has_a_largest_size(monkeypatch):
    monkeypatch.setattr(sheets, "LIMIT", 10)
    assert "larger than" in refusal(b"image\n" + b"a\n" * 10)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\ufeff"), max_size=8)


@given(st.lists(st.lists(cells, min_size=2, max_size=4), max_size=8), st.sampled_from(["\r\n", "\n"]))
def test_what_the_csv_module_writes_comes_back_as_it_was(rows, end):
    text = io.StringIO()
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["image", "n"], *rows])
    table = read(text.getvalue())
    assert [cells for _, cells in table.records] == [row for row in rows if any(map(str.strip, row))]
    assert table.form is Form.CSV


@given(st.text('ab",;\n\r\t ', max_size=60))
def test_an_open_quote_is_always_located_in_a_line_that_has_one(text):
    content = f"image,n\n{text}"
    try:
        read(content)
    except ManifestError as error:
        line = int(str(error).split("In line ")[1].split(" ")[0])
        lines = list(io.StringIO(content, newline=""))
        assert '"' in lines[line - 1]


@given(st.binary(max_size=200))
def test_any_bytes_give_a_table_or_a_sentence(content):
    try:
        table = read(content, accepts=bool)
    except ManifestError as error:
        assert str(error).rstrip().endswith((".", ".'"))  # noqa: PT017 - or a table, either is right
    else:
        assert all(any(map(str.strip, row)) for _, row in table.records)
