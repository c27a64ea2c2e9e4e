"""What a picture's first bytes say: its kind, its size in pixels, whether it moves.

Headers are read by hand: nothing is decoded, so nothing can unfold into gigabytes.
"""

import hashlib
import io
from dataclasses import dataclass
from typing import Final, NamedTuple

import imagesize

from reelsheet import file_types

FIRST: Final = 65_536  # bytes that are read, and that the fingerprint covers

# What the sellers of such models usually accept: warnings, never refusals.
LARGEST_BYTES: Final = 20_000_000
SHORTEST_SIDE: Final = 300  # pixels
MOST_PIXELS: Final = 50_000_000
WIDEST: Final = 2.5  # width by height, or height by width

_KINDS: Final = {file_types.JPEG: "jpeg", file_types.PNG: "png", file_types.GIF: "gif", file_types.WEBP: "webp"}


@dataclass(frozen=True, slots=True)
class Picture:
    """`kind` is jpeg, png, gif, webp or other; `looks_like` names it for people; pixels and bytes where known.

    Pixels are as people see the picture: a camera may have stored it turned.
    """

    kind: str
    width: int | None
    height: int | None
    bytes_total: int | None
    fingerprint: str  # another picture has another one
    animated: bool = False
    looks_like: str = ""


def sniff(head: bytes, *, total: int | None = None) -> Picture:
    """What `head`, the first bytes of a file of `total` bytes, begins. By content only; never raises."""
    looks_like = file_types.describe(head)
    kind = _KINDS.get(looks_like, "other")
    width, height = _size(head) if kind != "other" else (-1, -1)
    is_known = width > 0 and height > 0
    return Picture(
        kind,
        width if is_known else None,
        height if is_known else None,
        total,
        _fingerprint(head, total),
        _is_animated(kind, head),
        looks_like,
    )


def _size(head: bytes) -> tuple[int, int]:
    """Width and height in pixels; (-1, -1) where they are not known."""
    width, height = imagesize.get(io.BytesIO(head), exif_rotation=True)
    if min(width, height) <= 0:  # its EXIF may be damaged
        width, height = imagesize.get(io.BytesIO(head), exif_rotation=False)
    return width, height


def is_cut(head: bytes, total: int | None, *, is_complete: bool) -> bool:
    """True where the file surely ends too early. `is_complete`: `head` is all of its `total` bytes."""
    looks_like = file_types.describe(head)
    if looks_like == file_types.WEBP:
        return total is not None and total < 8 + int.from_bytes(head[4:8], "little")
    if looks_like == file_types.PNG:
        position, name = 8, b""
        while position + 8 <= len(head):
            name = head[position + 4 : position + 8]
            position += 12 + int.from_bytes(head[position : position + 4], "big")
            if name == b"IEND":
                return False
        return total is not None and (position > total or is_complete)
    if looks_like == file_types.GIF:  # one that lacks only its last byte is shown by every program
        return is_complete and _walk_gif(head).is_cut
    return looks_like == file_types.JPEG and is_complete and head.find(b"\xff\xd9", _scan_start(head)) < 0


def _scan_start(jpeg: bytes) -> int:
    """Where the picture itself begins, behind a small one in the preamble; 0 where the file is built otherwise."""
    position = 2
    while position + 4 <= len(jpeg) and jpeg[position] == 0xFF:
        if jpeg[position + 1] == 0xDA:
            return position
        position += 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
    return 0


def cautions(picture: Picture) -> tuple[str, ...]:
    """In which of the trade's usual limits the picture does not fit, a sentence each."""
    warnings = []
    if picture.bytes_total is not None and picture.bytes_total > LARGEST_BYTES:
        warnings.append(f"The picture has {picture.bytes_total / 1e6:,.0f} MB; more than 20 MB is often refused.")
    if picture.width and picture.height:
        pixels = f"{picture.width} by {picture.height} pixels"
        if min(picture.width, picture.height) <= SHORTEST_SIDE:
            warnings.append(f"The picture has {pixels}; sides of {SHORTEST_SIDE} or less are often refused.")
        if picture.width * picture.height > MOST_PIXELS:
            warnings.append(
                f"The picture has {pixels}; more than {MOST_PIXELS // 1_000_000} million are often refused."
            )
        if not 1 / WIDEST <= picture.width / picture.height <= WIDEST:
            warnings.append(f"The picture has {pixels}; shapes beyond 2:5 and 5:2 are often refused.")
    if picture.animated:
        warnings.append("The picture is animated; only one of its frames can be used.")
    return tuple(warnings)


def _fingerprint(head: bytes, total: int | None) -> str:
    digest = hashlib.sha256(head[:FIRST])
    digest.update(b"" if total is None else str(total).encode())
    return digest.hexdigest()[:32]


def _is_animated(kind: str, head: bytes) -> bool:
    """As far as its first bytes show."""
    if kind == "png":
        return b"acTL" in head.partition(b"IDAT")[0]
    if kind == "gif":
        return _walk_gif(head).frames > 1
    return kind == "webp" and head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & 2)


class _Gif(NamedTuple):
    frames: int  # that begin in the head
    is_cut: bool  # the head ends inside a block, or before the first frame


def _walk_gif(head: bytes) -> _Gif:
    position, frames = 13 + _palette(head[10]) if len(head) >= 13 else 13, 0
    while position < len(head):
        if head[position] == 0x21:  # an extension
            position = _after_blocks(head, position + 2)
        elif head[position] == 0x2C:  # a frame
            frames += 1
            flags = head[position + 9] if position + 10 <= len(head) else 0
            position = _after_blocks(head, position + 11 + _palette(flags))
        else:  # its end, or what no GIF has
            break
    return _Gif(frames, not frames or position > len(head))


def _palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(head: bytes, position: int) -> int:
    while position < len(head) and head[position]:
        position += 1 + head[position]
    return position + 1
