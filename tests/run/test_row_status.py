"""How a row stands: one answer for the table, the display, `status`, `report` and `retry`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsheet.ledger import Attempt, IdentityHistory, Note, State
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning.plan import RowOutcome, Step, next_step
from reelsheet.run.row_status import Stage, outcome_of_note, row_status, stage_or_status

RUN = "20260115-120000-abcdef"
SAID = RowOutcome(Status.FAILED, ErrorCode.REJECTED, "Refused.")
STATES = st.sampled_from([None, *State])
OUTCOMES = st.sampled_from([None, SAID, RowOutcome(Status.SKIPPED, ErrorCode.AUTH, "The key is refused.")])


def history(state: State | None, *, run_id: str = RUN, error_code: str | None = None) -> IdentityHistory | None:
    if state is None:
        return None
    attempt = Attempt(1, "a" * 64, 1, state, None, run_id, "2026-01-15", 54, error_code=error_code, error="Why.")
    return IdentityHistory((attempt,))


@given(STATES, OUTCOMES)
def test_what_may_have_been_paid_is_unknown_whatever_a_run_says(state, outcome):
    step = next_step(history(state), "d", None, may_repay=False)
    verdict = row_status(step, history(state), outcome, run_id=RUN)
    if state in {State.UNKNOWN, State.CLAIMED}:
        assert verdict.status is Status.UNKNOWN
    elif outcome is not None:
        assert verdict == outcome


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (None, Status.SKIPPED),
        (State.REFUSED, Status.SKIPPED),
        (State.SUBMITTED, Status.UNDELIVERED),
        (State.COMPLETED, Status.UNDELIVERED),
        (State.FAILED, Status.FAILED),
        (State.UNKNOWN, Status.UNKNOWN),
    ],
)
def test_without_a_word_of_the_run_the_ledger_says_how_a_row_stands(state, status):
    step = next_step(history(state), "d", None, may_repay=False)
    assert row_status(step, history(state), None, run_id=RUN).status is status


def test_a_failed_row_that_may_be_paid_for_again_and_was_not_reached_is_skipped():
    assert row_status(Step.SUBMIT, history(State.FAILED), None, run_id=RUN).status is Status.SKIPPED


@given(st.sampled_from(list(Step)), STATES, OUTCOMES)
def test_a_row_that_no_run_works_on_has_the_status_of_its_results_row(step, state, outcome):
    status = row_status(step, history(state), outcome, run_id=RUN).status
    assert stage_or_status(step, history(state), outcome, run_id=RUN, is_live=False) is status
    live = stage_or_status(step, history(state), outcome, run_id=RUN, is_live=True)
    assert live is status or (outcome is None and isinstance(live, Stage))


def test_a_note_counts_only_while_the_ledger_does_not_contradict_it():
    unknown = Note(0, "unknown", "submit_unknown", "No answer came.")
    assert outcome_of_note(unknown, Step.REPORT, history(State.UNKNOWN), RUN) is not None
    assert outcome_of_note(unknown, Step.COPY, history(State.COMPLETED), RUN) is None
    settled = outcome_of_note(unknown, Step.SUBMIT, history(State.ABANDONED), RUN)
    assert settled is not None
    assert (settled.status, settled.code) == (Status.SKIPPED, ErrorCode.INTERRUPTED)


def test_a_refusal_of_this_run_is_its_outcome_though_the_run_ended_before_it_said_so():
    refused = outcome_of_note(None, Step.SUBMIT, history(State.REFUSED, error_code="moderated"), RUN)
    assert refused == RowOutcome(Status.FAILED, ErrorCode.MODERATED, "Why.")
    assert (
        outcome_of_note(None, Step.SUBMIT, history(State.REFUSED, run_id="other", error_code="moderated"), RUN) is None
    )
