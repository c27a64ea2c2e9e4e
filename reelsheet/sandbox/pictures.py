# ruff: noqa: C901 - a drawing is numbers and many of them
"""The sample pictures, drawn: light as arrays, shapes as supersampled masks, a little grain against banding."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Light = Any  # an array of float32, height x width x 3 in 0..1, or a mask of height x width
Point = tuple[float, float]
Scaled = Callable[[Iterable[Point]], list[Point]]
Painter = Callable[..., Any]  # of a pen and a function from the canvas's coordinates to the pen's

WIDE: Final = (2048, 1152)
UPRIGHT: Final = (1152, 2048)
FINER: Final = 3  # masks are drawn this much larger and scaled down


def draw(folder: Path) -> list[Path]:
    """Write every picture into `folder`; the same bytes each time with the same Pillow and numpy."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, scene in SCENES.items():
        path = folder / f"{name}.jpg"
        scene().save(path, quality=88, optimize=True, progressive=True, subsampling="4:2:0")
        paths.append(path)
    return paths


class Canvas:
    """Light on a plane; coordinates are pixels, colours are `#rrggbb`."""

    def __init__(self, size: tuple[int, int], seed: int) -> None:
        self.width, self.height = size
        self.random = np.random.default_rng(seed)
        self.light: Light = np.zeros((self.height, self.width, 3), np.float32)
        self.y, self.x = np.mgrid[0 : self.height, 0 : self.width].astype(np.float32)

    def sky(self, stops: Sequence[tuple[float, str]], *, top: float = 0.0, bottom: float | None = None) -> Light:
        """A vertical gradient through `stops` (0 at the top, 1 at the bottom), as an array to paint with."""
        low = self.height if bottom is None else bottom
        at = np.clip((self.y[:, :1] - top) / (low - top), 0, 1)
        colours = np.array([rgb(colour) for _, colour in stops], np.float32)
        places = [place for place, _ in stops]
        bands = [np.interp(at, places, colours[:, band]) for band in range(3)]
        return np.broadcast_to(np.stack(bands, -1), self.light.shape).astype(np.float32)

    def paint(self, colour: str | Light, mask: Light | float = 1.0) -> None:
        """Lay `colour` over the light where `mask` says."""
        paint = rgb(colour) if isinstance(colour, str) else colour
        alpha = mask[..., None] if isinstance(mask, np.ndarray) else np.float32(mask)
        self.light += (paint - self.light) * alpha

    def add(self, colour: str, mask: Light) -> None:
        """Let light of `colour` fall in, as a projector would: bright stays below white."""
        self.light = 1 - (1 - self.light) * (1 - rgb(colour) * mask[..., None])

    def darken(self, mask: Light) -> None:
        self.light *= (1 - mask)[..., None]

    def glow(self, centre: Point, radius: float | Point, *, power: float = 2.0) -> Light:
        """A soft round mask, 1 in its middle."""
        rx, ry = radius if isinstance(radius, tuple) else (radius, radius)
        away = ((self.x - centre[0]) / rx) ** 2 + ((self.y - centre[1]) / ry) ** 2
        return np.exp(-(away ** (power / 2)) * 2.2).astype(np.float32)

    def shape(self, paint: Painter) -> Light:
        """A mask drawn by `paint` in this canvas's coordinates, smooth at the edges."""
        image = Image.new("L", (self.width * FINER, self.height * FINER))
        paint(ImageDraw.Draw(image), lambda points: [(x * FINER, y * FINER) for x, y in points])
        small = image.resize((self.width, self.height), Image.Resampling.BOX)
        return np.asarray(small, np.float32) / 255

    def polygon(self, points: Iterable[Point]) -> Light:
        corners = list(points)
        return self.shape(lambda pen, at: pen.polygon(at(corners), fill=255))

    def ellipse(self, centre: Point, rx: float, ry: float) -> Light:
        away = np.hypot((self.x - centre[0]) / rx, (self.y - centre[1]) / ry)
        return np.clip((1 - away) * min(rx, ry) + 0.5, 0, 1).astype(np.float32)

    def rounded(self, box: tuple[float, float, float, float], radius: float) -> Light:
        """A box with round corners."""
        left, top, right, bottom = box
        dx = np.maximum(np.maximum(left + radius - self.x, self.x - right + radius), 0)
        dy = np.maximum(np.maximum(top + radius - self.y, self.y - bottom + radius), 0)
        return np.clip(radius - np.hypot(dx, dy) + 0.5, 0, 1).astype(np.float32)

    def line(self, points: Iterable[Point], width: float) -> Light:
        joints = list(points)
        return self.shape(lambda pen, at: pen.line(at(joints), fill=255, width=round(width * FINER), joint="curve"))

    def between(self, low: float, high: float, at: Light) -> Light:
        """From 0 at `low` to 1 at `high`, smoothly."""
        step = np.clip((at - low) / (high - low), 0, 1)
        return (step * step * (3 - 2 * step)).astype(np.float32)

    def clouds(self, size: Point, *, octaves: int = 5) -> Light:
        """Noise from 0 to 1 whose largest features are `size` pixels."""
        total = np.zeros((self.height, self.width), np.float32)
        for octave in range(octaves):
            cells = [max(2, math.ceil(side / (scale / 2**octave)) + 2) for side, scale in
                     ((self.width, size[0]), (self.height, size[1]))]  # fmt: skip
            grid = Image.fromarray(self.random.random((cells[1], cells[0]), np.float32))
            total += np.asarray(grid.resize((self.width, self.height), Image.Resampling.BICUBIC)) / 2**octave
        total -= total.min()
        return (total / total.max()).astype(np.float32)

    def ridge(self, base: float, height: float, *, rough: float = 0.55, step: float = 420) -> Light:
        """The y of a mountain line for every x."""
        line = np.zeros(self.width, np.float32)
        along, size, tall = np.arange(self.width), step, 1.0
        while size > 3:
            knots = np.arange(-size, self.width + 2 * size, size)
            line += np.interp(along, knots, self.random.uniform(-1, 1, len(knots))).astype(np.float32) * tall
            size, tall = size / 2, tall * rough
        return (base - height * (line - line.min()) / (line.max() - line.min())).astype(np.float32)

    def below(self, line: Light) -> Light:
        """A mask of what lies under a line of one y for every x."""
        return np.clip(self.y - line[None, :] + 0.5, 0, 1).astype(np.float32)

    def mirrored(self, horizon: int, *, ripple: float = 6.0, fade: float = 0.85) -> None:
        """Water from `horizon` down: what is above, upside down, wavering more the nearer it comes."""
        rows = self.height - horizon
        depth = np.arange(rows, dtype=np.float32)[:, None] / rows
        wave = self.clouds((340, 14), octaves=3)[horizon:, :] - 0.5
        source_y = np.clip(horizon - 1 - np.arange(rows)[:, None] * 1.0 + wave * ripple * 6 * depth, 0, horizon - 1)
        source_x = np.clip(self.x[horizon:, :] + wave * ripple * (1 + 9 * depth), 0, self.width - 1)
        image = self.light[source_y.astype(int), source_x.astype(int)] * fade
        reach = int(ripple)
        smeared = sum(np.roll(image, shift, 0) for shift in range(-reach, reach + 1)) / (2 * reach + 1)
        self.light[horizon:] = image + (smeared - image) * np.clip(depth * 6 + 0.35, 0, 0.9)[..., None]

    def finished(self, *, grain: float = 0.009, vignette: float = 0.28) -> Image.Image:
        """As a picture, with darker corners and fine grain."""
        away = np.hypot((self.x / self.width - 0.5) * 1.25, (self.y / self.height - 0.5) * 1.25)
        self.light *= (1 - vignette * np.clip(away - 0.25, 0, 1) ** 1.5 * 2)[..., None]
        noise: Light = self.random.normal(0, grain, self.light.shape[:2]).astype(np.float32)
        noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1)) / 2
        pixels = np.clip(self.light + noise[..., None], 0, 1)
        return Image.fromarray((pixels * 255 + 0.5).astype(np.uint8))


def rgb(colour: str) -> Light:
    """`#rrggbb` as three numbers from 0 to 1."""
    return np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)], np.float32)


def blurred(mask: Light, radius: float) -> Light:
    """Nearly Gaussian: three box blurs, on a smaller copy where the radius is large."""
    factor = max(1, int(radius / 4))
    size = (max(1, mask.shape[1] // factor), max(1, mask.shape[0] // factor))
    small = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BOX), np.float64)
    reach = max(1, round(radius / factor))
    for _ in range(3):
        for axis in (0, 1):
            padded = np.pad(small, [(reach + 1, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
            total = np.cumsum(padded, axis=axis)
            upper = np.take(total, range(2 * reach + 1, total.shape[axis]), axis=axis)
            lower = np.take(total, range(total.shape[axis] - 2 * reach - 1), axis=axis)
            small = (upper - lower) / (2 * reach + 1)
    smooth = Image.fromarray(small.astype(np.float32)).resize(mask.shape[::-1], Image.Resampling.BICUBIC)
    return np.clip(np.asarray(smooth), 0, None)


def curve(points: Sequence[Point], steps: int = 24) -> list[Point]:
    """A smooth line through `points` (Catmull-Rom)."""
    path: list[Point] = []
    knots = [points[0], *points, points[-1]]
    for before, start, end, after in zip(knots, knots[1:], knots[2:], knots[3:], strict=False):
        for number in range(steps):
            t = number / steps
            path.append(
                (
                    _spline(before[0], start[0], end[0], after[0], t),
                    _spline(before[1], start[1], end[1], after[1], t),
                )
            )
    return [*path, points[-1]]


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def alpine_sunset() -> Image.Image:
    """Ranges of mountains, one behind the other, under a low sun."""
    c = Canvas(WIDE, 11)
    c.paint(
        c.sky(
            [(0, "#27355f"), (0.22, "#5a5288"), (0.4, "#c06b83"), (0.54, "#f39c6b"), (0.66, "#ffd9a0"), (1, "#ffe9c4")]
        )
    )
    clouds = c.clouds((900, 110))
    streaks = c.between(0.5, 0.86, clouds) * c.between(60, 260, c.y) * (1 - c.between(430, 640, c.y))
    c.paint("#ffc7a1", streaks * 0.55)
    c.paint("#7b5a8c", c.between(0.62, 0.95, c.clouds((1200, 160))) * (1 - c.between(120, 420, c.y)) * 0.5)
    sun = (1330.0, 610.0)
    c.add("#ffb26b", c.glow(sun, (900, 520)) * 0.55)
    c.add("#ffe2ae", c.glow(sun, 250) * 0.8)
    c.paint("#fff6dc", c.ellipse(sun, 62, 62))
    ranges = [
        (760, 150, "#e9a487", "#f4c39c", 0.42, 620),
        (800, 230, "#c97f82", "#eab092", 0.48, 560),
        (860, 240, "#94637f", "#d29a90", 0.5, 480),
        (930, 230, "#5d4a70", "#a4788a", 0.52, 430),
        (1030, 240, "#33355a", "#6d5877", 0.54, 380),
    ]
    for base, height, dark, misty, rough, step in ranges:
        line = c.ridge(base, height, rough=rough, step=step)
        mask = c.below(line)
        soft = np.convolve(np.pad(line, 90, mode="edge"), np.ones(181) / 181, "valid").astype(np.float32)
        depth = c.between(-30, 250, c.y - soft[None, :])
        c.paint(rgb(dark) + (rgb(misty) - rgb(dark)) * depth[..., None], mask)
        rim = mask * np.clip(1 - (c.y - line[None, :]) / 9, 0, 1) ** 2
        c.add("#ffdcae", rim * c.glow(sun, (700, 900)) * 0.4)
        c.paint(
            "#ffd7b0",
            blurred(mask, 30) * c.between(0.45, 0.9, c.clouds((700, 60))) * c.between(base - 120, base, c.y) * 0.32,
        )
    _forest(c, 1065, "#171c33", 46)
    c.add("#ffb070", c.glow(sun, (1200, 700)) * 0.16)
    return c.finished()


def _forest(c: Canvas, base: float, colour: str, tall: float) -> None:
    """A line of firs along the lower edge."""
    ground = c.ridge(base, 70, rough=0.45, step=700)
    mask = c.below(ground)

    def firs(pen: ImageDraw.ImageDraw, at: Scaled) -> None:
        x = -20.0
        while x < c.width + 20:
            foot = float(ground[int(np.clip(x, 0, c.width - 1))]) + 8
            height = tall * c.random.uniform(0.7, 1.9)
            wide = height * c.random.uniform(0.17, 0.23)
            for tier in range(5):
                top, low = foot - height * (1 - tier * 0.17), foot - height * (0.62 - tier * 0.155)
                spread = wide * (0.36 + 0.17 * tier)
                pen.polygon(at([(x, top), (x - spread, low), (x + spread, low)]), fill=255)
            x += c.random.uniform(7, 26)

    c.paint(colour, np.maximum(mask, c.shape(firs)))


def perfume_dusk() -> Image.Image:
    """A bottle of amber glass on a dark, polished table at dusk."""
    c = Canvas(WIDE, 23)
    table = 842
    c.paint(
        c.sky([(0, "#1d1b3c"), (0.35, "#553060"), (0.68, "#b55a6c"), (0.9, "#f0a06c"), (1, "#ffc98c")], bottom=table)
    )
    c.add("#ff9a5e", c.glow((1260, 800), (900, 420)) * 0.55)
    _bokeh(c, 46, (90, 720), ["#ffd39a", "#ff9d73", "#ffb7a8", "#ffe9c2"], (14, 74), 0.2)
    hills = c.ridge(table - 30, 120, rough=0.35, step=900)
    c.paint("#4a2a56", blurred(c.below(hills), 9) * (c.y < table) * 0.8)
    _polished(c, table)
    left, right, top, foot = 862.0, 1186.0, 360.0, table + 64.0
    middle = (left + right) / 2
    c.darken(blurred(c.ellipse((middle - 30, foot - 6), 210, 20), 14) * 0.6)
    before = c.light.copy()
    _bottle(c, left, right, top, foot)
    _reflected(c, before, int(foot))
    c.add("#ffb56f", c.glow((middle + 120, foot + 26), (300, 40)) * 0.5)
    c.add("#ffe0a8", c.glow((middle + 60, foot + 12), (120, 16)) * 0.4)
    return c.finished(vignette=0.42)


def _polished(c: Canvas, table: int) -> None:
    """A dark table from `table` down that dimly shows what is behind it."""
    rows = np.arange(table, c.height)
    behind = c.light[np.clip(2 * table - rows, 0, table - 1)]
    behind = np.stack([blurred(np.ascontiguousarray(behind[..., band]), 14) for band in range(3)], -1)
    wood = c.sky([(0, "#4a2740"), (0.35, "#2a162c"), (1, "#140c1a")], top=table)[table:]
    share = (0.5 * (1 - (rows - table) / (c.height - table)) ** 1.5)[:, None, None].astype(np.float32)
    c.light[table:] = wood + (behind - wood) * share
    c.add("#ffd2a0", c.rounded((-10, table - 1, c.width + 10, table + 1.5), 0) * 0.35)


def _reflected(c: Canvas, before: Light, foot: int) -> None:
    """What was drawn since `before`, upside down below `foot`."""
    drawn = np.clip(np.abs(c.light - before).max(-1) * 12, 0, 1).astype(np.float32)
    rows = np.arange(foot, c.height)
    source = 2 * foot - 1 - rows
    image = np.stack([blurred(np.ascontiguousarray(c.light[source, :, band]), 5) for band in range(3)], -1)
    fade = (0.62 * (1 - (rows - foot) / (c.height - foot)) ** 1.3)[:, None].astype(np.float32)
    mask = blurred(np.ascontiguousarray(drawn[source]), 4) * fade
    c.light[foot:] += (image - c.light[foot:]) * mask[..., None]


def _bottle(c: Canvas, left: float, right: float, top: float, foot: float) -> None:
    middle, width = (left + right) / 2, right - left
    body = c.rounded((left, top, right, foot), 46)
    across = (c.x - left) / width
    c.paint("#f7c58a", body * 0.35)
    inner = c.rounded((left + 24, top + 28, right - 24, foot - 34), 30)
    level = top + 96
    liquid = inner * c.between(level - 1, level + 1, c.y)
    amber = c.sky([(0, "#ffc56f"), (0.35, "#f08a3e"), (0.75, "#b5482f"), (1, "#7c2a33")], top=level, bottom=foot)
    c.paint(amber, liquid * 0.95)
    c.paint("#ffe3ae", inner * c.between(level - 5, level - 1, c.y) * (1 - c.between(level + 1, level + 5, c.y)) * 0.8)
    c.add("#ffd27c", c.glow((middle + 40, foot - 120), (130, 190)) * liquid * 0.75)
    c.darken(liquid * (c.between(0.2, 0.02, across) + c.between(0.8, 0.98, across)) * 0.45)
    edge = body - c.rounded((left + 5, top + 5, right - 5, foot - 5), 42)
    c.add("#ffe8c8", np.clip(edge, 0, 1) * (0.35 + 0.5 * c.between(middle, right, c.x)))
    glint = c.rounded((left + 34, top + 44, left + 58, foot - 60), 12)
    c.add("#fff5e0", blurred(glint, 5) * (0.55 - 0.4 * c.between(top, foot, c.y)))
    c.add("#ffffff", blurred(c.rounded((right - 40, top + 60, right - 32, foot - 90), 4), 2) * 0.5)
    base = c.rounded((left + 20, foot - 32, right - 20, foot - 6), 12)
    c.add("#ffcf98", blurred(base, 4) * 0.28)
    label = c.rounded((middle - 112, top + 190, middle + 112, top + 376), 6)
    c.paint("#fbf1e2", label * 0.96)
    c.darken(label * c.between(middle - 20, middle + 130, c.x) * 0.12)
    for offset, reach in ((226, 52), (342, 34)):
        c.paint("#8a5a44", c.rounded((middle - reach, top + offset, middle + reach, top + offset + 2.4), 1) * 0.9)
    _letters(c, "CREPUSCULE", middle, top + 282, 22, "#5d3440")
    _letters(c, "eau de parfum", middle, top + 318, 14, "#8a5a44")
    collar = c.rounded((middle - 58, top - 44, middle + 58, top + 6), 8)
    _metal(c, collar, middle, 58, "#7d5524", "#ffe2a0")
    cap = c.rounded((middle - 84, top - 206, middle + 84, top - 40), 18)
    _metal(c, cap, middle, 84, "#1b1626", "#6b5a72")
    c.add("#ffdcb4", blurred(c.rounded((middle + 40, top - 190, middle + 52, top - 58), 6), 3) * 0.75)
    c.add("#ffc38f", cap * c.between(top - 196, top - 206, c.y) * 0.4)


def _metal(c: Canvas, mask: Light, middle: float, half: float, dark: str, bright: str) -> None:
    """A polished cylinder standing upright."""
    across = np.clip((c.x - middle) / half, -1, 1)
    sheen = 0.15 + 0.75 * np.exp(-(((across - 0.35) / 0.22) ** 2)) + 0.35 * np.exp(-(((across + 0.6) / 0.14) ** 2))
    colour = rgb(dark) + (rgb(bright) - rgb(dark)) * np.clip(sheen, 0, 1)[..., None]
    c.paint(colour.astype(np.float32), mask)


def _letters(c: Canvas, text: str, middle: float, y: float, size: int, colour: str) -> None:
    """Centred small capitals, widely set."""
    font = ImageFont.load_default(size * FINER)
    gap = size * 0.22 * FINER
    widths = [font.getlength(letter) for letter in text]

    def write(pen: ImageDraw.ImageDraw, _: Scaled) -> None:
        x = middle * FINER - (sum(widths) + gap * (len(text) - 1)) / 2
        for letter, width in zip(text, widths, strict=True):
            pen.text((x, y * FINER), letter, 255, font, anchor="ls")
            x += width + gap

    c.paint(colour, c.shape(write))


def _bokeh(
    c: Canvas, count: int, rows: tuple[float, float], colours: Sequence[str], sizes: tuple[float, float], power: float
) -> None:
    """Lights far out of focus: discs with a brighter rim, in a few layers that add up."""
    for layer in range(6):
        discs = [
            (float(c.random.uniform(0, c.width)), float(c.random.uniform(*rows)), float(c.random.uniform(*sizes)),
             int(c.random.uniform(60, 255)))
            for _ in range(count // 6)
        ]  # fmt: skip

        def lights(pen: ImageDraw.ImageDraw, at: Scaled, some: Any = discs) -> None:
            for x, y, radius, strength in some:
                box = at([(x - radius, y - radius), (x + radius, y + radius)])
                pen.ellipse(box, fill=int(strength * 0.8), outline=strength, width=max(3, round(radius * FINER / 14)))

        c.add(colours[layer % len(colours)], blurred(c.shape(lights), 3) * power)


def morning_mug() -> Image.Image:
    """A stoneware mug, steaming in the light of a window."""
    c = Canvas(WIDE, 31)
    table = 800
    c.paint(c.sky([(0, "#d9c2a6"), (0.7, "#e9d5ba"), (1, "#d8bd9b")], bottom=table))
    c.paint("#c9ad8d", c.clouds((900, 700)) * 0.25)
    for column in range(3):
        for row in range(2):
            x, y = 180 + column * 285, 40 + row * 330
            pane = c.polygon([(x, y), (x + 240, y + 40), (x + 240 + 110, y + 330), (x + 110, y + 290)])
            c.add("#fff0cf", blurred(pane, 10) * 0.62)
    leaves = c.shape(_sprig)
    c.darken(blurred(leaves, 11) * 0.26)
    grain = c.clouds((1500, 26), octaves=6)
    wood = c.sky([(0, "#9c6b45"), (0.3, "#8a5a38"), (1, "#5d3821")], top=table)
    surface = c.between(table - 1, table + 1, c.y)
    c.paint(wood * (0.82 + 0.36 * grain[..., None]), surface)
    c.darken(blurred(c.rounded((-50, table - 6, c.width + 50, table + 6), 2), 5) * 0.35)
    c.add("#ffdfae", c.glow((560, 960), (760, 150)) * surface * 0.42)
    _mug(c, 1150, 470, 905)
    _steam(c, 1130, 455)
    c.add("#ffe6bd", c.glow((200, 100), (1300, 900)) * 0.2)
    return c.finished(vignette=0.3)


def _sprig(pen: ImageDraw.ImageDraw, at: Scaled) -> None:
    """The shadow of a twig with leaves."""
    stem = curve([(1010, -20), (930, 140), (800, 270), (640, 350)], 10)
    pen.line(at(stem), fill=255, width=6 * FINER)
    for number, (x, y) in enumerate(stem[3::3]):
        side = 1 if number % 2 else -1
        angle = math.radians(118 + side * 62)
        long, wide = 130, 34
        along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
        half = [(x + along[0] * long * t + across[0] * wide * math.sin(math.pi * t) * s,
                 y + along[1] * long * t + across[1] * wide * math.sin(math.pi * t) * s)
                for s in (1, -1) for t in (np.linspace(0, 1, 14) if s == 1 else np.linspace(1, 0, 14))]  # fmt: skip
        pen.polygon(at(half), fill=255)


def _mug(c: Canvas, middle: float, top: float, foot: float) -> None:
    half, lower = 176.0, 140.0
    shadow = c.ellipse((middle + 190, foot - 2), 330, 46)
    c.darken(blurred(shadow, 30) * 0.6)
    saucer = c.ellipse((middle, foot - 4), 300, 50)
    c.darken(blurred(c.ellipse((middle + 20, foot + 16), 300, 48), 12) * 0.5)
    across = (c.x - middle) / 300
    c.paint(c.sky([(0, "#f3ece0"), (1, "#c9b9a2")], top=foot - 54, bottom=foot + 46), saucer)
    c.darken(saucer * c.between(0.1, 1.1, across) * 0.3)
    c.darken(blurred(c.ellipse((middle + 26, foot - 18), 170, 22), 9) * saucer * 0.5)
    well = np.clip(c.ellipse((middle, foot - 6), 226, 34) - c.ellipse((middle, foot - 4), 220, 32), 0, 1)
    c.darken(well * 0.16)
    ring = c.ellipse((middle + 208, (top + foot) / 2 - 24), 108, 118) - c.ellipse(
        (middle + 200, (top + foot) / 2 - 24), 70, 80
    )
    ring = np.clip(ring, 0, 1)
    c.paint(c.sky([(0, "#4f7d7b"), (0.5, "#2f5a5d"), (1, "#1d3d44")], top=top + 60, bottom=foot - 60), ring)
    c.add("#d8fff4", ring * blurred(c.ellipse((middle + 232, top + 96), 70, 18), 8) * 0.4)
    left = curve(
        [
            (middle - half, top),
            (middle - half + 2, top + 190),
            (middle - lower, foot - 48),
            (middle - lower + 36, foot - 22),
        ]
    )
    right = [(2 * middle - x, y) for x, y in reversed(left)]
    body = np.maximum(c.polygon([*left, *right]), c.ellipse((middle, foot - 24), lower - 34, 16))
    side = np.clip((c.x - middle) / half, -1, 1)
    glaze = 0.18 + 0.82 * np.exp(-(((side + 0.42) / 0.5) ** 2)) + 0.16 * np.exp(-(((side - 0.93) / 0.1) ** 2))
    colour = rgb("#163039") + (rgb("#79b3a8") - rgb("#163039")) * np.clip(glaze, 0, 1)[..., None]
    c.paint(colour.astype(np.float32), body)
    dip = 690 + 16 * np.sin(c.x / 37) + 9 * np.sin(c.x / 15 + 2)
    raw = rgb("#5b4634") + (rgb("#e5c9a2") - rgb("#5b4634")) * np.clip(glaze, 0, 1)[..., None]
    c.paint(raw.astype(np.float32), body * c.between(-2, 2, c.y - dip - 70))
    speckle = (c.random.random(c.light.shape[:2]) > 0.9985).astype(np.float32)
    c.paint("#2a1d14", np.clip(blurred(speckle, 1) * 5, 0, 1) * body * 0.35)
    c.add("#ffffff", blurred(c.rounded((middle - 118, top + 40, middle - 96, foot - 190), 10), 7) * 0.55)
    rim = c.ellipse((middle, top), half, 40)
    c.paint(c.sky([(0, "#2a5156"), (1, "#a9d2c6")], top=top - 40, bottom=top + 40), rim)
    inside = c.ellipse((middle, top + 3), half - 13, 32)
    c.paint(c.sky([(0, "#122a30"), (1, "#3c6a6a")], top=top - 30, bottom=top + 34), inside)
    coffee = c.ellipse((middle, top + 13), half - 22, 23) * inside
    c.paint(c.sky([(0, "#2a150b"), (1, "#6b3d1f")], top=top - 8, bottom=top + 36), coffee)
    c.add("#ffcf97", blurred(c.ellipse((middle - 50, top + 20), 80, 9), 6) * coffee * 0.5)


def _steam(c: Canvas, middle: float, top: float) -> None:
    cloud = c.clouds((130, 240), octaves=4)
    for offset, sway, strength in ((-52, 34, 0.5), (14, -40, 0.62), (66, 30, 0.42)):
        way = [(middle + offset + sway * math.sin(step * 1.05 + offset), top - step * 52) for step in range(8)]
        wisp = blurred(c.line(curve(way), 30), 15) + blurred(c.line(curve(way), 12), 6) * 0.5
        fade = c.between(top + 10, top - 70, c.y) * c.between(top - 370, top - 130, c.y)
        c.add("#fffaf0", np.clip(wisp * fade * (0.35 + 0.9 * cloud) * strength, 0, 0.85).astype(np.float32))


def reading_corner() -> Image.Image:
    """An armchair under a lamp, in the evening."""
    c = Canvas(WIDE, 47)
    floor = 880
    c.paint(c.sky([(0, "#1f3a3c"), (1, "#2d5250")], bottom=floor))
    c.paint("#17302f", c.clouds((1100, 900)) * 0.3)
    for x in range(-20, c.width, 128):
        c.darken(blurred(c.rounded((x, 0, x + 3, floor), 1), 1) * 0.18)
    boards = c.sky([(0, "#5a3a26"), (1, "#8a5d3a")], top=floor)
    c.paint(boards * (0.8 + 0.4 * c.clouds((1600, 22))[..., None]), c.between(floor - 1, floor + 1, c.y))
    c.paint("#e9dfcb", c.rounded((-10, floor - 34, c.width + 10, floor), 0) * 0.16)
    _frames(c)
    lamp = (1420.0, 300.0)
    c.add("#ffcf86", c.glow((lamp[0], 420), (640, 560)) * 0.5)
    cone = blurred(c.polygon([(1310, 372), (1530, 372), (1830, floor), (1010, floor)]), 26)
    c.add("#ffd590", cone * (1 - c.between(380, floor, c.y)) * 0.16)
    rug = c.ellipse((1080, 1010), 640, 96)
    c.darken(blurred(rug, 12) * 0.2)
    c.paint("#b5553f", rug)
    for inset, colour in ((34, "#e8c48c"), (52, "#b5553f"), (120, "#d98a5c"), (134, "#a84b3a")):
        c.paint(colour, c.ellipse((1080, 1010), 640 - inset * 1.6, 96 - inset * 0.42))
    c.darken(rug * (0.25 - 0.25 * c.glow((1200, 990), (520, 140))))
    _plant(c, 560, 930)
    _armchair(c, 1060, 965)
    _lamp(c, lamp, 985)
    _side_table(c, 1500)
    c.add("#ffcb80", c.glow((1180, 960), (520, 90)) * 0.28)
    c.add("#ffdf9f", c.glow((lamp[0], 380), (330, 260)) * 0.34)
    return c.finished(vignette=0.5)


def _frames(c: Canvas) -> None:
    """Pictures on the wall."""
    for left, top, width, height, sky, hill in (
        (600, 170, 210, 280, "#e8c9a0", "#b5553f"),
        (850, 230, 170, 210, "#cfe0d6", "#3f7a73"),
    ):
        box = (left, top, left + width, top + height)
        c.darken(blurred(c.rounded((left + 10, top + 16, left + width + 10, top + height + 16), 4), 12) * 0.5)
        c.paint("#d6b27a", c.rounded(box, 3))
        c.paint("#f7efe0", c.rounded((left + 9, top + 9, left + width - 9, top + height - 9), 1))
        art = c.rounded((left + 32, top + 36, left + width - 32, top + height - 36), 0)
        c.paint(sky, art)
        c.paint("#fff4d6", art * c.ellipse((left + width * 0.6, top + height * 0.42), width * 0.13, width * 0.13))
        for number in range(3):
            line = top + height * (0.56 + 0.12 * number) + 12 * np.sin(c.x[0] / (26 + 9 * number) + number)
            c.paint(hill, art * c.below(line.astype(np.float32)) * (0.45 + 0.25 * number))


def _armchair(c: Canvas, middle: float, foot: float) -> None:
    c.darken(blurred(c.ellipse((middle - 30, foot + 4), 330, 34), 18) * 0.62)
    for x, lean in ((-190, -18), (190, 18), (-130, -6), (130, 6)):
        leg = c.polygon(
            [
                (middle + x - 11, foot - 80),
                (middle + x + 11, foot - 80),
                (middle + x + lean + 6, foot),
                (middle + x + lean - 6, foot),
            ]
        )
        c.paint("#4a2c1a", leg)
    light = np.clip(0.62 + (c.x - middle) / 760 - (c.y - 620) / 1500, 0, 1)[..., None]

    def cloth(dark: str, bright: str) -> Light:
        return (rgb(dark) + (rgb(bright) - rgb(dark)) * light).astype(np.float32)

    back = np.maximum(
        c.rounded((middle - 190, foot - 520, middle + 190, foot - 120), 92),
        c.rounded((middle - 176, foot - 300, middle + 176, foot - 110), 20),
    )
    c.darken(blurred(back, 26) * (1 - back) * 0.35)
    c.paint(cloth("#8f5a12", "#f2b23f"), back)
    c.darken(back * blurred(c.rounded((middle - 240, foot - 300, middle + 240, foot - 170), 40), 30) * 0.5)
    for x in (-66, 66):
        for y in (-430, -350):
            at = (middle + x, foot + y)
            c.darken(back * c.glow(at, 40) * 0.22)
            c.paint("#8a5510", c.ellipse(at, 8, 8))
            c.add("#ffe0a0", c.ellipse((at[0] + 2, at[1] - 2), 3, 3) * 0.6)
    c.add("#ffe3a6", back * c.between(foot - 500, foot - 520, c.y) * 0.35)
    seat = c.rounded((middle - 180, foot - 240, middle + 180, foot - 130), 44)
    c.paint(cloth("#9d6415", "#ffc65a"), seat)
    c.darken(seat * c.between(foot - 190, foot - 128, c.y) * 0.42)
    base = c.rounded((middle - 216, foot - 158, middle + 216, foot - 70), 30)
    c.paint(cloth("#7c4b0f", "#dd9b30"), base)
    c.darken(base * c.between(foot - 120, foot - 60, c.y) * 0.35)
    for side in (-1, 1):
        left = middle + side * 206 - 52
        arm = c.rounded((left, foot - 318, left + 104, foot - 76), 50)
        c.darken(blurred(arm, 16) * (1 - arm) * base * 0.5)
        c.paint(cloth("#8a5512", "#f7b94a"), arm)
        c.darken(arm * c.between(0.15, 0.95, np.abs((c.x - left - 52) / 52)) * 0.28)
        c.add("#fff0c0", arm * c.glow((left + 62, foot - 296), (46, 24)) * 0.5)
    pillow = c.polygon(
        curve(
            [
                (middle - 130, foot - 222),
                (middle - 118, foot - 352),
                (middle + 10, foot - 340),
                (middle + 6, foot - 214),
                (middle - 130, foot - 222),
            ]
        )
    )
    c.darken(blurred(pillow, 14) * 0.3)
    c.paint("#2f6f70", pillow)
    for number in range(5):
        c.paint(
            "#e8d3a6",
            pillow
            * c.rounded((middle - 140 + number * 34, foot - 380, middle - 131 + number * 34, foot - 200), 0)
            * 0.7,
        )
    c.darken(pillow * c.between(middle + 10, middle - 150, c.x) * 0.4)


def _lamp(c: Canvas, head: Point, foot: float) -> None:
    x, y = head
    c.darken(blurred(c.ellipse((x, foot + 2), 96, 15), 8) * 0.6)
    pole = c.rounded((x - 6, y, x + 6, foot - 6), 2)
    _metal(c, pole, x, 6, "#3c2a14", "#f3cf86")
    stand = c.ellipse((x, foot - 6), 84, 15)
    c.paint(c.sky([(0, "#c99b52"), (1, "#5e4119")], top=foot - 22, bottom=foot + 10), stand)
    shade = c.polygon([(x - 74, y - 110), (x + 74, y - 110), (x + 128, y + 74), (x - 128, y + 74)])
    glow = np.clip(1 - np.abs(c.x - x) / 190, 0, 1)
    c.paint((rgb("#e79b45") + (rgb("#fff0c4") - rgb("#e79b45")) * glow[..., None]).astype(np.float32), shade)
    c.add("#fff6dd", c.glow((x, y + 30), (90, 70)) * shade * 0.8)
    for edge, half in ((y - 110, 74), (y + 74, 128)):
        c.paint("#b8742a", c.rounded((x - half, edge - 4, x + half, edge + 3), 2) * 0.8)


def _side_table(c: Canvas, middle: float) -> None:
    top = 800.0
    for x, lean in ((-70, -26), (70, 26), (6, 4)):
        c.paint(
            "#4a2d1b",
            c.polygon(
                [
                    (middle + 150 + x - 7, top),
                    (middle + 150 + x + 7, top),
                    (middle + 150 + x + lean + 4, 975),
                    (middle + 150 + x + lean - 4, 975),
                ]
            ),
        )
    c.darken(blurred(c.ellipse((middle + 150, 976), 130, 14), 8) * 0.45)
    c.paint("#3a2416", c.ellipse((middle + 150, top + 9), 130, 24))
    c.paint(
        c.sky([(0, "#b98352"), (1, "#8a5a33")], top=top - 24, bottom=top + 24), c.ellipse((middle + 150, top), 130, 24)
    )
    for number, (colour, width) in enumerate((("#b5553f", 120), ("#e8dcc4", 104), ("#2f6f70", 112))):
        y = top - 20 - number * 23
        book = c.rounded((middle + 160 - width / 2, y - 22, middle + 160 + width / 2, y), 4)
        c.paint(colour, book)
        c.darken(book * c.between(y - 12, y, c.y) * 0.3)
    cup = c.rounded((middle + 142, top - 128, middle + 188, top - 88), 12)
    c.paint("#f4ead8", cup)
    c.darken(cup * c.between(middle + 160, middle + 190, c.x) * 0.3)


def _plant(c: Canvas, middle: float, foot: float) -> None:
    c.darken(blurred(c.ellipse((middle, foot), 110, 16), 10) * 0.55)
    leaves = []
    for number, angle in enumerate((-88, -60, -118, -36, -144, -74, -104, -14, -166)):
        long = (470, 420, 420, 340, 350, 330, 340, 250, 250)[number]
        rise = math.radians(angle)
        tip = (middle + math.cos(rise) * long, foot - 150 + math.sin(rise) * long)
        bend = (middle + math.cos(rise) * long * 0.45, foot - 150 + math.sin(rise) * long * 0.62)
        leaves.append((bend, tip, number))
    for bend, tip, number in leaves:
        spine = curve([(middle, foot - 140), bend, tip], 20)
        edge_left, edge_right = [], []
        for at, (x, y) in enumerate(spine):
            ahead = spine[min(at + 1, len(spine) - 1)]
            behind = spine[max(at - 1, 0)]
            dx, dy = ahead[0] - behind[0], ahead[1] - behind[1]
            size = math.hypot(dx, dy) or 1
            wide = 34 * math.sin(math.pi * min(1, at / (len(spine) - 1)) ** 0.8) + 1
            edge_left.append((x - dy / size * wide, y + dx / size * wide))
            edge_right.append((x + dy / size * wide, y - dx / size * wide))
        leaf = c.polygon([*edge_left, *reversed(edge_right)])
        dark, bright = (("#17423a", "#5fa07c"), ("#1d4f40", "#78b489"), ("#123a34", "#4a8a6c"))[number % 3]
        light = np.clip((c.x - middle + 260) / 620 - (c.y - foot + 300) / 1100, 0, 1)[..., None]
        c.darken(blurred(leaf, 10) * 0.2)
        c.paint((rgb(dark) + (rgb(bright) - rgb(dark)) * light).astype(np.float32), leaf)
        c.add("#cfeec4", c.line(spine, 2.2) * leaf * 0.4)
    pot = c.polygon([(middle - 92, foot - 170), (middle + 92, foot - 170), (middle + 68, foot), (middle - 68, foot)])
    across = np.clip((c.x - middle) / 92, -1, 1)
    sheen = np.clip(0.3 + 0.7 * np.exp(-(((across - 0.4) / 0.5) ** 2)), 0, 1)[..., None]
    c.paint((rgb("#7d6a58") + (rgb("#f3e6d2") - rgb("#7d6a58")) * sheen).astype(np.float32), pot)
    c.darken(c.rounded((middle - 98, foot - 150, middle + 98, foot - 140), 2) * pot * 0.25)
    c.paint(
        (rgb("#8a7764") + (rgb("#fff4e2") - rgb("#8a7764")) * sheen).astype(np.float32),
        c.rounded((middle - 100, foot - 186, middle + 100, foot - 152), 8),
    )


def harbour_night() -> Image.Image:
    """A skyline over still water, upright."""
    c = Canvas(UPRIGHT, 59)
    horizon = 1500
    c.paint(
        c.sky([(0, "#070b24"), (0.4, "#141c4a"), (0.72, "#3b2f6b"), (0.92, "#8a4a78"), (1, "#d27a6e")], bottom=horizon)
    )
    stars = (c.random.random(c.light.shape[:2]) > 0.99965).astype(np.float32) * c.random.random(c.light.shape[:2])
    c.add("#dfe8ff", np.clip(blurred(stars.astype(np.float32), 1) * 7, 0, 1) * (1 - c.between(300, 1000, c.y)))
    moon = (800.0, 360.0)
    c.add("#8fa4ff", c.glow(moon, 420) * 0.4)
    c.paint("#fdf3d8", c.ellipse(moon, 86, 86))
    c.paint("#e4d3b8", c.ellipse(moon, 86, 86) * c.between(0.45, 0.8, c.clouds((46, 46))) * 0.38)
    veil = c.between(0.48, 0.9, c.clouds((900, 110)))
    c.paint("#4a4384", veil * c.between(200, 500, c.y) * (1 - c.between(1000, 1300, c.y)) * 0.55)
    c.add("#ff9a7a", c.glow((500, horizon), (900, 260)) * 0.45)
    for tall, colour, misty, lit, narrow in (
        (980, "#4a4180", "#b06a80", 0.0, 84),
        (840, "#2b2b5c", "#70476f", 0.3, 78),
        (600, "#151939", "#33264f", 0.5, 104),
    ):
        _buildings(c, horizon, tall, colour, misty, lit, narrow)
    c.add("#ffb98a", blurred(c.rounded((-50, horizon - 10, c.width + 50, horizon + 10), 1), 16) * 0.4)
    c.mirrored(horizon, ripple=5, fade=0.78)
    c.paint("#0a1030", c.between(horizon - 60, c.height, c.y) * 0.5 * (c.y >= horizon))
    c.add(
        "#ffd9a8", c.between(0.72, 0.95, c.clouds((260, 9), octaves=3)) * c.between(horizon, horizon + 60, c.y) * 0.14
    )
    return c.finished(vignette=0.3)


def _buildings(c: Canvas, ground: float, tall: float, colour: str, misty: str, lit: float, narrow: float) -> None:
    """One row of houses; `lit` is the share of windows with light."""
    boxes: list[tuple[float, float, float]] = []
    x = -40.0
    while x < c.width + 40:
        width = float(c.random.uniform(0.7, 1.5)) * narrow
        centre = 1 - abs((x + width / 2) / c.width - 0.46) * 0.95
        height = tall * float(c.random.uniform(0.5, 1.0)) * centre
        boxes.append((x, ground - height, width))
        x += width + float(c.random.choice([0.0, 3.0, 12.0]))
    tops = {int(number) for number in c.random.choice(len(boxes), len(boxes) // 3, replace=False)}

    def walls(pen: ImageDraw.ImageDraw, at: Scaled) -> None:
        for number, (left, top, width) in enumerate(boxes):
            pen.rectangle(at([(left, top), (left + width, ground)]), fill=255)
            if number in tops:
                step = width * 0.18
                pen.rectangle(at([(left + step, top - 26), (left + width - step, top)]), fill=255)
                pen.line(at([(left + width / 2, top - 96), (left + width / 2, top)]), fill=255, width=3 * FINER)

    mask = c.shape(walls)
    depth = c.between(ground - tall * 0.7, ground, c.y)
    c.paint((rgb(colour) + (rgb(misty) - rgb(colour)) * depth[..., None]).astype(np.float32), mask)
    if not lit:
        return
    warm: list[list[tuple[float, float, float, float]]] = [[], [], []]
    for left, top, width in boxes:
        wide, high = 5.0, 8.0
        for row in np.arange(top + 16, ground - 16, high + 9):
            for column in np.arange(left + 8, left + width - 8 - wide, wide + 6):
                if c.random.random() < lit * 0.62:
                    warm[int(c.random.integers(3))].append((column, row, column + wide, row + high))
    for colour_lit, windows in zip(("#ffd38a", "#ffe9bd", "#ffb36b"), warm, strict=True):
        glass = c.shape(lambda pen, at, some=windows: [pen.rectangle(at([box[:2], box[2:]]), fill=255) for box in some])
        c.paint(colour_lit, glass * 0.9)
        c.add(colour_lit, blurred(glass, 7) * 0.4)


def tram_blue_hour() -> Image.Image:
    """A yellow tram on wet stones at the blue hour."""
    c = Canvas(WIDE, 71)
    ground = 858
    c.paint(c.sky([(0, "#16294f"), (0.55, "#2e4d7c"), (1, "#7a7fa0")], bottom=ground))
    c.paint("#8fa3c8", c.between(0.5, 0.9, c.clouds((900, 200))) * 0.25)
    _house_row(c, ground)
    c.add("#ffb978", c.glow((1000, ground), (1300, 240)) * 0.3)
    _bokeh(c, 26, (560, 800), ["#ffd08a", "#ff9f6a", "#9fd0ff", "#ffe8c0"], (8, 30), 0.4)
    _tram(c, 470, 1590, 330, ground)
    c.mirrored(ground, ripple=9, fade=0.8)
    wet = c.light[ground:]
    c.light[ground:] = np.stack([blurred(np.ascontiguousarray(wet[..., band]), 5) for band in range(3)], -1)
    c.paint("#0f1830", c.between(ground - 80, c.height, c.y) * 0.62 * (c.y >= ground))
    _cobbles(c, ground)
    for y, far in ((ground + 10, 3.0), (ground + 74, 6.0)):
        c.paint("#0b111f", c.rounded((-10, y, c.width + 10, y + far), 1) * 0.8)
        c.add("#cfe0ff", c.rounded((-10, y + far, c.width + 10, y + far + 1.6), 0) * 0.35)
    rain = c.shape(lambda pen, at: _rain(c, pen, at))
    c.add("#c8d8f4", blurred(rain, 1) * 0.16)
    return c.finished(vignette=0.36)


def _cobbles(c: Canvas, ground: int) -> None:
    """Rows of wet stones, larger the nearer they lie."""
    y, tall = float(ground + 12), 7.0

    def stones(pen: ImageDraw.ImageDraw, at: Scaled) -> None:
        row, high = y, tall
        while row < c.height:
            x = float(-c.random.uniform(0, high * 3))
            while x < c.width:
                wide = high * float(c.random.uniform(2.2, 3.4))
                light = int(c.random.uniform(30, 150))
                box = at([(x, row), (x + wide - high * 0.3, row + high * 0.74)])
                pen.arc([*box[0], *box[1]], 185, 355, fill=light, width=FINER + 1)
                x += wide
            row, high = row + high, high * 1.075

    c.add("#bcd0f5", blurred(c.shape(stones), 1) * 0.2)


def _rain(c: Canvas, pen: ImageDraw.ImageDraw, at: Scaled) -> None:
    for _ in range(420):
        x, y = c.random.uniform(0, c.width), c.random.uniform(-40, c.height)
        long = c.random.uniform(16, 54)
        pen.line(at([(x, y), (x - long * 0.16, y + long)]), fill=150, width=FINER)


def _house_row(c: Canvas, ground: float) -> None:
    """Old houses behind the tram, a little out of focus."""
    left = -30.0
    lit: list[list[tuple[float, float, float, float]]] = [[], [], []]
    dark: list[tuple[float, float, float, float]] = []
    while left < c.width:
        width = float(c.random.uniform(230, 330))
        top = float(c.random.uniform(120, 250))
        shade = str(c.random.choice(["#2b3a5c", "#33405f", "#3a3f60", "#26344f", "#40425f"]))
        wall = blurred(np.maximum(
            c.rounded((left, top, left + width, ground), 0),
            c.polygon([(left - 8, top), (left + width + 8, top), (left + width - 26, top - 74), (left + 26, top - 74)]),
        ), 2)  # fmt: skip
        c.paint(shade, wall)
        c.darken(wall * c.between(left + width * 0.6, left + width, c.x) * 0.22)
        c.darken(blurred(c.rounded((left, top - 4, left + width, top + 6), 0), 2) * 0.3)
        columns = int(width // 74)
        gap = width / columns
        for row in range(5):
            for column in range(columns):
                x, y = left + gap * (column + 0.5), top + 46 + row * 124
                box = (x - 19, y, x + 19, y + 70)
                if c.random.random() < 0.46:
                    lit[int(c.random.integers(3))].append(box)
                else:
                    dark.append(box)
        left += width + 4
    panes = [*zip(("#ffc877", "#ffdfa4", "#f7a65c"), lit, strict=True), ("#141f38", dark)]
    for tone, boxes in panes:
        glass = c.shape(
            lambda pen, at, some=boxes: [pen.rounded_rectangle(at([b[:2], b[2:]]), 6 * FINER, fill=255) for b in some]
        )
        c.paint(tone, blurred(glass, 2) * (0.75 if boxes is dark else 0.92))
        if boxes is not dark:
            c.add(tone, blurred(glass, 26) * 0.5)
    bars = [*lit[0], *lit[1], *lit[2]]
    c.darken(
        c.shape(lambda pen, at: [pen.rectangle(at([(b[0] + 17.5, b[1]), (b[0] + 20.5, b[3])]), fill=255) for b in bars])
        * 0.35
    )


def _tram(c: Canvas, left: float, right: float, top: float, ground: float) -> None:
    foot = ground - 34
    c.darken(blurred(c.rounded((left - 10, ground - 40, right + 10, ground + 4), 12), 16) * 0.8)
    for x in (left + 210, left + 330, right - 330, right - 210):
        c.paint("#0c0f18", c.ellipse((x, foot + 2), 38, 38))
        c.paint("#3c4458", c.ellipse((x, foot + 2), 20, 20))
    c.paint("#171b28", c.rounded((left + 60, foot - 40, right - 60, foot + 8), 10))
    c.paint("#0a0d16", c.line([(left + 560, top - 4), (left + 470, top - 96), (left + 590, top - 170)], 5))
    c.paint("#0a0d16", c.line([(left + 545, top - 171), (left + 640, top - 170)], 6))
    c.paint("#0a0d16", c.line([(-10, top - 176), (c.width + 10, top - 170)], 2.4))
    roof = c.rounded((left + 30, top - 22, right - 30, top + 60), 26)
    c.paint(c.sky([(0, "#e9e2d2"), (1, "#9a948c")], top=top - 22, bottom=top + 40), roof)
    body = c.rounded((left, top + 8, right, foot - 8), 52)
    c.paint(
        c.sky(
            [(0, "#fff1cf"), (0.47, "#f3dfb4"), (0.5, "#ffc02e"), (0.8, "#f0a116"), (1, "#a8660a")],
            top=top,
            bottom=foot,
        ),
        body,
    )
    c.add("#fff6d8", body * c.between(top + 26, top + 8, c.y) * 0.6)
    c.darken(body * (c.between(left + 60, left, c.x) + c.between(right - 60, right, c.x)) * 0.4)
    band = c.rounded((left + 4, foot - 156, right - 4, foot - 142), 2) * body
    c.paint("#8a1f24", band)
    doors = [left + 250, right - 250]
    xs = np.linspace(left + 118, right - 118, 9)
    for x in xs:
        narrow = any(abs(x - door) < 70 for door in doors)
        box = (x - 47, top + 74, x + 47, foot - (44 if narrow else 178))
        frame = (box[0] - 5, box[1] - 5, box[2] + 5, box[3] + 5)
        c.paint("#3d2a12", c.rounded(frame, 14))
        glass = c.rounded(box, 11)
        c.paint(c.sky([(0, "#fff0c0"), (0.5, "#ffd27a"), (1, "#d98b36")], top=top + 74, bottom=foot - 100), glass)
        c.add("#fffbe6", c.glow((x, top + 92), (60, 34)) * glass * 0.7)
        if narrow:
            c.paint("#3d2a12", c.rounded((x - 3, box[1], x + 3, box[3]), 1))
            c.paint("#c8810c", c.rounded((box[0], foot - 150, box[2], box[3]), 8) * 0.85)
        else:
            _passenger(c, float(x), foot - 178, glass)
        c.add("#ffffff", glass * c.polygon([(x - 40, top + 74), (x - 16, top + 74), (x - 40, top + 180)]) * 0.22)
    sign = c.rounded((left + 420, top + 26, right - 420, top + 58), 6)
    c.paint("#16202f", sign)
    _letters(c, "28 HARBOUR", (left + right) / 2, top + 50, 22, "#ffe39a")
    for x, reach in ((left + 26, -1), (right - 26, 1)):
        c.paint("#fffbe8", c.ellipse((x, foot - 96), 17, 17))
        c.add("#fff0c0", c.glow((x + 30 * reach, foot - 96), (150, 90)) * 0.85)


def _passenger(c: Canvas, x: float, sill: float, glass: Light) -> None:
    if c.random.random() < 0.4:
        return
    shift = float(c.random.uniform(-16, 16))
    head = c.ellipse((x + shift, sill - 62), 17, 21)
    shoulders = c.rounded((x + shift - 34, sill - 40, x + shift + 34, sill + 30), 22)
    c.paint("#5a3416", np.maximum(head, shoulders) * glass * 0.82)


def balloons_dawn() -> Image.Image:
    """Balloons over dunes in the first light."""
    c = Canvas(WIDE, 83)
    c.paint(c.sky([(0, "#5f8fb8"), (0.3, "#a5c0cf"), (0.5, "#f0d3bd"), (0.62, "#ffd9ae"), (1, "#ffe3bf")]))
    c.paint("#ffeede", c.between(0.52, 0.9, c.clouds((1200, 120))) * (1 - c.between(300, 620, c.y)) * 0.6)
    sun = (420.0, 660.0)
    c.add("#ffdca0", c.glow(sun, (900, 420)) * 0.75)
    c.add("#fff0c8", c.glow(sun, 210) * 0.85)
    c.paint("#fffbe9", c.ellipse(sun, 48, 48))
    for number, (base, lift, bright, dark) in enumerate((
        (730, 60, "#f3c79c", "#d9a283"),
        (820, 110, "#eeb380", "#b97a5c"),
        (930, 140, "#e59c60", "#93513c"),
        (1075, 170, "#d5833f", "#6b3528"),
    )):  # fmt: skip
        _dune(c, number, base, lift, bright, dark)
    for x, y, size, colours in (
        (1380, 330, 178, ("#d8432f", "#f7e3c0", "#f0a13a")),
        (880, 250, 92, ("#2f6f8f", "#f7ead2", "#5aa2b8")),
        (1720, 520, 70, ("#e8a33a", "#fff1d4", "#c8552f")),
        (640, 470, 46, ("#7a3f6a", "#f3d7c4", "#b0607f")),
        (1120, 560, 34, ("#3d7a5a", "#f1e6c8", "#7fb08a")),
    ):
        _balloon(c, x, y, size, colours)
    c.add("#ffd9a0", c.glow(sun, (1500, 800)) * 0.18)
    return c.finished(vignette=0.26)


def _dune(c: Canvas, number: int, base: float, lift: float, bright: str, dark: str) -> None:
    """Sand with a lit side and a crest that winds towards us."""
    along = c.x[0]
    crest = base - lift * (
        0.55 * np.sin(along / (310 + 40 * number) + number * 1.7) + 0.35 * np.sin(along / 173 + number * 2.9) ** 2
    )
    crest = crest.astype(np.float32)
    mask = c.below(crest)
    slope = np.gradient(crest)[None, :]
    depth = np.clip((c.y - crest[None, :]) / (lift * 2.4 + 90), 0, 1)
    # A second crest runs down from the first one; what lies beyond it is turned away from the sun.
    runs = np.sin((c.x + 150 * np.sin(depth * 2.2 + number)) / (300 + 50 * number) + number * 1.9)
    lit = c.between(-1.1, 1.1, slope * 2.3 + runs * (0.25 + 0.5 * depth) + (depth - 0.5) * 0.9)
    sand = rgb(bright) + (rgb(dark) - rgb(bright)) * (lit * 0.85)[..., None]
    ripples = np.sin((c.y + 14 * np.sin(c.x / 90) + 5 * np.sin(c.x / 31)) / (2.2 + 1.3 * number))
    sand = sand * (1 + 0.028 * ripples[..., None] * depth[..., None])
    c.paint(sand.astype(np.float32), mask)
    c.add("#fff0d0", mask * np.clip(1 - (c.y - crest[None, :]) / 7, 0, 1) * 0.4)
    c.paint("#ffe2c0", mask * (1 - c.between(base + 40, base + 190, c.y)) * (0.34 - 0.08 * number))


def _balloon(c: Canvas, x: float, y: float, size: float, colours: tuple[str, str, str]) -> None:
    outline = [(x - size, y)]
    right = curve(
        [
            (x, y - size * 1.06),
            (x + size * 0.74, y - size * 0.78),
            (x + size, y),
            (x + size * 0.66, y + size * 0.72),
            (x + size * 0.2, y + size * 1.24),
        ]
    )
    outline = [*right, *[(2 * x - px, py) for px, py in reversed(right)]]
    envelope = c.polygon(outline)
    reach = np.interp(c.y[:, 0], [py for _, py in right], [max(px - x, 1) for px, _ in right])[:, None]
    turn = np.arcsin(np.clip((c.x - x) / reach, -1, 1)) / np.pi + 0.5
    gore = np.floor(turn * 10).astype(int)
    palette = np.stack([rgb(colours[index]) for index in (0, 1, 0, 2, 0)])
    skin = palette[np.clip(gore, 0, 9) % 5]
    seam = 1 - 0.22 * np.exp(-((((turn * 10) % 1) / 0.09) ** 2)) - 0.16 * np.exp(-(((1 - (turn * 10) % 1) / 0.09) ** 2))
    light = 0.62 + 0.52 * np.exp(-(((c.x - x + size * 0.45) / size / 0.75) ** 2)) * np.exp(
        -(((c.y - y + size * 0.2) / size / 1.3) ** 2)
    )
    c.paint(np.clip(skin * (seam * light)[..., None], 0, 1).astype(np.float32), envelope)
    sag = size * 0.13 * np.sqrt(np.clip(1 - ((c.x - x) / reach) ** 2, 0, 1))
    hang = (c.y - y - sag) / size
    stripe = envelope * c.between(0.16, 0.17, hang) * (1 - c.between(0.31, 0.32, hang))
    c.paint((rgb(colours[1]) * light[..., None]).astype(np.float32), stripe * 0.9)
    c.darken(envelope * c.between(y + size * 0.5, y + size * 1.3, c.y) * 0.3)
    c.add("#fff1d8", envelope * c.glow((x - size * 0.45, y - size * 0.4), (size * 0.5, size * 0.6)) * 0.4)
    basket = (x - size * 0.13, y + size * 1.52, x + size * 0.13, y + size * 1.72)
    for side in (-0.19, -0.07, 0.07, 0.19):
        c.paint(
            "#4a3324",
            c.line([(x + size * side, y + size * 1.22), (x + size * side * 0.66, basket[1])], max(1.0, size / 90))
            * 0.8,
        )
    c.paint("#6b4226", c.rounded(basket, size * 0.03))
    c.paint("#3a2416", c.rounded((basket[0], basket[1], basket[2], basket[1] + size * 0.05), size * 0.02))
    c.add("#ffcf70", c.glow((x, y + size * 1.2), (size * 0.16, size * 0.2)) * 0.8)


SCENES: Final[dict[str, Callable[[], Image.Image]]] = {
    "alpine-sunset": alpine_sunset,
    "balloons-dawn": balloons_dawn,
    "harbour-night": harbour_night,
    "morning-mug": morning_mug,
    "perfume-dusk": perfume_dusk,
    "reading-corner": reading_corner,
    "tram-blue-hour": tram_blue_hour,
}
