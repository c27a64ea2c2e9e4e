"""Addresses that change with every export: the plan warns where the same row was paid for under another one."""

import pytest

from reelsheet.outcomes import Status
from tests.planning.desk import paying

MONDAY = "https://v5.airtableusercontent.com/v3/u/29/29/1764316800000/abc/def"
TUESDAY = "https://v5.airtableusercontent.com/v3/u/29/29/1764403200000/ghi/jkl"


def warned(plan):
    return [group.row.line for group in plan.groups.values() if any("another address" in w for w in group.warnings)]


def test_a_row_with_the_same_id_is_named_with_its_dollars(desk):
    desk.ran(f"sku,image,prompt\nM1,{MONDAY},push in\nM2,{MONDAY}x,push in\n")
    plan = desk.plan(f"sku,image,prompt\nM1,{TUESDAY},push in\nM2,{TUESDAY}x,push out\nM3,{TUESDAY}y,push in\n")
    assert len(paying(plan)) == 3
    assert warned(plan) == [2, 3]
    assert any(note.startswith("2 rows were paid for before") and "$1.08" in note for note in plan.notes)


def test_the_same_prompt_and_file_name_are_the_same_row(desk):
    desk.ran(f"image,prompt\ncup.jpg ({MONDAY}),push in\njug.jpg ({MONDAY}x),push in\n")
    plan = desk.plan(
        f"image,prompt\nCup.jpg ({TUESDAY}),push in\nmug.jpg ({TUESDAY}x),push in\njug.jpg ({TUESDAY}y),pull out\n"
    )
    assert warned(plan) == [2]


@pytest.mark.parametrize("status", [Status.FAILED, Status.SKIPPED, Status.INVALID])
def test_a_row_that_has_no_clip_is_no_reason_to_warn(desk, status):
    desk.ran(f"sku,image,prompt\nM1,{MONDAY},push in\n", status)
    assert warned(desk.plan(f"sku,image,prompt\nM1,{TUESDAY},push in\n")) == []


def test_an_address_that_lasts_is_another_picture(desk):
    desk.ran("sku,image,prompt\nM1,https://shop.test/1.png,push in\n")
    plan = desk.plan("sku,image,prompt\nM1,https://shop.test/2.png,push in\n")
    assert (paying(plan), warned(plan), plan.notes) == (["push in"], [], ())


def test_the_same_address_again_is_paid_for_already(desk):
    sheet = f"sku,image,prompt\nM1,{MONDAY},push in\n"
    desk.ran(sheet)
    plan = desk.plan(sheet)
    assert (paying(plan), warned(plan)) == ([], [])
