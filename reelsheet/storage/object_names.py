"""The name of a clip: NAME in DEST/videos/NAME.mp4.

A name is readable (the row's id, or its prompt, or a template over the columns; other scripts are transliterated), is
safe on every file system and in every address, and always carries eight characters of the identity, so that two
identities never write one object. The clip of attempt n > 1 ends in `-n`; the second and further outputs of one
prediction end in `-out2`, `-out3`, … Where another clip has that name, the prediction tells the two apart.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from reelsheet.errors import UsageError
from reelsheet.redaction import clean

WIDTH: Final = 8  # characters of the identity in a name
WIDE: Final = 16  # the same, where two identities share those eight and the rest of their names
SEGMENT: Final = 80  # characters of a path segment, before identity and suffixes
SEGMENTS: Final = 6  # folders and name; with `SEGMENT` that keeps every name under 700 characters
PROMPT: Final = 48  # characters of a prompt that are enough to recognise it

_CELL: Final = 2000  # characters of a cell that are read
_IDENTITY_FIELDS: Final = frozenset(("identity", "id8"))
_RESERVED: Final = frozenset(  # by Windows, with any extension
    ("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)))
)


def default_name(
    row_id: str, prompt: str | None, identity: str, attempt: int = 1, output: int = 0, *, width: int = WIDTH
) -> str:
    """From the row's id, else the start of its prompt, else "clip". `attempt` counts from 1, `output` from 0."""
    readable = slug(row_id) or slug(prompt or "", PROMPT) or "clip"
    return _join(readable, "-", _short(identity, width)) + _suffix(attempt, output)


def of_prediction(key: str, prediction_id: str) -> str:
    """The key for a clip of this prediction where another clip has `key`."""
    name = key.removesuffix(".mp4")
    return f"{name}-{hashlib.sha256(prediction_id.encode()).hexdigest()[:WIDTH]}.mp4"


def slug(text: str, limit: int = SEGMENT) -> str:
    """At most `limit` + 1 of ASCII letters, digits, `.`, `_` and `-`; "" where the text has no letter or digit."""
    text = text[:_CELL]
    if "=" in text or "://" in text:  # an address may carry a signature, which no name may repeat
        text = clean(text, limit=_CELL)
    if not text.isascii():
        from text_unidecode import unidecode  # its table takes a while to load

        text = unidecode(unicodedata.normalize("NFKC", text))
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", text.replace("'", ""))
    plain = re.sub(r"-*([._])[-._]*", r"\1", plain).strip("-._")
    if len(plain) > limit:
        cut = plain[:limit]
        word_end = cut.rfind("-")
        plain = (cut[:word_end] if word_end > limit // 2 else cut).strip("-._")
    return f"_{plain}" if plain.partition(".")[0].lower() in _RESERVED else plain


def check_collisions(names: Iterable[tuple[str, str]]) -> frozenset[str]:
    """(identity, name) pairs → the identities whose name another identity has too: name these with `width=WIDE`.

    Letter case does not tell names apart. Eight hex characters collide about once in 10,000 runs of 1,000 rows that
    share one prompt and have no ids.
    """
    owners: dict[str, set[str]] = {}
    for identity, name in names:
        owners.setdefault(name.lower(), set()).add(identity)
    return frozenset(identity for sharing in owners.values() if len(sharing) > 1 for identity in sharing)


class Piece(NamedTuple):
    """A part of a template: literal text, then a field."""

    literal: str
    column: str | None  # None: the identity


@dataclass(frozen=True, slots=True)
class Segment:
    """A folder's or the clip's name: pieces and `end`, with the identity before or after them, or not at all."""

    pieces: tuple[Piece, ...]
    end: str
    identity: Literal["", "first", "last"] = ""
    separator: str = ""  # between it and the rest

    def render(self, cells: Mapping[str, str], short: str, if_empty: str) -> str:
        # each cell is a slug first: its own dashes at its edges are not kept
        text = "".join(
            piece.literal + (short if piece.column is None else slug(cells.get(piece.column, "")))
            for piece in self.pieces
        )
        readable = slug(text + self.end)
        if self.identity == "first":
            return _join(short, self.separator, readable)
        if self.identity == "last":
            return _join(readable, self.separator, short)
        return readable or if_empty


@dataclass(frozen=True, slots=True)
class Template:
    """`--name`, for example "{campaign}/{sku}-{identity}": literal text and columns; `/` makes folders.

    {identity} and {id8} are the first eight characters of the identity. Where no segment begins or ends with it (in
    the middle, cells could imitate it), the clip's name gets it at its end.
    """

    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, text: str, columns: Sequence[str], roles: Mapping[str, int] | None = None) -> "Template":
        """Fields are columns without regard to case, spaces, `_` and `-`, or else one of `roles`. Raises UsageError.

        `roles`: what columns are for ("id") → their position in `columns`.
        """
        text = text.strip().removesuffix(".mp4")
        parts = text.split("/")
        if "\\" in text or any(part.strip() in ("", ".", "..") for part in parts):
            raise UsageError(
                f"--name {text!r} is not a name below the destination: "
                "write it like {sku} or {campaign}/{sku}, without empty parts, dots alone or backslashes."
            )
        if len(parts) > SEGMENTS:
            raise UsageError(f"--name {text!r} has too many folders: at most {SEGMENTS - 1} are possible.")
        return cls(tuple(_segment(part, columns, roles or {}) for part in parts))

    def render(
        self, cells: Mapping[str, str], *, identity: str, attempt: int = 1, output: int = 0, width: int = WIDTH
    ) -> str:
        """The row's name; `cells` by column. A cell is text within one segment, whatever it holds."""
        short = _short(identity, width)
        *folders, name = self.segments
        rendered = [folder.render(cells, short, "none") for folder in folders]
        rendered.append(name.render(cells, short, "clip"))
        if not any(segment.identity for segment in self.segments):
            rendered[-1] = _join(rendered[-1], "-", short)
        return "/".join(rendered) + _suffix(attempt, output)


def _segment(part: str, columns: Sequence[str], roles: Mapping[str, int]) -> Segment:
    """From "{sku}-{id8}"."""
    pieces, position = [], 0
    for field in re.finditer(r"\{([^{}]*)\}", part):
        pieces.append(Piece(part[position : field.start()], _column(field[1], columns, roles)))
        position = field.end()
    end = part[position:]
    if any(brace in literal for literal in (end, *(piece.literal for piece in pieces)) for brace in "{}"):
        raise UsageError(f"--name has a brace without its other half in {part!r}; write columns like {{sku}}.")
    if pieces and pieces[-1].column is None and not end.strip():
        before = pieces[-1].literal
        return Segment(tuple(pieces[:-1]), before, "last", before[-1:])
    if pieces and pieces[0] == ("", None):
        after = pieces[1].literal if len(pieces) > 1 else end
        return Segment(tuple(pieces[1:]), end, "first", after[:1])
    return Segment(tuple(pieces), end)


def _column(field: str, columns: Sequence[str], roles: Mapping[str, int]) -> str | None:
    """The column that a field means; None for the identity. Raises UsageError."""
    wanted = _loose(field)
    if wanted in _IDENTITY_FIELDS:
        return None
    matching = [column for column in columns if _loose(column) == wanted]
    matching = matching or [columns[position] for role, position in roles.items() if _loose(role) == wanted]
    if not matching:
        offered = ", ".join(f"{{{column}}}" for column in columns)
        raise UsageError(f"--name asks for {{{field}}}, but the sheet has no such column; it has: {offered}.")
    if len(matching) > 1:
        raise UsageError(f"--name asks for {{{field}}}, but the sheet has that column {len(matching)} times.")
    return matching[0]


def _loose(text: str) -> str:
    return re.sub(r"[\s_-]+", "", text).casefold()


def _join(first: str, separator: str, second: str) -> str:
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
