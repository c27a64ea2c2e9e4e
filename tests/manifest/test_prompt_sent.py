"""The prompt that was sent goes through a table as it is."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelsheet.manifest.prompt_sent import from_cell, to_cell

LEADS = "=+-@＝＋－＠"  # noqa: RUF001 - the full-width forms are the point


@pytest.mark.parametrize(
    ("prompt", "cell"),
    [
        ("", ""),
        ("A slow turn – 50 % off; soft light", "A slow turn – 50 % off; soft light"),  # noqa: RUF001
        ("=1+1", "'=1+1"),
        ("'=1+1", "''=1+1"),
        ("- slow\n- red", "'- slow\n'- red"),
        ('turn; "=now()', "turn; \"'=now()"),
        ("two\r\nlines", "two\r\nlines"),
        ("it's red; 'tis", "it's red; 'tis"),
    ],
)
def test_only_what_would_be_calculated_is_marked(prompt, cell):
    assert to_cell(prompt) == cell
    assert from_cell(cell) == prompt


@settings(max_examples=150)
@given(st.text(st.sampled_from(f"{LEADS};;\"'' \n\r\tab"), max_size=14) | st.text(max_size=20))
def test_every_prompt_comes_back(prompt):
    cell = to_cell(prompt)
    assert from_cell(cell) == re.sub(r"[\ud800-\udfff]", "\ufffd", prompt).strip()
    assert not cell.startswith(tuple(LEADS))
    assert not re.search(rf"[;\n\r\t][\s\"]*[{re.escape(LEADS)}]", cell)


@pytest.mark.parametrize("sign", ["\n", ";", "'", '"', " ", "; ", "\n'"])
def test_a_long_prompt_of_one_sign_is_read_in_one_go(sign):
    prompt = f"a{100_000 * sign}b"
    assert from_cell(to_cell(prompt)) == prompt
