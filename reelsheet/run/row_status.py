"""How does this row stand? The one answer, from what the ledger knows of its identity and what a run says of it.

The results table, the live display, `status`, `report` and `retry` all ask here. What may have been paid for is
`unknown` whatever else happened to it, so that nothing can hide money at risk.
"""

from datetime import UTC, datetime
from enum import StrEnum

from reelsheet import messages
from reelsheet.ledger import PAID, Attempt, IdentityHistory, Note, State
from reelsheet.manifest.rows import Row
from reelsheet.outcomes import ErrorCode, RowResult, Status
from reelsheet.planning.plan import OPEN, RowGroup, RowOutcome, Step
from reelsheet.run.context import RunContext

_MAYBE_PAID = (State.UNKNOWN, State.CLAIMED)
INTERRUPTED = (ErrorCode.INTERRUPTED, messages.INTERRUPTED)


class Stage(StrEnum):
    """Where a row is while a run works on it."""

    WAITING = "waiting"
    SENDING = "sending"
    GENERATING = "generating"
    COPYING = "copying"


def row_status(
    step: Step,
    history: IdentityHistory | None,
    outcome: RowOutcome | None,
    *,
    run_id: str,
    skip_reason: tuple[ErrorCode, str] = INTERRUPTED,
) -> RowOutcome:
    """Status, code and sentence of a row. `skip_reason`: why a row that the run did not reach was left."""
    if step is Step.DONE:
        return RowOutcome(Status.SUCCEEDED, None, "")
    latest = history.latest if history else None
    if latest is not None and latest.state in _MAYBE_PAID:
        return RowOutcome(Status.UNKNOWN, ErrorCode.SUBMIT_UNKNOWN, _unknown_error(latest, outcome, run_id))
    if outcome is not None:
        return outcome
    if latest is not None and latest.state == State.FAILED and step is not Step.SUBMIT:
        code = _code(latest.error_code) or ErrorCode.GENERATION_FAILED
        return RowOutcome(Status.FAILED, code, latest.error or messages.FAILED_BEFORE)
    if latest is not None and latest.state in PAID and step is not Step.SUBMIT:
        return RowOutcome(Status.UNDELIVERED, ErrorCode.INTERRUPTED, messages.INTERRUPTED_PAID)
    return RowOutcome(Status.SKIPPED, *skip_reason)


def stage_or_status(
    step: Step, history: IdentityHistory | None, outcome: RowOutcome | None, *, run_id: str, is_live: bool
) -> Stage | Status:
    """Where a row is that a living run still works on, else its status."""
    if not is_live or outcome is not None or step not in OPEN:
        return row_status(step, history, outcome, run_id=run_id).status
    if history is not None and history.latest.state == State.CLAIMED:
        return Stage.SENDING
    return {Step.POLL: Stage.GENERATING, Step.COPY: Stage.COPYING}.get(step, Stage.WAITING)


def outcome_of_note(note: Note | None, step: Step, history: IdentityHistory | None, run_id: str) -> RowOutcome | None:
    """What a run said of a row, as far as the ledger does not contradict it by now."""
    status = Status(note.status) if note is not None and note.status in set(Status) else None
    if note is not None and status is not None and _is_consistent(step, history, status):
        return RowOutcome(status, _code(note.error_code), note.error)
    last = history.attempts[-1] if history is not None else None
    if step is not Step.SUBMIT or last is None:
        return None
    code = _code(last.error_code)
    if last.state == State.REFUSED and last.run_id == run_id and code is not None:
        return RowOutcome(Status.FAILED, code, last.error or "")  # the run ended before it could say so
    if last.state == State.ABANDONED:
        error = "Settled as never charged; run the same command again to have it made."
        return RowOutcome(Status.SKIPPED, ErrorCode.INTERRUPTED, error)
    return None


def row_result(
    context: RunContext, position: int, group: RowGroup | None, skip_reason: tuple[ErrorCode, str]
) -> RowResult:
    """One row's line in the results as of now; `group` None: the row is invalid."""
    result = _row_result(context, position, group, skip_reason)
    row = context.manifest.rows[position]
    if row.is_rendered:
        result.prompt_sent = row.prompt or ""
    return result


def _row_result(
    context: RunContext, position: int, group: RowGroup | None, skip_reason: tuple[ErrorCode, str]
) -> RowResult:
    row = context.manifest.rows[position]
    if group is None and row.left_out is not None:
        error = messages.left_out(row.left_out, Status.SKIPPED)
        return RowResult(Status.SKIPPED, error, row.left_out, row.warnings, run_id=context.run_id)
    if row.problems or group is None:
        problems = " ".join(row.problems)
        result = RowResult(Status.INVALID, problems, row.problem_code, row.warnings, run_id=context.run_id)
        _name_picture(result, row, group)
        return result
    verdict = row_status(group.step, group.history, group.outcome, run_id=context.run_id, skip_reason=skip_reason)
    result = RowResult(
        verdict.status,
        verdict.error,
        verdict.code,
        warnings=tuple(dict.fromkeys((*row.warnings, *group.warnings))),
        identity=group.identity,
        run_id=context.run_id,
    )
    _name_picture(result, row, group)
    history = group.history
    if history is None:
        return result
    is_first = position == group.positions[0]
    if is_first:
        result.cost_cents = history.run_cents(context.run_id)
        result.total_cost_cents = history.total_cents
        result.at_risk_cents = history.risk_cents
    is_delivered = verdict.status is Status.SUCCEEDED
    attempt = _delivered_attempt(history, context.destination.address) if is_delivered else history.latest
    # A row that was refused just now says so; an earlier attempt of it stays what it is.
    is_refusal = verdict.status in {Status.FAILED, Status.INVALID} and attempt.state != State.FAILED
    if attempt.state in (*PAID, *_MAYBE_PAID) and not is_refusal:
        result.attempt = attempt.number
        result.prediction_id = attempt.prediction_id or ""
        result.submitted_at = _utc(attempt.submitted_at)
        result.completed_at = _utc(attempt.completed_at)
        result.reused = attempt.state in PAID and (not is_first or attempt.run_id != context.run_id)
    if is_delivered:
        _name_clips(context, result, history, attempt)
    return result


def _delivered_attempt(history: IdentityHistory, destination: str) -> Attempt:
    """The one whose clip this run delivered. Another run may have begun to replace it meanwhile."""
    paid = (attempt for attempt in reversed(history.attempts) if attempt.state in PAID)
    return next((one for one in paid if history.delivered(destination, one.number)), history.latest)


def _name_picture(result: RowResult, row: Row, group: RowGroup | None) -> None:
    picture = row.picture
    if picture is not None:
        result.image_sha256 = picture.sha256
        result.image_input = group.image_input if group is not None else "" if picture.folder else picture.uri


def _name_clips(context: RunContext, result: RowResult, history: IdentityHistory, attempt: Attempt) -> None:
    destination = context.destination
    stored = history.delivered(destination.address, attempt.number)
    if stored:
        first = stored[0]
        result.video_uri = destination.uri(first.key)
        result.more_video_uris = tuple(destination.uri(delivery.key) for delivery in stored[1:])
        result.video_bytes, result.video_sha256 = first.bytes, first.sha256
        result.width, result.height, result.duration_s = first.width, first.height, first.duration_s


def _unknown_error(latest: Attempt, outcome: RowOutcome | None, run_id: str) -> str:
    if latest.state == State.CLAIMED and latest.run_id != run_id:  # a dead run's claim would be unknown by now
        return messages.sent_by_another(latest.run_id)
    error = latest.error or messages.crashed_while_sending(latest.claimed_at)
    if outcome is None or outcome.status is Status.UNKNOWN:
        return error
    return f"{outcome.error} An earlier submission of this row is still open: {error}"


def _is_consistent(step: Step, history: IdentityHistory | None, status: Status) -> bool:
    """Whether a run may have said `status` of a row that stands like this now."""
    match step:
        case Step.SUBMIT | Step.REFUSE:
            # A row that was settled as never charged is not unknown any more.
            return history is None or status not in {Status.UNKNOWN, Status.UNDELIVERED}
        case Step.POLL | Step.COPY:
            return status is Status.UNDELIVERED
        case Step.REPORT:
            failed = history is not None and history.latest.state == State.FAILED
            return status is (Status.FAILED if failed else Status.UNKNOWN)
        case _:
            return False


def _code(text: str | None) -> ErrorCode | None:
    return ErrorCode(text) if text in set(ErrorCode) else None


def _utc(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
