"""--prompt: one prompt for many rows."""

import io

import openpyxl
import pytest

from reelsheet.errors import ManifestError, UsageError
from reelsheet.manifest import rows as manifest
from reelsheet.manifest.rows import Manifest, Row

CUP = "https://cdn.shop.example/cup.jpg"


def read(text: str | bytes, prompt: str | None, **flags: str) -> Manifest:
    content = text.encode() if isinstance(text, str) else text
    return manifest.parse(content, "shop.csv", prompt=prompt, **flags)


def row(header: str, cells: str, prompt: str, **flags: str) -> Row:
    (found,) = read(f"image,{header}\n{CUP},{cells}\n", prompt, **flags).rows
    return found


def workbook(*records: tuple[object, ...], merged: str = "") -> bytes:
    book = openpyxl.Workbook()
    for record in records:
        book.active.append(record)
    if merged:
        book.active.merge_cells(merged)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("{product} turns slowly, {colour} light", "Cup turns slowly, soft  red light"),
        ("{PRODUCT}{ product }{pro_duct}{Pro-Duct}", "CupCupCupCup"),
        ("The cup turns", "The cup turns"),
        ("{{ {product} }}", "{ Cup }"),
        ("{{{product}}}", "{Cup}"),
        ("{{{{{product}", "{{Cup"),
        ("{{0}} {{}} {product}", "{0} {} Cup"),
        ("{prompt}, {product}", "slow {product} {{, Cup"),
        (" {product}\n", " Cup\n"),
        ("{product} € – 湯気", "Cup € – 湯気"),  # noqa: RUF001
    ],
)
def test_cells_go_into_the_prompt_as_they_are_written(template, prompt):
    found = row("Product,colour,prompt", "Cup,soft  red,slow {product} {{", template)
    assert found.prompt == prompt
    assert (found.problems, found.is_rendered) == ((), True)


def test_the_prompt_column_is_replaced_whatever_it_holds():
    found = row("product,prompt", "Cup,#N/A", "{product} turns")
    assert (found.prompt, found.problems) == ("Cup turns", ())
    found = read(f"image,product,prompt en,prompt de\n{CUP},Cup,turn,drehen\n", "{product}: {prompt de}")
    assert [one.prompt for one in found.rows] == ["Cup: drehen"]
    assert found.warnings == ()


def test_a_sheet_without_a_prompt_column_needs_no_more_than_the_template():
    found = read(f"image,product\n{CUP},Cup\n{CUP},Jug\n", "{product} turns")
    assert [one.prompt for one in found.rows] == ["Cup turns", "Jug turns"]
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        ("Motion Prompt", {}),
        ("caption", {}),
        ("words", {"prompt_column": "Words"}),
        ("text,prompt", {"prompt_column": "text"}),
    ],
)
def test_prompt_in_braces_is_the_cell_of_the_prompt_column(header, flags):
    assert row(header, "slow,other" if "," in header else "slow", "{Prompt} turn", **flags).prompt == "slow turn"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (
            "{produkt} turns",
            r"asks for \{produkt\}, but shop.csv has no such column; it has 'product', 'image', 'colour'",
        ),
        ("{}", "no such column"),
        ("{product!r}", "no such column"),
        ("{status}", "no such column"),
        ("{prompt}", "no such column"),
        ("{product turns", r"a '\{' without its other half, in '\{product turns'"),
        ("product} turns", r"a '\}' without its other half"),
        ("{a{product}}", "without its other half"),
        ("{product}} turns", "without its other half"),
        ("", "--prompt is empty"),
        (" \u200b\n", "--prompt is empty"),
        ("{product} \x07", "control character"),
    ],
)
def test_a_template_that_cannot_be_meant_is_refused(template, told):
    with pytest.raises(UsageError, match=told):
        row("product,colour", "Cup,red", template)


def test_a_column_without_a_name_cannot_be_meant():
    with pytest.raises(UsageError, match="no such column"):
        row("product,", "Cup,red", "{ } turns")


def test_a_name_that_two_columns_have_is_refused_unless_one_is_empty():
    with pytest.raises(UsageError, match="several such columns: 'Product' and 'pro duct'"):
        row("Product,pro duct", "Cup,Jug", "{PRODUCT}")
    assert row("Product,pro duct", "Cup,Jug", "{Product}").prompt == "Cup"
    assert row("Product,pro duct", "Cup,", "{PRODUCT}").prompt == "Cup"


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("", "Column 'Colour' is empty, and --prompt uses it; fill the cell."),
        ("  ", "Column 'Colour' is empty, and --prompt uses it; fill the cell."),
        ("#N/A", "Column 'Colour' holds '#N/A', the error of a formula that failed; correct the cell."),
        ("Err:502", "Column 'Colour' holds 'Err:502', the error of a formula that failed; correct the cell."),
        ("{{colour}}", "Column 'Colour' holds '{{colour}}', a template that was not filled in; correct the cell."),
        (
            "Loading...",
            "Column 'Colour' holds 'Loading...', which a program shows before it has the value; correct the cell.",
        ),
        ("re\x07d", "Column 'Colour' holds a control character (U+0007); type it again."),
    ],
)
def test_a_cell_without_a_value_makes_its_row_invalid_and_no_other(cell, told):
    bad, good = read(f'image,product,Colour\n{CUP},Cup,"{cell}"\n{CUP},Cup,red\n', "{colour} {product}, {colour}").rows
    assert bad.problems == (told,)
    assert (bad.prompt, bad.is_rendered) == (None, False)
    assert (good.prompt, good.problems) == ("red Cup, red", ())
    assert row("product,Colour", f'Cup,"{cell}"', "{product}").problems == ()


def test_garbled_and_overlong_text_is_not_sent():
    assert "is garbled" in row("product", "CafÃ© crÃ¨me", "{product}").problems[0]
    assert "The prompt has 100,002 characters" in row("product", 50_000 * "x", "{product}, {product}").problems[0]


def test_a_placeholder_and_a_doubled_brace_are_pointed_out():
    assert "says 'tbd', which --prompt puts into the prompt" in row("product", "tbd", "{product} turns").warnings[0]
    found = read(f"image,product\n{CUP},Cup\n", "{{product}} turns")
    assert found.rows[0].prompt == "{product} turns"
    assert found.warnings == (
        "--prompt: {{product}} is sent as '{product}'; with one brace on each side, the row's cell stands there.",
    )
    assert read(f"image,product\n{CUP},Cup\n", "{{{product}}} {{else}}").warnings == ()


def test_merged_cells_of_a_workbook_count_for_each_of_their_rows():
    records = [("image", "product", "prompt"), (CUP, "Cup", "x"), (CUP, None, "y"), (CUP, None, "#REF!")]
    book = workbook(*records, merged="B2:B4")
    assert [one.prompt for one in read(book, "{product} turns").rows] == 3 * ["Cup turns"]


def test_an_error_cell_of_a_workbook_counts_where_it_is_used():
    book = workbook(("image", "product", "colour"), (CUP, "#VALUE!", "red"))
    assert "'product'" in read(book, "{product}").rows[0].problems[0]
    assert read(book, "{colour}").rows[0].problems == ()


def test_an_encoding_that_is_guessed_must_give_one_text_in_the_columns_that_are_used():
    text = f"image,product,note\n{CUP},Cup,\u017d\u0165\u010f\u0148\n".encode("cp1250")
    assert read(text, "{product} turns").rows[0].prompt == "Cup turns"
    with pytest.raises(ManifestError, match="--encoding"):
        read(text, "{note} turns")
