"""Paying again: only with a permission that names the attempt, and once."""

import pytest

from reelsheet.errors import LedgerError
from reelsheet.ledger import Claimed, Found, OverBudget, Sheet, State


def test_a_paid_row_is_paid_again_only_by_the_run_that_may(opens):
    first = opens("r1")
    first.submitted()
    second, third = opens("r2", permissions={"a": 1}), opens("r3")
    assert isinstance(third.claim(), Found)
    assert second.claimed().number == 2
    second.ledger.record_id(second.ledger.history("a").latest, "p2", 54)
    assert isinstance(second.claim(), Found)  # spent


def test_a_refused_second_try_leaves_the_first_in_force(opens):
    """A plain run must not take the vacant second attempt for a row that was never paid for."""
    first = opens("r1")
    first.ledger.record_completed(first.submitted(), None)
    again = opens("r2", permissions={"a": 1})
    refused = again.ledger.record_refused(again.claimed(), None, None)
    again.ledger.mark_unawaited(refused)
    assert again.state() == State.COMPLETED
    assert isinstance(opens("r3").claim(), Found)
    assert again.claimed().number == 2  # its own permission was not spent


def test_an_unknown_row_stays_unknown_when_the_retry_was_refused(opens):
    first = opens("r1")
    first.unknown()
    again = opens("r2", permissions={"a": 1})
    again.ledger.record_refused(again.claimed(), None, None)
    assert again.state() == State.UNKNOWN
    assert isinstance(opens("r3").claim(), Found)


def test_the_same_command_repeated_while_unfinished_shares_the_permission(opens):
    opens("r0").submitted()
    killed = opens("r1", command="fresh", permissions={"a": 1})
    killed.submitted("a", "p2")
    repeated = opens("r2", command="fresh", permissions={"a": 2})
    assert repeated.ledger.run("r2").permit == "r1"
    assert isinstance(repeated.claim(), Found)


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
    assert isinstance(whole.claim("a"), Found)
    assert whole.claimed("b").number == 2


def test_a_row_first_paid_by_the_unfinished_run_is_not_paid_again_by_its_continuation(opens):
    opens("r0").submitted("a")
    killed = opens("r1", command="fresh", permissions={"a": 1})
    killed.submitted("new")
    assert isinstance(opens("r2", command="fresh", permissions={"new": 1}).claim("new"), Found)


@pytest.mark.parametrize(("exit_code", "shared"), [(0, False), (1, False), (3, True), (4, True), (130, True)])
def test_a_finished_run_is_not_continued(opens, exit_code, shared):
    opens("r0").submitted()
    first = opens("r1", command="fresh", permissions={"a": 1})
    first.submitted("a", "p2")
    first.ledger.finish_run("r1", exit_code=exit_code, summary={})
    second = opens("r2", command="fresh", permissions={"a": 2})
    assert isinstance(second.claim(), Found if shared else Claimed)
    assert (second.ledger.run("r2").permit == "r1") is shared


def test_another_command_has_permissions_of_its_own(opens):
    opens("r0").submitted()
    opens("r1", command="fresh", permissions={"a": 1}).submitted("a", "p2")
    assert opens("r2", command="another", permissions={"a": 2}).claimed().number == 3


def test_the_same_flow_run_is_the_same_run_with_its_money_and_cap(book, registers):
    first = registers(book.ledger, "f1", flow_run_id="flow", cap_cents=54)
    assert not first.resumed
    attempt = book.ledger.claim("a", run_id="f1", price_cents=54).attempt
    book.ledger.record_id(attempt, "p", 54)
    book.ledger.finish_run("f1", exit_code=3, summary={})
    again = registers(book.ledger, "f2", flow_run_id="flow", cap_cents=10_000, permissions={"a": 1})
    assert (again.run_id, again.resumed, again.cap_cents, again.finished_at) == ("f1", True, 54, None)
    assert isinstance(book.ledger.claim("a", run_id="f1", price_cents=54), Found)  # a retry gives no new permission
    assert book.ledger.claim("b", run_id="f1", price_cents=54) == OverBudget("run", 54)


def test_a_run_is_found_by_the_beginning_of_its_id(book, registers):
    registers(book.ledger, "20260115-120000-1f3a9c")
    registers(book.ledger, "20260115-120000-2b3a9c")
    assert book.ledger.run("20260115-120000-1").run_id == "20260115-120000-1f3a9c"
    assert book.ledger.run("20260115") is None


def test_a_runs_rows_are_kept(book, registers):
    sheet = Sheet((2, 3), ("mug", "Tässe"), ("a", ""))
    registers(book.ledger, "s1", sheet=sheet)
    assert book.ledger.sheet("s1") == sheet
    assert book.ledger.sheet("r1") is None


class TestResolve:
    """What a person found in the provider's dashboard."""

    def test_an_id_makes_it_paid(self, book):
        book.unknown()
        history = book.ledger.resolve("a", "found")
        assert (history.latest.state, history.latest.prediction_id) == (State.SUBMITTED, "found")
        assert (history.total_cents, history.risk_cents) == (54, 0)
        assert book.ledger.run("r1").confirmed_cents == 54

    def test_abandoned_frees_it_to_be_asked_again(self, book):
        book.unknown()
        assert book.ledger.resolve("a", None).is_free
        assert book.ledger.run("r1").at_risk_cents == 0
        assert book.claimed().number == 1

    def test_abandoned_leaves_an_earlier_verdict_in_force(self, opens):
        first = opens("r1")
        first.ledger.record_failed(first.submitted(), "moderated", "no", None)
        again = opens("r2", permissions={"a": 1})
        again.unknown()
        assert again.ledger.resolve("a", None).latest.state == State.FAILED
        assert isinstance(opens("r3").claim("a"), Found)
        assert isinstance(again.claim("a"), Claimed)  # its permission was not spent after all

    def test_every_unknown_attempt_is_abandoned_at_once(self, opens):
        opens("r1").unknown()
        again = opens("r2", permissions={"a": 1})
        again.unknown()
        assert again.ledger.history("a").risk_cents == 108
        assert again.ledger.resolve("a", None).risk_cents == 0

    def test_an_id_goes_to_the_last_unknown_attempt(self, opens):
        opens("r1").unknown()
        again = opens("r2", permissions={"a": 1})
        again.unknown()
        history = again.ledger.resolve("a", "found")
        assert [attempt.prediction_id for attempt in history.attempts] == [None, "found"]
        assert (history.total_cents, history.risk_cents) == (54, 54)

    def test_what_is_not_unknown_is_left_as_it_is(self, book):
        book.submitted("a")
        book.ledger.record_refused(book.claimed("b"), None, None)
        for identity in ("a", "b", "nobody"):
            with pytest.raises(LedgerError, match=r"[Nn]othing was changed"):
                book.ledger.resolve(identity, None)

    def test_an_id_of_another_clip_is_refused(self, book):
        book.submitted("a", "p")
        book.unknown("b")
        with pytest.raises(LedgerError, match="another clip"):
            book.ledger.resolve("b", "p")
        assert book.state("b") == State.UNKNOWN

    def test_a_row_that_is_being_submitted_is_left_alone(self, book, opens):
        book.claimed()
        with pytest.raises(LedgerError, match="just now"):
            opens("r2").ledger.resolve("a", None)

    def test_a_claim_of_a_dead_run_is_settled_as_well(self, book, opens, expires):
        book.claimed()
        other = opens("r2")
        expires(other.ledger, book.ledger)
        assert other.ledger.resolve("a", "found").latest.state == State.SUBMITTED


def test_rows_are_found_by_identity_its_beginning_or_prediction(book):
    identity = "0123456789abcdef" * 4
    book.submitted(identity, "the-prediction")
    for key in (identity, identity[:8], identity[:8].upper(), "the-prediction"):
        assert [one.latest.identity for one in book.ledger.find(key)] == [identity]
    assert book.ledger.find(identity[:7]) == []
    assert book.ledger.find("nothing") == []
