"""A manifest, read: every record a row, bad rows marked, nothing changed on the way."""

import base64
import csv
import io
import zipfile

import openpyxl
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from reelsheet.errors import ManifestError
from reelsheet.manifest import encoding
from reelsheet.manifest import rows as manifest
from reelsheet.manifest.earlier import Earlier
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.outcomes import RESULT_COLUMNS, ErrorCode, RowResult, Status
from reelsheet.results import table as results
from reelsheet.results import workbook

CUP = "https://cdn.shop.example/cup.jpg"


def read(text: str | bytes, **flags) -> Manifest:
    return manifest.parse(text.encode() if isinstance(text, str) else text, "shop.csv", **flags)


def rows(text: str | bytes, **flags) -> tuple[Row, ...]:
    return read(text, **flags).rows


def sheet(header: str, *cells: str, **flags) -> Manifest:
    """A sheet of one row with these cells, however odd they are."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([header.split(","), cells])
    return read(text.getvalue(), **flags)


def row(header: str, *cells: str, **flags) -> Row:
    (found,) = sheet(header, *cells, **flags).rows
    return found


def cells(found: Manifest) -> list[tuple[str, ...]]:
    return list(found.records())


def xlsx(book: openpyxl.Workbook) -> bytes:
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def sheet_of(*records) -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    for record in records:
        book.active.append(record)
    return book


def test_a_row_holds_what_the_sheet_says():
    found = read(f"SKU;Image URL;Prompt;Enable Prompt Expansion;Take;Campaign\r\n007;{CUP};A slow push in;yes;2;NA\r\n")
    assert found.columns == ("SKU", "Image URL", "Prompt", "Enable Prompt Expansion", "Take", "Campaign")
    assert found.roles == {"image": 1, "prompt": 2, "enable_prompt_expansion": 3, "id": 0, "take": 4}
    assert found.rows == (
        Row(
            position=0,
            line=2,
            image=CUP,
            prompt="A slow push in",
            expansion=True,
            take=2,
            id="007",
        ),
    )
    assert list(found.records()) == [("007", CUP, "A slow push in", "yes", "2", "NA")]
    assert found.warnings == ()
    assert found.source == "shop.csv"


def test_a_picture_alone_is_enough():
    (found,) = rows(f"image\n{CUP}\n")
    assert (found.prompt, found.expansion, found.take, found.id) == (None, None, 1, "")
    assert found.name == "row 2"
    assert not found.problems


def test_bad_rows_stand_among_the_good_ones():
    found = rows(f"image,take\n{CUP},1\n,1\n{CUP},x\n{CUP},3\n")
    assert [bool(row.problems) for row in found] == [False, True, True, False]
    assert [row.position for row in found] == [0, 1, 2, 3]


def test_a_problem_names_its_column_as_the_sheet_does():
    assert row("Image Src,notes", "", "x").problems == (
        "Column 'Image Src': the cell is empty; it needs the picture's web address.",
    )


def test_a_sheet_of_names_alone_has_no_rows_to_pay_for():
    found = read("image,prompt\n")
    assert (found.columns, found.rows) == (("image", "prompt"), ())
    assert "no rows" in found.warnings[0]


# Pictures


def test_space_and_invisible_signs_around_an_address_are_left_out_with_a_warning():
    found = sheet("image", f"\u00a0 \u200b{CUP}\ufeff\n")
    assert found.rows[0].image == CUP
    assert "spaces" in found.rows[0].warnings[0]
    assert cells(found) == [(f"\u00a0 \u200b{CUP}\ufeff\n",)]


def test_of_several_addresses_the_first_is_used_with_a_warning():
    found = row("Images", f"{CUP}, https://cdn.shop.example/2.jpg, https://cdn.shop.example/3.jpg")
    assert found.image == CUP
    assert "3 addresses (several URLs)" in found.warnings[0]
    assert not found.problems


def test_the_only_column_may_hold_commas():
    (found,) = rows("image\nhttps://res.cloudinary.example/w_300,h_200/cup.jpg\n")
    assert found.image == "https://res.cloudinary.example/w_300,h_200/cup.jpg"


def test_a_private_address_is_a_problem_unless_it_is_allowed():
    assert row("image", "http://127.0.0.1:8000/1.jpg").problems
    found = row("image", "http://127.0.0.1:8000/1.jpg", allow_private=True)
    assert found.image == "http://127.0.0.1:8000/1.jpg"
    assert not found.problems


def test_an_address_with_a_problem_is_not_handed_on():
    assert row("image", "https://me:secret@cdn.shop.example/1.jpg").image == ""


def test_a_link_formula_in_csv_is_its_address_and_the_cell_stays():
    formula = f'=HYPERLINK("{CUP}";"Photo")'
    found = sheet("image", formula)
    assert (found.rows[0].image, cells(found)) == (CUP, [(formula,)])


# Prompts


@pytest.mark.parametrize(
    "text", ["  two  spaces ", "=1+1", "-5", "@home", "one\ntwo\r\nthree\tfour", "NA 1", "0", "日本 😀"]
)
def test_a_prompt_is_sent_as_it_stands(text):
    found = sheet("image,prompt", CUP, text)
    assert found.rows[0].prompt == text
    assert cells(found) == [(CUP, text)]
    assert not found.rows[0].problems
    assert not found.warnings


@pytest.mark.parametrize("text", [" ", "\u00a0", "\u200b \ufeff", "\n\t"])
def test_a_prompt_of_spaces_is_none_with_a_warning(text):
    found, _ = rows(f'image,prompt\n{CUP},"{text}"\n{CUP},A cup\n')
    assert found.prompt is None
    assert "only spaces" in found.warnings[0]


def test_an_empty_prompt_is_none_without_a_word():
    found = row("image,prompt", CUP, "")
    assert found.prompt is None
    assert not found.warnings


@pytest.mark.parametrize("text", ["NaN", "null", "N/A", "None", " nan "])
def test_a_word_for_nothing_is_sent_with_a_warning(text):
    found = row("image,prompt", CUP, text)
    assert found.prompt == text
    assert "sent as the prompt" in found.warnings[0]


@pytest.mark.parametrize("text", ["#REF!", " #¡VALOR! ", "Err:509", "{{ motion }}", "[object Object]"])
@pytest.mark.parametrize("column", ["prompt", "image", "prompt_expansion", "take"])
def test_a_cell_that_nobody_wrote_is_a_problem_where_it_would_be_used(column, text):
    header = ["image", "notes", "sku", "prompt", "prompt_expansion", "take"]
    good = dict(zip(header, [CUP, text, text, "A cup", "yes", "1"], strict=True))
    assert not row(",".join(header), *good.values()).problems
    (problem,) = row(",".join(header), *(good | {column: text}).values()).problems
    assert f"'{column}' holds '{text.strip()}'" in problem


@pytest.mark.parametrize("text", ["A {{colour}} cup turns", "#N/A turns slowly", "[object Object], slow push in"])
def test_a_template_that_was_filled_in_halfway_is_warned_of(text):
    found = row("image,prompt", CUP, text)
    assert found.prompt == text
    assert "nobody filled in" in found.warnings[0]


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (
            f"{CUP},A\n{CUP}?2,\n{CUP}?3,\n,\n",
            "2 of 3 rows have no prompt; their clips are made from the picture alone.",
        ),
        (f"{CUP},A\n{CUP}?2,B\n{CUP}?3,\n", "1 of 3 rows has no prompt; its clip is made from the picture alone."),
    ],
)
def test_rows_without_a_prompt_among_others_are_counted(cells, says):
    assert read(f"image,prompt\n{cells}").warnings == (says,)


@pytest.mark.parametrize("sign", ["\x00", "\x07", "\x1b", "\x0b", "\x7f"])
def test_a_control_character_is_a_problem_named_by_its_number(sign):
    assert f"U+{ord(sign):04X}" in row("image,prompt", CUP, f"a{sign}b").problems[0]
    assert f"U+{ord(sign):04X}" in row("image,id", CUP, f"a{sign}b").problems[0]
    assert not row("image,notes", CUP, f"a{sign}b").problems


def test_long_prompts_are_warned_of_and_endless_ones_refused():
    assert not row("image,prompt", CUP, "x" * 2_000).warnings
    assert "2,001 characters" in row("image,prompt", CUP, "x" * 2_001).warnings[0]
    assert "100,001 characters" in row("image,prompt", CUP, "x" * 100_001).problems[0]


@pytest.mark.parametrize("text", ["CafÃ© au lait", "it\u0092s", "don\u00e2\u20ac\u2122t", "Gr\ufffd\ufffde"])
def test_text_that_went_through_a_wrong_encoding_is_a_problem(text):
    assert "is garbled" in row("image,prompt", CUP, text).problems[0]
    assert not row("image,notes", CUP, text).problems


def test_an_address_that_lost_letters_is_a_problem():
    assert "is garbled" in row("image", "https://cdn.shop.example/Gr\ufffd\ufffde.jpg").problems[0]


def test_text_that_may_be_garbled_in_a_part_is_warned_of():
    found = row("image,prompt", CUP, "“CafÃ© au lait” 日本")
    assert not found.problems
    assert "looks garbled" in found.warnings[0]


def test_a_prompt_that_swallowed_the_next_row_is_warned_of():
    (found,) = rows(f'image,prompt\n{CUP},"A cup\n{CUP},A jug"\n')
    assert "is a quote missing?" in found.warnings[0]


def test_rows_of_a_guessed_encoding_are_warned_of_where_it_matters():
    found = read(f"image,prompt\n{CUP},Café\n{CUP},Tea\n".encode("cp1252"))
    assert ["guessed encoding" in " ".join(row.warnings) for row in found.rows] == [True, False]
    assert "guessed encoding" in found.warnings[0]


# Switches and numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, True) for text in ("true", "TRUE", "Yes", "y", "1", "1.0", " on ")),
        *((text, True) for text in ("WAHR", "Ja", "VRAI", "oui", "VERDADERO", "Sí", "si\u0301", "VERO", "sì")),
        *((text, False) for text in ("false", "No", "n", "0", "OFF")),
        *((text, False) for text in ("FALSCH", "nein", "FAUX", "Non", "FALSO", "no ")),
        *((text, None) for text in ("", " ", "\u00a0")),
    ],
)
def test_prompt_expansion_is_yes_no_or_unsaid(text, expected):
    found = row("image,prompt_expansion", CUP, text)
    assert found.expansion is expected
    assert not found.problems


@pytest.mark.parametrize("text", ["igen", "2", "maybe", "truefalse", "wahrscheinlich"])
def test_any_other_word_is_a_problem_that_names_it(text):
    assert f"says '{text}'" in row("image,prompt_expansion", CUP, text).problems[0]


@pytest.mark.parametrize(
    ("text", "expected"), [("", 1), ("1", 1), ("2.0", 2), (" 5 ", 5), ("05", 5), ("+3", 3), ("4.", 4)]
)
def test_a_take_is_a_whole_number_and_blank_is_one(text, expected):
    assert row("image,take", CUP, text).take == expected


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3", "two", "٣", "99999999", "NaN", "1 2"])
def test_any_other_take_is_a_problem_that_names_it(text):
    assert f"says '{text}'" in row("image,take", CUP, text).problems[0]


def test_a_decimal_comma_is_pointed_out():
    assert "without a comma" in row("image,take", CUP, "1,5").problems[0]


# Ragged rows


def test_a_row_with_another_count_of_cells_is_a_problem_of_that_row():
    found = read(f"image,prompt,notes\n{CUP},one,x\n{CUP},two, and more,x\n{CUP},three\n{CUP},four,x\n")
    assert [bool(row.problems) for row in found.rows] == [False, True, True, False]
    assert "Line 3 has 4 cells where the header has 3 (left out: 'x')" in found.rows[1].problems[0]
    assert "Line 4 has 2 cells where the header has 3" in found.rows[2].problems[0]
    assert cells(found)[1] == (CUP, "two", " and more")
    assert cells(found)[2] == (CUP, "three", "")
    assert found.rows[1].image == ""


def test_empty_cells_behind_the_last_column_do_no_harm():
    found = read(f"image,prompt\n{CUP},one,,\n")
    assert cells(found) == [(CUP, "one")]
    assert not found.rows[0].problems


def test_rows_that_excel_cut_short_in_a_block_are_whole():
    full, short = [f"{CUP},one,x"], [f"{CUP},one"]
    found = read("\n".join(["image,prompt,notes", *full * 15, *short * 16, *full * 16, *short * 3]))
    assert not any(row.problems for row in found.rows)
    assert cells(found)[20] == (CUP, "one", "")


def test_one_short_row_among_whole_ones_is_no_doing_of_excels():
    full, short = [f"{CUP},one,x"], [f"{CUP},one"]
    found = rows("\n".join(["image,prompt,notes", *full * 20, *short, *full * 20]))
    assert [row.position for row in found if row.problems] == [20]


def test_too_many_ragged_rows_are_a_wrong_delimiter():
    with pytest.raises(ManifestError, match=r"4 of the 14 rows of shop.csv, the first in line 2, have more or fewer"):
        read("image,prompt\n" + f"{CUP},a,b\n" * 4 + f"{CUP},a\n" * 10)
    assert len(rows("image,prompt\n" + f"{CUP},a,b\n" * 2 + f"{CUP},a\n" * 2)) == 4


# Excel


def test_a_linked_cell_is_its_link_and_shows_it():
    book = sheet_of(["sku", "image", "prompt"], ["007", "Photo", "A cup"], ["008", CUP, "A jug"])
    book.active["B2"].hyperlink = "https://cdn.shop.example/linked.jpg"
    book.active["A2"].hyperlink = "https://shop.example/product/7"
    book.active["B3"].hyperlink = CUP
    found = read(xlsx(book))
    one, two = found.rows
    assert one.image == "https://cdn.shop.example/linked.jpg"
    assert cells(found)[0] == ("007", "https://cdn.shop.example/linked.jpg", "A cup")
    assert (one.id, one.warnings) == ("007", ())
    assert (two.image, two.warnings) == (CUP, ())


def test_a_link_that_leads_elsewhere_than_it_shows_is_used_with_a_warning():
    book = sheet_of(["image"], [CUP])
    book.active["A2"].hyperlink = "https://cdn.shop.example/old.jpg"
    (found,) = rows(xlsx(book))
    assert found.image == "https://cdn.shop.example/old.jpg"
    assert "links to 'https://cdn.shop.example/old.jpg'; the link is used" in found.warnings[0]


def test_several_addresses_that_a_program_made_one_link_of_are_still_several():
    """XlsxWriter, and pandas with it, links every cell that begins like an address."""
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as book:
        sheet = book.add_worksheet()
        sheet.write_column(0, 0, ["images", f"{CUP}, https://shop.example/back.jpg"])
    found = read(buffer.getvalue())
    assert (found.rows[0].image, cells(found)) == (CUP, [(f"{CUP}, https://shop.example/back.jpg",)])
    assert "several URLs" in found.rows[0].warnings[0]


def test_a_link_to_a_file_gives_way_to_an_address_in_the_text():
    book = sheet_of(["image"], [CUP])
    book.active["A2"].hyperlink = "pictures/cup.jpg"
    assert rows(xlsx(book))[0].image == CUP


def test_a_link_formula_is_its_address():
    book = sheet_of(["image", "prompt"], [f'=HYPERLINK("{CUP}","Photo")', "A cup"])
    found = read(xlsx(book))
    assert (found.rows[0].image, cells(found)) == (CUP, [(CUP, "A cup")])


def test_a_formula_without_a_saved_value_is_never_sent_as_a_prompt():
    (found,) = rows(xlsx(sheet_of(["image", "prompt", "notes"], [CUP, "=A2", "=1+1"])))
    assert found.problems == (
        "Column 'prompt' holds a formula whose value is not saved in the file; open it in Excel and save it.",
    )


def test_short_rows_of_excel_are_whole_and_rows_are_counted_as_excel_does():
    book = sheet_of(["image", "prompt", "notes"], [CUP], [], [CUP, "two", "x"])
    found = read(xlsx(book))
    assert [row.line for row in found.rows] == [2, 4]
    assert cells(found)[0] == (CUP, "", "")
    assert not found.rows[0].problems


def test_a_note_beside_the_table_is_carried_in_a_column_without_a_name():
    found = read(xlsx(sheet_of(["image", None], [CUP, None, "ask Ann"])))
    assert found.columns == ("image", "", "")
    assert cells(found)[0] == (CUP, "", "ask Ann")


def test_the_first_sheet_is_read_and_the_others_are_mentioned():
    book = sheet_of(["image"], [CUP])
    book.active.title = "Spring"
    book.create_sheet("Summer").append(["image"])
    book["Summer"].append(["https://cdn.shop.example/summer.jpg"])
    found = read(xlsx(book))
    assert found.rows[0].image == CUP
    assert found.warnings[0] == "Only the first sheet, 'Spring', was read; --sheet names another, such as 'Summer'."
    for name in ("Summer", " summer", "2"):
        other = read(xlsx(book), sheet=name)
        assert other.rows[0].image == "https://cdn.shop.example/summer.jpg"
        assert not any("--sheet" in warning for warning in other.warnings)


def test_a_sheet_that_is_not_there_is_told_which_are():
    book = sheet_of(["image"], [CUP])
    book.create_sheet("Summer")
    with pytest.raises(ManifestError, match="no sheet '9"):
        read(xlsx(book), sheet="9" * 5000)  # more digits than Python reads
    with pytest.raises(ManifestError, match="no sheet 'Winter'; it has 'Sheet', 'Summer'"):
        read(xlsx(book), sheet="Winter")


def test_a_hidden_first_sheet_is_not_the_first():
    book = sheet_of(["lists"], ["x"])
    book.active.sheet_state = "hidden"
    book.create_sheet("Shown").append(["image"])
    book["Shown"].append([CUP])
    assert read(xlsx(book)).rows[0].image == CUP


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (
            "# id | required,# title,# image | jpg\nid,title,image_link\nA1,Mug,{CUP}\n",
            "Line 2 looks like the column names: delete the lines above it.",
        ),
        (
            "Feed\tv2\t\nSeller SKU\tName\tMain Image URL\nitem_sku\titem_name\tmain_image_url\nA1\tMug\t{CUP}\n",
            "Line 3 looks like the column names, and 'main_image_url' holds web addresses: delete the lines above it and add --image-column 'main_image_url'.",
        ),
        ("Exported\n\nsku;Foto\nA1;{CUP}\nA2;{CUP}\n", "add --image-column 'Foto'."),
        (
            "Titel;Foto;Link\nTasse;{CUP};https://shop.example/7\n",
            "'Foto' holds web addresses: add --image-column 'Foto'.",
        ),
        ("Produkt,Seite,Bild 1\nTasse,https://shop.example/7,{CUP}\n", "add --image-column 'Bild 1'."),
        (
            "a|b,c\nimage|prompt\n{CUP}|x, y\n",
            "Line 2, divided by vertical bars, looks like the column names: delete the lines above it.",
        ),
        (
            "sep=;\nShop export\nimage;prompt\n{CUP};x\n",
            "Line 3 looks like the column names: delete the lines above it.",
        ),
    ],
)
def test_one_hint_names_line_delimiter_and_column(content, hint):
    with pytest.raises(ManifestError) as refused:
        read(content.replace("{CUP}", CUP))
    assert str(refused.value).endswith(hint)
    assert str(refused.value).count("--image-column") == hint.count("--image-column")
    assert "Is it" not in str(refused.value)


def test_what_the_hint_says_works():
    content = f"Feed,v2\n\nSeller SKU,Picture 1,Picture 2\nA1,{CUP},{CUP}?2\n"
    with pytest.raises(ManifestError, match=r"Line 3 looks .* 'Picture 1' .*--image-column 'Picture 1'"):
        read(content)
    fixed = "\n".join(content.splitlines()[2:])
    assert rows(fixed, image_column="Picture 1")[0].image == CUP


def test_line_and_sheet_are_named_together():
    book = sheet_of(["Numbers Sheet Name", "Numbers Table Name"], ["Sheet 1", "Table 1"])
    book.create_sheet("Table 1").append(["Spring"])
    for record in (["sku", "photo"], ["A1", CUP]):
        book["Table 1"].append(record)
    book.create_sheet("Archive").sheet_state = "hidden"
    with pytest.raises(ManifestError) as refused:
        read(xlsx(book))
    assert str(refused.value).endswith(
        "Line 2 of the sheet 'Table 1' looks like the column names: add --sheet 'Table 1' and delete the lines above it."
    )


@pytest.mark.parametrize("sheet", [f"{CUP}\n{CUP}\n", f"A1,{CUP},turn\nA2,{CUP},orbit\n", f"a;{CUP}\nb;{CUP}\n"])
def test_a_sheet_without_column_names_is_told_to_add_them_so_that_its_first_row_is_not_lost(sheet):
    with pytest.raises(ManifestError, match="so it is a row and not the column names: put a line above"):
        read(sheet)


def test_a_column_that_a_flag_names_is_looked_for_in_other_lines_and_sheets():
    book = sheet_of(["notes"], ["x"])
    book.create_sheet("Shots").append(["image", "motif"])
    with pytest.raises(ManifestError, match=r"Line 1 of the sheet 'Shots' .*: add --sheet 'Shots'"):
        read(xlsx(book), prompt_column="motif")
    with pytest.raises(ManifestError, match="no column 'motif', which --prompt-column names"):
        read(f"image,text\n{CUP},x\n", prompt_column="motif")


@pytest.mark.parametrize("first", [[], [["about this file"], ["x"]]], ids=["empty", "notes"])
def test_pictures_on_another_sheet_are_pointed_at(first):
    book = sheet_of(*first)
    book.create_sheet("Shots").append(["image"])
    with pytest.raises(ManifestError, match="--sheet 'Shots'"):
        read(xlsx(book))


def test_a_column_of_addresses_under_another_name_is_pointed_at():
    with pytest.raises(ManifestError, match="--image-column 'Foto'"):
        read(f"Titel;Foto\nTasse;{CUP}\n")


def test_a_title_above_the_column_names_is_pointed_at():
    with pytest.raises(ManifestError, match="Line 3 looks like the column names"):
        read(xlsx(sheet_of(["Summer campaign 2026"], [], ["image", "prompt"], [CUP, "A cup"])))
    with pytest.raises(ManifestError, match="Line 3 looks like the column names"):
        read(f"Summer campaign 2026\n\nimage,prompt\n{CUP},A cup\n")


def test_a_column_that_is_empty_throughout_claims_nothing():
    found = read(f"id,sku,image,photo,prompt,caption,Take,take\n,7,,{CUP},,Slow push in,,2\n,8,,{CUP},,,,\n")
    assert found.rows[0] == Row(0, 2, CUP, "Slow push in", None, 2, "7")
    assert "Column 'prompt' is empty, so the prompts are taken from 'caption'." in found.warnings


def test_an_empty_column_of_pictures_is_still_the_one_where_there_is_no_other():
    found = read("image,prompt\n,one\n,two\n")
    assert all("'image': the cell is empty" in row.problems[0] for row in found.rows)
    assert read("image,photo,prompt\n,,one\n").rows[0].problems


def test_a_column_that_only_links_fill_is_not_empty():
    book = sheet_of(["image", "photo", "prompt"], [None, None, "A cup"])
    book.active["B2"].hyperlink = CUP
    book.active["B2"].value = " "
    assert rows(xlsx(book))[0].image == CUP


def test_an_empty_prompt_column_is_told_though_nothing_takes_its_place():
    found = read(f"image,prompt\n{CUP},\n{CUP}?2,\n")
    assert found.warnings == ("Column 'prompt' is empty, so none is sent.",)


def test_flags_name_the_columns():
    found = read(f"a;b;c\n{CUP};two;three\n", image_column="A", prompt_column="b", id_column="c")
    assert (found.rows[0].image, found.rows[0].prompt, found.rows[0].id) == (CUP, "two", "three")


def test_a_missing_column_of_prompts_is_not_looked_for_among_the_pictures():
    with pytest.raises(ManifestError) as refused:
        read(f"image,words\n{CUP},two\n", prompt_column="prompt")
    assert "--prompt-column" in str(refused.value)
    assert "--image-column" not in str(refused.value)


def test_flags_decide_on_the_delimiter_too():
    found = read(f"image,x;motif\n{CUP};two\n", image_column="image,x", prompt_column="motif")
    assert found.columns == ("image,x", "motif")


def test_a_merged_picture_or_prompt_counts_for_each_row_and_a_blank_csv_cell_for_none():
    book = sheet_of(
        ["sku", "image", "prompt"], [1, CUP, "turn"], [2, None, "tilt"], [3, None, None], [4, f"{CUP}?4", None]
    )
    book.active.merge_cells("B2:B4")
    book.active.merge_cells("C3:C4")
    found = read(xlsx(book))
    assert [(row.image, row.prompt) for row in found.rows] == [
        (CUP, "turn"),
        (CUP, "tilt"),
        (CUP, "tilt"),
        (f"{CUP}?4", None),
    ]
    assert cells(found)[2] == ("3", CUP, "tilt")
    assert found.warnings == ("1 of 4 rows has no prompt; its clip is made from the picture alone.",)
    text = "\n".join(["sku,image,prompt", f"1,{CUP},turn", "2,,tilt", f"3,{CUP},"])
    assert [(row.image, row.prompt) for row in rows(text)] == [(CUP, "turn"), ("", "tilt"), (CUP, None)]


def test_an_error_of_a_workbook_is_a_problem_whatever_its_words():
    book = sheet_of(["image", "prompt", "notes"], [CUP, "#N/A", "#N/A"], [CUP, "fine", "x"])
    content = xlsx(book)
    for word in ("#N/A", "#SPOOKY", "error"):
        (found, _) = rows(patched(content, b"#N/A", word.encode()))
        assert found.problems == (
            f"Column 'prompt' holds '{word}', the error of a formula that failed; correct the cell.",
        )


def patched(content: bytes, old: bytes, new: bytes) -> bytes:
    """The workbook with other bytes in its sheet."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(buffer, "w") as after:
        for name in before.namelist():
            after.writestr(name, before.read(name).replace(old, new) if "sheet1" in name else before.read(name))
    return buffer.getvalue()


def picture(tmp_path) -> str:
    (tmp_path / "cup.png").write_bytes(
        base64.b64decode(
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        )
    )
    return str(tmp_path / "cup.png")


@pytest.mark.parametrize("how", ["insert_image", "embed_image"])
def test_a_picture_in_the_workbook_is_told_for_what_it_is(tmp_path, how):
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["sku", "image", "prompt"])
        sheet.write_row(1, 0, ["1", "", "turn"])
        sheet.write_row(2, 0, ["2", CUP, "turn"])
        sheet.write_row(3, 0, ["3", "", "turn"])
        getattr(sheet, how)("B2", picture(tmp_path))
    found = rows(buffer.getvalue())
    assert "a picture that lies in the workbook itself" in found[0].problems[0]
    assert not found[1].problems
    assert "the cell is empty" in found[2].problems[0]


def test_an_address_counts_though_a_picture_lies_over_it(tmp_path):
    """As reelsheet's own workbook has its thumbnails."""
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["sku", "image", "prompt"])
        sheet.write_row(1, 0, ["1", CUP, "turn"])
        sheet.write_row(2, 0, ["2", "", "turn"])
        sheet.write_url(2, 1, CUP, string="the cup")
        for place in ("B2", "C2", "B3"):
            sheet.insert_image(place, picture(tmp_path))
    assert [(row.image, row.prompt, row.problems) for row in rows(buffer.getvalue())] == [(CUP, "turn", ())] * 2


def test_pictures_without_any_row_are_mentioned(tmp_path):
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["image"])
        sheet.insert_image("A2", picture(tmp_path))
    assert "Pictures that lie in the workbook are no rows." in read(buffer.getvalue()).warnings[0]


@pytest.mark.parametrize("formula", ['=HYPERLINK(C2,"view")', "=IMAGE($C2)"])
def test_a_formula_that_takes_the_address_from_another_cell_is_told_with_its_column(formula):
    book = sheet_of(["image", "prompt", "link"], [formula, "turn", CUP])
    (problem,) = rows(xlsx(book))[0].problems
    assert "column C, 'link', holds it; use that column (--image-column 'link')" in problem
    assert problem == sheet("image,prompt,link", formula, "turn", CUP).rows[0].problems[0], "in CSV as well"
    (found,) = rows(xlsx(book), image_column="link")
    assert (found.image, found.problems) == (CUP, ())


def test_a_formula_that_puts_an_address_together_is_told():
    (found,) = rows(xlsx(sheet_of(["image"], ['=HYPERLINK("https://shop.example/"&"1.jpg","view")'])))
    assert 'takes its address from a formula ("https://shop.example/"&"1.jpg")' in found.problems[0]


def test_a_formula_that_shows_the_address_is_its_address():
    book = sheet_of(["image", "link"], ["=HYPERLINK(B2)", CUP])
    content = patched(xlsx(book), b"<v />", b"<v>https://cdn.shop.example/shown.jpg</v>")
    content = patched(content, b"<v></v>", b"<v>https://cdn.shop.example/shown.jpg</v>")
    assert rows(content)[0].image == "https://cdn.shop.example/shown.jpg"


def test_rows_that_a_filter_or_a_closed_group_hides_are_left_out():
    book = sheet_of(["image"], *([f"https://cdn.shop.example/{n}.jpg"] for n in range(6)))
    book.active.auto_filter.ref = "A1:A7"
    book.active.row_dimensions[3].hidden = True
    book.active.row_dimensions.group(5, 6, hidden=True)
    found = rows(xlsx(book))
    assert [row.line for row in found if row.left_out is ErrorCode.HIDDEN] == [3, 5, 6]
    assert not any(row.left_out for row in rows(xlsx(book), include_hidden=True))


def test_names_of_columns_in_a_hidden_row_count():
    book = sheet_of(["image"], [CUP])
    book.active.row_dimensions[1].hidden = True
    assert [row.left_out for row in rows(xlsx(book))] == [None]


# Results that are fed back


def outcome(status=Status.SUCCEEDED, **known) -> RowResult:
    return RowResult(status, **known)


def test_a_results_file_is_recognised_and_its_columns_taken_off():
    first = read(f"sku,image,prompt\n1,{CUP},one\n2,{CUP},two\n")
    text = results.results_csv(
        first,
        [
            outcome(prediction_id="=p1", identity="f" * 64, attempt=2, review="redo"),
            outcome(Status.INVALID, error_code=ErrorCode.INVALID_ROW),
        ],
    )
    again = read(text)
    assert again.columns == first.columns
    assert again.result_columns == RESULT_COLUMNS
    assert list(again.records()) == list(first.records())
    assert again.rows[0].earlier == Earlier("succeeded", 2, "f" * 64, "=p1", "redo")
    assert again.rows[1].earlier == Earlier("invalid", None, "", "", "", "invalid_row")
    assert read(f"image\n{CUP}\n").rows[0].earlier is None


def test_a_row_that_the_results_call_hidden_is_left_out_until_hidden_rows_are_asked_for():
    first = read(f"image\n{CUP}?1\n{CUP}?2\n{CUP}?3\n")
    told = [outcome(Status.SKIPPED, error_code=code) for code in (ErrorCode.HIDDEN, ErrorCode.OVER_LIMIT)]
    content = results.results_csv(first, [*told, outcome(Status.UNDELIVERED, error_code=ErrorCode.HIDDEN)])
    assert [row.left_out for row in rows(content)] == [ErrorCode.HIDDEN, None, None]
    assert not any(row.left_out for row in rows(content, include_hidden=True))


def test_results_of_an_excel_user_who_saved_them_with_semicolons_are_results():
    text = results.results_csv(read(f"image,prompt\n{CUP},one; two\n"), [outcome(review="")]).decode()
    table = [*csv.reader(io.StringIO(text, newline=""))]
    table[1][table[0].index("review")] = "Redo "
    saved = io.StringIO()
    csv.writer(saved, delimiter=";").writerows(table)
    again = read(saved.getvalue().encode("utf-8-sig"))
    assert again.rows[0].prompt == "one; two"
    assert again.rows[0].earlier.review == "Redo"


def test_a_results_workbook_is_results_too():
    first = read(f'sku,image,prompt,status\n007,{CUP},"=1+1\nnew line",on sale\n008,https://cdn.shop.example/a b,x,\n')
    told = [outcome(prediction_id="p1", identity="f" * 64, attempt=2, review="redo"), outcome(Status.INVALID)]
    summary = results.summarise(
        told, run_id="r1", started_at=None, finished_at=None, seconds=0, flow_run_id=None, exit_code=1
    )
    again = read(workbook.results_xlsx(first, told, summary=summary))
    assert again.columns == first.columns
    assert list(again.records()) == list(first.records())
    assert [row.earlier.review for row in again.rows] == ["redo", ""]
    assert again.rows[0].earlier.attempt == 2
    assert again.result_columns == first.result_columns
    assert again.warnings == ()


def test_columns_of_one_name_are_both_carried_on():
    found = read(f"image,note,note,,\n{CUP},a,b,c,\n")
    assert found.columns == ("image", "note", "note", "", "")
    assert cells(found)[0] == (CUP, "a", "b", "c", "")


def test_a_column_with_one_of_our_names_stays_for_ever_and_nothing_is_doubled():
    text = f"image,Status,reelsheet_status,notes\n{CUP},on sale,x,y\n".encode()
    for _ in range(4):
        found = read(text)
        assert found.columns == ("image", "Status", "reelsheet_status", "notes")
        assert cells(found)[0] == (CUP, "on sale", "x", "y")
        assert found.result_columns[:2] == ("reelsheet_status_2", "error")
        text = results.results_csv(found, [outcome()])


def test_a_row_that_was_cut_to_fit_is_not_made_good_by_being_fed_back():
    first = read(f"image,prompt\n{CUP},A cup, steaming\n{CUP}\n")
    told = [outcome(Status.INVALID, error=" ".join(row.problems)) for row in first.rows]
    again = read(results.results_csv(first, told))
    assert "has 3 cells where the header has 2" in again.rows[0].problems[0]
    assert "has 1 cell where the header has 2" in again.rows[1].problems[0]
    mended = read(results.results_csv(again, [outcome(), outcome()]))
    assert not mended.rows[0].problems


def test_a_list_of_failures_without_any_is_no_error():
    first = read(f"image\n{CUP}\n")
    again = read(results.failed_csv(first, [outcome()]))
    assert again.rows == ()


texts = st.text(st.characters(codec="utf-8", exclude_characters="\ufeff"), max_size=12)
headers = st.lists(
    st.sampled_from(["prompt", "sku", "notes", "Status", "error", "take", "x,y", 'say "hi"', ""]),
    max_size=4,
    unique=True,
)


@given(headers, st.data())
@settings(max_examples=60)
def test_results_come_back_as_they_were_written(extra, data):
    header = ["image", "note", *extra]
    records = data.draw(st.lists(st.lists(texts, min_size=len(header), max_size=len(header)), min_size=1, max_size=5))
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([header, *(["x" + record[0], *record[1:]] for record in records)])
    first = read(text.getvalue())
    assert cells(first) == [("x" + record[0], *record[1:]) for record in records]
    again = read(results.results_csv(first, [outcome() for _ in first.rows]))
    assert again.columns == first.columns
    assert list(again.records()) == list(first.records())
    assert [(r.image, r.prompt, r.expansion, r.take, r.id, r.problems, r.warnings) for r in again.rows] == [
        (r.image, r.prompt, r.expansion, r.take, r.id, r.problems, r.warnings) for r in first.rows
    ]


@given(
    st.binary(max_size=300)
    | st.binary(max_size=300).map(lambda body: b"image,prompt\n" + body)
    | st.text(max_size=200).map(lambda body: f"image;take;x\n{body}".encode())
    | st.text(st.sampled_from('https://a.b/c,;"\n\r\t|=\x00 é'), max_size=200).map(
        lambda body: f"image,take\n{body}".encode()
    )
)
def test_any_bytes_give_a_sentence_or_a_row_for_each_record(content):
    try:
        found = read(content)
    except ManifestError as error:
        assert str(error)  # noqa: PT017 - or a table, either is right
        assert "\x00" not in str(error)  # noqa: PT017 - or a table, either is right
        return
    assert found.table.shape == (len(found.rows), len(found.columns))
    assert all(isinstance(cell, str) for record in cells(found) for cell in record)
    assert all(row.image or row.problems for row in found.rows)
    text = encoding.decode(content, "shop.csv").text.decode()
    counts = {
        sum(any(map(str.strip, record)) for record in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        - 1
        for delimiter in ",;\t|"
    }
    assert len(found.rows) in counts


def test_the_copy_that_a_run_keeps_is_read_record_for_record():
    """Neither its form nor its delimiter is guessed again, and a row without any text is a row."""
    content = b'"<b>;image;x",image\r\n,\r\n"a\r\n",https://a.test/1.jpg\r\n'
    assert cells(manifest.parse(content, "m.csv", copy=True)) == [
        ("", ""),
        ("a\r\n", "https://a.test/1.jpg"),
    ]
    assert manifest.parse(b"image\r\n", "m.csv", copy=True).rows == ()
