"""The next step of an identity, and what a plan makes of rows, limits and names."""

import pytest

from reelsheet.ledger import Attempt, Delivery, IdentityHistory, State
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.manifest.table import text_frame
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning import plan
from reelsheet.planning.plan import OPEN, RowGroup, Step, next_step
from reelsheet.storage import object_names

HERE = "s3://clips/spring"


def history(state: State, *, delivered_to: str | None = None) -> IdentityHistory:
    attempt = Attempt(1, "a" * 64, 1, state, None, "run", "2026-01-15", 54)
    delivery = Delivery(1, delivered_to or "", 0, 1, "videos/a.mp4", 9, "", None, None, None)
    return IdentityHistory((attempt,), (delivery,) if delivered_to else ())


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (State.REFUSED, Step.SUBMIT),
        (State.ABANDONED, Step.SUBMIT),
        (State.CLAIMED, Step.POLL),
        (State.SUBMITTED, Step.POLL),
        (State.COMPLETED, Step.COPY),
        (State.UNKNOWN, Step.REPORT),
        (State.FAILED, Step.REPORT),
    ],
)
def test_the_state_of_the_latest_attempt_decides_the_next_step(state, step):
    assert next_step(history(state), HERE, None, may_repay=False) is step


def test_what_was_never_attempted_is_submitted():
    assert next_step(None, HERE, None, may_repay=False) is Step.SUBMIT


@pytest.mark.parametrize("state", list(State))
def test_a_permission_to_pay_again_leads_to_a_submission(state):
    assert next_step(history(state), HERE, None, may_repay=True) is Step.SUBMIT


@pytest.mark.parametrize(
    ("delivered_to", "objects", "step"),
    [
        (HERE, None, Step.DONE),
        (HERE, frozenset({"videos/a.mp4"}), Step.DONE),
        (HERE, frozenset(), Step.COPY),
        ("s3://clips/autumn", None, Step.COPY),
    ],
)
def test_a_delivery_counts_at_its_own_destination_while_its_object_is_there(delivered_to, objects, step):
    assert next_step(history(State.COMPLETED, delivered_to=delivered_to), HERE, objects, may_repay=False) is step


def test_without_a_destination_any_delivery_will_do():
    assert next_step(history(State.COMPLETED, delivered_to="anywhere"), "", None, may_repay=False) is Step.DONE


def groups(*steps: Step) -> list[RowGroup]:
    return [RowGroup(f"{n:064x}", Row(n, n + 2), [n], step=step) for n, step in enumerate(steps)]


def test_a_limit_counts_only_rows_that_need_a_step_and_skips_the_others_with_a_sentence():
    rows = groups(Step.DONE, Step.SUBMIT, Step.POLL, Step.COPY, Step.REPORT)
    plan.apply_limit(rows, 2)
    assert [group.error_code for group in rows] == [None, None, None, ErrorCode.OVER_LIMIT, None]
    assert rows[3].status is Status.SKIPPED
    assert "--limit 2" in rows[3].error
    made = plan.Plan(
        Manifest("m.csv", text_frame(["image"], []), (), {}), {group.identity: group for group in rows}, 54
    )
    assert [group.step for group in made.at_step(*OPEN)] == [Step.SUBMIT, Step.POLL]
    assert made.cost_cents == 54


@pytest.mark.parametrize(
    ("state", "step", "status"),
    [
        (None, Step.SUBMIT, Status.SKIPPED),
        (State.REFUSED, Step.SUBMIT, Status.SKIPPED),
        (State.SUBMITTED, Step.POLL, Status.UNDELIVERED),
        (State.COMPLETED, Step.COPY, Status.UNDELIVERED),
        (State.FAILED, Step.REPORT, None),
        (State.UNKNOWN, Step.REPORT, None),
    ],
)
def test_rows_that_are_left_out_keep_what_they_have_and_no_permission_helps(state, step, status):
    row = Row(0, 2, "https://a.example/1.jpg", left_out=ErrorCode.HIDDEN)
    manifest = Manifest("m.xlsx", text_frame(["image"], [[row.image]]), (row,), {})
    made = plan.make_plan(
        manifest, {0: "a" * 64}, {"a" * 64: history(state)} if state else {},
        destination=HERE, objects=None, may_repay=lambda _: True, price_cents=54,
    )  # fmt: skip
    (group,) = made.groups.values()
    assert (group.step, group.status) == (step, status)
    assert group.error_code is (ErrorCode.HIDDEN if status else None)
    assert made.at_step(*Step) == []
    assert (made.cost_cents, made.left_out_cents.total()) == (0, 54 if step is Step.SUBMIT else 0)
    assert made.left_out_rows.total() == (1 if status else 0)


def test_money_stands_on_the_first_row_that_is_not_left_out():
    hidden = Row(0, 2, "https://a.example/1.jpg", left_out=ErrorCode.HIDDEN)
    shown = Row(1, 3, "https://a.example/1.jpg")
    manifest = Manifest("m.xlsx", text_frame(["image"], [[shown.image]] * 2), (hidden, shown), {})
    made = plan.make_plan(
        manifest, {0: "a" * 64, 1: "a" * 64}, {},
        destination=HERE, objects=None, may_repay=lambda _: False, price_cents=54,
    )  # fmt: skip
    (group,) = made.groups.values()
    assert (group.row, group.positions, made.left_out_rows.total()) == (shown, [1, 0], 0)
    assert made.cost_cents == 54


def test_a_group_that_goes_on_drops_what_was_said_of_it_before():
    (group,) = groups(Step.SUBMIT)
    group.set_outcome(Status.SKIPPED, ErrorCode.INTERRUPTED, "Not attempted.")
    group.advance(Step.POLL)
    assert (group.step, group.outcome) == (Step.POLL, None)
    group.leave(Step.REPORT, Status.FAILED, ErrorCode.MODERATED, "Flagged.")
    assert (group.step, group.status, group.error) == (Step.REPORT, Status.FAILED, "Flagged.")


def test_an_attempt_takes_the_place_of_the_one_with_its_number():
    (group,) = groups(Step.SUBMIT)
    for number, state in ((2, State.CLAIMED), (1, State.FAILED), (2, State.SUBMITTED)):
        group.add_attempt(Attempt(number, group.identity, number, state, None, "run", "2026-01-15", 54))
    assert group.history is not None
    assert [(one.number, one.state) for one in group.history.attempts] == [(1, State.FAILED), (2, State.SUBMITTED)]


def test_step_and_outcome_are_written_in_one_module_only():
    import ast
    from pathlib import Path

    root = Path(__file__).parents[2]
    for path in [*(root / "reelsheet").rglob("*.py"), *(root / "flows").rglob("*.py"), *(root / "tasks").rglob("*.py")]:
        if path == root / "reelsheet" / "planning" / "plan.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            targets = node.targets if isinstance(node, ast.Assign) else []
            written = {target.attr for target in targets if isinstance(target, ast.Attribute)}
            assert not written & {"step", "outcome"}, f"{path}:{node.lineno}"


def test_names_that_two_identities_would_share_get_more_of_the_identity():
    alike = [RowGroup(f"{'a' * 8}{n}" + "0" * 55, Row(n, n, prompt="same"), [n]) for n in range(2)]
    other = RowGroup("b" * 64, Row(2, 2, prompt="same"), [2])

    def name_of(one: RowGroup) -> str:
        return object_names.default_name("", one.row.prompt, one.identity, width=one.name_width)

    assert plan.lengthen_shared_names([*alike, other], name_of) == 2
    assert len({name_of(one) for one in (*alike, other)}) == 3
    assert other.name_width == object_names.WIDTH
