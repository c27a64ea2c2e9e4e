"""What a picture's first bytes say: its kind, its size in pixels, whether it moves.

Headers are read by hand: nothing is decoded, so nothing can unfold into gigabytes.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from reelsheet import file_types

FIRST: Final = 65_536  # bytes that are looked at, and that the fingerprint covers

# What the sellers of such models usually accept: warnings, never refusals.
LARGEST: Final = 20_000_000
SHORTEST_SIDE: Final = 300
WIDEST: Final = 2.5

_KINDS: Final = {file_types.JPEG: "jpeg", file_types.PNG: "png", file_types.GIF: "gif", file_types.WEBP: "webp"}


@dataclass(frozen=True, slots=True)
class Picture:
    """`kind` is jpeg, png, gif, webp or other; `looks_like` names it for people; pixels and bytes where known."""

    kind: str
    width: int | None
    height: int | None
    bytes_total: int | None
    fingerprint: str  # another picture has another one
    animated: bool = False
    looks_like: str = ""

    @property
    def aspect(self) -> float | None:
        """Width by height."""
        return self.width / self.height if self.width and self.height else None


def sniff(head: bytes, *, total: int | None = None) -> Picture:
    """What `head`, the first bytes of a file of `total` bytes, begins. By content only; never raises."""
    looks_like = file_types.describe(head)
    kind, animated, size = _KINDS.get(looks_like, "other"), False, None
    if kind == "jpeg":
        size = _jpeg_size(head)
    elif kind == "png":
        animated, size = _is_animated_png(head), _pair(head[16:24], 4, "big")
    elif kind == "gif":
        animated, size = _gif_frames(head) > 1, _pair(head[6:10], 2, "little")
    elif kind == "webp":
        animated, size = head[12:16] == b"VP8X" and bool(head[20:21] > b"" and head[20] & 2), _webp_size(head)
    width, height = size or (None, None)
    return Picture(kind, width, height, total, _fingerprint(head, total), animated, looks_like)


def cautions(picture: Picture) -> tuple[str, ...]:
    """In which of the trade's usual limits the picture does not fit, a sentence each."""
    found = []
    if picture.bytes_total is not None and picture.bytes_total > LARGEST:
        found.append(f"The picture has {picture.bytes_total / 1e6:,.0f} MB; more than 20 MB is often refused.")
    if picture.width and picture.height:
        pixels = f"{picture.width} by {picture.height} pixels"
        if min(picture.width, picture.height) <= SHORTEST_SIDE:
            found.append(f"The picture has {pixels}; sides of {SHORTEST_SIDE} or less are often refused.")
        if not 1 / WIDEST <= picture.width / picture.height <= WIDEST:
            found.append(f"The picture has {pixels}; shapes beyond 2:5 and 5:2 are often refused.")
    if picture.animated:
        found.append("The picture is animated; only one of its frames can be used.")
    return tuple(found)


def _fingerprint(head: bytes, total: int | None) -> str:
    digest = hashlib.sha256(head[:FIRST])
    digest.update(b"" if total is None else str(total).encode())
    return digest.hexdigest()[:32]


def _pair(field: bytes, width: int, order: str) -> tuple[int, int] | None:
    """Two numbers of `width` bytes each; None where the field is cut or one is 0."""
    if len(field) != 2 * width:
        return None
    first, second = (int.from_bytes(part, order) for part in (field[:width], field[width:]))  # type: ignore[arg-type]
    return (first, second) if first and second else None


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    """From the frame header (SOF), which may come after any number of segments."""
    at = 2
    while at + 4 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a body
            at += 2
        elif marker in (0xD9, 0xDA):  # the end, or the picture itself: no frame header came
            return None
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            size = _pair(head[at + 5 : at + 9], 2, "big")
            return size and (size[1], size[0])
        else:
            at += 2 + max(2, int.from_bytes(head[at + 2 : at + 4], "big"))
    return None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    form, body = head[12:16], head[20:30]
    if len(body) < 10:
        return None
    if form == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if form == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if form == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
        return (width, height) if width and height else None
    return None


def _is_animated_png(head: bytes) -> bool:
    """True when an animation control chunk comes before the picture's data."""
    for name in _png_chunks(head):
        if name in (b"acTL", b"IDAT"):
            return name == b"acTL"
    return False


def _png_chunks(head: bytes) -> Iterator[bytes]:
    at = 8
    while at + 8 <= len(head):
        yield head[at + 4 : at + 8]
        at += 12 + int.from_bytes(head[at : at + 4], "big")


def _gif_frames(head: bytes) -> int:
    """Frames that begin in `head`; two are enough to know."""
    if len(head) < 13:
        return 0
    at, frames = 13 + _palette(head[10]), 0
    while at < len(head) and frames < 2:
        if head[at] == 0x21:  # an extension
            at = _after_blocks(head, at + 2)
        elif head[at] == 0x2C and at + 10 <= len(head):  # a frame
            frames += 1
            at = _after_blocks(head, at + 11 + _palette(head[at + 9]))
        else:
            break
    return frames


def _palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(head: bytes, at: int) -> int:
    while at < len(head) and head[at]:
        at += 1 + head[at]
    return at + 1
