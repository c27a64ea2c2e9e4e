"""A step that fails for a reason that nobody foresaw: the row says so, the log keeps the traceback."""

import signal
from types import SimpleNamespace

import pytest
from prefect.exceptions import Pause

from flows import rows
from reelsheet.ledger import Attempt, IdentityHistory, State
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.run.run import Run


@pytest.mark.parametrize(
    "error", [KeyError("id"), RuntimeError("no loop"), UnicodeDecodeError("utf-8", b"", 0, 1, "x")]
)
@pytest.mark.parametrize(
    ("step", "status"),
    [(Step.SUBMIT, Status.SKIPPED), (Step.POLL, Status.UNDELIVERED), (Step.COPY, Status.UNDELIVERED)],
)
async def test_a_step_that_fails_twice_is_the_row_s_sentence(caplog, error, step, status):
    paid = IdentityHistory((Attempt(1, "i", 1, State.SUBMITTED, None, "r", "2026-01-15", 54),))
    group = RowGroup("i", SimpleNamespace(name="mug"), [0], history=None if step is Step.SUBMIT else paid, step=step)
    run = SimpleNamespace(monitor=SimpleNamespace(task_runs=0, has_started_rows=False), run_id="r")
    run.give_up = lambda group, error: Run.give_up(run, group, error)

    async def fails(*_):
        raise error

    await rows._run_task(run, group, fails, fails)
    assert (group.status, group.error_code) == (status, ErrorCode.INTERRUPTED)
    assert type(error).__name__ in group.error
    assert any(record.exc_info and record.exc_info[1] is error for record in caplog.records)


async def test_a_run_that_a_person_suspends_in_prefect_stops_as_by_a_signal():
    group, told = RowGroup("i", SimpleNamespace(name="mug"), [0], history=None, step=Step.SUBMIT), []
    run = SimpleNamespace(
        monitor=SimpleNamespace(task_runs=0), stops=SimpleNamespace(interrupt=told.append), run_id="r"
    )

    async def suspended(*_):
        raise Pause

    async def body(identity):
        told.append(identity)

    await rows._run_task(run, group, suspended, body)
    assert told == [signal.SIGTERM, "i"]
