"""What a destination tells of attempts: nothing that is known gets worse, nothing that was paid is missed."""

import threading

import pytest

from reelsheet.ledger import Attempt, Delivery, Found, State


def told(identity="a", number=1, state=State.COMPLETED, prediction="p1", run="elsewhere", cents=54):
    unknown = state == State.UNKNOWN
    return Attempt(
        id=0, identity=identity, number=number, state=state, owner=None, run_id=run, day="2026-01-15",
        price_cents=cents, quoted_cents=None if unknown else cents, prediction_id=None if unknown else prediction,
        claimed_at=5.0, submitted_at=None if unknown else 5.0, completed_at=6.0, imported=True,
    )  # fmt: skip


def delivery(key="videos/a.mp4", number=1):
    return Delivery(number, "/d", 0, 1, key, 10, "", None, None, None)


def take(book, *attempts, deliveries=()):
    return book.ledger.import_attempts([(attempt, deliveries) for attempt in attempts], "/d", {})


def test_what_is_new_is_taken_over_and_never_paid_again(book):
    assert take(book, told(), deliveries=[delivery()]) == 1
    assert isinstance(book.claim(), Found)
    history = book.ledger.history("a")
    assert history.delivered("/d")[0].key == "videos/a.mp4"
    assert history.total_cents == 54


@pytest.mark.parametrize("state", [State.UNKNOWN, State.FAILED, State.SUBMITTED])
def test_lost_answers_verdicts_and_running_predictions_are_taken_over(book, state):
    take(book, told(state=state))
    assert isinstance(book.claim(), Found)
    assert book.state() == state


def test_taking_over_twice_changes_nothing(book):
    take(book, told(), deliveries=[delivery()])
    assert take(book, told(), deliveries=[delivery()]) == 0
    assert len(book.ledger.history("a").deliveries) == 1


def test_money_of_another_ledger_is_no_money_of_this_ones_runs_and_days(book):
    take(book, told())
    assert book.ledger.days() == []
    assert book.ledger.run("r1").confirmed_cents == 0


def test_an_unknown_attempt_of_ours_takes_the_id_that_is_told(book):
    book.unknown()
    take(book, told(state=State.SUBMITTED, cents=60))
    history = book.ledger.history("a")
    assert (history.latest.state, history.total_cents, history.risk_cents) == (State.SUBMITTED, 60, 0)
    assert book.ledger.run("r1").confirmed_cents == 60


def test_what_was_refused_here_but_paid_elsewhere_is_not_paid_again(book):
    """Two ledgers, one destination: ours was refused for want of balance, the other one's went through."""
    book.ledger.record_refused(book.claimed(), None, None)
    assert take(book, told(), deliveries=[delivery()]) == 1
    assert isinstance(book.claim(), Found)
    assert book.ledger.history("a").delivered("/d")
    assert book.ledger.run("r1").confirmed_cents == 0


def test_what_was_abandoned_here_but_has_an_id_elsewhere_is_paid(book):
    book.unknown()
    book.ledger.resolve("a", None)
    take(book, told())
    assert isinstance(book.claim(), Found)


def test_a_persons_word_stands_against_an_old_unknown(book):
    book.unknown()
    book.ledger.resolve("a", None)
    take(book, told(state=State.UNKNOWN))
    book.claimed()


def test_an_unknown_elsewhere_stands_against_a_refusal_here(book):
    book.ledger.record_refused(book.claimed(), None, None)
    take(book, told(state=State.UNKNOWN))
    assert isinstance(book.claim(), Found)


def test_an_old_table_of_our_own_does_not_bring_an_unknown_back(book):
    """A checkpoint said `unknown` of a row in flight, which was refused afterwards."""
    book.ledger.record_refused(book.claimed(), None, None)
    take(book, told(state=State.UNKNOWN, run="r1"))
    book.claimed()


def test_a_submitted_attempt_takes_the_verdict_of_the_same_prediction(book):
    book.submitted("a", "p1")
    take(book, told(prediction="p1"), deliveries=[delivery()])
    assert book.state() == State.COMPLETED
    assert book.ledger.history("a").delivered("/d")


def test_a_verdict_is_never_taken_back(book):
    book.ledger.record_completed(book.submitted("a", "p1"), 9.0)
    take(book, told(prediction="p1", state=State.SUBMITTED))
    take(book, told(prediction="p1", state=State.FAILED))
    assert book.state() == State.COMPLETED


def test_another_prediction_under_the_same_number_is_left_out(book):
    book.submitted("a", "ours")
    take(book, told(prediction="theirs"), deliveries=[delivery()])
    assert [a.prediction_id for a in book.ledger.history("a").attempts] == ["ours"]
    assert book.ledger.history("a").deliveries == ()


def test_a_prediction_of_another_row_is_not_given_to_this_one(book):
    book.submitted("b", "p1")
    take(book, told("a", prediction="p1"))
    assert book.ledger.history("a") is None


def test_a_claim_in_flight_is_left_alone(book):
    attempt = book.claimed()
    take(book, told(state=State.SUBMITTED))
    assert book.state() == State.CLAIMED
    book.ledger.record_id(attempt, "ours", 54)


def test_tables_are_remembered_by_what_they_were(book):
    book.ledger.import_attempts([], "/d", {"runs/1/results.csv": "10"})
    book.ledger.import_attempts([], "/d", {"runs/1/results.csv": "11"})
    assert book.ledger.imported("/d") == {"runs/1/results.csv": "11"}
    assert book.ledger.imported("/other") == {}


def test_two_processes_take_over_the_same_tables_at_once(opens):
    books = [opens(f"r{n}") for n in range(4)]
    rows = [told(f"row{n}", prediction=f"p{n}") for n in range(30)]
    failures: list[BaseException] = []

    def group(one, mine):
        try:
            take(one, *mine)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test shows it
            failures.append(error)

    orders = [rows, rows[::-1], rows[15:] + rows[:15], rows]
    threads = [threading.Thread(target=group, args=pair) for pair in zip(books, orders, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(books[0].ledger.histories(f"row{n}" for n in range(30))) == 30
