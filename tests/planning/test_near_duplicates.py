"""Rows that repeat another one in other spelling are pointed out."""

import pytest

from reelsheet.outcomes import Status
from reelsheet.planning.near_duplicates import notes
from tests.planning.desk import paying

CUP = "https://cdn.shop.example/cup.jpg"
DRIVE = "https://drive.google.com/file/d/1abcDEFghiJKLmnoPQRstuVWXyz0123456/view"
OPEN = "https://drive.google.com/open?id=1abcDEFghiJKLmnoPQRstuVWXyz0123456"


def sheet(*rows: tuple[str, str]) -> str:
    return "image,prompt\n" + "".join(f'{image},"{prompt}"\n' for image, prompt in rows)


@pytest.mark.parametrize(
    ("image", "prompt"),
    [(CUP, "slow turn "), (f"{CUP} ", "slow turn"), (CUP, "\u00a0slow turn\n")],
)
def test_the_same_in_other_spelling_is_named_and_paid_for_once(desk, image, prompt):
    plan = desk.plan(sheet((CUP, "slow turn"), (CUP, "slow turn"), (image, prompt)))
    assert len(paying(plan)) == 1
    (note,) = (note for note in plan.notes if "spelling" in note)
    assert note.startswith("1 row asks for the same as an earlier row in other spelling (row 4 like row 2)")


def test_two_links_of_one_file_are_named(desk):
    plan = desk.plan(sheet((DRIVE, "slow turn"), (OPEN, "slow turn")))
    assert len(paying(plan)) == 1
    assert "row 3 like row 2" in next(notes(plan))


@pytest.mark.parametrize(
    ("image", "prompt"),
    [
        (CUP, "Slow turn"),
        (CUP, "slow  turn"),
        (CUP, "slow turn."),
        (CUP, "Slow-turn!"),
        (CUP.replace("https", "http"), "slow turn"),
        (CUP.replace("cup", "%63up"), "slow turn"),
    ],
)
def test_what_differs_in_signs_alone_is_paid_for_and_named(desk, image, prompt):
    plan = desk.plan(sheet((CUP, "slow turn"), (image, prompt)))
    assert len(paying(plan)) == 2
    (note,) = plan.notes
    assert note.startswith("1 row nearly repeats another one (row 3 like row 2)")
    assert "$0.54" in note


@pytest.mark.parametrize(
    "text",
    [
        sheet((CUP, "slow turn"), (CUP, "fast turn"), (f"{CUP}?v=2", "slow turn")),
        sheet((CUP, "🎬"), (CUP, "🌙"), (CUP, "")),
        f"image,prompt,take\n{CUP},slow turn,1\n{CUP},Slow turn,2\n",
        f"image,prompt,expansion\n{CUP},slow turn,\n{CUP},slow turn,\n",
        f"image,prompt,prompt expansion\n{CUP},slow turn,yes\n{CUP},Slow turn,no\n",
    ],
)
def test_other_orders_are_not_pointed_out(desk, text):
    assert desk.plan(text).notes == ()


def test_a_row_like_one_that_is_paid_for_already_is_pointed_out(desk):
    desk.ran(sheet((CUP, "slow turn")), Status.SUCCEEDED)
    plan = desk.plan(sheet((CUP, "Slow turn"), (CUP, "slow turn")))
    assert paying(plan) == ["Slow turn"]
    assert "(row 2 like row 3)" in plan.notes[0]


def test_many_are_counted_and_few_are_named(desk):
    plan = desk.plan(sheet(*[(CUP, "slow turn" + "." * dots) for dots in range(7)]))
    assert plan.notes[0].startswith("6 rows nearly repeat another one (row 3 like row 2, row 4 like row 2, row 5 like")
    assert " and 3 more)" in plan.notes[0]
    assert "$3.24" in plan.notes[0]
