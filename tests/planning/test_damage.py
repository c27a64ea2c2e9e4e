"""Text whose letters a program replaced by question marks."""

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reelsheet.planning.damage import is_damaged

LETTERS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs", "So")), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("paid", "now"),
    [
        ("湯気がゆっくり立ちのぼる", "????????????"),
        ("Zürich “bei” Nacht", "Z?rich ?bei? Nacht"),
        ("Zürich bei Nacht", "Z?rich am Morgen"),
        ("が?", "??"),
        ("café", "cafe?"),
        ("party 🎉 time", "party ?? time"),
        ("party 🎉 time", "party ? time"),
        ("żółw idzie", "?ó?w idzie"),
        ("café", "caf\ufffd"),
        ("plain", "pl\ufffdin"),
    ],
)
def test_lost_letters_are_seen(paid, now):
    assert is_damaged(now, paid)


@pytest.mark.parametrize(
    ("paid", "now"),
    [
        ("café in the rain", "café in the rain?"),
        ("café in the rain", "what? a tea house"),
        ("café", "cafe"),
        ("what?", "what?!"),
        ("zoom in", "zoom in? slowly"),
        ("湯気?", "湯気? 夜"),
        ("café?", "café? yes?"),
        ("", "?"),
    ],
)
def test_what_a_person_wrote_is_no_damage(paid, now):
    assert not is_damaged(now, paid)


@pytest.mark.parametrize("now", ["????", "?? ??? 12", "a\ufffdb"])
def test_plain_cases_are_seen_without_the_paid_text(now):
    assert is_damaged(now, None)


@pytest.mark.parametrize("now", ["", "?", "why? who?", "12", "push in"])
def test_nothing_else_is_without_it(now):
    assert not is_damaged(now, None)


@given(LETTERS, st.sampled_from(["cp1252", "cp1251", "cp932", "ascii", "mac_roman", "iso8859_15"]), st.booleans())
def test_whatever_a_code_page_cannot_hold_is_damage(text, encoding, apart):
    """As programs save: with ? for each letter that the code page lacks."""
    paid = unicodedata.normalize("NFC", text)
    now = unicodedata.normalize("NFD" if apart else "NFC", paid).encode(encoding, "replace").decode(encoding)
    assume(now != unicodedata.normalize("NFD" if apart else "NFC", paid))
    assert is_damaged(unicodedata.normalize("NFC", now), paid)
    assert not is_damaged(paid, paid)
