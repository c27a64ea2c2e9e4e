"""What the columns of a sheet mean: which is the picture, which the prompt, and which are ours from an earlier run."""

import difflib
import functools
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from reelsheet.errors import ManifestError
from reelsheet.outcomes import CLIP, PLAY, RESULT_COLUMNS, WORKBOOK_COLUMNS, Status
from reelsheet.redaction import clean
from reelsheet.words import listed

# As they are compared: lower case, without spaces, "_" and "-". Of the ids the first there is counts, in this order.
# For the prompt, any name with the word "prompt" comes before the weaker ones: see `_prompt_claims`.
SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "image": (
        *("image", "imageurl", "imagelink", "imagesrc", "imageaddress", "images", "img"),
        *("photo", "photourl", "picture", "pictureurl", "pictures"),
    ),
    "prompt": ("prompt", "text", "motion", "caption"),
    "enable_prompt_expansion": ("enablepromptexpansion", "promptexpansion"),
    "id": ("id", "sku", "handle", "name"),
    "take": ("take",),
}
FLAGS: Final[Mapping[str, str]] = {"image": "--image-column", "prompt": "--prompt-column", "id": "--id-column"}
INVISIBLE: Final = (
    "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
REVIEW_COLUMNS: Final = ("run_id", "identity", "attempt", "review", "note", "destination")  # of a gallery's review file
_NOISE: Final = re.compile(rf"[\s_\-{INVISIBLE}]+")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PROMPT: Final = re.compile(r"(.*?)prompts?(.*)")
# A column that says one of these beside "prompt" says something about prompts; it holds none that could be sent.
_ASIDE: Final = frozenset(
    (
        *("expansion", "notes", "note", "status", "id", "ids", "date", "dates", "version", "versions"),
        *("negative", "negatives", "negativ", "negativer", "négatif", "negativo"),
        *("er", "ers", "ed", "ing", "ly"),  # other words that begin with these letters
    )
)
_CELL: Final = re.compile(r"\$?([A-Z]{1,3})\$?[0-9]{1,7}")  # of a workbook
_SHOWN: Final = 30  # columns named in a message
_LONGEST: Final = 500  # characters of a column's name

# Other people's sheets have columns of these names, too.
_COMMON: Final = frozenset(
    ("status", "error", "warnings", "review", "seconds", "width", "height", "attempt", "reused", "identity", "run_id")
)
_OUR_CELLS: Final = {
    "identity": re.compile(r"[0-9a-f]{64}"),
    "status": re.compile("|".join(Status), re.IGNORECASE),
}

Records = Sequence[tuple[int, Sequence[str]]]  # each with its line in the sheet
Named = Mapping[str, str]  # role → the column that a flag names for it
IsEmpty = Callable[[int], bool]  # whether no row has anything in the column


def _never(_: int) -> bool:
    return False


def is_usable(header: Sequence[str], named: Named) -> bool:
    """True when this header has an image column and every column that a flag names."""
    return all(_claims(header, role, named) for role in {"image", *named})


def is_review(header: Sequence[str]) -> bool:
    """True for a review file of the gallery, also where it lost some of its columns; not for a results table."""
    found, names = review_places(header).keys(), {name.strip().casefold() for name in header}
    is_enough = len(found) > 2 and not found.isdisjoint({"identity", "run_id"})
    return is_enough and names.isdisjoint(set(RESULT_COLUMNS) - found) and not is_usable(header, {})


def refuse_review(header: Sequence[str], source: str) -> None:
    """Raise ManifestError where a review file is given as a sheet."""
    if is_review(header):
        raise ManifestError(f"{source} is a review file of a gallery, not a sheet: give it to `reelsheet retry`.")


def review_places(header: Sequence[str]) -> dict[str, int]:
    """REVIEW_COLUMNS → their places in a review file, those that are there."""
    plain = [_plain(name) for name in header]
    return {name: plain.index(_plain(name)) for name in REVIEW_COLUMNS if _plain(name) in plain}


def assign_roles(
    header: Sequence[str], named: Named, source: str, *, is_empty: IsEmpty = _never, needs_prompt: bool = True
) -> dict[str, int]:
    """Role → its column. Raises ManifestError where two claim one, or where the image's or a flag's is missing.

    A column that is empty claims nothing, unless a flag names it or there is no other for the image.
    `needs_prompt` False: the prompts come from elsewhere, so where two claim to be it, none is.
    """
    roles: dict[str, int] = {}
    for role in SPELLINGS:
        claims = _claims(header, role, named, is_empty)
        if not claims and (role in named or role == "image"):
            raise ManifestError(_missing(header, role, named, source))
        if len(claims) > 1 and role == "prompt" and not needs_prompt:
            continue
        if len(claims) > 1 and (role != "id" or role in named):
            both = " and ".join(label(header, place) for place in claims)
            fix = f"name one with {FLAGS[role]}" if role in FLAGS and role not in named else "rename all but one"
            raise ManifestError(f"The columns {both} of {source} all claim to be the {role}; {fix}.")
        if claims:
            roles[role] = claims[0]
    if roles["image"] == roles.get("prompt"):
        both = f"{FLAGS['image']} and {FLAGS['prompt']}"
        raise ManifestError(f"{both} name one and the same column, {label(header, roles['image'])}.")
    return roles


def unused_warnings(
    header: Sequence[str], roles: Mapping[str, int], *, is_empty: IsEmpty = _never, needs_prompt: bool = True
) -> list[str]:
    """Warnings about columns that nearly have a role's name, and about a missing prompt, where one is needed."""
    unused = [place for place in range(len(header)) if place not in roles.values()]
    warnings: list[str] = []
    empty = None
    if needs_prompt and ("prompt" not in roles or not _says_prompt(header[roles["prompt"]])):
        empty = next((place for place in unused if _says_prompt(header[place]) and is_empty(place)), None)
    if empty is not None:
        instead = (
            f"the prompts are taken from {label(header, roles['prompt'])}" if "prompt" in roles else "none is sent"
        )
        warnings.append(f"Column {label(header, empty)} is empty, so {instead}.")
    for role in (*(("prompt",) if needs_prompt else ()), "enable_prompt_expansion", "take"):
        near = _near_miss(role, header, unused, roles)
        if near is not None and not is_empty(near):
            fix = f"name it with {FLAGS[role]}" if role in FLAGS else "rename it"
            warnings.append(f"Column {label(header, near)} is not used; if it is meant to be the {role}, {fix}.")
        elif role == "prompt" and role not in roles and empty is None:
            warnings.append(
                "There is no prompt column: the clips are made from the pictures alone (see --prompt-column)."
            )
    return warnings


def _near_miss(role: str, header: Sequence[str], unused: Sequence[int], roles: Mapping[str, int]) -> int | None:
    """An unused column whose name comes close to a role that no column has, or that one with a weak name has."""
    if role in roles and (role != "prompt" or _says_prompt(header[roles[role]])):
        return None
    near = nearest(role, [header[place] for place in unused])
    about = (place for place in unused if role == "prompt" and role in _plain(header[place]))
    return next((place for place in unused if near and header[place] == near), next(about, None))


def label(header: Sequence[str], place: int) -> str:
    """A column as messages name it."""
    name = clean(header[place], limit=60)
    return f"'{name}'" if name else f"number {place + 1} (which has no name)"


def link_source_problem(source: str, header: Sequence[str]) -> str:
    """What to do about a cell that takes its address from `source`, such as D2, by a formula: a verb and its object."""
    cell = _CELL.fullmatch(source)
    place = functools.reduce(lambda number, letter: number * 26 + ord(letter) - 64, cell[1], 0) - 1 if cell else -1
    if cell is not None and place < len(header):
        name = clean(header[place], limit=60)
        use = f"use that column (--image-column '{name}')" if name else "give that column a name"
        return f"takes its address from the cell {source}: column {cell[1]}, {label(header, place)}, holds it; {use}."
    return f"takes its address from a formula ({clean(source, limit=60)}); write the address itself into the cell."


def place_of(name: str, header: Sequence[str]) -> int | None:
    """Where the column is that a person names: the first of `places_of`."""
    return next(iter(places_of(name, header)), None)


def places_of(name: str, header: Sequence[str]) -> list[int]:
    """The columns that a person names: spelt just so, else without regard to case, spaces, "_" and "-"."""
    exact = [place for place, text in enumerate(header) if text.strip() == name.strip()]
    return exact or [place for place, text in enumerate(header) if _plain(text) == _plain(name) != ""]


def nearest(name: str, header: Sequence[str]) -> str:
    """The header that is spelt most like `name`, if any is; else ""."""
    spelt = {_plain(text): text for text in header[:1_000]}
    matches = difflib.get_close_matches(_plain(name), filter(None, spelt), n=1, cutoff=0.7)
    return spelt[matches[0]] if matches else ""


def named_first(name: str, header: Sequence[str]) -> str:
    """The columns that there are, for a message, the one that is spelt most like `name` first."""
    near = nearest(name, header)
    places = sorted(range(len(header)), key=lambda place: header[place] != near)
    return listed([label(header, place) for place in places], _SHOWN)


def result_block(header: Sequence[str], records: Records = ()) -> dict[str, int]:
    """RESULT_COLUMNS → their places in a results file, without those that were deleted or renamed; else {}.

    Normally they stand side by side in order; in a workbook in another one, with the column of links (CLIP). Where
    people moved some, each is looked for by itself; then a renamed one (`reelsheet_NAME`) is ours, rather than the
    input column of that name. Where some are missing, one of the same name may be the input's: `records` (with their
    lines) tell.
    """
    names = [text.strip().casefold() for text in header]
    ours = [_our_name(name) for name in names]
    for order in (RESULT_COLUMNS, WORKBOOK_COLUMNS):
        for start in range(len(names) - len(order), -1, -1):
            if tuple(ours[start : start + len(order)]) == order:
                return {name: start + offset for offset, name in enumerate(order)}
    by_length = sorted(range(len(names)), key=lambda place: (len(names[place]), names[place]))
    scattered = {ours[place]: place for place in by_length if ours[place]}  # the last of a name is the most renamed
    for name in _OUR_CELLS.keys() & scattered.keys():
        cells = list(_cells(scattered[name], records))
        if cells and not any(map(_OUR_CELLS[name].fullmatch, cells)):
            del scattered[name]
    if CLIP in scattered and set(_cells(scattered[CLIP], records)) != {PLAY}:
        del scattered[CLIP]  # a column of the sheet
    return scattered if _is_recognised(scattered, records) else {}


def _is_recognised(found: Mapping[str, int], records: Records) -> bool:
    """Enough columns are ours that it cannot be chance: one holds identities, or many have names that only we use."""
    if "identity" in found and len(found) > 2 and (not records or any(_cells(found["identity"], records))):
        return True
    return len(found.keys() - _COMMON - {CLIP}) > 3 and not found.keys().isdisjoint({"status", "identity", "review"})


def _cells(place: int, records: Records) -> Iterator[str]:
    """What is written in a column, without the sign that keeps spreadsheets from calculating it."""
    return (text for _, cells in records if place < len(cells) and (text := cells[place].strip().removeprefix("'")))


def result_columns(header: Iterable[str], names: Iterable[str] = RESULT_COLUMNS) -> tuple[str, ...]:
    """Our headers: each its own name, or `reelsheet_NAME`, `reelsheet_NAME_2` … where the input has that name."""
    taken = {name.strip().casefold() for name in header}

    def spellings(name: str) -> Iterator[str]:
        yield from (name, f"reelsheet_{name}")
        yield from (f"reelsheet_{name}_{number}" for number in itertools.count(2))

    return tuple(next(text for text in spellings(name) if text not in taken) for name in names)


def _our_name(name: str) -> str:
    """ "status", "reelsheet_status" and "reelsheet_status_2" → "status"; anything else → ""."""
    bare = name.removeprefix("reelsheet_")
    if bare != name and bare not in WORKBOOK_COLUMNS:
        bare = re.sub(r"_[0-9]+$", "", bare)
    return bare if bare in WORKBOOK_COLUMNS else ""


def _claims(header: Sequence[str], role: str, named: Named, is_empty: IsEmpty = _never) -> list[int]:
    """The columns that claim a role: those that its flag names, exactly if possible, else those spelt like it."""
    plain = [_plain(name) for name in header]
    if role in named:
        exact = [place for place, text in enumerate(header) if text == named[role]]
        return exact or [place for place, text in enumerate(plain) if text and text == _plain(named[role])]
    claims = [place for place, text in enumerate(plain) if text in SPELLINGS[role]]
    filled = [place for place in claims if not is_empty(place)]
    if role == "id":
        return sorted(filled, key=lambda place: SPELLINGS["id"].index(plain[place]))
    taken = {place for other in named for place in _claims(header, other, {other: named[other]})}
    if role == "prompt":
        return _prompt_claims(header, [place for place in range(len(header)) if place not in taken], is_empty)
    free = [place for place in filled if place not in taken]
    if role != "image":
        return free
    return free or filled or claims[:1]


def _prompt_claims(header: Sequence[str], places: Sequence[int], is_empty: IsEmpty) -> list[int]:
    """Of these columns: those called `prompt`, else those with that word in their names, else those of other names."""
    kinds: tuple[Callable[[str], bool], ...] = (
        lambda name: _plain(name) == "prompt",
        _says_prompt,
        lambda name: _plain(name) in SPELLINGS["prompt"],
    )
    found = ([place for place in places if is_kind(header[place]) and not is_empty(place)] for is_kind in kinds)
    return next(filter(None, found), [])


def _says_prompt(name: str) -> bool:
    """True for "Motion Prompt", "prompt_en" and "videoPrompts"; not for "prompt id", "negative prompt", "prompter"."""
    if len(name) > _LONGEST or difflib.get_close_matches(
        _plain(name), SPELLINGS["enable_prompt_expansion"], cutoff=0.85
    ):
        return False
    words = re.findall(r"[^\W_]+", _CAMEL.sub(" ", name))
    parts = [match.groups() if (match := _PROMPT.fullmatch(word.casefold())) else word.casefold() for word in words]
    rest = {text for part in parts for text in ([part] if isinstance(part, str) else part)}
    return any(not isinstance(part, str) for part in parts) and rest.isdisjoint(_ASIDE)


def _missing(header: Sequence[str], role: str, named: Named, source: str) -> str:
    """Why no column was found for a role, what is there, and how to fix it."""
    there = listed([label(header, place) for place in range(len(header))], _SHOWN)
    near = clean(nearest(named.get(role, role), header), limit=60)
    if role in named:
        hint = f" Did you mean '{near}'?" if near else ""
        asked = f"no column '{clean(named[role], limit=60)}', which {FLAGS[role]} names"
        return f"{source} has {asked}; it has {there}.{hint}"
    if any("://" in name for name in header):
        return (
            f"The first line of {source} holds a web address, so it is a row and not the column names: put a line above"
            " it with a name for each column, one of them 'image'."
        )
    hint = f" Is it '{near}'? Then add {FLAGS['image']} '{near}'." if near else ""
    return (
        f"{source} has no column for the pictures; it has {there}. Name it 'image' (image url, image link, images,"
        f" photo, picture and others will do, too), or say which it is with {FLAGS['image']}.{hint}"
    )


def _plain(name: str) -> str:
    """A header as it is compared: without regard to case, spaces, "_" and "-"; "" for a text that is no name."""
    return _NOISE.sub("", name).casefold() if len(name) <= _LONGEST else ""
