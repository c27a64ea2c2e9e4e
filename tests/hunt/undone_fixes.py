"""The hunt finds the faults that it was made for: with a fix taken out, it comes upon the fault again.

It takes minutes for each, so it is run by its name: `.venv/bin/python -m pytest tests/hunt/undone_fixes.py`. A change of the
model changes what a seed leads to; another seed may then be needed.
"""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Connection, select

from reelsheet.ledger import grants, schema
from reelsheet.ledger.lease import Lease
from reelsheet.ledger.records import UnfinishedRun
from reelsheet.planning import edits, permissions, preparation
from tests.hunt.simulation import simulated

Undo = Callable[[pytest.MonkeyPatch], None]


def only_replacements_are_granted(patch: pytest.MonkeyPatch) -> None:
    """A command leaves no trace on rows that were never paid for when it began."""
    requests_of = permissions.requests_of

    def of_replacements(*arguments):
        return {identity: request for identity, request in requests_of(*arguments).items() if request.asks}

    patch.setattr(permissions, "requests_of", of_replacements)


def clocks_say_which_run_is_the_latest(patch: pytest.MonkeyPatch) -> None:
    """Where the latest one by the clock of its machine is finished, the command is."""
    unfinished_runs = grants.unfinished_runs

    def by_clock(connection: Connection, lease: Lease, command: str) -> Sequence[UnfinishedRun]:
        r = schema.runs.c  # an id begins with the time
        runs = connection.execute(select(r.run_id, r.is_concluded).where(r.command == command)).all()
        if not runs or max(runs).is_concluded:
            return []
        return sorted(unfinished_runs(connection, lease, command), key=lambda run: run.run_id, reverse=True)

    patch.setattr(grants, "unfinished_runs", by_clock)


def the_limit_takes_the_first_rows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(preparation, "longest_untried", lambda groups, _tries: list(groups))


def cells_are_orders(patch: pytest.MonkeyPatch) -> None:
    """A results table is read as a plain sheet: whatever its cells say now is asked for."""
    patch.setattr(edits, "resolve", lambda manifest, identities, **_: edits.Resolved(manifest, dict(identities)))


UNDONE: dict[Undo, tuple[int, str]] = {  # a seed that comes upon it soon, and what the hunt says
    only_replacements_are_granted: (8, "was charged . times"),
    clocks_say_which_run_is_the_latest: (4, "was charged . times"),
    the_limit_takes_the_first_rows: (1, "never came to"),
    cells_are_orders: (4, "was charged . times|nobody ordered it"),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("undo", UNDONE, ids=lambda undo: undo.__name__)
def test_a_fix_that_is_taken_out_is_found(undo, hunt, monkeypatch):
    quick = settings(
        max_examples=150, stateful_step_count=12, database=None, print_blob=False,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate], report_multiple_bugs=False,
    )  # fmt: skip
    undo(monkeypatch)
    number, said = UNDONE[undo]
    with simulated(), pytest.raises(AssertionError, match=said):
        run_state_machine_as_test(seed(number)(hunt), settings=quick)
