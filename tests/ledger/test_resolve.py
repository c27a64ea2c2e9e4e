"""A person settles what nobody answered, with what the provider's dashboard shows."""

import pytest

from reelsheet.errors import LedgerError
from reelsheet.ledger import Claimed, Delivery, Known, State


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


def delivered(key):
    return [Delivery(1, "/d", 0, 1, key, 4, "ab", 640, 360, 5.0)]


def test_a_wrong_id_is_replaced_in_place_before_anything_was_delivered(process, money):
    process.unknown()
    process.ledger.resolve("a", "wrong")
    history = process.ledger.resolve("a", "right")
    assert [(a.number, a.state, a.prediction_id) for a in history.attempts] == [(1, State.SUBMITTED, "right")]
    assert money(process.ledger) == (54, 0, 0)


@pytest.mark.parametrize("verdict", ["completed", "failed", "delivered"])
def test_a_wrong_id_is_replaced_whatever_became_of_it(process, money, verdict):
    """A clip that was delivered for it keeps its name; the right one is stored beside it."""
    process.unknown()
    attempt = process.ledger.resolve("a", "wrong").latest
    if verdict == "failed":
        process.ledger.record_failed(attempt, "moderated", "no", None)
    else:
        attempt = process.ledger.record_completed(attempt, None)
    if verdict == "delivered":
        process.ledger.record_deliveries(attempt, delivered("videos/a.mp4"))
    history = process.ledger.resolve("a", "right")
    latest = history.latest
    assert (latest.state, latest.prediction_id, latest.completed_at) == (State.SUBMITTED, "right", None)
    assert latest.number == (2 if verdict == "delivered" else 1)
    assert not history.delivered("/d")
    assert (history.total_cents, money(process.ledger)) == (54, (54, 0, 0))


def test_the_same_id_again_changes_nothing(process):
    process.unknown()
    first = process.ledger.record_completed(process.ledger.resolve("a", "right").latest, None)
    assert process.ledger.resolve("a", "right").latest == first


def test_an_id_given_by_mistake_is_free_for_its_own_row(process, money):
    process.unknown("a")
    process.unknown("b")
    process.ledger.resolve("a", "of-b")
    assert process.ledger.resolve("a", None).is_free
    process.ledger.resolve("b", "of-b")
    process.ledger.resolve("a", "of-a")
    assert money(process.ledger) == (108, 0, 0)


def test_an_id_that_came_from_the_provider_is_no_person_s_to_replace(process):
    process.submitted("a")
    for given in ("other", None):
        with pytest.raises(LedgerError, match="not unknown"):
            process.ledger.resolve("a", given)


def test_an_abandoned_row_that_was_paid_for_since_is_not_settled_again(process):
    process.unknown()
    process.ledger.resolve("a", None)
    process.submitted("a")
    with pytest.raises(LedgerError, match="it is submitted"):
        process.ledger.resolve("a", "late")


@pytest.mark.parametrize("abandoned", [True, False], ids=["called never charged", "given the same id"])
def test_an_id_that_the_provider_itself_gave_is_not_replaced(process, money, abandoned):
    """Its answer came late, after a person had settled the row."""
    attempt = process.unknown("a")
    process.ledger.resolve("a", None if abandoned else "late")
    process.ledger.record_id(attempt, "late", 54)
    for other in ("another", None):
        with pytest.raises(LedgerError, match="This row is not unknown"):
            process.ledger.resolve("a", other)
    assert [(a.state, a.prediction_id) for a in process.ledger.history("a").attempts] == [(State.SUBMITTED, "late")]
    assert money(process.ledger) == (54, 0, 0)
