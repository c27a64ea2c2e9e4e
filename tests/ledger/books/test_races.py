"""Many processes on one ledger: one claim for one identity, caps that hold, and who counts as alive."""

import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from reelsheet.ledger import Found, OverBudget, Wait
from reelsheet.ledger import lease as lease_module
from reelsheet.ledger import schema as s
from reelsheet.ledger.lease import LEASE_SECONDS, Owner, awake_and_asleep


def at_once(*groups):
    """Runs all of them in threads of their own; whatever one raises is raised here."""
    start, failures = threading.Barrier(len(groups)), []

    def run(group):
        start.wait()
        try:
            group()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(group,)) for group in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_of_many_racing_for_one_identity_one_gets_it(opens):
    books = [opens(f"r{n}") for n in range(6)]
    answers: list[object] = []
    at_once(*[lambda one=one: answers.append(one.claim()) for one in books])
    assert sorted(type(answer).__name__ for answer in answers) == ["Claimed", *["Wait"] * 5]


def test_of_many_racing_to_replace_a_row_one_gets_it(opens):
    opens("r0").submitted()
    books = [opens(f"r{n}", command="fresh", permissions={"a": 1}) for n in range(1, 5)]
    answers: list[object] = []
    at_once(*[lambda one=one: answers.append(one.claim()) for one in books])
    assert sorted(type(answer).__name__ for answer in answers) == ["Claimed", *["Wait"] * 3]


def test_the_database_itself_refuses_a_second_live_claim(book):
    attempt = book.claimed()
    values = {name: getattr(attempt, name) for name in type(attempt).__slots__ if name != "id"}
    with pytest.raises(IntegrityError), book.ledger.database.write() as connection:
        connection.execute(s.attempts.insert().values(**values | {"number": 2}))


def test_no_race_passes_a_cap(opens):
    """Eight processes of one run want 24 rows where nine fit."""
    first = opens("r1", cap_cents=9 * 54)
    books = [first, *[type(first)(opens(f"r{n}").ledger, "r1") for n in range(2, 9)]]
    taken: list[str] = []

    def take(one, mine):
        taken.extend(row for row in mine if not isinstance(one.claim(row, daily_cap_cents=10_000), OverBudget))

    rows = [f"row{n}" for n in range(24)]
    at_once(*[lambda n=n, one=one: take(one, rows[n::8]) for n, one in enumerate(books)])
    assert len(taken) == 9
    assert first.ledger.run("r1").reserved_cents == 9 * 54


def test_no_race_passes_the_days_cap(opens):
    books = [opens(f"r{n}") for n in range(4)]
    taken: list[str] = []

    def take(one, mine):
        taken.extend(row for row in mine if not isinstance(one.claim(row, daily_cap_cents=5 * 54), OverBudget))

    at_once(*[lambda n=n, one=one: take(one, [f"{n}-{m}" for m in range(4)]) for n, one in enumerate(books)])
    assert len(taken) == 5
    assert books[0].ledger.days()[0].reserved_cents == 5 * 54


def test_settling_and_claiming_at_once_do_not_lock_each_other_out(opens, expires):
    """Both lock attempts and counters, in the same order."""
    books = [opens(f"r{n}") for n in range(4)]
    rows = [f"row{n}" for n in range(12)]
    for n, one in enumerate(books[:2]):
        for row in rows[n::2]:
            one.claim(row)
        expires(books[3].ledger, one.ledger)

    def group(one):
        one.ledger.expire_dead_claims()
        for row in rows:
            one.claim(row)

    at_once(*[lambda one=one: group(one) for one in books[2:]])
    assert {one.latest.state for one in books[2].ledger.histories(rows).values()} == {"unknown"}


def test_a_claim_left_by_a_process_that_ended_is_taken_over_at_once(book, opens):
    other = opens("r2")
    book.claimed()
    book.ledger.close()  # it gives its lease back, not its claim
    assert isinstance(other.claim(), Found)
    assert other.state() == "unknown"


def test_standings_show_a_dead_claim_as_unknown_before_anybody_settles_it(book, opens, expires):
    other = opens("r2")
    book.claimed()
    assert other.state() == "claimed"
    expires(other.ledger, book.ledger)
    assert other.state() == "unknown"
    assert other.ledger.expire_dead_claims() == 1
    assert other.ledger.expire_dead_claims() == 0


def test_a_claim_made_on_an_old_lease_renews_it_first(book):
    book.ledger.lease._ends_at = awake_and_asleep() - 100
    assert book.claim().leave_by > awake_and_asleep() + LEASE_SECONDS / 2


class TestLiveness:
    """Whose lease counts."""

    def owned(self, book, **values):
        with book.ledger.database.write() as connection:
            connection.execute(update(s.owners).where(s.owners.c.id == book.ledger.lease.owner.id).values(**values))

    def test_a_process_that_this_machine_knows_to_be_gone_is_dead_at_once(self, book, opens):
        other = opens("r2")
        book.claimed()
        self.owned(book, pid=2**22 - 3, started="1")
        assert isinstance(other.claim(), Found)

    def test_a_reboot_kills_every_owner(self, book, opens):
        other = opens("r2")
        book.claimed()
        self.owned(book, boot="another boot")
        assert isinstance(other.claim(), Found)

    def test_a_process_elsewhere_lives_as_long_as_its_lease(self, book, opens):
        other = opens("r2")
        book.claimed()
        self.owned(book, host="another machine", boot="another boot", pid=1)
        assert isinstance(other.claim(), Wait)

    def test_a_process_hidden_from_us_is_not_taken_for_dead(self, monkeypatch):
        """Where /proc shows other users' processes to nobody, only their absence proves death."""
        owner = Owner.this_process()
        monkeypatch.setattr("reelsheet.ledger.lease._started", lambda pid: "")
        assert not owner.surely_dead()
        assert replace(owner, pid=2**22 - 3).surely_dead()

    @pytest.mark.parametrize("jump", [3600.0, -3600.0])
    def test_a_jump_of_the_calendar_neither_ends_nor_lengthens_a_lease(self, opens, book, monkeypatch, jump):
        other = opens("r2")
        book.claimed()
        wall = time.time
        monkeypatch.setattr(time, "time", lambda: wall() + jump)
        assert isinstance(other.claim(), Wait)
        if not book.ledger.is_sqlite:
            return  # PostgreSQL's own clock counts from here on
        awake = awake_and_asleep()
        monkeypatch.setattr(lease_module, "awake_and_asleep", lambda: awake + LEASE_SECONDS + 1)
        assert isinstance(other.claim(), Found)

    def test_a_missing_owner_is_a_dead_one(self, book, opens):
        other = opens("r2")
        book.claimed()
        with book.ledger.database.write() as connection:
            connection.execute(s.owners.delete().where(s.owners.c.id == book.ledger.lease.owner.id))
        assert isinstance(other.claim(), Found)

    def test_old_owners_are_forgotten_unless_they_hold_a_claim(self, book, opens, expires):
        idle, holding = opens("r2").ledger, opens("r3")
        holding.claimed()
        expires(book.ledger, idle)
        expires(book.ledger, holding.ledger)
        opens("r4")
        with book.ledger.database.read() as connection:
            known = {row.id for row in connection.execute(s.owners.select())}
        assert idle.lease.owner.id not in known
        assert holding.ledger.lease.owner.id in known
