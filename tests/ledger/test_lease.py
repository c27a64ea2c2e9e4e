"""Whose lease counts: dead and living processes, clocks, and the end of a lease."""

import time
from dataclasses import replace

import pytest
from sqlalchemy import update

from reelsheet.ledger import Known, State, Wait
from reelsheet.ledger import lease as lease_module
from reelsheet.ledger import schema as s
from reelsheet.ledger.lease import LEASE_SECONDS, MARGIN_SECONDS, Owner, awake_and_asleep


def owned(process, **values):
    with process.ledger.database.write() as connection:
        connection.execute(update(s.owners).where(s.owners.c.id == process.ledger.lease.owner.id).values(**values))


def test_a_process_that_this_machine_knows_to_be_gone_is_dead_at_once(process, opens):
    other = opens("r2")
    process.claimed()
    owned(process, pid=2**22 - 3, started="1")
    assert isinstance(other.claim(), Known)


def test_a_reboot_kills_every_owner(process, opens):
    other = opens("r2")
    process.claimed()
    owned(process, boot="another boot")
    assert isinstance(other.claim(), Known)


def test_a_process_elsewhere_lives_as_long_as_its_lease(process, opens):
    other = opens("r2")
    process.claimed()
    owned(process, host="another machine", boot="another boot", pid=1)
    assert isinstance(other.claim(), Wait)


def test_a_process_hidden_from_us_is_not_taken_for_dead(monkeypatch):
    """Where /proc shows other users' processes to nobody, only their absence proves death."""
    owner = Owner.this_process()
    monkeypatch.setattr("reelsheet.ledger.lease._started", lambda pid: "")
    assert not owner.surely_dead()
    assert replace(owner, pid=2**22 - 3).surely_dead()


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_jump_of_the_calendar_neither_ends_nor_lengthens_a_lease(opens, process, monkeypatch, jump):
    other = opens("r2")
    process.claimed()
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + jump)
    assert isinstance(other.claim(), Wait)
    if not process.ledger.is_sqlite:
        return  # PostgreSQL's own clock counts from here on
    awake = awake_and_asleep()
    monkeypatch.setattr(lease_module, "awake_and_asleep", lambda: awake + LEASE_SECONDS + 1)
    assert isinstance(other.claim(), Known)


def test_a_missing_owner_is_a_dead_one(process, opens):
    other = opens("r2")
    process.claimed()
    with process.ledger.database.write() as connection:
        connection.execute(s.owners.delete().where(s.owners.c.id == process.ledger.lease.owner.id))
    assert isinstance(other.claim(), Known)


def test_old_owners_are_forgotten_unless_they_hold_a_claim(process, opens, expires):
    idle, holding = opens("r2").ledger, opens("r3")
    holding.claimed()
    expires(process.ledger, idle)
    expires(process.ledger, holding.ledger)
    opens("r4")
    with process.ledger.database.read() as connection:
        known = {row.id for row in connection.execute(s.owners.select())}
    assert idle.lease.owner.id not in known
    assert holding.ledger.lease.owner.id in known


def test_a_claim_left_by_a_process_that_ended_is_taken_over_at_once(process, opens):
    other = opens("r2")
    process.claimed()
    process.ledger.close()  # it gives its lease back, not its claim
    assert isinstance(other.claim(), Known)
    assert other.state() == "unknown"


def test_a_post_may_leave_only_well_before_the_lease_ends(ledger, registers, identity, monkeypatch):
    registers(ledger)
    before = awake_and_asleep()
    claim = ledger.claim(identity(1), run_id="r1", price_cents=54)
    assert before < claim.leave_by <= awake_and_asleep() + LEASE_SECONDS - MARGIN_SECONDS
    later = awake_and_asleep() + LEASE_SECONDS  # nobody has renewed the lease: the event loop stood still
    monkeypatch.setattr(lease_module, "awake_and_asleep", lambda: later)
    assert claim.leave_by < later
    assert ledger.claim(identity(2), run_id="r1", price_cents=54).leave_by > later


def test_a_claim_that_nobody_awaits_any_more_is_unknown(ledger, registers, identity):
    registers(ledger)
    attempt = ledger.claim(identity(1), run_id="r1", price_cents=54).attempt
    assert isinstance(ledger.claim(identity(1), run_id="r1", price_cents=54), Wait)
    ledger.mark_unawaited(attempt)
    found = ledger.claim(identity(1), run_id="r1", price_cents=54)
    assert isinstance(found, Known)
    assert found.history.latest.state == State.UNKNOWN


def test_a_living_owner_is_waited_for_and_its_result_shared(opened, registers, identity):
    mine, theirs = opened(), opened()
    registers(theirs)
    registers(mine, "r2")
    claim = theirs.claim(identity(1), run_id="r1", price_cents=54)
    assert isinstance(mine.claim(identity(1), run_id="r2", price_cents=54), Wait)
    assert mine.expire_dead_claims() == 0
    theirs.record_id(claim.attempt, "p", 54)
    found = mine.claim(identity(1), run_id="r2", price_cents=54)
    assert isinstance(found, Known)
    assert found.history.latest.prediction_id == "p"


def test_a_claim_whose_lease_ran_out_is_unknown_and_its_price_at_risk(opened, registers, identity, money, expires):
    mine, theirs = opened(), opened()
    registers(theirs)
    registers(mine, "r2")
    for n in (1, 2):
        theirs.claim(identity(n), run_id="r1", price_cents=54)
    assert mine.history(identity(1)).latest.state == State.CLAIMED
    expires(mine, theirs)
    assert mine.history(identity(1)).latest.state == State.UNKNOWN, "also before anybody settles it"
    assert isinstance(mine.claim(identity(1), run_id="r2", price_cents=54), Known)
    assert money(mine) == (0, 54, 54)
    assert [mine.expire_dead_claims() for _ in range(2)] == [1, 0]
    assert money(mine) == (0, 0, 108)
    assert not mine.run("r1").alive


def test_an_owner_that_came_back_meanwhile_is_not_settled(ledger, registers, identity, monkeypatch):
    registers(ledger)
    ledger.claim(identity(1), run_id="r1", price_cents=54)
    with monkeypatch.context() as before:
        before.setattr(ledger.lease, "dead_owners", lambda _: frozenset({ledger.lease.owner.id}))
        assert ledger.expire_dead_claims() == 0
    assert ledger.history(identity(1)).latest.state == State.CLAIMED


def test_what_a_dead_owner_left_says_why_it_is_unknown(opened, registers, identity, expires):
    dead, living = opened(), opened()
    registers(dead)
    for n in range(3):
        dead.claim(identity(n), run_id="r1", price_cents=54)
    expires(living, dead)
    registers(living, "r2")
    living.claim(identity(0), run_id="r2", price_cents=54)
    living.resolve(identity(1), None)
    assert living.expire_dead_claims() == 1
    assert [living.history(identity(n)).latest.error_code for n in range(3)] == [
        "submit_unknown",
        None,
        "submit_unknown",
    ]


def test_processes_of_one_account_see_what_each_has_in_flight(process, opens):
    others = [opens(name).ledger for name in ("r2", "r3", "r4", "r5")]
    for ledger, account, in_flight in zip(others, ("a", "a", "b", None), (7, 3, 9, 5), strict=True):
        ledger.share_account(account, in_flight)
    assert sorted(process.ledger.share_account("a", 30)) == [3, 7]
    others[0].lease.release()
    assert process.ledger.share_account("a", 30) == [3]
    assert process.ledger.share_account(None, 30) == []
