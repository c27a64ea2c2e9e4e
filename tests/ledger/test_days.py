"""The money of a UTC day: one day never begins twice, and a sandbox's money is never real."""

import pytest

from reelsheet.ledger import Claimed, OverBudget

NOON = 1_700_049_600.0  # 2023-11-15 12:00 UTC
DAY_S = 86_400.0


@pytest.fixture
def at(monkeypatch):
    """The ledger's clock, as every process sees it."""

    def set_to(moment, *processes):
        for process in processes:
            monkeypatch.setattr(process.ledger.database, "now", lambda _connection: moment)

    return set_to


@pytest.mark.parametrize("back_s", [3600.0, DAY_S, 40 * DAY_S])
def test_a_clock_that_goes_back_does_not_open_a_day_again(opens, at, back_s):
    one, other = opens("r1"), opens("r2")
    at(NOON, one, other)
    assert isinstance(one.claim("a", daily_cap_cents=54), Claimed)
    at(NOON + DAY_S, one, other)
    assert isinstance(one.claim("b", daily_cap_cents=54), Claimed)
    at(NOON + DAY_S - back_s, one, other)
    assert one.claim("c", daily_cap_cents=54) == OverBudget("day", 54)
    assert other.claim("d", daily_cap_cents=54) == OverBudget("day", 54)
    assert [day.day for day in one.ledger.days()] == ["2023-11-16", "2023-11-15"]
    assert (other.ledger.today().day, other.ledger.today().spent_cents) == ("2023-11-16", 54)
    at(NOON + 2 * DAY_S, one, other)
    assert isinstance(other.claim("e", daily_cap_cents=54), Claimed)


def test_a_clock_that_was_ahead_without_any_money_moves_no_day(opens, at):
    one = opens("r1")
    at(NOON + 400 * DAY_S, one)
    one.ledger.today()
    opens("r2")
    at(NOON, one)
    one.claimed()
    assert one.ledger.today().day == "2023-11-15"


def test_a_claim_that_a_cap_refused_moves_no_day(opens, at):
    one = opens("r1")
    at(NOON + 400 * DAY_S, one)
    assert one.claim(daily_cap_cents=53) == OverBudget("day", 53)
    at(NOON, one)
    one.claimed()
    assert one.ledger.today().day == "2023-11-15"


def test_play_money_has_days_of_its_own_with_the_same_cap(opens):
    one = opens("r1")
    assert isinstance(one.claim("a", daily_cap_cents=54, is_play_money=True), Claimed)
    assert one.claim("b", daily_cap_cents=54, is_play_money=True) == OverBudget("day", 54)
    assert (one.ledger.days(), one.ledger.today().spent_cents) == ([], 0)
    assert isinstance(one.claim("b", daily_cap_cents=54), Claimed)
    assert one.claim("c", daily_cap_cents=54) == OverBudget("day", 54)
    for kind in (False, True):
        assert one.ledger.today(is_play_money=kind).spent_cents == 54
        assert [day.is_play_money for day in one.ledger.days(is_play_money=kind)] == [kind]


@pytest.mark.parametrize("end", ["completed", "refused", "unknown", "resolved"])
def test_play_money_stays_apart_whatever_happens_to_it(opens, end):
    one = opens("r1")
    claim = one.claimed(is_play_money=True)
    if end == "completed":
        one.ledger.record_completed(one.ledger.record_id(claim, "p", 60), None)
    elif end == "refused":
        one.ledger.record_refused(claim, "rejected", "no")
    else:
        one.ledger.record_unknown(claim, "lost")
        one.ledger.mark_unawaited(claim)
        if end == "resolved":
            one.ledger.resolve("a", "p")
    assert one.ledger.days() == []
    spent = {"completed": 60, "refused": 0, "unknown": 54, "resolved": 54}[end]
    assert [day.spent_cents for day in one.ledger.days(is_play_money=True)] == [spent]


def test_the_pace_of_a_sandbox_is_not_taken_for_the_providers(opens):
    one = opens("r1")
    played = one.ledger.record_id(one.claimed("a", is_play_money=True), "p1", 54)
    one.ledger.record_completed(played, played.submitted_at + 2)
    assert one.ledger.observed_pace() is None
    real = one.ledger.record_id(one.claimed("b"), "p2", 54)
    one.ledger.record_completed(real, real.submitted_at + 200)
    assert one.ledger.observed_pace().prediction_s == pytest.approx(200)
    assert one.ledger.observed_pace(is_play_money=True).prediction_s == pytest.approx(2)
