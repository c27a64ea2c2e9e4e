"""The way of an attempt on both databases: claim, answer, verdict, delivery, and where its money stands meanwhile."""

import time
from dataclasses import astuple, replace

import pytest

from reelsheet.errors import LedgerError
from reelsheet.ledger import Claimed, Delivery, Known, OverBudget, State


def stored(attempt, destination="/d", output=0, outputs=1):
    return Delivery(attempt.number, destination, output, outputs, f"videos/{output}.mp4", 9, "ab", 1, 1, 5.0)


def test_a_clip_is_claimed_submitted_completed_and_delivered_with_its_money_in_one_place(
    ledger, registers, identity, money
):
    registers(ledger)
    claim = ledger.claim(identity(1), run_id="r1", price_cents=54)
    assert isinstance(claim, Claimed)
    assert money(ledger) == (0, 54, 0)
    submitted = ledger.record_id(claim.attempt, "pred-1", 54)
    assert (submitted.state, money(ledger)) == (State.SUBMITTED, (54, 0, 0))
    done = ledger.record_completed(submitted, None)
    ledger.record_deliveries(done, [stored(done)])
    history = ledger.history(identity(1))
    assert history.latest.state == State.COMPLETED
    assert [one.key for one in history.delivered("/d")] == ["videos/0.mp4"]
    assert history.delivered("/elsewhere") == ()
    assert [astuple(day)[1:4] for day in ledger.days()] == [(54, 0, 0)]
    assert isinstance(ledger.claim(identity(1), run_id="r1", price_cents=54), Known)


def test_a_delivery_counts_only_when_every_output_is_there(ledger, registers, identity):
    registers(ledger)
    attempt = ledger.record_id(ledger.claim(identity(1), run_id="r1", price_cents=54).attempt, "p", None)
    ledger.record_deliveries(attempt, [stored(attempt, outputs=2)])
    assert ledger.history(identity(1)).delivered("/d") == ()
    ledger.record_deliveries(attempt, [stored(attempt, output=1, outputs=2)])
    assert len(ledger.history(identity(1)).delivered("/d")) == 2
    ledger.forget_deliveries("/d", ["videos/1.mp4"])
    assert ledger.history(identity(1)).delivered("/d") == ()


def test_the_quote_is_what_counts_not_the_price_that_was_reserved(ledger, registers, identity, money):
    registers(ledger)
    claim = ledger.claim(identity(1), run_id="r1", price_cents=54)
    ledger.record_id(claim.attempt, "p", 60)
    assert money(ledger) == (60, 0, 0)
    failed = ledger.record_failed(ledger.history(identity(1)).latest, "generation_failed", "No.", None)
    assert (failed.state, money(ledger)) == (State.FAILED, (60, 0, 0))


@pytest.mark.parametrize("way", ["refused", "abandoned"])
def test_what_was_never_charged_is_claimed_again_in_its_place(ledger, registers, identity, money, way):
    registers(ledger)
    first = ledger.claim(identity(1), run_id="r1", price_cents=54).attempt
    if way == "refused":
        ledger.record_refused(first, "rejected", "No.")
    else:
        ledger.record_unknown(first, "lost")
        assert ledger.resolve(identity(1), None).is_free
    ledger.mark_unawaited(first)
    assert money(ledger) == (0, 0, 0)
    again = ledger.claim(identity(1), run_id="r1", price_cents=54).attempt
    assert (again.id, again.number) == (first.id, 1)
    assert money(ledger) == (0, 54, 0)


def test_an_unknown_row_is_never_claimed_without_permission(ledger, registers, identity, money):
    registers(ledger)
    attempt = ledger.claim(identity(1), run_id="r1", price_cents=54).attempt
    ledger.record_unknown(attempt, "lost")
    for run_id in ("r1", "r2"):
        registers(ledger, run_id)
        assert isinstance(ledger.claim(identity(1), run_id=run_id, price_cents=54), Known)
    assert money(ledger) == (0, 0, 54)


def test_an_id_is_recorded_even_by_one_that_lost_its_lease(opened, registers, identity, money, expires):
    mine, theirs = opened(), opened()
    registers(theirs)
    claim = theirs.claim(identity(1), run_id="r1", price_cents=54)
    expires(mine, theirs)
    mine.expire_dead_claims()
    assert money(mine) == (0, 0, 54)
    late = theirs.record_id(claim.attempt, "late", 54)
    assert (late.number, late.state, money(mine)) == (1, State.SUBMITTED, (54, 0, 0))


def test_a_refusal_that_comes_after_the_takeover_still_frees_the_money(opened, registers, identity, money, expires):
    mine, theirs = opened(), opened()
    registers(theirs)
    claim = theirs.claim(identity(1), run_id="r1", price_cents=54)
    expires(mine, theirs)
    mine.expire_dead_claims()
    assert theirs.record_refused(claim.attempt, "rejected", "No.").state == State.REFUSED
    assert money(mine) == (0, 0, 0)


def test_a_late_id_whose_place_was_claimed_again_gets_one_beside_it(opened, registers, identity, money, expires):
    mine, theirs = opened(), opened()
    registers(theirs)
    registers(mine, "r2")
    stalled = theirs.claim(identity(1), run_id="r1", price_cents=54)
    expires(mine, theirs)
    mine.expire_dead_claims()
    mine.resolve(identity(1), None)  # the dashboard showed nothing yet
    again = mine.claim(identity(1), run_id="r2", price_cents=54)
    assert again.attempt.number == 1
    late = theirs.record_id(stalled.attempt, "late", 54)
    assert (late.number, late.state) == (2, State.SUBMITTED)
    mine.record_id(again.attempt, "mine", 54)
    assert {a.number: a.prediction_id for a in mine.history(identity(1)).attempts} == {1: "mine", 2: "late"}
    assert (money(mine), money(mine, "r2")) == ((54, 0, 0), (54, 0, 0))


def test_an_id_that_another_row_has_is_none(ledger, registers, identity, money):
    registers(ledger)
    first, second = (ledger.claim(identity(n), run_id="r1", price_cents=54).attempt for n in (1, 2))
    ledger.record_id(first, "p", 54)
    told = ledger.record_id(second, "p", 54)
    assert told.state == State.UNKNOWN
    assert "another row" in (told.error or "")
    assert money(ledger) == (54, 0, 54)


def test_the_same_id_told_twice_is_recorded_once(ledger, registers, identity, money):
    registers(ledger)
    attempt = ledger.claim(identity(1), run_id="r1", price_cents=54).attempt
    ledger.record_id(attempt, "p", 54)
    assert ledger.record_id(attempt, "p", 54).number == 1
    assert len(ledger.history(identity(1)).attempts) == 1
    assert money(ledger) == (54, 0, 0)


def test_a_verdict_comes_only_after_an_id_and_never_changes(ledger, registers, identity):
    registers(ledger)
    attempt = ledger.claim(identity(1), run_id="r1", price_cents=54).attempt
    assert ledger.record_completed(attempt, None).state == State.CLAIMED
    submitted = ledger.record_id(attempt, "p", 54)
    assert ledger.record_unknown(submitted, "late").state == State.SUBMITTED
    assert ledger.record_refused(submitted, "rejected", "late").state == State.SUBMITTED
    done = ledger.record_completed(submitted, 5.0)
    assert ledger.record_failed(done, "generation_failed", "late", None).state == State.COMPLETED


# A person settles it


# Caps


def test_a_claim_that_would_pass_a_cap_leaves_no_trace(ledger, registers, identity, money):
    registers(ledger, cap_cents=54)
    assert isinstance(ledger.claim(identity(1), run_id="r1", price_cents=54), Claimed)
    assert ledger.claim(identity(2), run_id="r1", price_cents=54) == OverBudget("run", 54)
    assert ledger.history(identity(2)) is None
    registers(ledger, "r2")
    assert ledger.claim(identity(2), run_id="r2", price_cents=54, daily_cap_cents=107) == OverBudget("day", 107)
    assert (money(ledger), money(ledger, "r2")) == ((0, 54, 0), (0, 0, 0))
    assert [astuple(day)[1:4] for day in ledger.days()] == [(0, 54, 0)]


def test_money_at_risk_counts_against_the_caps_until_it_is_settled(ledger, registers, identity):
    registers(ledger, cap_cents=54)
    ledger.record_unknown(ledger.claim(identity(1), run_id="r1", price_cents=54).attempt, "lost")
    assert isinstance(ledger.claim(identity(2), run_id="r1", price_cents=54), OverBudget)
    ledger.resolve(identity(1), None)
    assert isinstance(ledger.claim(identity(2), run_id="r1", price_cents=54), Claimed)


def test_after_a_quote_above_the_cap_nothing_more_is_claimed(ledger, registers, identity, money):
    registers(ledger, cap_cents=108)
    ledger.record_id(ledger.claim(identity(1), run_id="r1", price_cents=54).attempt, "p", 200)
    assert money(ledger) == (200, 0, 0)
    assert isinstance(ledger.claim(identity(2), run_id="r1", price_cents=1), OverBudget)


def test_each_utc_day_has_its_own_total(ledger, registers, identity, monkeypatch):
    registers(ledger)
    noon = 1_700_000_000.0
    for n in range(2):
        monkeypatch.setattr(ledger.database, "now", lambda _, day=n: noon + day * 86_400)
        made = ledger.claim(identity(n), run_id="r1", price_cents=54, daily_cap_cents=54)
        assert isinstance(made, Claimed)
    assert [(total.day, total.reserved_cents) for total in ledger.days()] == [("2023-11-15", 54), ("2023-11-14", 54)]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_day_is_the_utc_one_wherever_the_machine_stands(ledger, registers, identity, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        registers(ledger)
        for n, hour in enumerate((0, 23)):
            monkeypatch.setattr(ledger.database, "now", lambda _, hour=hour: 1_700_006_400.0 + hour * 3600)
            ledger.claim(identity(n), run_id="r1", price_cents=54)
        assert [(total.day, total.reserved_cents) for total in ledger.days()] == [("2023-11-15", 108)]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_is_known_of_a_claim_and_of_how_it_ended_is_kept(ledger, registers, identity):
    registers(ledger)
    lost = ledger.claim(identity(1), run_id="r1", price_cents=54, fingerprint="f1").attempt
    assert (lost.number, lost.fingerprint) == (1, "f1")
    unknown = ledger.record_unknown(lost, "no answer in time")
    assert (unknown.error_code, unknown.error) == ("submit_unknown", "no answer in time")
    settled = ledger.resolve(identity(1), "p-1").latest
    assert (settled.error_code, settled.error) == (None, None)
    assert (settled.quoted_cents, settled.submitted_at) == (54, lost.claimed_at)
    no = ledger.claim(identity(2), run_id="r1", price_cents=54).attempt
    refused = ledger.record_refused(no, "rejected", "prompt is too long")
    assert (refused.error_code, refused.error) == ("rejected", "prompt is too long")


def test_only_its_owner_can_say_that_a_claim_under_way_was_refused(ledger, registers, identity, money):
    """Whoever else believes so may be speaking of an older POST, while this one is being charged."""
    registers(ledger)
    attempt = ledger.claim(identity(1), run_id="r1", price_cents=54).attempt
    assert ledger.record_refused(replace(attempt, owner="another"), "rejected", "No.").state == State.CLAIMED
    assert money(ledger) == (0, 54, 0)
    assert ledger.record_unknown(replace(attempt, owner="another"), "lost").state == State.UNKNOWN
    assert money(ledger) == (0, 0, 54)


def test_a_run_that_is_not_in_the_ledger_claims_nothing(ledger, identity):
    with pytest.raises(LedgerError, match="not in the ledger"):
        ledger.claim(identity(1), run_id="nobody", price_cents=54)
    assert ledger.history(identity(1)) is None
