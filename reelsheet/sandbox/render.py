"""Real clips from a still: a camera moves over the picture, as the prompt's words ask.

Five seconds of H.264 in MP4 at 24 frames a second, 1920x1080, or 1080 wide where the picture is upright. The picture
becomes YUV planes once; each frame is a window of them (push, pull, pan, tilt) or a perspective view (orbit).
"""

import io
import math
import os
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

VERSION: Final = 3  # part of a cached clip's name
FPS: Final = 24
FRAMES: Final = 120
SHORT, LONG = 1080, 1920
ZOOM: Final = 1.18  # how much of the picture is left out, for the camera to move in
BT709: Final = 1

Motion = Literal[
    "push-in", "pull-out", "pan-left", "pan-right", "tilt-up", "tilt-down", "orbit-left", "orbit-right", "gentle-push"
]
MOTIONS: Final[tuple[Motion, ...]] = get_args(Motion)

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
    matches = [(match.start(), rank, kind) for rank, (kind, words) in enumerate(_WORDS)
               if (match := re.search(rf"\b(?:{words})", text))]  # fmt: skip
    if not matches:
        return "gentle-push"
    _, _, kind = min(matches)
    if kind == "tilt":
        down = max(text.rfind(" down"), text.rfind("descend"), text.rfind("lower"))
        return "tilt-down" if down > text.rfind(" up") else "tilt-up"
    if kind in ("pan", "orbit"):
        side = "left" if text.rfind("left") > text.rfind("right") else "right"
        return cast("Motion", f"{kind}-{side}")
    return cast("Motion", kind)


def clip(picture: bytes, motion: Motion, path: Path, note: str = "") -> None:
    """Write the clip of `picture`; where that is no picture, a card that shows `note` takes its place."""
    still = _opened(picture) or _card(note)
    paint = camera(still, motion)
    frames = (paint(_eased(number / (FRAMES - 1))) for number in range(FRAMES))
    _encode(frames, frame_size(still.size), path, quality=23)


def tiny(path: Path) -> None:
    """Write a small clip that stands still."""
    frame = _yuv(_card("A clip of the sandbox"))
    _encode((frame for _ in range(FRAMES)), (LONG, SHORT), path, quality=35)


def frame_size(picture: tuple[int, int]) -> tuple[int, int]:
    """1920x1080 for a wide picture; 1080 wide and up to 1920 high for a square or an upright one."""
    width, height = picture
    if width > height:
        return LONG, SHORT
    return SHORT, min(LONG, round(SHORT * height / width / 2) * 2)


def camera(still: Image.Image, motion: Motion) -> Painter:
    """From progress, 0 to 1, to the frame that is seen then."""
    size = frame_size(still.size)
    planes = [Image.fromarray(_pixels(plane)[:, : plane.width]) for plane in _yuv(still).planes]
    view = _orbit if motion.startswith("orbit") else _window

    def paint(progress: float) -> Any:
        frame = av.VideoFrame(*size, "yuv420p")
        for source, plane in zip(planes, frame.planes, strict=True):
            seen = view(source, (plane.width, plane.height), motion, progress)
            _pixels(plane)[:, : plane.width] = np.asarray(seen)
        return frame

    return paint


def _window(source: Image.Image, size: tuple[int, int], motion: Motion, progress: float) -> Image.Image:
    """An upright window of `source`, scaled to `size`."""
    zoom = ZOOM
    if motion in ("push-in", "pull-out", "gentle-push"):
        near = 1.09 if motion == "gentle-push" else ZOOM
        zoom = near ** (1 - progress if motion == "pull-out" else progress)  # a steady camera: equal ratios
    ratio = min(source.width / size[0], source.height / size[1]) / zoom
    window = [size[0] * ratio, size[1] * ratio]
    corner = [(source.width - window[0]) / 2, (source.height - window[1]) / 2]
    if motion.startswith(("pan", "tilt")):
        axis = 0 if motion.startswith("pan") else 1
        travel = min(2 * corner[axis], 0.3 * window[axis])
        corner[axis] += travel * (0.5 - progress if motion in ("pan-left", "tilt-up") else progress - 0.5)
    box = (corner[0], corner[1], corner[0] + window[0], corner[1] + window[1])
    return source.resize(size, Image.Resampling.BILINEAR, box=box)


def _orbit(source: Image.Image, size: tuple[int, int], motion: Motion, progress: float) -> Image.Image:
    """`source` turned about its upright axis."""
    most = math.radians(9)
    angle = most * (2 * progress - 1) * (1 if motion == "orbit-right" else -1)
    distance = 1.5 * max(size)
    scale = min(_reach(size, source.size, each, distance) for each in (-most, 0.0, most))
    to_middle = np.array([[1, 0, -size[0] / 2], [0, 1, -size[1] / 2], [0, 0, 1.0]])
    from_middle = np.array([[scale, 0, source.width / 2], [0, scale, source.height / 2], [0, 0, 1.0]])
    matrix = from_middle @ _turn(angle, distance) @ to_middle
    numbers = tuple((matrix / matrix[2, 2]).ravel()[:8].tolist())  # what Pillow calls a perspective
    return source.transform(size, Image.Transform.PERSPECTIVE, numbers, Image.Resampling.BILINEAR)


def _turn(angle: float, distance: float) -> NDArray[np.float64]:
    """From the frame's coordinates to the turned picture's, both from their middle; seen from `distance` pixels."""
    return np.array([[1 / math.cos(angle), 0, 0], [0, 1.0, 0], [-math.tan(angle) / distance, 0, 1.0]])


def _reach(size: tuple[int, int], source: tuple[int, int], angle: float, distance: float) -> float:
    """The largest scale at which every corner of the frame still lies on the turned picture."""
    corners = np.array([[x * size[0] / 2, y * size[1] / 2, 1.0] for x in (-1, 1) for y in (-1, 1)]).T
    turned = _turn(angle, distance) @ corners
    reach = np.abs(turned[:2] / turned[2]).max(axis=1)
    return float(min(source[0] / 2 / reach[0], source[1] / 2 / reach[1]))


def _yuv(still: Image.Image) -> Any:
    """A frame of the colours of HD video; its sides are even."""
    even = still.crop((0, 0, still.width // 2 * 2, still.height // 2 * 2))
    frame = av.VideoFrame.from_ndarray(np.asarray(even), format="rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")


def _pixels(plane: Any) -> NDArray[np.uint8]:
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
        position = (LONG / 2, SHORT / 2 + 60 + 48 * number)
        draw.text(position, line, "#c6d0e4", ImageFont.load_default(34), anchor="mm")
    return card
