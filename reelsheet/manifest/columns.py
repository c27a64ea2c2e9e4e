"""What the columns of a sheet mean: which is the picture, which the prompt, and which are ours from an earlier run."""

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from reelsheet.errors import ManifestError
from reelsheet.outcomes import RESULT_COLUMNS
from reelsheet.redaction import clean

# As they are compared: lower case, without spaces, "_" and "-". Of the ids the first there is counts, in this order.
SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "image": ("image", "imageurl", "imagelink", "imagesrc", "images", "img", "photo"),
    "prompt": ("prompt", "text", "motion", "caption"),
    "enable_prompt_expansion": ("enablepromptexpansion", "promptexpansion"),
    "id": ("id", "sku", "handle", "name"),
    "take": ("take",),
}
FLAGS: Final[Mapping[str, str]] = {"image": "--image-column", "prompt": "--prompt-column", "id": "--id-column"}
INVISIBLE: Final = (
    "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
_NOISE: Final = re.compile(rf"[\s_\-{INVISIBLE}]+")
_SHOWN: Final = 30  # columns named in a message
_LONGEST: Final = 500  # characters of a column's name

Named = Mapping[str, str]  # role → the column that a flag names for it


def is_usable(header: Sequence[str], named: Named) -> bool:
    """True when this header has an image column and every column that a flag names."""
    return all(_claims(header, role, named) for role in {"image", *named})


def assign_roles(header: Sequence[str], named: Named, source: str) -> dict[str, int]:
    """Role → its column. Raises ManifestError where two claim one, or where the image's or a flag's is missing."""
    roles: dict[str, int] = {}
    for role in SPELLINGS:
        claims = _claims(header, role, named)
        if not claims and (role in named or role == "image"):
            raise ManifestError(_missing(header, role, named, source))
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


def unused_warnings(header: Sequence[str], roles: Mapping[str, int]) -> list[str]:
    """Warnings about columns that nearly have a role's name, and about a missing prompt."""
    unused = [name for place, name in enumerate(header) if place not in roles.values()]
    warnings: list[str] = []
    for role in ("prompt", "enable_prompt_expansion", "take"):
        near = "" if role in roles else nearest(role, unused)
        if near:
            fix = f"name it with {FLAGS[role]}" if role in FLAGS else "rename it"
            warnings.append(f"Column '{clean(near, limit=60)}' is not used; if it is meant to be the {role}, {fix}.")
        elif role == "prompt" and role not in roles:
            warnings.append(
                "There is no prompt column: the clips are made from the pictures alone (see --prompt-column)."
            )
    return warnings


def label(header: Sequence[str], place: int) -> str:
    """A column as messages name it."""
    name = clean(header[place], limit=60)
    return f"'{name}'" if name else f"number {place + 1} (which has no name)"


def nearest(name: str, header: Sequence[str]) -> str:
    """The header that is spelt most like `name`, if any is; else ""."""
    spelt = {_plain(text): text for text in header[:1_000]}
    matches = difflib.get_close_matches(_plain(name), filter(None, spelt), n=1, cutoff=0.7)
    return spelt[matches[0]] if matches else ""


def result_block(header: Sequence[str]) -> dict[str, int]:
    """RESULT_COLUMNS → their places in a results file, or {}: every one must be there.

    Normally they stand side by side in order. Where people moved some, each is looked for by itself; then a renamed
    one (`reelsheet_NAME`) is ours, rather than the input column of that name.
    """
    names = [text.strip().casefold() for text in header]
    ours = [_our_name(name) for name in names]
    width = len(RESULT_COLUMNS)
    for start in range(len(names) - width, -1, -1):
        if tuple(ours[start : start + width]) == RESULT_COLUMNS:
            return {name: start + offset for offset, name in enumerate(RESULT_COLUMNS)}
    by_length = sorted(range(len(names)), key=lambda place: (len(names[place]), names[place]))
    scattered = {ours[place]: place for place in by_length if ours[place]}  # the last of a name is the most renamed
    return scattered if len(scattered) == width else {}


def result_columns(header: Iterable[str]) -> tuple[str, ...]:
    """Our headers: each its own name, or `reelsheet_NAME`, `reelsheet_NAME_2` … where the input has that name."""
    taken = {name.strip().casefold() for name in header}

    def spellings(name: str) -> Iterator[str]:
        yield from (name, f"reelsheet_{name}")
        yield from (f"reelsheet_{name}_{number}" for number in itertools.count(2))

    return tuple(next(text for text in spellings(name) if text not in taken) for name in RESULT_COLUMNS)


def _our_name(name: str) -> str:
    """ "status", "reelsheet_status" and "reelsheet_status_2" → "status"; anything else → ""."""
    bare = name.removeprefix("reelsheet_")
    if bare != name and bare not in RESULT_COLUMNS:
        bare = re.sub(r"_[0-9]+$", "", bare)
    return bare if bare in RESULT_COLUMNS else ""


def _claims(header: Sequence[str], role: str, named: Named) -> list[int]:
    """The columns that claim a role: those that its flag names, exactly if possible, else those spelt like it."""
    plain = [_plain(name) for name in header]
    if role in named:
        exact = [place for place, text in enumerate(header) if text == named[role]]
        return exact or [place for place, text in enumerate(plain) if text and text == _plain(named[role])]
    claims = [place for place, text in enumerate(plain) if text in SPELLINGS[role]]
    if role == "id":
        return sorted(claims, key=lambda place: SPELLINGS["id"].index(plain[place]))
    taken = {place for other in named for place in _claims(header, other, {other: named[other]})}
    free = [place for place in claims if place not in taken]
    return free or (claims if role == "image" else [])


def _missing(header: Sequence[str], role: str, named: Named, source: str) -> str:
    """Why no column was found for a role, what is there, and how to fix it."""
    there = ", ".join(label(header, place) for place in range(min(len(header), _SHOWN)))
    there += f" and {len(header) - _SHOWN} more" if len(header) > _SHOWN else ""
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
        f"{source} has no column for the pictures; it has {there}. Name it 'image' (image url, image link, image src,"
        f" images, img and photo will do, too), or say which it is with {FLAGS['image']}.{hint}"
    )


def _plain(name: str) -> str:
    """A header as it is compared: without regard to case, spaces, "_" and "-"; "" for a text that is no name."""
    return _NOISE.sub("", name).casefold() if len(name) <= _LONGEST else ""
