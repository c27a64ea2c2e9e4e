"""Is this a complete MP4? Decided while it streams by, without a decoder.

The top-level boxes of a file must fill it exactly, `ftyp` first, with `moov` (the index) and `mdat` (the pictures)
among them. `moov` is held in memory, up to a limit; it gives codec, size and duration, and what it says of the pictures
must fit into `mdat`. Only this check notices a download that was cut where no Content-Length said how long it is.
Source: ISO/IEC 14496-12, 4.2 and 6.2.3.
"""

import re
import sys
from array import array
from dataclasses import dataclass
from typing import Final, Literal

from reelsheet import file_types

MOOV_LIMIT_BYTES: Final = 8 * 2**20  # an hour of video has less
FTYP_LIMIT_BYTES: Final = 4096
BOXES_LIMIT: Final = 100_000  # at the top level, and within each box of the index

_HEADER_BYTES: Final = 8  # size and kind of a box
_WIDE_HEADER_BYTES: Final = 16  # the same, then a size of 64 bits; its first size is 1
_WIDE: Final = b"\0\0\0\1"
_START_BYTES: Final = 64  # enough to name what is no MP4
_TO_THE_END: Final = 2**64  # length of a box that ends with the file
_PLAYABLE: Final = re.compile(rb"iso\w|mp4\w|avc1|M4V |M4VH|M4VP|dash|3g[p2]\w|MSNV|XAVC|cmf\w", re.ASCII)
_UNNAMED: Final = frozenset(("text", "an unknown kind of file"))


class Mp4Error(Exception):
    """What the bytes are or lack, in one sentence."""


class NotMp4(Mp4Error):
    """Another kind of file: `kind` names it ("a GIF picture"). `is_message`: a page or message in place of a file."""

    def __init__(self, kind: str, *, is_message: bool = False) -> None:
        super().__init__(f"The file is {kind}, not an MP4 video.")
        self.kind = kind
        self.is_message = is_message


class CorruptMp4(Mp4Error):
    """An MP4 that is cut, contradicts itself or has no pictures."""


@dataclass(frozen=True, slots=True)
class Mp4:
    """What the file says of itself. `duration_s` is None where it does not say; `codec` is four letters ("avc1")."""

    duration_s: float | None
    width: int
    height: int
    codec: str
    length_proven: bool  # False: if it were cut at certain places, it would look the same


class BoxWalk:
    """Feed it the file in pieces of any size, then `finish`. Both raise NotMp4 or CorruptMp4, nothing else."""

    def __init__(self) -> None:
        self.bytes_fed = 0
        self._pending = bytearray()  # a header or the index, as far as it came
        self._boxes = 0
        self._kind = b""  # of the latest box
        self._left = 0  # bytes of it that are still to come
        self._open_ended = False  # it goes to the end of the file
        self._media_bytes = 0  # in mdat boxes
        self._has_fragments = False
        self._moov: bytes | None = None

    def feed(self, piece: bytes) -> None:
        """The next bytes of the file."""
        self.bytes_fed += len(piece)
        skipped = min(self._left, len(piece))
        self._left -= skipped
        self._pending += memoryview(piece)[skipped:]
        if self._boxes or len(self._pending) >= _START_BYTES:
            self._take_boxes()

    def finish(self) -> Mp4:
        """The file is over."""
        if not self.bytes_fed:
            raise CorruptMp4("The video is empty: not one byte came.")
        self._take_boxes()
        if self._open_ended and self._kind == b"moov":
            self._moov = bytes(self._pending[_HEADER_BYTES:])
        elif self._open_ended and self._kind == b"mdat":
            self._media_bytes += _TO_THE_END - self._left
        elif (self._left or self._pending) and not self._open_ended:
            short = f", {self._left:,} bytes short of the end of its {_letters(self._kind)} box" if self._left else ""
            raise CorruptMp4(f"The video is cut after {self.bytes_fed:,} bytes{short}.")
        if self._moov is None:
            raise CorruptMp4("The video has no index (moov box): it is cut, or was never finished.")
        if not self._media_bytes:
            raise CorruptMp4("The video has no pictures in it (no mdat box): it is cut, or was never finished.")
        return self._describe(self._moov)

    def _take_boxes(self) -> None:
        if not self._boxes:
            _refuse_other_kinds(bytes(self._pending[:_START_BYTES]))
        while self._pending and self._take_box():
            pass

    def _take_box(self) -> bool:
        """Take the next box from what is pending; False where more of it must come first."""
        pending = self._pending
        header = _read_header(pending)
        if header is None:
            return False
        kind, header_bytes, size = header
        content_bytes = size - header_bytes if size else _TO_THE_END
        came_bytes = min(content_bytes, len(pending) - header_bytes)
        self._check_box(kind, content_bytes, came_bytes)
        self._kind, self._open_ended = kind, not size
        if kind == b"moov":
            if came_bytes < content_bytes:
                return False
            self._moov = bytes(pending[header_bytes : header_bytes + content_bytes])
        elif kind == b"mdat" and size:
            self._media_bytes += content_bytes
        self._boxes += 1
        self._has_fragments |= kind == b"moof"
        self._left = content_bytes - came_bytes
        del pending[: header_bytes + came_bytes]
        return True

    def _check_box(self, kind: bytes, content_bytes: int, came_bytes: int) -> None:
        if self._boxes == BOXES_LIMIT:
            raise CorruptMp4(f"The video is made of more than {BOXES_LIMIT:,} boxes, as no camera or encoder does.")
        if content_bytes < 0 or not all(0x20 <= letter < 0x7F or letter == 0xA9 for letter in kind):
            start = self.bytes_fed - len(self._pending)
            raise CorruptMp4(f"The video is damaged: no box of a video starts at byte {start:,}.")
        if kind == b"moov" and self._moov is not None:
            raise CorruptMp4("The video has two indexes (moov boxes) that contradict each other.")
        limit_bytes = {b"ftyp": FTYP_LIMIT_BYTES, b"moov": MOOV_LIMIT_BYTES}.get(kind, _TO_THE_END)
        if limit_bytes < content_bytes != _TO_THE_END:
            raise CorruptMp4(
                f"The video claims {content_bytes:,} bytes for its {_letters(kind)} box, which no real one needs."
            )
        if limit_bytes < came_bytes:
            raise CorruptMp4(f"The video's {_letters(kind)} box has no end within {limit_bytes:,} bytes.")

    def _describe(self, moov: bytes) -> Mp4:
        """Raises CorruptMp4 where the index is damaged, or speaks of other pictures than those that came."""
        boxes = _boxes(memoryview(moov))
        named = dict(boxes)
        if b"mvhd" not in named:
            raise CorruptMp4("The video's index is damaged: it has no clock (mvhd box).")
        ticks_per_s, duration_s = _read_clock(named[b"mvhd"])
        mehd = _inside(named, b"mvex").get(b"mehd")  # the duration of all fragments
        if mehd is not None and (ticks := _number(mehd, 4, 8 if _number(mehd, 0, 1) == 1 else 4)):
            duration_s = ticks / ticks_per_s
        tracks = [_read_track(dict(_boxes(body))) for kind, body in boxes if kind == b"trak"]
        videos = [track for track in tracks if track.is_video]
        if not videos:
            raise CorruptMp4("The file is an MP4 without a picture track: sound or data only.")
        video = videos[0]
        if not (video.width and video.height and video.codec):
            raise CorruptMp4("The video does not say how large its picture is; it cannot be shown.")
        fragmented = self._has_fragments or b"mvex" in named
        if not self._has_fragments and not any(track.frames for track in (videos if fragmented else videos[:1])):
            raise CorruptMp4(
                "The video is cut: its pictures should follow in fragments, and none came."
                if fragmented
                else "The video has no frames."
            )
        if any(
            track.last_chunk_at >= self.bytes_fed or (track.is_video and track.frame_bytes > self._media_bytes)
            for track in tracks
        ):
            raise CorruptMp4("The video is cut: its index speaks of pictures beyond the end of the file.")
        return Mp4(
            duration_s=video.duration_s if duration_s is None else duration_s,
            width=video.width,
            height=video.height,
            codec=video.codec,
            length_proven=not self._open_ended and (not fragmented or self._kind == b"mfra"),
        )


def _refuse_other_kinds(start: bytes) -> None:
    """Raises NotMp4, or CorruptMp4 where too little came, for a file that does not start as an MP4 does.

    That is the box `ftyp`: after its header four bytes of major brand, four of version, then the compatible brands.
    """
    kind = file_types.describe(start)
    size = int.from_bytes(start[:4])
    if start[4:8] == b"ftyp":
        if size < 16:
            raise CorruptMp4("The video is damaged: its first box does not say what kind of file it is.")
        brands = [start[offset : offset + 4] for offset in (8, *range(16, min(size, len(start)) - 3, 4))]
        if kind == file_types.VIDEO or any(_PLAYABLE.fullmatch(brand) for brand in brands):
            return
    elif kind in _UNNAMED:
        if len(start) < _HEADER_BYTES:
            raise CorruptMp4(f"The video is cut after {len(start)} bytes.")
        kind += f" (it starts with {start[:8].hex()})"
    raise NotMp4(kind, is_message=kind in file_types.MESSAGES)


def _read_header(content: bytearray | memoryview) -> tuple[bytes, int, int] | None:
    """Kind, size of the header, size of the box (0: to the end); None where the header is not complete."""
    wide = bytes(content[:4]) == _WIDE
    header_bytes = _WIDE_HEADER_BYTES if wide else _HEADER_BYTES
    if len(content) < header_bytes:
        return None
    return bytes(content[4:8]), header_bytes, int.from_bytes(content[8:16] if wide else content[:4])


def _letters(kind: bytes) -> str:
    return "".join(chr(letter) if 0x20 < letter < 0x7F else "?" for letter in kind)


# The index. Bounds are checked before every read: no box is believed.


@dataclass(slots=True)
class _Track:
    is_video: bool
    duration_s: float | None = None
    width: int = 0  # as shown
    height: int = 0
    codec: str = ""
    frames: int = 0
    frame_bytes: int = 0
    last_chunk_at: int = -1  # position in the file


def _read_track(trak: dict[bytes, memoryview]) -> _Track:
    mdia = _inside(trak, b"mdia")
    stbl = _inside(_inside(mdia, b"minf"), b"stbl")
    track = _Track(is_video=bytes(mdia.get(b"hdlr", b"")[8:12]) == b"vide")
    if b"mdhd" in mdia:
        _, track.duration_s = _read_clock(mdia[b"mdhd"])
    if (stsd := stbl.get(b"stsd")) is not None and track.is_video and _number(stsd, 4, 4):
        # a visual sample entry: size, codec, 24 bytes of little interest, width, height
        track.codec = _letters(bytes(stsd[12:16]))
        track.width, track.height = _number(stsd, 40, 2), _number(stsd, 42, 2)
    if (tkhd := trak.get(b"tkhd")) is not None:
        matrix_at = 52 if _number(tkhd, 0, 1) == 1 else 40
        if not (track.width and track.height):
            track.width, track.height = _number(tkhd, matrix_at + 36, 4) >> 16, _number(tkhd, matrix_at + 40, 4) >> 16
        if _number(tkhd, matrix_at, 4) == 0 and _number(tkhd, matrix_at + 4, 4) != 0:  # turned by 90° or 270°
            track.width, track.height = track.height, track.width
    if (stz2 := stbl.get(b"stz2")) is not None:
        track.frames = _number(stz2, 8, 4)
    if (stsz := stbl.get(b"stsz")) is not None:
        bytes_each, track.frames = _number(stsz, 4, 4), _number(stsz, 8, 4)
        track.frame_bytes = bytes_each * track.frames if bytes_each else sum(_table(stsz, 12, track.frames, "I"))
    if (stco := stbl.get(b"stco")) is not None:
        track.last_chunk_at = max(_table(stco, 8, _number(stco, 4, 4), "I"), default=-1)
    if (co64 := stbl.get(b"co64")) is not None:
        track.last_chunk_at = max(_table(co64, 8, _number(co64, 4, 4), "Q"), default=-1)
    return track


def _inside(boxes: dict[bytes, memoryview], kind: bytes) -> dict[bytes, memoryview]:
    """The boxes within a box, by kind; none where it is not there."""
    return dict(_boxes(boxes.get(kind, memoryview(b""))))


def _boxes(content: memoryview) -> list[tuple[bytes, memoryview]]:
    """Kind and content of each box."""
    boxes: list[tuple[bytes, memoryview]] = []
    while content:
        header = _read_header(content)
        if header is None:
            if any(content):
                raise CorruptMp4("The video's index is damaged: it ends within a box.")
            break  # some encoders end a list of boxes with zeros
        kind, header_bytes, size = header
        if not size and header_bytes == _HEADER_BYTES:
            size = len(content)
        if not header_bytes <= size <= len(content) or len(boxes) == BOXES_LIMIT:
            raise CorruptMp4(f"The video's index is damaged: its {_letters(kind)} box claims an impossible size.")
        boxes.append((kind, content[header_bytes:size]))
        content = content[size:]
    return boxes


def _read_clock(body: memoryview) -> tuple[int, float | None]:
    """mvhd or mdhd: ticks per second, and the duration in seconds where it is known."""
    offset, width = (20, 8) if _number(body, 0, 1) == 1 else (12, 4)
    ticks_per_s, ticks = _number(body, offset, 4), _number(body, offset + 4, width)
    if not ticks_per_s:
        raise CorruptMp4("The video's index is damaged: its clock stands still.")
    return ticks_per_s, ticks / ticks_per_s if 0 < ticks < 256**width - 1 else None


def _number(body: memoryview, offset: int, width: int) -> int:
    if offset + width > len(body):
        raise CorruptMp4("The video's index is damaged: a box is shorter than what it must hold.")
    return int.from_bytes(body[offset : offset + width])


def _table(body: memoryview, offset: int, count: int, kind: Literal["I", "Q"]) -> "array[int]":
    """`count` big-endian numbers; their place in `body` is checked before anything is allocated."""
    numbers = array(kind)
    end = offset + count * numbers.itemsize
    if end > len(body):
        raise CorruptMp4("The video's index is damaged: a table is shorter than it says.")
    numbers.frombytes(body[offset:end])
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
