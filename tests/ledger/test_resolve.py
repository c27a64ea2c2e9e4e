"""A person settles what nobody answered, with what the provider's dashboard shows."""

import pytest

from reelsheet.errors import LedgerError
from reelsheet.ledger import Claimed, Known, State


def test_an_id_makes_it_paid(process):
    process.unknown()
    history = process.ledger.resolve("a", "found")
    assert (history.latest.state, history.latest.prediction_id) == (State.SUBMITTED, "found")
    assert (history.total_cents, history.risk_cents) == (54, 0)
    assert process.ledger.run("r1").confirmed_cents == 54


def test_abandoned_leaves_an_earlier_verdict_in_force(opens):
    first = opens("r1")
    first.ledger.record_failed(first.submitted(), "moderated", "no", None)
    again = opens("r2", permissions={"a": 1})
    again.unknown()
    assert again.ledger.resolve("a", None).latest.state == State.FAILED
    assert isinstance(opens("r3").claim("a"), Known)
    assert isinstance(again.claim("a"), Claimed)  # its permission was not spent after all


def test_every_unknown_attempt_is_abandoned_at_once(opens):
    opens("r1").unknown()
    again = opens("r2", permissions={"a": 1})
    again.unknown()
    assert again.ledger.history("a").risk_cents == 108
    assert again.ledger.resolve("a", None).risk_cents == 0


def test_an_id_goes_to_the_last_unknown_attempt(opens):
    opens("r1").unknown()
    again = opens("r2", permissions={"a": 1})
    again.unknown()
    history = again.ledger.resolve("a", "found")
    assert [attempt.prediction_id for attempt in history.attempts] == [None, "found"]
    assert (history.total_cents, history.risk_cents) == (54, 54)


@pytest.mark.parametrize("given", ["found", None])
def test_what_is_not_unknown_is_left_as_it_is(process, given):
    process.submitted("a")
    process.ledger.record_refused(process.claimed("b"), None, None)
    free = "nothing was ever paid for it"
    for identity, standing in (("a", "it is submitted"), ("b", free), ("nobody", free)):
        with pytest.raises(LedgerError, match=f"not unknown: {standing}. Nothing was changed"):
            process.ledger.resolve(identity, given)


def test_an_id_of_another_clip_is_refused(process, money):
    process.submitted("a", "p")
    process.unknown("b")
    with pytest.raises(LedgerError, match="another clip"):
        process.ledger.resolve("b", "p")
    assert process.state("b") == State.UNKNOWN
    assert money(process.ledger) == (54, 0, 54)


def test_a_row_that_is_being_submitted_is_left_alone(process, opens):
    process.claimed()
    with pytest.raises(LedgerError, match="just now"):
        opens("r2").ledger.resolve("a", None)


def test_a_claim_of_a_dead_run_is_settled_as_well(process, opens, expires):
    process.claimed()
    other = opens("r2")
    expires(other.ledger, process.ledger)
    assert other.ledger.resolve("a", "found").latest.state == State.SUBMITTED
