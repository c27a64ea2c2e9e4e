"""Real clips from a still: a camera moves over the picture, in the spirit of the prompt's words.

Five seconds of H.264 in MP4 at 24 frames a second, 1920x1080, or 1080 wide where the picture is upright. Cheap
enough for two cores: the picture becomes YUV planes once. A pan then only copies windows out of planes shifted by
eighths of a pixel, a zoom lets swscale shrink a window of planes kept half as large again, and only an orbit has to
warp every frame.
"""

import io
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

VERSION: Final = 2  # part of a cached clip's name
FPS: Final = 24
FRAMES: Final = 120
SHORT, LONG = 1080, 1920
ROOM: Final = 1.18  # how much larger than the frame the picture is, for the camera to move in
FINER: Final = 1.5  # a zoom's planes against the frame's pixels: its windows are whole pixels of these
PHASES: Final = 8
BT709: Final = 1

Motion = Literal[
    "push-in", "pull-out", "pan-left", "pan-right", "tilt-up", "tilt-down", "orbit-left", "orbit-right", "gentle-push"
]
MOTIONS: Final[tuple[Motion, ...]] = get_args(Motion)

Plane = NDArray[np.uint8]
Painter = Callable[[float], Any]  # progress from 0 to 1 → an av.VideoFrame

_WORDS: Final[tuple[tuple[str, str], ...]] = (
    ("pull-out", r"(pull|zoom|doll(y|ies)|mov)\w*\s+(slowly\s+|gently\s+)?(out|back|away)|reveal\w*|wid(er|ens)\b"),
    ("push-in", r"push\w*|zoom\w*|doll(y|ies)\w*|clos(er|e-?up)\b|approach\w*|forward\b|(mov|glid)\w* in\b"),
    ("orbit", r"orbit\w*|circl\w*|rotat\w*|revolv\w*|spin\w*|turntable|arcs?\b|(mov|travel|swing)\w* around"),
    ("tilt", r"tilt\w*|cran(e|es|ing)\b|ris(e|es|ing)\b|pedestal|ascend\w*|descend\w*|lowers?\b"),
    ("pan", r"pan(s|ning)?\b|track\w*|slid\w*|sweep\w*|drift\w*|truck(s|ing)?\b|glid\w*|sideways|parallax"),
)


def motion_of(prompt: str) -> Motion:
    """The camera movement that the prompt's first such words ask for; a gentle push where none do."""
    text = prompt.casefold()
    found = [(match.start(), rank, kind) for rank, (kind, words) in enumerate(_WORDS)
             if (match := re.search(rf"\b(?:{words})", text))]  # fmt: skip
    if not found:
        return "gentle-push"
    _, _, kind = min(found)
    if kind == "tilt":
        down = max(text.rfind(" down"), text.rfind("descend"), text.rfind("lower"))
        return "tilt-down" if down > text.rfind(" up") else "tilt-up"
    if kind in ("pan", "orbit"):
        side = "left" if text.rfind("left") > text.rfind("right") else "right"
        return cast("Motion", f"{kind}-{side}")
    return cast("Motion", kind)


def clip(picture: bytes, motion: Motion, path: Path, *, note: str = "") -> None:
    """Write the clip of `picture`; a card that shows `note` takes its place where it is none."""
    still = _opened(picture) or _card(note)
    size = frame_size(still.size)
    paint = camera(still, motion)
    _encode((paint(_eased(number / (FRAMES - 1))) for number in range(FRAMES)), size, path, quality=23)


def camera(still: Image.Image, motion: Motion) -> Painter:
    """From progress, 0 to 1, to the frame that is seen then."""
    size = frame_size(still.size)
    if motion in ("push-in", "pull-out", "gentle-push"):
        return _zooming(still, size, motion)
    if motion.startswith("orbit"):
        return _orbiting(still, size, 1 if motion == "orbit-right" else -1)
    return _panning(still, size, motion)


def tiny(path: Path) -> None:
    """Write a small clip that stands still."""
    size = (LONG, SHORT)
    frame = _yuv(_card("A clip of the sandbox").resize(size)).reformat(format="yuv420p")
    _encode((frame for _ in range(FRAMES)), size, path, quality=35)


def frame_size(picture: tuple[int, int]) -> tuple[int, int]:
    """1920x1080 for a wide picture; 1080 wide and up to 1920 high for a square or an upright one."""
    width, height = picture
    if width > height:
        return LONG, SHORT
    return SHORT, min(LONG, round(SHORT * height / width / 2) * 2)


@dataclass(frozen=True, slots=True)
class _Stage:
    """The picture as planes of luma and chroma (4:2:0), larger than the frame."""

    planes: tuple[Plane, Plane, Plane]

    @property
    def width(self) -> int:
        return int(self.planes[0].shape[1])

    @property
    def height(self) -> int:
        return int(self.planes[0].shape[0])

    def window(self, left: int, top: int, size: tuple[int, int]) -> Any:
        """A frame of these pixels; `size` is even."""
        frame = av.VideoFrame(*size, "yuv420p")
        for source, plane, step in zip(self.planes, frame.planes, (1, 2, 2), strict=True):
            x, y = left // step, top // step
            _pixels(plane)[:, : plane.width] = source[y : y + plane.height, x : x + plane.width]
        return frame


def _zooming(still: Image.Image, size: tuple[int, int], motion: Motion) -> Painter:
    stage = _staged(_planes(still), size, FINER * ROOM)
    near, far = {"push-in": (ROOM, 1.0), "pull-out": (ROOM, 1.0), "gentle-push": (1.09, 1.0)}[motion]
    first, last = (near, far) if motion == "pull-out" else (far, near)

    def paint(progress: float) -> Any:
        # Equal ratios in equal times look like a steady camera.
        zoom = first * (last / first) ** progress
        width, height = (
            min(round(side * FINER * ROOM / zoom / 2) * 2, most)
            for side, most in zip(size, (stage.width, stage.height), strict=True)
        )
        left, top = (stage.width - width) // 2, (stage.height - height) // 2
        window = stage.window(left, top, (width, height))
        return window.reformat(width=size[0], height=size[1], interpolation="AREA")

    return paint


def _panning(still: Image.Image, size: tuple[int, int], motion: Motion) -> Painter:
    along = 0 if motion.startswith("pan") else 1
    source = _planes(still)
    phases = [_staged(source, size, ROOM, shift=number / PHASES, along=along) for number in range(PHASES)]
    spare = [(phases[0].width, phases[0].height)[axis] - size[axis] - 1 for axis in (0, 1)]
    travel = min(spare[along], 0.3 * size[along])
    backwards = motion in ("pan-left", "tilt-up")

    def paint(progress: float) -> Any:
        position = (spare[along] - travel) / 2 + travel * (1 - progress if backwards else progress)
        whole, phase = divmod(round(position * PHASES), PHASES)
        corner = [spare[0] // 2, spare[1] // 2]
        corner[along] = whole
        return phases[phase].window(corner[0], corner[1], size)

    return paint


def _orbiting(still: Image.Image, size: tuple[int, int], direction: int) -> Painter:
    stage = _staged(_planes(still), size, ROOM)
    images = [Image.fromarray(plane) for plane in stage.planes]
    swing = math.radians(9)
    distance = 1.5 * max(size)
    scale = min(_reach(size, (stage.width, stage.height), angle, distance) for angle in (-swing, 0.0, swing))

    def paint(progress: float) -> Any:
        angle = direction * swing * (2 * progress - 1)
        frame = av.VideoFrame(*size, "yuv420p")
        for image, plane, step in zip(images, frame.planes, (1, 2, 2), strict=True):
            seen = (plane.width, plane.height)
            matrix = _turned(seen, image.size, angle, distance / step, scale)
            warped = image.transform(seen, Image.Transform.PERSPECTIVE, matrix, Image.Resampling.BILINEAR)
            _pixels(plane)[:, : plane.width] = np.asarray(warped)
        return frame

    return paint


def _turned(
    seen: tuple[int, int], source: tuple[int, int], angle: float, distance: float, scale: float
) -> tuple[float, ...]:
    """Pillow's eight numbers for a picture turned about its upright axis, seen from `distance` pixels."""
    matrix = _homography(angle, distance)
    matrix = np.diag([scale, scale, 1.0]) @ matrix
    matrix = np.array([[1, 0, source[0] / 2], [0, 1, source[1] / 2], [0, 0, 1.0]]) @ matrix
    matrix = matrix @ np.array([[1, 0, -seen[0] / 2], [0, 1, -seen[1] / 2], [0, 0, 1.0]])
    return tuple((matrix / matrix[2, 2]).ravel()[:8].tolist())


def _homography(angle: float, distance: float) -> NDArray[np.float64]:
    """From the frame's coordinates to the turned picture's, both from their middle."""
    return np.array([[1 / math.cos(angle), 0, 0], [0, 1.0, 0], [-math.tan(angle) / distance, 0, 1.0]], dtype=np.float64)


def _reach(seen: tuple[int, int], source: tuple[int, int], angle: float, distance: float) -> float:
    """The largest scale at which every corner of the frame still lies on the turned picture."""
    corners = np.array([[x * seen[0] / 2, y * seen[1] / 2, 1.0] for x in (-1, 1) for y in (-1, 1)]).T
    mapped = _homography(angle, distance) @ corners
    reached = np.abs(mapped[:2] / mapped[2]).max(axis=1)
    return float(min(source[0] / 2 / reached[0], source[1] / 2 / reached[1]))


def _staged(
    source: list[Image.Image], size: tuple[int, int], room: float, *, shift: float = 0.0, along: int = 0
) -> _Stage:
    """`source` scaled to cover `size` times `room`, its pixels moved by `shift` of one along an axis."""
    ratio = max(size[0] * room / source[0].width, size[1] * room / source[0].height)
    whole = [max(size[axis], math.floor(source[0].size[axis] * ratio / 2) * 2) for axis in (0, 1)]
    whole[along] -= 2  # what the shift needs
    planes = []
    for image, step in zip(source, (1, 2, 2), strict=True):
        scaled = (whole[0] // step, whole[1] // step)
        steps = [source[0].size[axis] / (whole[axis] + (2 if axis == along else 0)) for axis in (0, 1)]
        left, top = (steps[axis] * shift if axis == along else 0.0 for axis in (0, 1))
        box = (left, top, left + steps[0] * whole[0], top + steps[1] * whole[1])
        box = (box[0], box[1], min(box[2], source[0].width), min(box[3], source[0].height))
        planes.append(np.asarray(image.resize(scaled, Image.Resampling.LANCZOS, box=box)))
    return _Stage((planes[0], planes[1], planes[2]))


def _planes(still: Image.Image) -> list[Image.Image]:
    """Luma and both chromas at full size."""
    return [Image.fromarray(np.ascontiguousarray(_pixels(plane)[:, : plane.width])) for plane in _yuv(still).planes]


def _yuv(still: Image.Image) -> Any:
    """Planes of full size (4:4:4) in the colours of HD video."""
    frame = av.VideoFrame.from_ndarray(np.asarray(still), format="rgb24")
    return frame.reformat(format="yuv444p", dst_colorspace="ITU709", dst_color_range="MPEG")


def _pixels(plane: Any) -> Plane:
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)


def _eased(time: float) -> float:
    """A camera that starts and stops softly, and is steady between."""
    return 0.5 * time + 0.5 * time * time * (3 - 2 * time)


def _encode(frames: Iterator[Any], size: tuple[int, int], path: Path, *, quality: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part.mp4")
    with av.open(str(part), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": str(quality)})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = 1  # one clip a core
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = 1  # limited, as video is
        for number, frame in enumerate(frames):
            frame.pts = number
            frame.time_base = Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    part.replace(path)


def _opened(picture: bytes) -> Image.Image | None:
    """The picture upright, opaque and at most 4K; None where it cannot be read."""
    try:
        with Image.open(io.BytesIO(picture), formats=("JPEG", "PNG", "GIF", "WEBP")) as image:
            image.draft("RGB", (2 * LONG, 2 * LONG))
            still = ImageOps.exif_transpose(image)
            if still.has_transparency_data:
                still = Image.alpha_composite(Image.new("RGBA", still.size, "white"), still.convert("RGBA"))
            still = still.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    still.thumbnail((2 * LONG, 2 * LONG))
    return still


def _card(note: str) -> Image.Image:
    """A card in place of a picture that could not be fetched."""
    shade = Image.linear_gradient("L").resize((LONG, SHORT))
    card = ImageOps.colorize(shade, "#2b3a55", "#0f1726")
    draw = ImageDraw.Draw(card)
    draw.text((LONG / 2, SHORT / 2 - 40), "sandbox", "#f2c879", ImageFont.load_default(96), anchor="mm")
    for number, line in enumerate([note[start : start + 70] for start in range(0, min(len(note), 210), 70)]):
        at = (LONG / 2, SHORT / 2 + 60 + 48 * number)
        draw.text(at, line, "#c6d0e4", ImageFont.load_default(34), anchor="mm")
    return card
