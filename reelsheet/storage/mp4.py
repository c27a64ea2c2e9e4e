"""Is it a whole MP4? Told while it streams by, without a decoder.

The top-level boxes of a file must tile it exactly, `ftyp` first, with `moov` and `mdat` among them; `moov` (held,
within a cap) gives codec, size and duration, and its sample tables must fit what `mdat` holds. This is the only check
that notices a download that was cut where no Content-Length said how long it is.
(ISO/IEC 14496-12, 4.2 and 6.2.3.)
"""

import re
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from reelsheet import file_types

MOOV_LIMIT: Final = 8 * 2**20  # bytes of `moov` that are held: an hour of video has fewer
FTYP_LIMIT: Final = 4096
BOXES_LIMIT: Final = 100_000  # boxes looked at, at top level and within moov each
HEADER: Final = 8  # size and kind of a box
WIDE_HEADER: Final = 16  # the same, with a size of 64 bits behind
SNIFF: Final = 64  # first bytes, enough to name what is no MP4


class Mp4Error(Exception):
    """One sentence on what the bytes are or lack."""


class NotMp4(Mp4Error):
    """Something else altogether; `what` names it ("a WebM video", "an HTML page")."""

    def __init__(self, what: str, *, text: bool = False) -> None:
        super().__init__(f"The file is {what}, not an MP4 video.")
        self.what = what
        self.text = text  # a page or a message instead of a file


class CorruptMp4(Mp4Error):
    """An MP4 that is cut, contradicts itself or has no picture."""


@dataclass(frozen=True, slots=True)
class Mp4:
    """What the file says of itself. `duration_s` is None where it does not say; `codec` is its four letters (avc1)."""

    duration_s: float | None
    width: int
    height: int
    codec: str
    length_proven: bool  # False: cut at certain places, it would look the same


@dataclass(slots=True)
class _Track:
    video: bool = False
    width: int = 0
    height: int = 0
    turned: bool = False  # shown rotated by 90° or 270°
    shown: tuple[int, int] = (0, 0)
    codec: str = ""
    seconds: float | None = None
    samples: int = 0
    sample_bytes: int = 0
    last_chunk: int = -1


@dataclass(slots=True)
class _Movie:
    seconds: float | None = None
    timescale: int = 0
    fragmented: bool = False
    tracks: list[_Track] = field(default_factory=list)
    boxes: int = 0


class BoxWalk:
    """Feed it the file in pieces of any size, then `finish`. Raises NotMp4 or CorruptMp4, nothing else."""

    def __init__(self) -> None:
        self.fed = 0
        self._start = bytearray()  # the first bytes, to name what it is
        self._head = bytearray()  # a box header that is not complete yet
        self._held: bytearray | None = None  # the content of ftyp or moov
        self._kind = b""
        self._left: int | None = 0  # bytes of the current box to come; None: to the end of the file
        self._boxes = 0
        self._movie: _Movie | None = None
        self._media = 0  # bytes in mdat boxes
        self._fragments = False
        self._index = False  # mfra, which ends a fragmented file, was the last box

    def feed(self, piece: bytes) -> None:
        """The next bytes of the file."""
        if len(self._start) < SNIFF:
            self._start += piece[: SNIFF - len(self._start)]
        if self._stranger:
            if len(self._start) == SNIFF:
                _name_stranger(self._start)
            self.fed += len(piece)
            return
        view = memoryview(piece)
        while view:
            taken = self._content(view) if self._left != 0 else self._header(view)
            self.fed += taken
            view = view[taken:]
            if self._left == 0 and self._kind:
                self._close()

    def finish(self, total: int | None = None) -> Mp4:
        """The end of the file, which should have `total` bytes."""
        if total is not None and total != self.fed:
            raise CorruptMp4(f"The video is cut: {self.fed:,} of {total:,} bytes came.")
        if not self.fed:
            raise CorruptMp4("The video is empty: not one byte came.")
        if self._stranger or len(self._start) < HEADER:
            _name_stranger(self._start)
        open_ended = self._left is None
        if self._left or self._head:
            missing = f", {self._left:,} bytes short of the end of its {_letters(self._kind)} box" if self._left else ""
            raise CorruptMp4(f"The video is cut after {self.fed:,} bytes{missing}.")
        if open_ended:
            self._close()
        if self._movie is None:
            raise CorruptMp4("The video has no index (moov box): it is cut, or was never finished.")
        if not self._media:
            raise CorruptMp4("The video has no pictures in it (no mdat box): it is cut, or was never finished.")
        return self._told(self._movie, open_ended=open_ended)

    def _header(self, view: memoryview) -> int:
        """Bytes taken into the header; opens the box once it is complete."""
        need = WIDE_HEADER if self._head[:4] == b"\0\0\0\1" else HEADER
        taken = min(need - len(self._head), len(view))
        self._head += view[:taken]
        if len(self._head) < need or (need == HEADER and self._head[:4] == b"\0\0\0\1"):
            return taken
        size, kind = int.from_bytes(self._head[:4]), bytes(self._head[4:8])
        if size == 1:
            size = int.from_bytes(self._head[8:16])
        self._open(kind, None if size == 0 else size - len(self._head))
        self._head.clear()
        return taken

    def _open(self, kind: bytes, length: int | None) -> None:
        self._boxes += 1
        if self._boxes > BOXES_LIMIT:
            raise CorruptMp4(f"The video is made of more than {BOXES_LIMIT:,} boxes, as no camera or encoder does.")
        if not _is_kind(kind) or (length is not None and length < 0):
            at = self.fed
            raise CorruptMp4(f"The video is damaged: no box of a video starts at about byte {at:,}.")
        if kind == b"moov" and self._movie is not None:
            raise CorruptMp4("The video has two indexes (moov boxes) that contradict each other.")
        limit = {b"ftyp": FTYP_LIMIT, b"moov": MOOV_LIMIT}.get(kind)
        if limit is not None and length is not None and length > limit:
            raise CorruptMp4(
                f"The video claims {length:,} bytes for its {_letters(kind)} box, which no real one needs."
            )
        self._kind, self._left = kind, length
        self._held = bytearray() if limit is not None else None

    def _content(self, view: memoryview) -> int:
        taken = len(view) if self._left is None else min(self._left, len(view))
        if self._held is not None:
            self._held += view[:taken]
            if len(self._held) > MOOV_LIMIT:
                raise CorruptMp4(f"The video's {_letters(self._kind)} box has no end within {MOOV_LIMIT:,} bytes.")
        if self._kind == b"mdat":
            self._media += taken
        if self._left is not None:
            self._left -= taken
        return taken

    def _close(self) -> None:
        """The current box is complete."""
        kind, held = self._kind, self._held
        self._kind, self._held, self._left = b"", None, 0
        self._index = kind == b"mfra"
        if kind == b"moof":
            self._fragments = True
        elif kind == b"ftyp" and self._boxes == 1:
            _refuse_brands(bytes(held or b""))
        elif kind == b"moov":
            self._movie = _movie(memoryview(held or b""))

    @property
    def _stranger(self) -> bool:
        """It does not begin as an MP4 does."""
        return len(self._start) >= HEADER and self._start[4:8] != b"ftyp"

    def _told(self, movie: _Movie, *, open_ended: bool) -> Mp4:
        pictures = [track for track in movie.tracks if track.video]
        if not pictures:
            raise CorruptMp4("The file is an MP4 without a picture track: sound or data only.")
        track = pictures[0]
        width, height = (track.width, track.height) if track.width and track.height else track.shown
        if not (width and height and track.codec):
            raise CorruptMp4("The video does not say how large its picture is; it cannot be shown.")
        fragmented = movie.fragmented or self._fragments
        if fragmented and not self._fragments and not any(one.samples for one in pictures):
            raise CorruptMp4("The video is cut: its pictures should follow in fragments, and none came.")
        if not fragmented and not track.samples:
            raise CorruptMp4("The video has no frames.")
        for one in movie.tracks:
            if one.last_chunk >= self.fed or (one.video and one.sample_bytes > self._media):
                raise CorruptMp4("The video is cut: its index speaks of pictures beyond the end of the file.")
        return Mp4(
            duration_s=track.seconds if movie.seconds is None else movie.seconds,
            width=height if track.turned else width,
            height=width if track.turned else height,
            codec=track.codec,
            length_proven=not open_ended and (not fragmented or self._index),
        )


def _is_kind(kind: bytes) -> bool:
    return all(0x20 <= letter < 0x7F or letter == 0xA9 for letter in kind)


def _letters(kind: bytes) -> str:
    return "".join(chr(letter) if 0x20 < letter < 0x7F else "?" for letter in kind)


# What is no MP4, by its first bytes

_PLAYABLE: Final = re.compile(rb"iso\w|mp4\w|avc1|M4V |M4VH|M4VP|dash|3g[p2]\w|MSNV|XAVC|cmf\w", re.ASCII)
_VAGUE: Final = frozenset(("text", "an unknown kind of file"))


def _name_stranger(start: bytes | bytearray) -> None:
    """Raises NotMp4 (or CorruptMp4 for a beginning too short to tell) for bytes that do not start with an ftyp box."""
    start = bytes(start)
    what = file_types.describe(start)
    if what in file_types.MESSAGES:
        raise NotMp4(what, text=True)
    if what in _VAGUE:
        if len(start) < HEADER:
            raise CorruptMp4(f"The video is cut after {len(start)} bytes.")
        what += f" (it starts with {start[:8].hex()})"
    raise NotMp4(what)


def _refuse_brands(content: bytes) -> None:
    """ftyp: four bytes of major brand, four of version, then the compatible brands."""
    if len(content) < 8:
        raise CorruptMp4("The video is damaged: its first box does not say what kind of file it is.")
    brands = {content[at : at + 4] for at in (0, *range(8, len(content) - 3, 4))}
    what = file_types.describe(b"\0\0\0\0ftyp" + content[:4])
    if what != file_types.VIDEO and not any(_PLAYABLE.fullmatch(brand) for brand in brands):
        raise NotMp4(what)


# moov: bounds are checked before every read, so that no claim of a box is believed

_CONTAINERS: Final = {b"trak", b"mdia", b"minf", b"stbl", b"mvex"}
_UNKNOWN_32: Final = 2**32 - 1
_UNKNOWN_64: Final = 2**64 - 1


def _movie(content: memoryview) -> _Movie:
    movie = _Movie()
    _walk(content, movie, None)
    if not movie.timescale:
        raise CorruptMp4("The video's index is damaged: it has no clock (mvhd box).")
    return movie


def _walk(content: memoryview, movie: _Movie, track: _Track | None, depth: int = 0) -> None:
    for kind, body in _boxes(content, movie):
        inner = track
        if kind == b"trak" and depth == 0:
            inner = _Track()
            movie.tracks.append(inner)
        if kind in _CONTAINERS:
            if kind == b"mvex":
                movie.fragmented = True
            if depth < len(_CONTAINERS):  # moov/trak/mdia/minf/stbl is as deep as it goes
                _walk(body, movie, inner, depth + 1)
        elif kind == b"mvhd":
            movie.timescale, movie.seconds = _clock(body)
        elif kind == b"mehd" and movie.timescale:
            movie.seconds = _fragments_clock(body, movie)
        elif track is not None:
            _track_box(kind, body, track)


def _boxes(content: memoryview, movie: _Movie) -> Iterator[tuple[bytes, memoryview]]:
    while content:
        movie.boxes += 1
        if len(content) < HEADER:
            if any(content):
                raise CorruptMp4("The video's index is damaged: it ends within a box.")
            return  # some encoders end a list of boxes with zeros
        size, kind, header = _number(content, 0, 4), bytes(content[4:8]), HEADER
        if size == 1:
            size, header = _number(content, 8, 8), WIDE_HEADER
        elif size == 0:
            size = len(content)
        if not header <= size <= len(content) or movie.boxes > BOXES_LIMIT:
            raise CorruptMp4(f"The video's index is damaged: its {_letters(kind)} box claims an impossible size.")
        yield kind, content[header:size]
        content = content[size:]


def _number(content: memoryview, at: int, size: Literal[1, 2, 4, 8]) -> int:
    if at + size > len(content):
        raise CorruptMp4("The video's index is damaged: a box is shorter than what it must hold.")
    return int.from_bytes(content[at : at + size])


def _clock(body: memoryview) -> tuple[int, float | None]:
    """mvhd or mdhd: ticks per second, and the duration in seconds where it is known."""
    if _number(body, 0, 1) == 1:
        timescale, ticks, unknown = _number(body, 20, 4), _number(body, 24, 8), _UNKNOWN_64
    else:
        timescale, ticks, unknown = _number(body, 12, 4), _number(body, 16, 4), _UNKNOWN_32
    if not timescale:
        raise CorruptMp4("The video's index is damaged: its clock stands still.")
    return timescale, ticks / timescale if 0 < ticks < unknown else None


def _fragments_clock(body: memoryview, movie: _Movie) -> float | None:
    ticks = _number(body, 4, 8 if _number(body, 0, 1) == 1 else 4)
    return ticks / movie.timescale if ticks else movie.seconds


def _track_box(kind: bytes, body: memoryview, track: _Track) -> None:
    match kind:
        case b"hdlr":
            track.video = bytes(body[8:12]) == b"vide"
        case b"mdhd":
            _, track.seconds = _clock(body)
        case b"tkhd":
            matrix = 52 if _number(body, 0, 1) == 1 else 40
            track.turned = _number(body, matrix, 4) == 0 and _number(body, matrix + 4, 4) != 0
            track.shown = (_number(body, matrix + 36, 4) >> 16, _number(body, matrix + 40, 4) >> 16)
        case b"stsd" if track.video and _number(body, 4, 4):
            # a visual sample entry: size, codec, 24 bytes of little interest, width, height
            track.codec = _letters(bytes(body[12:16]))
            track.width, track.height = _number(body, 40, 2), _number(body, 42, 2)
        case b"stsz":
            each, track.samples = _number(body, 4, 4), _number(body, 8, 4)
            track.sample_bytes = each * track.samples if each else sum(_table(body, 12, track.samples, "I"))
        case b"stz2":
            track.samples = _number(body, 8, 4)
        case b"stco":
            track.last_chunk = max(_table(body, 8, _number(body, 4, 4), "I"), default=-1)
        case b"co64":
            track.last_chunk = max(_table(body, 8, _number(body, 4, 4), "Q"), default=-1)
        case _:
            pass


def _table(body: memoryview, at: int, count: int, kind: Literal["I", "Q"]) -> "array[int]":
    """`count` big-endian numbers; their place in `body` is checked before anything is allocated."""
    numbers = array(kind)
    end = at + count * numbers.itemsize
    if end > len(body):
        raise CorruptMp4("The video's index is damaged: a table is shorter than it says.")
    numbers.frombytes(body[at:end])
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
