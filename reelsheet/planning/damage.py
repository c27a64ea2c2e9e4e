"""Letters that a program could not save and replaced by `?` or U+FFFD: a text known to be damaged so is never sent."""

import difflib
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

SIGNS: Final = "?\ufffd"
_ONLY_SIGNS: Final = re.compile(r"[?\ufffd\s]+")
_NOTHING_LEFT: Final = re.compile(r"[\W\d_]*\?[\W\d_]*\?[\W\d_]*")
_LONGEST: Final = 5_000  # characters that are compared where more than letters were lost


def is_damaged(now: str, paid: str | None) -> bool:
    """Letters of `paid` are `?` or U+FFFD in `now`. `paid` None: it is not known, so that only plain cases are seen."""
    if paid is None:
        return "\ufffd" in now or _NOTHING_LEFT.fullmatch(now) is not None
    if now.count("\ufffd") > paid.count("\ufffd"):
        return True
    if now.count("?") <= paid.count("?") or paid.isascii():
        return False
    return any(_is_lost(form, now) or _is_lost_in_part(form, now) for form in _forms(paid))


def _forms(text: str) -> Iterator[str]:
    """The text with one character for each sign that a program may put: accents by themselves, emoji as two."""
    for form in ("NFC", "NFD"):
        plain = unicodedata.normalize(form, text)
        yield from {plain, "".join(sign * (1 + (ord(sign) > 0xFFFF)) for sign in plain)}


def _is_lost(paid: str, now: str) -> bool:
    """Nothing changed but letters that became signs."""
    pairs = zip(paid, now, strict=False)
    return len(paid) == len(now) and all(old == new or (new in SIGNS and not old.isascii()) for old, new in pairs)


def _is_lost_in_part(paid: str, now: str) -> bool:
    """Somebody also changed the text elsewhere."""
    paid, now = paid[:_LONGEST], now[:_LONGEST]
    changes = difflib.SequenceMatcher(None, paid, now, autojunk=False).get_opcodes()
    return any(
        change == "replace"
        and last - first == end - begin
        and _ONLY_SIGNS.fullmatch(now[begin:end]) is not None
        and not any(sign.isascii() and not sign.isspace() for sign in paid[first:last])
        for change, first, last, begin, end in changes
    )
