"""Addresses that programs wrapped, escaped or listed, as cells of a sheet."""

import csv
import io

import pytest

from reelsheet.manifest import rows
from reelsheet.manifest.image_url import is_address
from reelsheet.manifest.wrapped_url import unescaped, unwrapped

A, B = "https://cdn.shop.example/a.jpg", "https://cdn.shop.example/b_(1).jpg?w=2"


def row(cell: str):
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([["image", "prompt"], [cell, "turn"]])
    (found,) = rows.parse(text.getvalue().encode(), "shop.csv").rows
    return found


@pytest.mark.parametrize("address", [A, B, "s3://pictures/a.jpg"])
@pytest.mark.parametrize(
    "wrapper",
    [
        *(
            "![]({})",
            "![a cup]({})",
            "[cup]({})",
            "<{}>",
            "({})",
            '"{}"',
            "'{}'",
            "“{}”",
            "«{}»",
            "`{}`",
            "'{}",
            '="{}"',
        ),
        *('<img src="{}">', "<img alt='x' src='{}' />", '<a href="{}">cup</a>', "cup.jpg ({})", "Photo: {}", "URL:{}"),
        *(
            '["{}"]',
            "['{}']",
            '{{"url": "{}"}}',
            '[{{"id": 7, "url": "{}", "size": 3}}]',
            "{} (front)",
            "[img]{}[/img]",
        ),
        *("url({})", "1. {}", "see {}"),
        *('![cup]({} "front")', "[cup]({} 'from the front')", "**{}**", "__{}__", "*{}*"),
    ],
)
def test_a_good_address_is_taken_out_of_its_wrapper_with_a_warning(wrapper, address):
    if address.startswith("s3:") and wrapper.startswith("{} "):
        address, wrapper = A, "{} (back)"  # an object's key may hold spaces
    found = row(wrapper.format(address))
    assert (found.image, found.problems) == (address, ())
    assert "taken out of" in found.warnings[0]


@pytest.mark.parametrize(
    "cell", ["http://shop.example:99999/a.png", "http://169.254.169.254/a.png", "https://me:secret@shop.example/a.png"]
)
def test_a_bad_address_is_not_said_to_be_taken_out_of_itself(cell):
    found = row(cell)
    assert len(found.problems) == 1
    assert found.warnings == ()


def test_line_ends_before_a_last_comma_are_no_part_of_a_key():
    assert row("s3://shop/a.jpg\n,").image == "s3://shop/a.jpg"


def test_the_picture_comes_before_its_link():
    assert row(f'<a href="https://shop.example/7"><img src="{A}"></a>').image == A
    assert row(f"[![cup]({A})](https://shop.example/7)").image == A


@pytest.mark.parametrize(
    "cell",
    [
        *(f"a.jpg ({A}),b.jpg ({B})", f'["{A}", "{B}"]', f"![]({A}) ![]({B})", f"<{A}>\n<{B}>"),
        *(f"[{A},{B}]", f"({A};{B})", f'["{A},{B}"]', f'<img src="{A}|{B}">'),
    ],
)
def test_of_several_wrapped_addresses_the_first_is_used_and_both_are_told(cell):
    found = row(cell)
    assert found.image == A
    assert any("2 addresses (several URLs)" in warning for warning in found.warnings)


@pytest.mark.parametrize("between", [" ", "\n", "\r\n", "\u00a0", ", ", ";", " | ", "\n\n", " / ", "\u2003", ",\u00a0"])
def test_a_list_may_be_divided_by_blanks_and_line_ends(between):
    found = row(f"{A}{between}{B}")
    assert found.image == A
    assert any("2 addresses (several URLs)" in warning for warning in found.warnings)


@pytest.mark.parametrize("escaped", ["&amp;", "&#38;", "&#x26;", "&AMP;", "&amp;amp;", "&#038;"])
def test_an_escaped_ampersand_is_an_ampersand(escaped):
    found = row(f"{A}?id=7{escaped}w=2")
    assert (found.image, found.problems) == (f"{A}?id=7&w=2", ())
    assert "read as &" in found.warnings[0]
    assert unescaped(f"{A}?a=1&b=2") == f"{A}?a=1&b=2"


@pytest.mark.parametrize(
    "cell",
    [
        "https://cdn.shop.example/my photo.jpg", f"see {A} for details", f"ftp://x/{A}", f"data:text,{A}", "red cup",
        f"javascript:open('{A}')", "https://cdn.shop.example/a\u00a0b.jpg",
    ],
)  # fmt: skip
def test_what_may_be_another_address_is_not_guessed(cell):
    found = row(cell)
    assert not is_address(found.image)  # a name may still be that of a file
    assert found.problems


def test_an_odd_space_inside_an_address_is_not_to_be_written_as_a_plain_one():
    assert "odd space inside (U+00A0)" in row("https://cdn.shop.example/a\u00a0b.jpg").problems[0]
    assert "%20" in row("https://cdn.shop.example/a b.jpg").problems[0]


@pytest.mark.parametrize("text", ["", "(" * 5_000, "<img src=" * 500, "https://" * 500, "[" * 3_000 + A, "'" * 9_000])
def test_endless_wrappers_end(text):
    assert isinstance(unwrapped(text), list)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("cell", [f"{A}?a=1{' ' * 30_000}x", f"{A} ({' ' * 30_000}", f"{A}?{'&amp;amp;' * 4_000}x"])
def test_a_cell_full_of_blanks_or_escapes_is_read_at_once(cell):
    """Minutes, where each blank is tried as a beginning."""
    assert row(cell) is not None


@pytest.mark.timeout(10)
def test_a_long_list_in_a_cell_is_read_at_once():
    """Hours, where each element moves all those behind it."""
    assert unwrapped(f"[{'1,' * 250_000}1]") == []


@pytest.mark.timeout(10)
def test_a_prompt_full_of_line_ends_is_read_at_once(tmp_path):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(f'image,prompt\n{A},"a{chr(10) * 100_000}x"\n', encoding="utf-8")
    assert len(rows.read(str(sheet)).rows) == 1
