"""Paying again: only with a permission that names the attempt, and once."""

import pytest

from reelsheet.ledger import Claimed, Known, State


def test_a_paid_row_is_paid_again_only_by_the_run_that_may(opens):
    first = opens("r1")
    first.submitted()
    second, third = opens("r2", permissions={"a": 1}), opens("r3")
    assert isinstance(third.claim(), Known)
    assert second.claimed().number == 2
    second.ledger.record_id(second.ledger.history("a").latest, "p2", 54)
    assert isinstance(second.claim(), Known)  # spent


def test_a_refused_second_try_leaves_the_first_in_force(opens):
    """A plain run must not take the vacant second attempt for a row that was never paid for."""
    first = opens("r1")
    first.ledger.record_completed(first.submitted(), None)
    again = opens("r2", permissions={"a": 1})
    refused = again.ledger.record_refused(again.claimed(), None, None)
    again.ledger.mark_unawaited(refused)
    assert again.state() == State.COMPLETED
    assert isinstance(opens("r3").claim(), Known)
    assert again.claimed().number == 2  # its own permission was not spent


def test_an_unknown_row_stays_unknown_when_the_retry_was_refused(opens):
    first = opens("r1")
    first.unknown()
    again = opens("r2", permissions={"a": 1})
    again.ledger.record_refused(again.claimed(), None, None)
    assert again.state() == State.UNKNOWN
    assert isinstance(opens("r3").claim(), Known)


def test_the_same_command_repeated_while_unfinished_shares_the_permission(opens):
    opens("r0").submitted()
    killed = opens("r1", command="fresh", permissions={"a": 1})
    killed.submitted("a", "p2")
    repeated = opens("r2", command="fresh", permissions={"a": 2})
    assert repeated.ledger.run("r2").permit == "r1"
    assert isinstance(repeated.claim(), Known)


def test_permission_that_the_killed_run_did_not_use_is_used_by_the_next(opens):
    opens("r0").submitted()
    opens("r1", command="fresh", permissions={"a": 1})
    assert opens("r2", command="fresh", permissions={"a": 1}).claimed().number == 2


def test_rows_that_the_unfinished_run_had_no_permission_for_get_one(opens):
    """`--fresh --limit 1`, stopped, then `--fresh`: the other rows are paid again too, the first one not."""
    old = opens("r0")
    old.submitted("a")
    old.submitted("b")
    limited = opens("r1", command="fresh", permissions={"a": 1})
    limited.submitted("a", "p2")
    whole = opens("r2", command="fresh", permissions={"a": 2, "b": 1})
    assert isinstance(whole.claim("a"), Known)
    assert whole.claimed("b").number == 2


def test_a_row_first_paid_by_the_unfinished_run_is_not_paid_again_by_its_continuation(opens):
    opens("r0").submitted("a")
    killed = opens("r1", command="fresh", permissions={"a": 1})
    killed.submitted("new")
    assert isinstance(opens("r2", command="fresh", permissions={"new": 1}).claim("new"), Known)


@pytest.mark.parametrize(("exit_code", "shared"), [(0, False), (1, False), (3, True), (4, True), (130, True)])
def test_a_finished_run_is_not_continued(opens, exit_code, shared):
    opens("r0").submitted()
    first = opens("r1", command="fresh", permissions={"a": 1})
    first.submitted("a", "p2")
    first.ledger.finish_run("r1", exit_code=exit_code, summary={})
    second = opens("r2", command="fresh", permissions={"a": 2})
    assert isinstance(second.claim(), Known if shared else Claimed)
    assert (second.ledger.run("r2").permit == "r1") is shared


def test_another_command_has_permissions_of_its_own(opens):
    opens("r0").submitted()
    opens("r1", command="fresh", permissions={"a": 1}).submitted("a", "p2")
    assert opens("r2", command="another", permissions={"a": 2}).claimed().number == 3
