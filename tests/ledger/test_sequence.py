"""What came first is the ledger's to say: no clock has a part in it."""

import time

import pytest


@pytest.fixture
def set_clock(monkeypatch):
    """The machine's clock, which the ledger reads too where it is SQLite; and what a server's would say."""

    def to(moment, *ledgers):
        monkeypatch.setattr(time, "time", lambda: moment)
        for ledger in ledgers:
            monkeypatch.setattr(ledger.database, "now", lambda _connection: moment)

    return to


def test_the_latest_run_is_the_one_that_was_registered_last(opened, registers, set_clock):
    one, other = opened(), opened()
    now = time.time()
    for ledger, run_id, moment in (
        (one, "20990101-000000-aaaaaa", now + 7200),
        (other, "20000101-000000-bbbbbb", now),
        (one, "20500101-000000-cccccc", now - 7200),
        (other, "19990101-000000-dddddd", now + 60),
    ):
        set_clock(moment, one, other)
        registers(ledger, run_id, destination=f"/{run_id[-6]}")
    assert [run.run_id[-6:] for run in one.recent_runs()] == ["dddddd", "cccccc", "bbbbbb", "aaaaaa"]
    assert [run.run_id[-6:] for run in other.recent_runs(destination="/b")] == ["bbbbbb"]


def test_the_latest_submissions_are_those_that_were_claimed_last(process, set_clock):
    now = time.time()
    for number, (identity, is_lost) in enumerate((("a", False), ("b", True), ("c", True))):
        set_clock(now - 3600 * number, process.ledger)
        process.unknown(identity) if is_lost else process.submitted(identity)
    assert process.ledger.unanswered_streak("r1", 5) == 2


def test_an_answer_to_a_claim_that_was_given_up_is_told_from_the_next_one_though_the_clock_stands_still(
    opens, set_clock, expires
):
    first, second = opens("r1"), opens("r2")
    set_clock(time.time(), first.ledger, second.ledger)
    lost = first.claimed()
    expires(second.ledger, first.ledger)
    second.ledger.expire_dead_claims()
    second.ledger.resolve("a", None)
    taken = second.claimed()
    assert taken.id == lost.id
    assert first.ledger.record_refused(lost, "rejected", "no").state == "claimed"
    first.ledger.record_id(lost, "late", 54)
    assert [a.prediction_id for a in first.ledger.history("a").attempts] == [None, "late"]


def test_tries_are_numbered_with_the_claims(process):
    ledger = process.ledger
    assert ledger.last_tries(["a", "b"]) == {}
    claimed = process.submitted("a")
    ledger.mark_tried({"b", "a"})
    process.submitted("c")
    ledger.mark_tried({"b"})
    tries = ledger.last_tries(["a", "b", "c"])
    assert claimed.sequence < tries["a"] < ledger.history("c").latest.sequence < tries["b"]
    assert "c" not in tries
    ledger.mark_tried(set())


def test_no_number_is_given_twice(opens, at_once):
    processes = [opens(f"r{n}") for n in range(3)]
    at_once(*[lambda p=p: [p.submitted(f"{p.run_id}-{n}") for n in range(5)] for p in processes])
    histories = processes[0].ledger.histories(f"r{r}-{n}" for r in range(3) for n in range(5))
    numbers = [history.latest.sequence for history in histories.values()]
    assert len(set(numbers)) == 15


def test_times_of_a_run_are_all_by_the_ledgers_clock(opened, registers, monkeypatch):
    """So that the machine's own, an hour ahead, makes no run an hour long."""
    ledger = opened()
    if not ledger.is_sqlite:  # there it is the same clock
        before = ledger.now()
        monkeypatch.setattr(time, "time", lambda clock=time.time: clock() + 3600)
        registers(ledger, "r1")
        claim = ledger.claim("a", run_id="r1", price_cents=54).attempt
        submitted = ledger.record_id(claim, "p", 54)
        done = ledger.record_completed(submitted, None)
        ledger.mark_unawaited(done)
        ledger.finish_run("r1", exit_code=0, summary={})
        run = ledger.run("r1")
        times = [run.started_at, run.finished_at, done.claimed_at, done.submitted_at, done.completed_at, ledger.now()]
        assert all(abs(moment - before) < 600 for moment in times)
