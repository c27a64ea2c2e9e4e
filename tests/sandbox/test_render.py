"""Clips are real: decodable, the right size and length, moving the way the prompt says."""

import csv
import io

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw

from reelsheet.sandbox import render
from reelsheet.sandbox.clips import Clips
from reelsheet.sandbox.samples import demo_manifest
from reelsheet.storage.mp4 import BoxWalk

PICTURE = "perfume-dusk"


def dots(size: tuple[int, int]) -> Image.Image:
    """White squares left, right, above and below the middle of a dark picture."""
    picture = Image.new("RGB", size, "#202020")
    for x, y in ((0.3, 0.5), (0.7, 0.5), (0.5, 0.3), (0.5, 0.7)):
        at, half = (x * size[0], y * size[1]), min(size) / 30
        box = (at[0] - half, at[1] - half, at[0] + half, at[1] + half)
        ImageDraw.Draw(picture).rectangle(box, fill="white")
    return picture


def seen(frame: av.VideoFrame) -> dict[str, tuple[float, float]]:
    """Where the four squares are in a frame, as shares of its size."""
    luma = frame.to_ndarray(format="gray") > 128
    height, width = luma.shape
    found = {}
    for name, (x, y) in {"left": (0.3, 0.5), "right": (0.7, 0.5), "top": (0.5, 0.3), "bottom": (0.5, 0.7)}.items():
        left, top = int((x - 0.14) * width), int((y - 0.14) * height)
        part = luma[top : top + int(0.28 * height), left : left + int(0.28 * width)]
        rows, columns = np.nonzero(part)
        found[name] = ((columns.mean() + left) / width, (rows.mean() + top) / height)
    return found


@pytest.mark.parametrize(
    ("prompt", "motion"),
    [
        ("", "gentle-push"),
        ("A beautiful sunset over mountains with golden light", "gentle-push"),
        ("Slow push in on the bottle", "push-in"),
        ("camera ZOOMS into her eyes", "push-in"),
        ("dolly in, closer and closer", "push-in"),
        ("zoom out to reveal the valley", "pull-out"),
        ("The camera pulls back slowly", "pull-out"),
        ("pan left across the shelf", "pan-left"),
        ("panning from left to right", "pan-right"),
        ("a slow tracking shot", "pan-right"),
        ("tilt up to the spire", "tilt-up"),
        ("tilting down to the shoes", "tilt-down"),
        ("orbit around the watch to the left", "orbit-left"),
        ("rotating turntable", "orbit-right"),
        ("pancakes on a plate, japanese company", "gentle-push"),
        ("pan right, then zoom in", "pan-right"),
    ],
)
def test_the_first_camera_words_of_a_prompt_choose_the_motion(prompt, motion):
    assert render.motion_of(prompt) == motion


@pytest.mark.parametrize("motion", render.MOTIONS)
def test_every_motion_moves_the_picture_its_own_way(motion):
    paint = render.camera(dots((1600, 900)), motion)
    first, last = seen(paint(0.0)), seen(paint(1.0))
    across = {name: last[name][0] - first[name][0] for name in first}
    down = {name: last[name][1] - first[name][1] for name in first}
    if motion in ("push-in", "gentle-push"):
        assert across["left"] < -0.01 < 0.01 < across["right"]
        assert down["top"] < -0.01 < 0.01 < down["bottom"]
    elif motion == "pull-out":
        assert across["right"] < -0.01 < 0.01 < across["left"]
    elif motion in ("pan-right", "pan-left"):
        sign = -1 if motion == "pan-right" else 1
        assert all(change * sign > 0.1 for change in across.values())
        assert all(abs(change) < 0.002 for change in down.values())
    elif motion in ("tilt-down", "tilt-up"):
        sign = -1 if motion == "tilt-down" else 1
        assert all(change * sign > 0.1 for change in down.values())
    else:
        # What is nearer to the camera at first is farther in the end.
        wide = [(seen["top"][0] - seen["left"][0], seen["right"][0] - seen["top"][0]) for seen in (first, last)]
        turned = (wide[0][0] > wide[0][1], wide[1][0] > wide[1][1])
        assert turned in ((True, False), (False, True))


@pytest.mark.parametrize("motion", ["push-in", "pan-left", "tilt-up", "orbit-left"])
@pytest.mark.parametrize("size", [(320, 200), (2000, 500), (300, 1200)])
def test_every_frame_is_filled_from_edge_to_edge(motion, size):
    paint = render.camera(Image.new("RGB", size, "#808080"), motion)
    for progress in (0.0, 1.0):
        frame = paint(progress).to_ndarray(format="gray")
        assert frame.shape == render.frame_size(size)[::-1]
        assert abs(int(frame.min()) - 128) < 4
        assert abs(int(frame.max()) - 128) < 4


@pytest.mark.parametrize(
    ("picture", "frame"),
    [
        ((1600, 900), (1920, 1080)),
        ((1000, 990), (1920, 1080)),
        ((900, 900), (1080, 1080)),
        ((800, 1000), (1080, 1350)),
        ((1080, 1920), (1080, 1920)),
        ((300, 1200), (1080, 1920)),
    ],
)
def test_the_short_side_is_1080(picture, frame):
    assert render.frame_size(picture) == frame


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK", "1", "I;16"])
def test_a_picture_of_any_colour_mode_is_read(mode):
    file = io.BytesIO()
    Image.new(mode, (64, 48)).save(file, "JPEG" if mode == "CMYK" else "PNG")
    assert render._opened(file.getvalue()).mode == "RGB"


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0" + b"\0" * 99])
def test_what_is_no_picture_becomes_a_card(content):
    assert render._opened(content) is None
    assert render._card(f"No picture could be had from https://e.com/{'long' * 99}").size == (1920, 1080)


def test_a_rendered_clip_plays_and_moves(sandbox, submit, finish, plain):
    """The whole way: the picture is fetched, rendered once, and served under each prediction's own name."""
    sandbox.settings(clips="real")
    image = f"{sandbox.pictures}/{PICTURE}.jpg"
    twins = [submit(image=image, prompt=prompt).json()["id"] for prompt in ("push in", "Zoom in, please")]
    clips = [plain.get(poll_long(finish, identifier)["outputs"][0]).content for identifier in twins]
    assert clips[0] != clips[1]
    assert len(clips[0]) == len(clips[1])

    walk = BoxWalk()
    walk.feed(clips[0])
    told = walk.finish()
    assert (told.width, told.height, told.duration_s, told.codec) == (1920, 1080, 5.0, "avc1")
    assert clips[0].index(b"moov") < clips[0].index(b"mdat")

    with av.open(io.BytesIO(clips[0])) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.pix_fmt) == (24, "yuv420p")
        shades = [frame.to_ndarray(format="gray")[::8, ::8].astype(int) for frame in container.decode(stream)]
    assert len(shades) == 120
    steps = [np.abs(one - next_).mean() for one, next_ in zip(shades[:-1:10], shades[1::10], strict=False)]
    assert np.abs(shades[0] - shades[-1]).mean() > 2
    assert max(steps) < 4, "no frame jumps"


def poll_long(finish, identifier):
    """Rendering takes seconds on a busy machine."""
    for _ in range(200):
        try:
            return finish(identifier)
        except AssertionError:
            continue
    raise AssertionError("not rendered")


async def test_a_picture_that_cannot_be_fetched_is_a_card_and_no_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(render, "FRAMES", 3)
    clips = Clips(tmp_path)
    path = await clips.rendered("http://127.0.0.1:9/none.jpg", "")
    clips.close()
    with av.open(str(path)) as container:
        assert [(frame.width, frame.height) for frame in container.decode(video=0)] == [(1920, 1080)] * 3


def test_a_tiny_clip_is_a_whole_mp4(submit, finish, plain):
    clip = plain.get(finish(submit().json()["id"])["outputs"][0]).content
    walk = BoxWalk()
    walk.feed(clip)
    told = walk.finish()
    assert (told.width, told.height, told.duration_s) == (1920, 1080, 5.0)


def test_the_samples_show_every_kind_of_motion():
    rows = csv.DictReader(demo_manifest().splitlines())
    kinds = {render.motion_of(row["prompt"]).partition("-")[0] for row in rows}
    assert kinds == {"push", "tilt", "orbit", "pan", "pull", "gentle"}
