"""What a clip is called: NAME in DEST/videos/NAME.mp4.

A name is readable (the row's id, or its prompt, or a template over the columns), is safe on every file system and in
every address, and always carries eight characters of the identity, so that two identities never write one object.
The clip of attempt n > 1 ends in `-n`; the second and further outputs of one prediction end in `-out2`, `-out3`, …
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reelsheet.errors import UsageError
from reelsheet.redaction import clean

WIDTH: Final = 8  # characters of the identity in a name
WIDE: Final = 16  # where two identities share those eight and the rest of their names
SEGMENT: Final = 80  # characters of a path segment before identity and suffixes
SEGMENTS: Final = 6  # folders and name; with `SEGMENT` that keeps every name under 700 characters
PROMPT: Final = 48  # characters of a prompt that are enough to recognise it

_RESERVED: Final = frozenset(
    ("con", "prn", "aux", "nul", "conin", "conout", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)))
)
_SPELLED: Final = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D"}
    | {
        "ð": "d",
        "Ð": "D",
        "þ": "th",
        "Þ": "Th",
        "ł": "l",
        "Ł": "L",
        "\u0131": "i",
        "ħ": "h",
        "Ħ": "H",
        "'": "",
        "\u2019": "",
    }
)
_IDENTITY_FIELDS: Final = frozenset(("identity", "id8"))


def default_name(
    row_id: str, prompt: str | None, identity: str, attempt: int = 1, output: int = 0, *, width: int = WIDTH
) -> str:
    """The row's id, else the start of its prompt, else "clip". `attempt` counts from 1, `output` from 0."""
    readable = slug(row_id) or slug(prompt or "", PROMPT) or "clip"
    return _joined(readable, "-", _short(identity, width)) + _suffix(attempt, output)


def slug(text: str, limit: int = SEGMENT) -> str:
    """ASCII letters, digits, `.`, `_`, `-`; accents taken off, all else a dash; "" where nothing is left."""
    text = text[:2000]
    if "=" in text or "://" in text:  # an address may carry a signature, which no name may repeat
        text = clean(text, limit=2000)
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).translate(_SPELLED))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)
    plain = re.sub(r"-*([._])[-._]*", r"\1", re.sub(r"-{2,}", "-", plain)).strip("-._")
    if len(plain) > limit:
        cut = plain[:limit]
        word = cut.rfind("-")
        plain = (cut[:word] if word > limit // 2 else cut).strip("-._")
    return f"_{plain}" if plain.partition(".")[0].lower() in _RESERVED else plain


def check_collisions(names: Iterable[tuple[str, str]]) -> frozenset[str]:
    """(identity, name) pairs → the identities whose name another identity claims: name these with `width=WIDE`.

    Letter case does not tell names apart. Eight hex characters collide about once in 10,000 runs of 1,000 rows that
    share one prompt and have no ids.
    """
    claims: dict[str, set[str]] = {}
    for identity, name in names:
        claims.setdefault(name.lower(), set()).add(identity)
    return frozenset(identity for owners in claims.values() if len(owners) > 1 for identity in owners)


@dataclass(frozen=True, slots=True)
class Template:
    """`--name`, for example "{campaign}/{sku}-{identity}": literal text and columns; `/` makes folders.

    {identity} and {id8} are the first eight characters of the identity; a template without one gets it at the end.
    """

    segments: tuple[tuple[tuple[str, str], ...], ...]  # per segment: (literal before, column or "identity" or "")

    @classmethod
    def parse(cls, text: str, columns: Sequence[str], roles: Mapping[str, int] | None = None) -> "Template":
        """Fields are columns without regard to case, spaces, `_` and `-`, or else one of `roles`. Raises UsageError."""
        text = text.strip().removesuffix(".mp4")
        parts = text.split("/")
        if "\\" in text or any(part.strip() in ("", ".", "..") for part in parts):
            raise UsageError(
                f"--name {text!r} is not a name below the destination: "
                "write it like {sku} or {campaign}/{sku}, without empty parts, dots alone or backslashes."
            )
        if len(parts) > SEGMENTS:
            raise UsageError(f"--name {text!r} has too many folders: at most {SEGMENTS - 1} are possible.")
        known = _Fields(columns, roles or {})
        return cls(tuple(_pieces(part, known) for part in parts))

    def render(
        self, cells: Mapping[str, str], *, identity: str, attempt: int = 1, output: int = 0, width: int = WIDTH
    ) -> str:
        """The row's name; `cells` by column. A cell is text within one segment, whatever it holds."""
        short = _short(identity, width)
        last = len(self.segments) - 1
        carried = False
        rendered = []
        for position, segment in enumerate(self.segments):
            name, holds = _segment(segment, cells, short)
            carried = carried or holds
            if not carried and position == last:
                name = _joined(name or "clip", "-", short)
            rendered.append(name or ("clip" if position == last else "none"))
        return "/".join(rendered) + _suffix(attempt, output)


class _Fields:
    """Which column a field of the template means."""

    def __init__(self, columns: Sequence[str], roles: Mapping[str, int]) -> None:
        self.columns = tuple(columns)
        self.roles = roles

    def __getitem__(self, field: str) -> str:
        wanted = _loose(field)
        if wanted in _IDENTITY_FIELDS:
            return "identity"
        found = [column for column in self.columns if _loose(column) == wanted]
        if not found and (role := next((role for role in self.roles if _loose(role) == wanted), None)):
            found = [self.columns[self.roles[role]]]
        if not found:
            offered = ", ".join(f"{{{column}}}" for column in self.columns)
            raise UsageError(f"--name asks for {{{field}}}, but the sheet has no such column; it has: {offered}.")
        if len(found) > 1:
            raise UsageError(f"--name asks for {{{field}}}, but the sheet has that column {len(found)} times.")
        return f"={found[0]}"


def _loose(text: str) -> str:
    return re.sub(r"[\s_-]+", "", text).casefold()


def _pieces(part: str, known: _Fields) -> tuple[tuple[str, str], ...]:
    """ "a-{sku}-b" → (("a-", "=sku"), ("-b", ""))."""
    pieces = []
    position = 0
    for match in re.finditer(r"\{([^{}]*)\}", part):
        pieces.append((part[position : match.start()], known[match[1]]))
        position = match.end()
    pieces.append((part[position:], ""))
    if any(brace in literal for literal, _ in pieces for brace in "{}"):
        raise UsageError(f"--name has a brace without its other half in {part!r}; write columns like {{sku}}.")
    return tuple(pieces)


def _segment(pieces: Sequence[tuple[str, str]], cells: Mapping[str, str], short: str) -> tuple[str, bool]:
    """The segment's text, and whether the identity starts or ends it (in the middle, cells could imitate it)."""
    tail = pieces[-1][0].strip() == "" and len(pieces) > 1 and pieces[-2][1] == "identity"
    head = pieces[0] == ("", "identity")
    if head and tail and len(pieces) == 2:
        return short, True
    inner = pieces[1:] if head else pieces[:-2] if tail else pieces
    text = "".join(literal + _value(field, cells, short) for literal, field in inner)
    if head:
        return _joined(short, inner[0][0][:1], slug(text)), True
    if tail:
        literal = pieces[-2][0]
        return _joined(slug(text + literal), literal[-1:], short), True
    return slug(text), False


def _value(field: str, cells: Mapping[str, str], short: str) -> str:
    if field == "identity":
        return short
    # a cell ends where the literal after it begins: its own dashes at the edges are not kept
    return slug(cells.get(field[1:], "")) if field else ""


def _joined(first: str, separator: str, second: str) -> str:
    if not (first and second):
        return first or second
    return f"{first}{separator if separator in ('-', '_', '.') else '-'}{second}"


def _short(identity: str, width: int) -> str:
    short = re.sub(r"[^0-9a-z]", "", identity.lower())[:width]
    if len(short) < WIDTH:
        raise ValueError(f"an identity has at least {WIDTH} letters and digits, not {identity!r}")
    return short


def _suffix(attempt: int, output: int) -> str:
    return (f"-{attempt}" if attempt > 1 else "") + (f"-out{output + 1}" if output > 0 else "")
