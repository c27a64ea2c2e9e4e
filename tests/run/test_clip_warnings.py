"""Clips that are odd beside their picture or the others are pointed out, and no others."""

import pytest

from reelsheet.images.preflight import ImageCheck
from reelsheet.images.sniff import Picture
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.manifest.table import text_frame
from reelsheet.outcomes import RowResult, Status
from reelsheet.planning.plan import Plan, RowGroup
from reelsheet.run import clip_warnings


def added(*clips, pictures=(), identities=None):
    """The rows' warnings; a clip is (width, height, seconds, sha256), a picture its width and height."""
    rows = tuple(Row(n, n + 2, image=f"i{n}", id=f"row-{n}") for n in range(len(clips)))
    results = [
        RowResult(Status.SUCCEEDED, width=width, height=height, duration_s=seconds, video_sha256=sha256)
        for width, height, seconds, sha256 in clips
    ]
    groups: dict[str, RowGroup] = {}
    for n, row in enumerate(rows):
        identity = (identities or [str(n) for n in range(len(clips))])[n]
        groups.setdefault(identity, RowGroup(identity, row, [])).positions.append(n)
    checks = {f"i{n}": ImageCheck(picture=Picture("png", *size, None, "f")) for n, size in enumerate(pictures)}
    manifest = Manifest("s", text_frame(("image",), [(row.image,) for row in rows]), rows, {"image": 0})
    plan = Plan(manifest, groups, 54, image_checks=checks)
    clip_warnings.add(results, plan)
    once = [result.warnings for result in results]
    clip_warnings.add(results, plan)
    assert [result.warnings for result in results] == once, "a table is made again and again"
    return once


def lengths(*seconds):
    return added(*((16, 9, length, str(n)) for n, length in enumerate(seconds)))


@pytest.mark.parametrize(
    ("clip", "picture", "differs"),
    [
        ((1920, 1080), (1280, 720), False),
        ((1920, 1088), (1280, 720), False),
        ((1280, 720), (720, 1280), True),
        ((1080, 1920), (4000, 3000), True),
        ((1920, 1080), (1200, 1200), True),
        ((1920, 1080), (1500, 1000), True),
        ((1920, 1080), (None, None), False),
        ((None, None), (10, 20), False),
    ],
)
def test_a_clip_of_another_shape_than_its_picture(clip, picture, differs):
    ((*warnings,),) = added((*clip, 5.0, "a"), pictures=[picture])
    assert [f"{clip[0]} by {clip[1]} pixels, its picture {picture[0]} by {picture[1]}" in one for one in warnings] == (
        [True] * differs
    )


@pytest.mark.parametrize(
    ("seconds", "odd"),
    [
        ((5.0, 5.04, 1.0), [2]),
        ((5.0, 10.0, 5.0, 5.0), [1]),
        ((5.0, 5.0, 5.2, 4.9), []),
        ((5.0, 1.0), []),
        ((5.0, 5.0, 10.0, 10.0), []),
        ((1.0, 2.0, 3.0, 4.0, 5.0), []),
        ((0.4, 0.5, 0.5, 0.7), []),
        ((5.0, 5.0, None, None), []),
        ((5.0,) * 20 + (3.5,), [20]),
        ((), []),
    ],
)
def test_a_clip_that_is_much_longer_or_shorter_than_the_others(seconds, odd):
    told = lengths(*seconds)
    assert [n for n, warnings in enumerate(told) if warnings] == odd
    for n in odd:
        assert f"{seconds[n]:.1f} s long" in told[n][0]


def test_clips_that_are_one_file_though_the_rows_differ():
    told = added((16, 9, 5, "a"), (16, 9, 5, "b"), (16, 9, 5, "a"), (16, 9, 5, ""), (16, 9, 5, ""))
    assert [len(warnings) for warnings in told] == [1, 0, 1, 0, 0]
    assert "as that of row-2," in told[0][0]
    assert "as that of row-0," in told[2][0]


def test_rows_of_one_identity_share_their_clip_and_its_warnings():
    assert added((16, 9, 5, "a"), (16, 9, 5, "a"), identities=["x", "x"]) == [(), ()]
    told = added((9, 16, 5, "a"), (9, 16, 5, "a"), pictures=[(16, 9)], identities=["x", "x"])
    assert len(told[0]) == 1
    assert told[0] == told[1]


def test_the_warnings_that_a_row_has_stay():
    rows = (Row(0, 2, image="i"), Row(1, 3))
    results = [RowResult(Status.SUCCEEDED, warnings=("old",), width=9, height=16), RowResult(Status.INVALID)]
    check = ImageCheck(picture=Picture("png", 16, 9, None, "f"))
    group = RowGroup("x", rows[0], [0], warnings=["old"])
    manifest = Manifest("s", text_frame(("image",), [("i",), ("",)]), rows, {"image": 0})
    clip_warnings.add(results, Plan(manifest, {"x": group}, 54, image_checks={"i": check}))
    assert results[0].warnings[0] == "old"
    assert group.warnings == list(results[0].warnings), "so that a report of the run says the same"
    assert len(group.warnings) == 2
