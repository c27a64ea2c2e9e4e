"""Many processes on one ledger: one claim for one identity, and no deadlock. Caps: see test_processes."""

import pytest
from sqlalchemy.exc import IntegrityError

from reelsheet.ledger import schema as s


def test_of_many_racing_for_one_identity_one_gets_it(opens, at_once):
    processes = [opens(f"r{n}") for n in range(6)]
    answers: list[object] = []
    at_once(*[lambda one=one: answers.append(one.claim()) for one in processes])
    assert sorted(type(answer).__name__ for answer in answers) == ["Claimed", *["Wait"] * 5]


def test_of_many_racing_to_replace_a_row_one_gets_it(opens, at_once):
    opens("r0").submitted()
    processes = [opens(f"r{n}", command="fresh", permissions={"a": 1}) for n in range(1, 5)]
    answers: list[object] = []
    at_once(*[lambda one=one: answers.append(one.claim()) for one in processes])
    assert sorted(type(answer).__name__ for answer in answers) == ["Claimed", *["Wait"] * 3]


def test_the_database_itself_refuses_a_second_live_claim(process):
    attempt = process.claimed()
    values = {name: getattr(attempt, name) for name in type(attempt).__slots__ if name != "id"}
    with pytest.raises(IntegrityError), process.ledger.database.write() as connection:
        connection.execute(s.attempts.insert().values(**values | {"number": 2}))


def test_settling_and_claiming_at_once_do_not_lock_each_other_out(opens, expires, at_once):
    """Both lock attempts and counters, in the same order."""
    processes = [opens(f"r{n}") for n in range(4)]
    rows = [f"row{n}" for n in range(12)]
    for n, one in enumerate(processes[:2]):
        for row in rows[n::2]:
            one.claim(row)
        expires(processes[3].ledger, one.ledger)

    def group(one):
        one.ledger.expire_dead_claims()
        for row in rows:
            one.claim(row)

    at_once(*[lambda one=one: group(one) for one in processes[2:]])
    assert {one.latest.state for one in processes[2].ledger.histories(rows).values()} == {"unknown"}
