"""Which rows --where chooses."""

import io

import openpyxl
import pytest

from reelsheet.display.plan_screen import plan_json, show_plan
from reelsheet.errors import UsageError
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning.choice import Condition
from tests.planning.desk import edited, paying

SHEET = """\
sku,image,prompt,Campaign,approve
S1,https://a.example/1.png,one,Spring,yes
S2,https://a.example/2.png,two,spring ,
S3,https://a.example/3.png,three,autumn,Yes
S4,https://a.example/4.png,four,,no
"""


@pytest.mark.parametrize(
    ("text", "column", "value", "is_equal"),
    [
        ("a=b", "a", "b", True),
        (" a b = b c ", "a b", "b c", True),
        ("a!=b", "a", "b", False),
        ("a=b=c", "a", "b=c", True),
        ("a=!b", "a", "!b", True),
        ("a==b", "a", "=b", True),
        ("a!==b", "a", "=b", False),
        ("a=b!=c", "a", "b!=c", True),
        ("a=", "a", "", True),
        ("a!=", "a", "", False),
        ("a !=b", "a", "b", False),
    ],
)
def test_the_first_equals_sign_divides_column_and_value(text, column, value, is_equal):
    assert Condition.parse(text) == Condition(text, column, value, is_equal)


@pytest.mark.parametrize("text", ["", "campaign", "=spring", "!=spring", " = ", "campaign!spring", "a<b"])
def test_what_is_no_condition_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="write COLUMN=VALUE"):
        Condition.parse(text)


CHOSEN = {
    ("campaign=spring",): ["one", "two"],
    ("CAMPAIGN= SPRING ",): ["one", "two"],
    ("cam-paign=Spring",): ["one", "two"],
    ("campaign!=spring",): ["three", "four"],
    ("campaign=",): ["four"],
    ("campaign!=",): ["one", "two", "three"],
    ("approve=yes", "campaign=spring"): ["one"],
    ("approve!=no", "approve!="): ["one", "three"],
    ("prompt=two",): ["two"],
    ("image=https://a.example/3.png",): ["three"],
    ("sku!=s1", "sku!=S2"): ["three", "four"],
    ("campaign=autumn", "approve=no"): [],
    ("status=",): ["one", "two", "three", "four"],
    ("status!=succeeded",): ["one", "two", "three", "four"],
    ("status=failed",): [],
    ("error code=moderated",): [],
    ("review=redo",): [],
}


def test_rows_are_chosen_by_their_cells(desk):
    for where, prompts in CHOSEN.items():
        plan = desk.plan(SHEET, where=where)
        assert paying(plan) == prompts, where
        assert plan.chosen_rows == len(prompts)
        assert {row.left_out for row in plan.manifest.rows if row.prompt not in prompts} <= {ErrorCode.NOT_CHOSEN}


def test_cells_are_compared_without_case_in_every_script(desk):
    sheet = "image,prompt,Größe\nhttps://a.example/1.png,a,STRASSE\nhttps://a.example/2.png,b,cafe\u0301\n"
    assert paying(desk.plan(sheet, where=("GRÖSSE=straße",))) == ["a"]
    assert paying(desk.plan(sheet, where=("größe=CAFÉ",))) == ["b"]


def test_a_column_that_is_not_there_is_refused_and_those_that_are_there_are_named(desk):
    for where in ("campain=spring", "Campaign name!=x", "status of it=failed"):
        with pytest.raises(UsageError) as refused:
            desk.plan(SHEET, where=(where,))
        for name in ("'sku'", "'image'", "'Campaign'", "status", "error_code"):
            assert name in str(refused.value)


def test_the_column_that_comes_nearest_is_named_first(desk):
    with pytest.raises(UsageError, match="there is 'Campaign', 'sku', 'image'"):
        desk.plan(SHEET, where=("campain=spring",))


def test_a_value_that_a_column_of_the_sheet_does_not_have_is_refused(desk):
    for where in ("campaign=winter", "approve=ja", "sku=", "sku=S", "prompt=on"):
        with pytest.raises(UsageError, match="no row has"):
            desk.plan(SHEET, where=(where,))


def test_the_values_that_are_there_are_named_where_they_are_few(desk):
    with pytest.raises(UsageError, match="'Campaign'; it has empty cells, 'Spring', 'autumn'\\."):
        desk.plan(SHEET, where=("campaign=winter",))
    many = "image,sku\n" + "".join(f"https://a.example/{n}.png,S{n}\n" for n in range(30))
    with pytest.raises(UsageError, match="30 different ones"):
        desk.plan(many, where=("sku=T1",))


def test_a_value_that_nobody_has_is_a_warning_where_it_is_excluded(desk):
    prepared = desk.prepare(SHEET, where=("campaign!=winter",))
    assert len(paying(prepared.plan)) == 4
    assert any("no row has the value 'winter'" in note for note in prepared.plan.notes)


def test_a_word_that_is_no_status_is_a_warning(desk):
    plan = desk.plan(SHEET, where=("status=suceeded",))
    assert (paying(plan), plan.chosen_rows) == ([], 0)
    assert any("undelivered" in note for note in plan.notes)


def test_where_there_are_no_earlier_results_the_plan_says_so(desk):
    assert any("no earlier results" in note for note in desk.plan(SHEET, where=("status=failed",)).notes)
    desk.ran(SHEET, Status.FAILED)
    assert not any("no earlier results" in note for note in desk.plan(SHEET, where=("status=failed",)).notes)


def test_a_sheet_without_rows_has_nothing_to_choose_from(desk):
    assert desk.plan("image,campaign\n", where=("campaign=spring",)).chosen_rows == 0


def test_two_columns_of_one_name_are_refused(desk):
    sheet = "image,group,group\nhttps://a.example/1.png,a,b\n"
    with pytest.raises(UsageError, match="2 columns of that name"):
        desk.plan(sheet, where=("group=a",))


def test_an_input_column_of_a_result_s_name_is_the_input_s(desk):
    sheet = "image,prompt,Status\nhttps://a.example/1.png,one,ready\nhttps://a.example/2.png,two,draft\n"
    desk.ran(sheet, [Status.FAILED, Status.SUCCEEDED])
    assert paying(desk.plan(sheet, where=("status=ready",), fresh=True)) == ["one"]
    assert paying(desk.plan(sheet, where=("reelsheet_status=succeeded",), fresh=True)) == ["two"]


def test_results_of_a_plain_sheet_are_those_of_the_destination_s_latest_table(desk):
    desk.ran(SHEET, [Status.FAILED, Status.SUCCEEDED, Status.UNDELIVERED, Status.SKIPPED])
    turned = "\n".join([SHEET.splitlines()[0], *reversed(SHEET.splitlines()[1:])])
    for where, chosen in {
        "status=failed": ["S1"],
        "status!=failed": ["S4", "S3", "S2"],
        "error_code=generation_failed": ["S1"],
        "attempt=1": ["S3", "S2", "S1"],
        "total cost usd=0.54": ["S3", "S2", "S1"],
    }.items():
        plan = desk.plan(turned, where=(where,))
        assert [row.id for row in plan.manifest.rows if row.left_out is None] == chosen, where
    assert paying(desk.plan(turned, where=("status=failed",), fresh=True)) == ["one"]


def test_a_results_table_is_asked_for_its_own_cells(desk):
    content = desk.ran(SHEET, [Status.FAILED, Status.FAILED, Status.SUCCEEDED, Status.SUCCEEDED])

    def reviewed(records):
        records[0]["review"], records[2]["review"], records[3]["review"] = "ok", "redo", "redo"
        records[1]["error_code"] = "moderated"

    table = edited(content, reviewed)
    assert paying(desk.plan(table, "retry", where=("review=redo",))) == ["three", "four"]
    assert paying(desk.plan(table, "retry", where=("review=redo", "sku=S4"))) == ["four"]
    assert paying(desk.plan(table, "retry", where=("error_code=moderated",))) == ["two"]
    assert paying(desk.plan(table, "retry", where=("review=",))) == ["two"]
    assert paying(desk.plan(table, "retry")) == ["one", "two", "three", "four"]


def test_redo_on_a_row_that_is_not_chosen_is_answered_and_not_paid(desk):
    table = edited(desk.ran(SHEET), lambda records: [record | {"review": "redo"} for record in records])
    plan = desk.plan(table, "retry", where=("campaign=autumn",))
    assert paying(plan) == ["three"]
    answered = [group.row.id for group in plan.groups.values() if "Redo was not followed" in " ".join(group.warnings)]
    assert answered == ["S1", "S2", "S4"]


def test_rows_that_results_call_not_chosen_wait_for_a_condition_that_chooses_them(desk):
    table = desk.ran(SHEET, Status.SKIPPED, error_code=ErrorCode.NOT_CHOSEN)
    for verb in ("run", "retry"):
        assert paying(desk.plan(table, verb)) == []
        assert paying(desk.plan(table, verb, fresh=True, include_hidden=True)) == []
        assert paying(desk.plan(table, verb, where=("sku=S2",))) == ["two"]
        assert paying(desk.plan(table, verb, where=("error_code=not_chosen", "approve=yes"))) == ["one", "three"]
    assert len(paying(desk.plan(SHEET))) == 4, "a plain sheet says nothing of earlier choices"


def test_a_hidden_row_stays_hidden_though_it_is_chosen(desk):
    book = openpyxl.Workbook()
    for line in SHEET.splitlines():
        book.active.append(line.split(","))
    book.active.row_dimensions[2].hidden = True
    content = io.BytesIO()
    book.save(content)
    plan = desk.plan(content.getvalue(), where=("campaign=spring",), name="mine.xlsx")
    assert [row.left_out for row in plan.manifest.rows] == [ErrorCode.HIDDEN, None, *[ErrorCode.NOT_CHOSEN] * 2]
    plan = desk.plan(content.getvalue(), where=("campaign=spring",), include_hidden=True, name="mine.xlsx")
    assert paying(plan) == ["one", "two"]


def test_money_stands_on_the_first_row_that_is_chosen(desk):
    same = SHEET.replace("3.png,three", "1.png,one")
    plan = desk.plan(same, where=("campaign=autumn",))
    (group,) = plan.at_step("submit")
    assert (group.row.id, group.positions) == ("S3", [2, 0])
    assert plan.cost_cents == 54


def test_a_limit_counts_only_rows_that_are_chosen(desk):
    plan = desk.plan(SHEET, where=("approve=no",), limit=1)
    assert paying(plan) == ["four"]
    assert {group.row.id for group in plan.groups.values() if group.error_code == ErrorCode.OVER_LIMIT} == set()


def test_rows_that_are_not_chosen_keep_an_earlier_standing(desk):
    table = desk.ran(SHEET, [Status.SUCCEEDED, Status.FAILED, Status.UNKNOWN, Status.SUCCEEDED])
    plan = desk.plan(table, where=("sku=S4",), fresh=True)
    assert [group.error_code for group in plan.groups.values() if group.left_out] == [None, None, None]
    assert plan.left_out_rows.total() == 0


def test_a_refusal_by_the_provider_is_a_standing_too(desk):
    refused = {"error_code": ErrorCode.MODERATED, "error": "It was flagged.", "attempt": None, "prediction_id": ""}
    table = desk.ran(SHEET, Status.FAILED, **refused | {"total_cost_cents": 0})
    plan = desk.plan(table, "retry", where=("sku=S4",))
    assert paying(plan) == ["four"]
    said = {(group.status, group.error_code, group.error) for group in plan.groups.values() if group.left_out}
    assert said == {(Status.FAILED, ErrorCode.MODERATED, "It was flagged.")}


def test_the_plan_says_how_many_rows_are_chosen_and_by_what(desk):
    prepared = desk.prepare(SHEET, where=("campaign=spring", "approve!="))
    told = plan_json(prepared)
    assert (told["chosen"], told["pay"], told["not_chosen"], told["not_chosen_usd"]) == (1, 1, 3, 1.62)
    assert told["where"] == ["campaign=spring", "approve!="]
    screen = io.StringIO()
    show_plan(prepared, screen)
    assert "1 of 4 rows chosen by --where campaign=spring and approve!=" in screen.getvalue()
    assert "not chosen, left out" in screen.getvalue()
