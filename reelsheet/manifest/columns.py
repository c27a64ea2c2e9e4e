"""What the columns of a sheet mean: which is the picture, which the prompt, and which are ours from an earlier run."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
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
_SHOWN: Final = 30  # columns named in a sentence
_LONGEST: Final = 500  # characters of a column's name

Wanted = Mapping[str, str]  # role → the column that a flag names for it


def would_do(header: Sequence[str], wanted: Wanted) -> bool:
    """True when this header has an image column and every column that a flag names."""
    return all(_claims(header, role, wanted) for role in {"image", *wanted})


def roles(header: Sequence[str], wanted: Wanted, source: str) -> dict[str, int]:
    """Role → its column. Raises ManifestError where two claim one, or where the image's or a flag's is missing."""
    found: dict[str, int] = {}
    for role in SPELLINGS:
        claims = _claims(header, role, wanted)
        if not claims and (role in wanted or role == "image"):
            raise ManifestError(_missing(header, role, wanted, source))
        if len(claims) > 1 and (role != "id" or role in wanted):
            both = " and ".join(label(header, at) for at in claims)
            mend = f"name one with {FLAGS[role]}" if role in FLAGS and role not in wanted else "rename all but one"
            raise ManifestError(f"The columns {both} of {source} all claim to be the {role}; {mend}.")
        if claims:
            found[role] = claims[0]
    if found["image"] == found.get("prompt"):
        both = f"{FLAGS['image']} and {FLAGS['prompt']}"
        raise ManifestError(f"{both} name one and the same column, {label(header, found['image'])}.")
    return found


def unused(header: Sequence[str], found: Mapping[str, int]) -> list[str]:
    """Warnings about columns that nearly have a role's name, and about a missing prompt."""
    left = [name for at, name in enumerate(header) if at not in found.values()]
    told: list[str] = []
    for role in ("prompt", "enable_prompt_expansion", "take"):
        near = "" if role in found else nearest(role, left)
        if near:
            mend = f"name it with {FLAGS[role]}" if role in FLAGS else "rename it"
            told.append(f"Column '{clean(near, limit=60)}' is not used; if it is meant to be the {role}, {mend}.")
        elif role == "prompt" and role not in found:
            told.append("There is no prompt column: the clips are made from the pictures alone (see --prompt-column).")
    return told


def label(header: Sequence[str], at: int) -> str:
    """A column as a sentence names it."""
    name = clean(header[at], limit=60)
    return f"'{name}'" if name else f"number {at + 1} (which has no name)"


def listed(header: Sequence[str]) -> str:
    """All columns as a sentence names them."""
    names = [label(header, at) for at in range(min(len(header), _SHOWN))]
    more = f" and {len(header) - _SHOWN} more" if len(header) > _SHOWN else ""
    return ", ".join(names) + more


def nearest(name: str, header: Sequence[str]) -> str:
    """The header that is spelt most like `name`, if any is; else ""."""
    spelt = {_plain(text): text for text in header[:1_000]}
    found = difflib.get_close_matches(_plain(name), filter(None, spelt), n=1, cutoff=0.7)
    return spelt[found[0]] if found else ""


def result_block(header: Sequence[str]) -> dict[str, int]:
    """RESULT_COLUMNS → their places in a results file, or {}: every one must be there.

    Normally they stand side by side in order. Where people moved some, each is looked for by itself; then a renamed
    one (`reelsheet_NAME`) is ours, rather than the one that it gave way to.
    """
    names = [text.strip().casefold() for text in header]
    ours = [_our_name(name) for name in names]
    width = len(RESULT_COLUMNS)
    for start in range(len(names) - width, -1, -1):
        if tuple(ours[start : start + width]) == RESULT_COLUMNS:
            return {name: start + at for at, name in enumerate(RESULT_COLUMNS)}
    scattered = {
        ours[at]: at for at in sorted(range(len(names)), key=lambda at: (len(names[at]), names[at])) if ours[at]
    }
    return scattered if len(scattered) == width else {}


def result_columns(header: Iterable[str]) -> tuple[str, ...]:
    """Our headers: each its own name, or `reelsheet_NAME`, `reelsheet_NAME_2` … where the input has one so called."""
    taken = {name.strip().casefold() for name in header}

    def free(name: str) -> str:
        candidate, number = name, 1
        while candidate in taken:
            candidate = f"reelsheet_{name}" if number == 1 else f"reelsheet_{name}_{number}"
            number += 1
        return candidate

    return tuple(free(name) for name in RESULT_COLUMNS)


def _our_name(name: str) -> str:
    """ "status", "reelsheet_status" and "reelsheet_status_2" → "status"; anything else → ""."""
    bare = name.removeprefix("reelsheet_")
    if bare != name and bare not in RESULT_COLUMNS:
        bare = re.sub(r"_[0-9]+$", "", bare)
    return bare if bare in RESULT_COLUMNS else ""


def _claims(header: Sequence[str], role: str, wanted: Wanted) -> list[int]:
    """The columns that claim a role: those that its flag names, exactly if possible, else those spelt like it."""
    plain = [_plain(name) for name in header]
    if role in wanted:
        name = wanted[role]
        exact = [at for at, text in enumerate(header) if text == name]
        return exact or [at for at, text in enumerate(plain) if text and text == _plain(name)]
    found = [at for at, text in enumerate(plain) if text in SPELLINGS[role]]
    if role == "id":
        return sorted(found, key=lambda at: SPELLINGS["id"].index(plain[at]))
    spoken_for = {at for other in wanted for at in _claims(header, other, {other: wanted[other]})}
    free = [at for at in found if at not in spoken_for]
    return free or (found if role == "image" else [])


def _missing(header: Sequence[str], role: str, wanted: Wanted, source: str) -> str:
    """Why no column was found for a role, what is there, and what mends it."""
    if role in wanted:
        near = nearest(wanted[role], header)
        hint = f" Did you mean '{clean(near, limit=60)}'?" if near else ""
        asked = f"no column '{clean(wanted[role], limit=60)}', which {FLAGS[role]} names"
        return f"{source} has {asked}; it has {listed(header)}.{hint}"
    if any("://" in name for name in header):
        return (
            f"The first line of {source} holds a web address, so it is a row and not the column names: put a line above"
            " it with a name for each column, one of them 'image'."
        )
    near = nearest("image", header)
    hint = f" Is it '{clean(near, limit=60)}'? Then add {FLAGS['image']} '{clean(near, limit=60)}'." if near else ""
    return (
        f"{source} has no column for the pictures; it has {listed(header)}. Name it 'image' (image url, image link,"
        f" image src, images, img and photo will do, too), or say which it is with {FLAGS['image']}.{hint}"
    )


def _plain(name: str) -> str:
    """A header as it is compared: without regard to case, spaces, "_" and "-"; "" for a text that is no name."""
    return _NOISE.sub("", name).casefold() if len(name) <= _LONGEST else ""
