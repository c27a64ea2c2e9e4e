"""What a destination tells of attempts: nothing that is known gets worse, nothing that was paid is missed."""

from dataclasses import replace

import pytest

from reelsheet.ledger import Attempt, Delivery, ImportedAttempt, Known, State


def told(identity="a", number=1, state=State.COMPLETED, prediction="p1", run="elsewhere", cents=54):
    unknown = state == State.UNKNOWN
    return Attempt(
        id=0, identity=identity, number=number, state=state, owner=None, run_id=run, day="2026-01-15",
        price_cents=cents, quoted_cents=None if unknown else cents, prediction_id=None if unknown else prediction,
        claimed_at=5.0, submitted_at=None if unknown else 5.0, completed_at=6.0, imported=True,
    )  # fmt: skip


def delivery(key="videos/a.mp4", number=1):
    return Delivery(number, "/d", 0, 1, key, 10, "", None, None, None)


def take(process, *attempts, deliveries=(), adds_others=False):
    imports = (ImportedAttempt(attempt, deliveries) for attempt in attempts)
    return process.ledger.import_attempts(imports, adds_others=adds_others)


def test_what_is_new_is_taken_over_and_never_paid_again(process):
    assert take(process, told(), deliveries=[delivery()]) == 1
    assert isinstance(process.claim(), Known)
    history = process.ledger.history("a")
    assert history.delivered("/d")[0].key == "videos/a.mp4"
    assert history.total_cents == 54


@pytest.mark.parametrize("state", [State.UNKNOWN, State.FAILED, State.SUBMITTED])
def test_lost_answers_verdicts_and_running_predictions_are_taken_over(process, state):
    take(process, told(state=state))
    assert isinstance(process.claim(), Known)
    assert process.state() == state


def test_taking_over_twice_changes_nothing(process):
    take(process, told(), deliveries=[delivery()])
    assert take(process, told(), deliveries=[delivery()]) == 0
    assert len(process.ledger.history("a").deliveries) == 1


def test_money_of_another_ledger_is_no_money_of_this_ones_runs_and_days(process):
    take(process, told())
    assert process.ledger.days() == []
    assert process.ledger.run("r1").confirmed_cents == 0


def test_a_paid_attempt_without_a_quote_counts_with_its_price(process):
    take(process, replace(told(), quoted_cents=None))
    assert process.ledger.history("a").total_cents == 54


def test_an_unknown_attempt_of_ours_takes_the_id_that_is_told(process):
    process.unknown()
    take(process, told(state=State.SUBMITTED, cents=60, run="r1"))
    history = process.ledger.history("a")
    assert (history.latest.state, history.total_cents, history.risk_cents) == (State.SUBMITTED, 60, 0)
    assert process.ledger.run("r1").confirmed_cents == 60


def test_what_was_refused_here_but_paid_elsewhere_is_not_paid_again(process):
    """Two ledgers, one destination: ours was refused for want of balance, the other one's went through."""
    process.ledger.record_refused(process.claimed(), None, None)
    assert take(process, told(), deliveries=[delivery()]) == 1
    assert isinstance(process.claim(), Known)
    assert process.ledger.history("a").delivered("/d")
    assert process.ledger.run("r1").confirmed_cents == 0


def test_what_was_abandoned_here_but_has_an_id_elsewhere_is_paid(process):
    process.unknown()
    process.ledger.resolve("a", None)
    take(process, told())
    assert isinstance(process.claim(), Known)


def test_a_persons_word_stands_against_an_old_unknown(process):
    process.unknown()
    process.ledger.resolve("a", None)
    take(process, told(state=State.UNKNOWN))
    process.claimed()


def test_an_unknown_elsewhere_stands_against_a_refusal_here(process):
    process.ledger.record_refused(process.claimed(), None, None)
    take(process, told(state=State.UNKNOWN))
    assert isinstance(process.claim(), Known)


def test_an_old_table_of_our_own_does_not_bring_an_unknown_back(process):
    """A checkpoint said `unknown` of a row in flight, which was refused afterwards."""
    process.ledger.record_refused(process.claimed(), None, None)
    take(process, told(state=State.UNKNOWN, run="r1"))
    process.claimed()


def test_a_submitted_attempt_takes_the_verdict_of_the_same_prediction(process):
    process.submitted("a", "p1")
    take(process, told(prediction="p1"), deliveries=[delivery()])
    assert process.state() == State.COMPLETED
    assert process.ledger.history("a").delivered("/d")


def test_a_verdict_is_never_taken_back(process):
    process.ledger.record_completed(process.submitted("a", "p1"), 9.0)
    take(process, told(prediction="p1", state=State.SUBMITTED))
    take(process, told(prediction="p1", state=State.FAILED))
    assert process.state() == State.COMPLETED


def test_another_prediction_under_the_same_number_is_left_out(process):
    process.submitted("a", "ours")
    take(process, told(prediction="theirs"), deliveries=[delivery()])
    assert [a.prediction_id for a in process.ledger.history("a").attempts] == ["ours"]
    assert process.ledger.history("a").deliveries == ()


def failed(process, prediction):
    attempt = process.submitted("a", prediction)
    process.ledger.record_failed(attempt, "generation_failed", "no luck", 9.0)


@pytest.mark.parametrize("state", [State.COMPLETED, State.SUBMITTED, State.FAILED])
def test_a_row_that_failed_here_takes_what_another_ledger_paid_for(process, state):
    failed(process, "ours")
    theirs = told(prediction="theirs", state=state)
    assert take(process, theirs, deliveries=[delivery()], adds_others=True) == 1
    assert take(process, theirs, deliveries=[delivery()], adds_others=True) == 0
    history = process.ledger.history("a")
    assert [(a.number, a.prediction_id, a.imported) for a in history.attempts] == [
        (1, "ours", False),
        (2, "theirs", True),
    ]
    assert (history.latest.state, history.total_cents) == (state, 108)
    assert history.delivered("/d") or state == State.FAILED
    assert process.ledger.run("r1").confirmed_cents == 54


@pytest.mark.parametrize("state", [State.COMPLETED, State.SUBMITTED])
def test_an_unknown_attempt_stays_at_risk_beside_what_another_ledger_paid_for(process, state):
    process.unknown()
    theirs = told(prediction="theirs", state=state)
    assert take(process, theirs, deliveries=[delivery()], adds_others=True) == 1
    assert take(process, theirs, deliveries=[delivery()], adds_others=True) == 0
    history = process.ledger.history("a")
    assert [a.prediction_id for a in history.attempts] == [None, "theirs"]
    assert (history.latest.state, history.total_cents, history.risk_cents) == (state, 54, 54)
    assert isinstance(process.claim(), Known)


@pytest.mark.parametrize(("adds_others", "state"), [(True, State.FAILED), (False, State.COMPLETED)])
def test_an_unknown_attempt_waits_for_a_person_where_another_ledger_has_no_clip(process, adds_others, state):
    """Or where a person may have changed the table."""
    process.unknown()
    assert take(process, told(prediction="theirs", state=state), adds_others=adds_others) == 0
    assert process.state() == State.UNKNOWN


def test_an_unknown_attempt_of_a_lost_ledger_takes_the_id_that_its_later_table_has(process):
    take(process, told(state=State.UNKNOWN, run="first"))
    assert take(process, told(run="second")) == 1
    history = process.ledger.history("a")
    assert (history.latest.state, history.risk_cents) == (State.COMPLETED, 0)


def test_a_table_that_a_person_gives_adds_no_prediction(process):
    """A spreadsheet program may have changed the id."""
    failed(process, "ours")
    assert take(process, told(prediction="5.5E+08")) == 0
    assert process.state() == State.FAILED


def test_what_another_ledger_paid_for_does_not_change_a_good_row(process):
    process.submitted("a", "ours")
    assert take(process, told(prediction="theirs"), deliveries=[delivery()], adds_others=True) == 0
    assert [a.prediction_id for a in process.ledger.history("a").attempts] == ["ours"]


def test_a_failed_row_that_a_person_settled_takes_no_other_prediction(process):
    process.unknown()
    process.ledger.resolve("a", "right")
    latest = process.ledger.history("a").latest
    process.ledger.record_failed(latest, "generation_failed", "no luck", 9.0)
    assert take(process, told(prediction="wrong"), adds_others=True) == 0


def test_a_prediction_of_another_row_is_not_given_to_this_one(process):
    process.submitted("b", "p1")
    take(process, told("a", prediction="p1"))
    assert process.ledger.history("a") is None


def test_a_claim_in_flight_is_left_alone(process):
    attempt = process.claimed()
    take(process, told(state=State.SUBMITTED))
    assert process.state() == State.CLAIMED
    process.ledger.record_id(attempt, "ours", 54)


def test_a_claim_takes_the_id_that_its_own_run_could_not_record(process):
    """The ledger was away from the answer on, and its process still counts as alive."""
    attempt = process.claimed()
    take(process, told(state=State.SUBMITTED, run="r1", cents=60))
    assert (process.state(), process.ledger.run("r1").reserved_cents) == (State.SUBMITTED, 0)
    assert process.ledger.record_id(attempt, "p1", 60).prediction_id == "p1"
    assert process.ledger.run("r1").confirmed_cents == 60


def test_tables_are_remembered_by_what_they_were(process):
    process.ledger.remember_table("/d", "runs/1/results.csv", "10")
    process.ledger.remember_table("/d", "runs/1/results.csv", "11")
    assert process.ledger.imported_tables("/d") == {"runs/1/results.csv": "11"}
    assert process.ledger.imported_tables("/other") == {}


def test_two_processes_take_over_the_same_tables_at_once(opens, at_once):
    processes = [opens(f"r{n}") for n in range(4)]
    rows = [told(f"row{n}", prediction=f"p{n}") for n in range(30)]
    orders = [rows, rows[::-1], rows[15:] + rows[:15], rows]
    pairs = zip(processes, orders, strict=True)
    at_once(*[lambda one=one, order=order: take(one, *order) for one, order in pairs])
    assert len(processes[0].ledger.histories(f"row{n}" for n in range(30))) == 30
