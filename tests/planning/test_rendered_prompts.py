"""Prompts that a template made: the plan shows them, and a later run sends them as they were sent."""

import pytest

from reelsheet.errors import UsageError
from reelsheet.outcomes import Status
from reelsheet.planning.plan import Step
from tests.planning.desk import edited, paying

SHEET = """sku,image,product,colour,prompt
U1,https://cdn.shop.example/p/1.png,Cup,red,one
U2,https://cdn.shop.example/p/2.png,湯気,– blue,two
U3,https://cdn.shop.example/p/3.png,Jug,;=green,three
"""  # noqa: RUF001
TEMPLATE = "-{product} turns\r\n{colour} light"
SENT = ["-Cup turns\n{} light", "-湯気 turns\n{} light", "-Jug turns\n{} light"]
BOTH = pytest.mark.parametrize("verb", ["run", "retry"])


def sent(*colours: str) -> list[str]:
    return [text.format(colour) for text, colour in zip(SENT, colours, strict=True)]


def as_sent(plan):
    return [(prompt or "").replace("\r\n", "\n") for prompt in paying(plan)]


def warnings(plan) -> str:
    return " ".join(warning for row in plan.manifest.rows for warning in row.warnings)


COLOURS = ("red", "– blue", ";=green")  # noqa: RUF001


def test_the_identity_is_of_the_rendered_prompt(desk):
    rendered = desk.plan(SHEET, prompt="{product} turns")
    written = desk.plan(SHEET.replace(",one\n", ",Cup turns\n"))
    first = next(iter(rendered.groups))
    assert first in written.groups
    assert paying(rendered) == ["Cup turns", "湯気 turns", "Jug turns"]
    assert len(desk.plan(SHEET, prompt="One prompt for all").groups) == 3


def test_rows_that_become_the_same_are_paid_for_once(desk):
    sheet = "image,product,note\nhttps://a.test/1.png,Cup,x\nhttps://a.test/1.png,Cup,y\n"
    assert paying(desk.plan(sheet, prompt="{product} turns")) == ["Cup turns"]


def test_a_wrong_template_is_said(desk):
    with pytest.raises(UsageError, match="no such column"):
        desk.plan(SHEET, prompt="{colours}")


def test_a_clip_is_named_after_the_rendered_prompt(desk):
    from reelsheet.display.plan_screen import facts_of

    prepared = desk.prepare("image,product\nhttps://a.test/1.png,Red Cup\n", prompt="{product} turns")
    assert facts_of(prepared).names[0].startswith("videos/Red-Cup-turns-")


@BOTH
@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.UNDELIVERED, Status.UNKNOWN])
def test_results_are_no_edit_and_no_new_order(desk, status, verb):
    results = desk.ran(SHEET, status, template=TEMPLATE)
    plan = desk.plan(results, verb)
    assert (paying(plan), len(plan.groups)) == ([], 3)
    assert warnings(plan) == ""
    assert [row.prompt.replace("\r\n", "\n") for row in plan.manifest.rows] == sent(*COLOURS)


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\r\n", "\n"),
        lambda text: text.replace(",Cup,red,one", ",Mug,black,nothing"),
        lambda text: text.replace(",Cup,red,one", ",#N/A,,"),
    ],
    ids=["line-ends", "cells", "failed-cells"],
)
def test_what_was_sent_counts_not_the_cells_that_it_was_made_from(desk, change, verb):
    results = desk.ran(SHEET, template=TEMPLATE)
    plan = desk.plan(change(results), verb)
    assert (paying(plan), plan.invalid, warnings(plan)) == ([], [], "")


def test_a_failed_row_is_retried_with_what_was_sent(desk):
    results = desk.ran(SHEET, Status.FAILED, template=TEMPLATE)
    plan = desk.plan(results, "retry")
    assert as_sent(plan) == sent(*COLOURS)
    assert all(group.history is not None for group in plan.groups.values())
    assert any("'prompt_sent'" in warning for warning in plan.manifest.warnings)
    assert as_sent(desk.plan(results.replace("湯気", "Tea"), "retry"))[0] == sent(*COLOURS)[0]


def test_a_person_who_gives_the_prompt_again_gets_the_new_one(desk):
    results = desk.ran(SHEET, [Status.SUCCEEDED, Status.FAILED, Status.SKIPPED], template=TEMPLATE)
    plan = desk.plan(results, "retry", prompt="{product} falls")
    assert paying(plan) == ["湯気 falls", "Jug falls"]
    (note,) = plan.notes
    assert note.startswith("1 row changed after it was paid for (U1)")
    assert "the prompt was '-Cup turns red light' and is 'Cup falls' now" in warnings(plan)


def test_the_same_prompt_given_again_is_no_edit(desk):
    results = desk.ran(SHEET, template=TEMPLATE)
    plan = desk.plan(results, "retry", prompt=TEMPLATE)
    assert (paying(plan), plan.notes, warnings(plan)) == ([], (), "")


def test_a_prompt_that_was_edited_in_the_results_stays_as_it_was_paid_for(desk):
    results = desk.ran(SHEET, template=TEMPLATE)
    changed = edited(results, lambda records: records[0].update(prompt_sent="A cup falls"))
    plan = desk.plan(changed)
    assert paying(plan) == []
    assert "column 'prompt_sent' was '-Cup turns red light' and is 'A cup falls' now" in warnings(plan)
    assert plan.manifest.rows[0].prompt.startswith("-Cup turns")
    wanted = edited(changed, lambda records: records[0].update(review="redo"))
    assert paying(desk.plan(wanted)) == ["A cup falls"]


def test_a_failed_row_is_made_from_a_prompt_that_was_edited_in_the_results(desk):
    results = desk.ran(SHEET, Status.FAILED, template=TEMPLATE)
    changed = edited(results, lambda records: records[0].update(prompt_sent="A cup falls"))
    assert paying(desk.plan(changed, "retry"))[0] == "A cup falls"


@BOTH
@pytest.mark.parametrize("options", [{}, {"fresh": True}])
def test_a_prompt_that_lost_letters_is_held_back(desk, verb, options):
    results = desk.ran(SHEET, Status.FAILED, template=TEMPLATE)
    damaged = edited(
        results, lambda records: records[1].update(prompt_sent=records[1]["prompt_sent"].replace("湯気", "??"))
    )
    plan = desk.plan(damaged, verb, **options)
    assert not any("??" in (prompt or "") for prompt in paying(plan))
    assert "Column 'prompt_sent' lost letters" in warnings(plan)


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.SKIPPED])
def test_a_table_that_lost_the_column_is_not_made_from_the_prompt_column(desk, status):
    results = desk.ran(SHEET, status, template=TEMPLATE)
    lost = results.replace("prompt_sent", "my notes")
    plan = desk.plan(lost, "retry")
    assert paying(plan) == []
    assert "the table has no column 'prompt_sent' any more" in warnings(plan)
    assert [row.is_rendered for row in plan.manifest.rows] == 3 * [True]
    again = desk.plan(lost, "retry", prompt=TEMPLATE)
    assert len(paying(again)) == (0 if status is Status.SUCCEEDED else 3)


def test_a_row_that_had_no_prompt_yet_needs_one(desk):
    results = desk.ran(SHEET.replace("Jug", ""), Status.SUCCEEDED, template=TEMPLATE)
    plan = desk.plan(results.replace(",,;=green", ",Jug,;=green"), "retry")
    (row,) = plan.invalid
    assert "Column 'prompt_sent' is empty, though other rows have one" in row.problems[0]
    again = desk.plan(results.replace(",,;=green", ",Jug,;=green"), "retry", prompt=TEMPLATE)
    assert as_sent(again) == sent(*COLOURS)[2:]


def test_a_sheet_whose_prompt_columns_are_unclear_is_retried_without_them(desk):
    sheet = SHEET.replace("colour,prompt", "prompt en,prompt de")
    results = desk.ran(sheet, Status.FAILED, template="{product} {prompt en}")
    assert len(desk.plan(results, "retry").at_step(Step.SUBMIT)) == 3


@pytest.mark.parametrize("change", ["cells", "column"])
def test_rows_that_never_had_their_prompt_are_not_made_without_one(desk, change):
    """failed.csv has nothing but such rows, and the ledger knows that the run had a template."""
    results = desk.ran(SHEET.replace("Jug", ""), template=TEMPLATE)
    ledger = desk.prepare(SHEET).ledger
    ledger.open_run(
        run_id=desk.run_id, verb="run", source="sheet.csv", destination=str(desk.destination), command="", rows=3,
        flow_run_id=None, options={"prompt": TEMPLATE}, cap_cents=None,
    )  # fmt: skip
    failed = edited(
        results,
        lambda records: [
            record | {"product": "Jug", "run_id": desk.run_id} for record in records if not record["product"]
        ],
    )
    failed = failed.replace("prompt_sent", "notes") if change == "column" else failed
    plan = desk.plan(failed, "retry")
    assert paying(plan) == []
    assert "give --prompt again" in plan.invalid[0].problems[0]
    assert as_sent(desk.plan(failed, "retry", prompt=TEMPLATE)) == sent(*COLOURS)[2:]
