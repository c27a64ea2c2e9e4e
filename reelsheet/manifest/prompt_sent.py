"""A prompt that was sent, as a cell of the results: no formula in a spreadsheet, and read back letter by letter.

A cell of ours is usually one line of text that needs only be understood. This one is sent again by `retry`, and a
prompt that came back otherwise would be another order.
"""

import re
from typing import Final

_LEADS: Final = r"(?=[=+\-@＝＋－＠])"  # noqa: RUF001 - the full-width forms start formulas too
# Where a new cell would begin for a program that takes another separator, or breaks the text at its lines.
_BEFORE: Final = re.compile(rf"((?<![;\s\"])(?=[;\s\"]*[;\t\r\n])[;\s\"]+|\A)('*){_LEADS}")
_LONE_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


def to_cell(prompt: str) -> str:
    """With one more `'` before whatever would make a spreadsheet calculate it; without blanks around it."""
    text = _LONE_SURROGATE.sub("\ufffd", prompt.strip())
    return _BEFORE.sub(r"\1'\2", text)


def from_cell(cell: str) -> str:
    """The prompt that `to_cell` wrote."""
    return _BEFORE.sub(lambda match: match[1] + match[2][1:], cell.strip())
