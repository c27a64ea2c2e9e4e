"""A results table that is given again: a program's change is no order, a person's redo is one, once."""

import dataclasses
import unicodedata

import pytest

from reelsheet.ledger import State
from reelsheet.manifest import rows
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning.plan import Step
from reelsheet.settings import Settings
from tests.planning.desk import edited, paying

SHEET = """sku,image,prompt,take
U1,https://cdn.shop.example/p/1.png,"slow push in\r\nthen hold",
U2,https://cdn.shop.example/p/2.png,湯気がゆっくり立ちのぼる,
U3,https://cdn.shop.example/p/3.png,=orbit left,2
"""
ONE = "sku,image,prompt\nM1,https://cdn.shop.example/p/1.png,café in the rain\n"
PAID = [Status.SUCCEEDED, Status.UNDELIVERED, Status.UNKNOWN]
BOTH = pytest.mark.parametrize("verb", ["run", "retry"])


def prompt(text: str):
    """Every row reads so."""
    return lambda records: [record.update(prompt=text) for record in records] and None


def review(text: str, **cells: str):
    return lambda records: [record.update(review=text, **cells) for record in records] and None


def warnings(plan) -> str:
    return " ".join(warning for row in plan.manifest.rows for warning in row.warnings)


# A program's change


@BOTH
@pytest.mark.parametrize("status", PAID)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\r\n", "\n"),
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: text.replace("湯気がゆっくり立ちのぼる", "????????????").replace("=orbit left", "Err:509"),
        lambda text: text.replace("湯気がゆっくり立ちのぼる", ""),
        lambda text: text.replace("slow push in\r\nthen hold", "slow push in then hold"),
        lambda text: text.replace("=orbit left,2", "=orbit left,2.0"),
        lambda text: text.replace("=orbit left,2", '=orbit left,"2,5"'),
        lambda text: text.replace("https://cdn.shop.example/p/2.png", "cdn.shop.example/p/2.png"),
        lambda text: text.replace("https://cdn.shop.example/p/2.png", "Loading..."),
    ],
    ids=[
        "line-ends",
        "letters",
        "lost-letters",
        "blanked",
        "joined",
        "decimals",
        "no-take",
        "cut-address",
        "no-address",
    ],
)
def test_what_a_program_changed_is_not_paid_for_again(desk, status, change, verb):
    results = desk.ran(SHEET, status)
    plan = desk.plan(change(results), verb)
    assert paying(plan) == []
    assert plan.cost_cents == 0
    assert len(plan.groups) == 3
    states = {group.latest.state for group in plan.groups.values()}
    assert states == {
        {
            Status.SUCCEEDED: State.COMPLETED,
            Status.UNDELIVERED: State.SUBMITTED,
            Status.UNKNOWN: State.UNKNOWN,
        }[status]
    }
    assert not plan.invalid


def test_the_plan_names_what_differs_with_count_and_dollars(desk):
    results = desk.ran(SHEET)
    plan = desk.plan(
        edited(results, lambda records: records[0].update(prompt="slow pull out") or records[2].update(take="3"))
    )
    (note,) = plan.notes
    changed = "2 rows changed after they were paid for (U1, U3). They stay as they were, and nothing more is paid."
    assert note.startswith(changed)
    assert "$1.08" in note
    assert (
        "column 'prompt' was 'slow push in then hold' and is 'slow pull out' now" in plan.manifest.rows[0].warnings[0]
    )
    assert "column 'take' was '2' and is '3' now" in plan.manifest.rows[2].warnings[0]
    assert plan.manifest.rows[1].warnings == ()


def test_the_picture_and_the_expansion_are_named_too(desk):
    sheet = "image,prompt,enable prompt expansion\nhttps://shop.test/1.png,x,\n"
    results = desk.ran(sheet)
    change = {"image": "https://shop.test/2.png", "enable prompt expansion": "yes"}
    plan = desk.plan(edited(results, lambda records: records[0].update(change)))
    assert "column 'image' was 'https://shop.test/1.png' and is 'https://shop.test/2.png' now" in warnings(plan)
    assert "column 'enable prompt expansion' was empty and is 'yes' now" in warnings(plan)


def test_without_the_paid_text_a_row_stays_all_the_same(desk):
    results = desk.ran(ONE)
    for table in desk.destination.rglob("*.csv"):
        table.unlink()
    plan = desk.plan(edited(results, prompt("café in the sun")))
    assert paying(plan) == []
    assert "are not those that were paid for" in warnings(plan)


def test_a_changed_model_is_no_order_either(desk):
    results = desk.ran(ONE)
    desk.settings = Settings(model="i2v-other")
    assert paying(desk.plan(results)) == []
    assert paying(desk.plan(results, fresh=True)) == ["café in the rain"]


@BOTH
def test_fresh_makes_the_new_cells(desk, verb):
    results = desk.ran(ONE)
    plan = desk.plan(edited(results, prompt("café in the sun")), verb, fresh=True)
    assert paying(plan) == ["café in the sun"]
    assert "$0.54" in plan.notes[0]


# Rows that cost nothing, or failed


@pytest.mark.parametrize("status", [Status.SKIPPED, Status.INVALID])
@BOTH
def test_a_row_that_was_not_made_is_made_from_its_cells(desk, status, verb):
    results = desk.ran(ONE, status)
    assert paying(desk.plan(edited(results, prompt("café in the sun")), verb)) == ["café in the sun"]


@BOTH
def test_a_failed_row_is_made_from_its_cells_as_they_stand_now(desk, verb):
    results = desk.ran(ONE, Status.FAILED)
    assert paying(desk.plan(edited(results, prompt("a polite one")), verb)) == ["a polite one"]


def test_a_failed_row_that_nobody_changed_is_paid_for_by_retry_only(desk):
    results = desk.ran(ONE, Status.FAILED)
    assert paying(desk.plan(results)) == []
    assert paying(desk.plan(results, "retry")) == ["café in the rain"]


# Damage


@pytest.mark.parametrize("lost", ["caf? in the rain", "caf\ufffd in the rain", "cafe? in the rain", "caf? in the sun"])
@pytest.mark.parametrize("status", [*PAID, Status.FAILED, Status.SKIPPED])
@BOTH
def test_damaged_text_is_never_sent(desk, lost, status, verb):
    results = desk.ran(ONE, status)
    damaged = edited(results, review("redo", prompt=lost))
    for options in ({}, {"fresh": True}, {"retry_unknown": True}):
        plan = desk.plan(damaged, verb, **options)
        assert paying(plan) == []
        assert "lost letters" in warnings(plan)
    assert any("held back" in note for note in plan.notes)


def test_damage_is_seen_where_the_paid_text_is_not_known(desk):
    results = desk.ran(SHEET, Status.FAILED)
    for table in desk.destination.rglob("*.csv"):
        table.unlink()
    damaged = edited(results, lambda records: records[1].update(prompt="???? ????????"))
    plan = desk.plan(damaged, "retry")
    assert "???? ????????" not in paying(plan)
    assert len(paying(plan)) == 2


def test_a_question_that_a_person_asks_is_no_damage(desk):
    results = desk.ran(ONE, Status.FAILED)
    assert paying(desk.plan(edited(results, prompt("café in the rain?")), "retry")) == ["café in the rain?"]
    assert paying(desk.plan(edited(results, prompt("what? a tea house")), "retry")) == ["what? a tea house"]


# Copies


@BOTH
@pytest.mark.parametrize("status", [*PAID, Status.FAILED, Status.SKIPPED])
def test_copies_are_named_and_not_paid_for(desk, status, verb):
    results = desk.ran(ONE, status)

    def copied(records):
        return [{**records[0], "prompt": "variant A"}, records[0], {**records[0], "sku": "M9", "prompt": "variant B"}]

    plan = desk.plan(edited(results, copied), verb)
    assert not {"variant A", "variant B"} & set(paying(plan))
    assert [len(group.positions) for group in plan.groups.values()] == [3]
    assert any(note.startswith("2 rows are copies") and "$1.08" in note for note in plan.notes)
    assert "This row is a copy of M1" in plan.manifest.rows[2].warnings[-1]


def test_a_copy_whose_result_cells_are_cleared_is_an_order(desk):
    results = desk.ran(ONE)

    def cleared(records):
        inputs = {"sku": "M2", "image": records[0]["image"], "prompt": "variant"}
        return [records[0], {name: inputs.get(name, "") for name in records[0]}]

    assert paying(desk.plan(edited(results, cleared))) == ["variant"]


def test_a_copy_is_ordered_by_redo_too(desk):
    results = desk.ran(ONE)
    plan = desk.plan(edited(results, lambda records: [records[0], {**records[0], "prompt": "B", "review": "redo"}]))
    assert paying(plan) == ["B"]


def test_a_row_with_the_paid_text_pays_even_where_a_copy_stands_first(desk):
    results = desk.ran(ONE)
    plan = desk.plan(
        edited(results, lambda records: [{**records[0], "prompt": "variant"}, {**records[0], "review": "redo"}])
    )
    assert paying(plan) == ["café in the rain"]


# Another API


@BOTH
def test_a_table_from_the_sandbox_is_a_new_order_at_the_real_address(desk, verb):
    desk.settings = Settings(base_url="http://127.0.0.1:8123")
    results = desk.ran(ONE)
    desk.settings = Settings()
    plan = desk.plan(edited(results, prompt("café in the sun")), verb)
    assert paying(plan) == ["café in the sun"]
    assert any("another API address" in note and "$0.54" in note for note in plan.notes)


# Redo


@BOTH
@pytest.mark.parametrize("said", ["redo", "REDO!", " redo. ", "Redo", "\u00a0redo\n", "«redo»", "re-do"])
def test_redo_is_the_word_without_case_blanks_and_punctuation(desk, said, verb):
    results = desk.ran(ONE)
    prepared = desk.prepare(edited(results, review(said)), verb)
    assert paying(prepared.plan) == ["café in the rain"]
    assert "1 row with redo (M1): the new clip costs $0.54." in prepared.plan.notes


@BOTH
@pytest.mark.parametrize("said", ["redo please", "wiederholen", "yes", "redo1", "undo", "re do it", "❌"])
def test_any_other_word_is_answered_and_pays_nothing(desk, said, verb):
    results = desk.ran(ONE)
    plan = desk.plan(edited(results, review(said)), verb)
    assert paying(plan) == []
    assert any(said in note and "They pay nothing" in note for note in plan.notes)
    assert said in warnings(plan)


@pytest.mark.parametrize("said", ["ok", "OK!", " Ok. ", ""])
def test_ok_is_no_word_to_answer(desk, said):
    plan = desk.plan(edited(desk.ran(ONE), review(said)))
    assert (paying(plan), plan.notes, warnings(plan)) == ([], (), "")


@BOTH
@pytest.mark.parametrize("missing", [["identity"], ["attempt"], ["identity", "attempt", "prediction_id"]])
def test_redo_without_its_cells_is_answered(desk, missing, verb):
    results = desk.ran(ONE)
    plan = desk.plan(edited(results, review("redo", **dict.fromkeys(missing, ""))), verb)
    assert paying(plan) == []
    assert "redo was not followed" in warnings(plan)
    assert any("redo was not followed" in note for note in plan.notes)


@BOTH
def test_redo_in_a_table_without_its_technical_columns_is_answered(desk, verb):
    results = edited(desk.ran(ONE), review("redo")).splitlines()
    header = results[0].split(",")
    keep = [n for n, name in enumerate(header) if name not in {"identity", "run_id", "video_sha256"}]
    shortened = "\n".join(",".join(line.split(",")[n] for n in keep) for line in results)
    plan = desk.plan(shortened, verb)
    assert paying(plan) == []
    assert any("redo was not followed" in note and "identity" in note for note in plan.notes)


def test_redo_in_a_sheet_that_is_no_results_table_is_answered(desk):
    plan = desk.plan("image,prompt,review\nhttps://shop.test/1.png,x,redo\nhttps://shop.test/2.png,y,nice\n")
    assert len(paying(plan)) == 2
    assert any("1 cell says redo in the column 'review'" in note for note in plan.notes)


@BOTH
def test_redo_of_an_attempt_that_was_replaced_since_is_answered(desk, verb):
    table = edited(desk.ran(ONE), review("redo"))
    desk.run_id = "20260116-120000-abc124"
    desk.ran(ONE, attempt=2, prediction_id="p-2", total_cost_cents=108)
    for text in (table, table.replace("café in the rain", "café in the sun")):
        plan = desk.plan(text, verb)
        assert paying(plan) == []
        assert "attempt 1 was replaced by attempt 2" in warnings(plan)


@BOTH
@pytest.mark.parametrize("status", PAID)
def test_redo_with_edited_cells_makes_the_new_cells(desk, status, verb):
    plan = desk.plan(edited(desk.ran(ONE, status), review("redo", prompt="café in the sun")), verb)
    assert paying(plan) == ["café in the sun"]
    assert "1 row with redo (M1): the new clip costs $0.54." in plan.notes


def test_redo_with_edited_cells_reuses_a_clip_that_they_have(desk):
    table = edited(desk.ran(ONE), review("redo", prompt="café in the sun"))
    desk.run_id = "20260116-120000-abc124"
    desk.ran(ONE.replace("rain", "sun"))
    plan = desk.plan(table)
    assert paying(plan) == []
    assert [group.step for group in plan.groups.values()] == [Step.DONE]
    assert "1 row with redo (M1): the new clip costs $0.00." in plan.notes


@BOTH
def test_redo_of_a_failed_row_pays(desk, verb):
    assert paying(desk.plan(edited(desk.ran(ONE, Status.FAILED), review("redo")), verb)) == ["café in the rain"]


@BOTH
def test_redo_of_an_unknown_row_is_answered(desk, verb):
    plan = desk.plan(edited(desk.ran(ONE, Status.UNKNOWN), review("redo")), verb)
    assert paying(plan) == []
    assert "Settle that first" in warnings(plan)


@BOTH
def test_redo_of_a_clip_that_may_still_come_fetches_that_first(desk, verb):
    plan = desk.plan(edited(desk.ran(ONE, Status.UNDELIVERED), review("redo")), verb)
    assert [group.step for group in plan.groups.values()] == [Step.POLL]
    assert "fetched at no cost; look at it first" in warnings(plan)


@pytest.mark.parametrize("code", [ErrorCode.LOST, ErrorCode.NO_OUTPUT, ErrorCode.ASSET_CORRUPT])
def test_redo_of_a_clip_that_cannot_come_any_more_pays(desk, code):
    table = edited(desk.ran(ONE, Status.UNDELIVERED, error_code=code), review("redo"))
    assert paying(desk.plan(table)) == ["café in the rain"]


# What nothing here knows


@BOTH
@pytest.mark.parametrize("deleted", [(), ("identity",), ("prediction_id",), ("identity", "prediction_id"), ("status",)])
def test_a_row_that_the_table_calls_paid_is_not_paid_for_by_a_ledger_that_knows_nothing(desk, deleted, verb):
    table = desk.ran(ONE)
    desk.run_id = "elsewhere"
    for path in sorted(desk.destination.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    blanked = edited(table, lambda records: records[0].update(dict.fromkeys(deleted, "")))
    if deleted == ("status",):
        header, *rest = table.splitlines()
        blanked = "\n".join([header.replace(",status,", ",my status,"), *rest])
    plan = desk.plan(blanked, verb)
    assert paying(plan) == []
    assert paying(desk.plan(blanked, verb, fresh=True)) == ["café in the rain"]


def test_an_edited_row_is_known_by_its_prediction_where_its_identity_is_gone(desk):
    table = edited(desk.ran(ONE), lambda records: records[0].update(identity="", prompt="café in the sun"))
    plan = desk.plan(table)
    assert paying(plan) == []
    assert "column 'prompt' was 'café in the rain'" in warnings(plan)


# Rows that the run does not choose


@pytest.mark.parametrize("status", [*PAID, Status.FAILED])
def test_an_edited_row_that_is_hidden_keeps_its_standing(desk, monkeypatch, status):
    """Hidden rows come from workbooks only; what happens to them then is the same."""
    results = edited(desk.ran(ONE, status), review("redo", prompt="café in the sun"))
    hide(monkeypatch, 0)
    plan = desk.plan(results, "retry", fresh=True)
    assert paying(plan) == []
    assert [group.latest is not None for group in plan.groups.values()] == [True]


def test_a_copy_of_a_hidden_row_is_not_paid_for_in_its_place(desk, monkeypatch):
    results = desk.ran(ONE, Status.FAILED)
    hide(monkeypatch, 0)
    plan = desk.plan(edited(results, lambda records: [records[0], {**records[0], "prompt": "variant"}]), "retry")
    assert paying(plan) == []


def hide(monkeypatch, position):
    parse = rows.parse

    def parse_and_hide(*arguments, **options):
        manifest = parse(*arguments, **options)
        hidden = [
            dataclasses.replace(row, left_out=ErrorCode.HIDDEN) if row.position == position else row
            for row in manifest.rows
        ]
        return dataclasses.replace(manifest, rows=tuple(hidden))

    monkeypatch.setattr(rows, "parse", parse_and_hide)
