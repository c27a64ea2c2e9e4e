"""How a row stands: its line in the results, drawn from what the ledger says and, below that, from what the run says.

What may have been paid for is `unknown` whatever else happened to it, so that no table can hide money at risk.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reelsheet import messages
from reelsheet.ledger import PAID, Attempt, State
from reelsheet.outcomes import ErrorCode, RowResult, Status
from reelsheet.planning.plan import RowGroup, Step

if TYPE_CHECKING:
    from reelsheet.run.run import Run

_OPEN = (State.UNKNOWN, State.CLAIMED)


def result(run: "Run", position: int) -> RowResult:
    """One row's line as of now."""
    row = run.manifest.rows[position]
    group = run.work_at(position)
    if row.problems or group is None:
        problems = " ".join(row.problems)
        return RowResult(Status.INVALID, problems, ErrorCode.INVALID_ROW, row.warnings, run_id=run.run_id)
    status, code, error = verdict(run, group)
    line = RowResult(
        status,
        error,
        code,
        warnings=tuple(dict.fromkeys((*row.warnings, *group.warnings))),
        identity=group.identity,
        run_id=run.run_id,
    )
    history = group.history
    if history is None:
        return line
    first = position == group.positions[0]
    if first:
        line.cost_cents = history.run_cents(run.run_id)
        line.total_cost_cents = history.total_cents
        line.at_risk_cents = history.risk_cents
    latest = history.latest
    if latest.state in (*PAID, *_OPEN) and not _is_refusal(status, latest):
        line.attempt = latest.number
        line.prediction_id = latest.prediction_id or ""
        line.submitted_at = _utc(latest.submitted_at)
        line.completed_at = _utc(latest.completed_at)
        line.reused = latest.state in PAID and (not first or latest.run_id != run.run_id)
    if status is Status.SUCCEEDED:
        _name_clips(run, line, group)
    return line


def verdict(run: "Run", group: RowGroup) -> tuple[Status, ErrorCode | None, str]:
    """Status, code and sentence of a row that could be asked for."""
    if group.step is Step.DONE:
        return Status.SUCCEEDED, None, ""
    latest = group.history.latest if group.history else None
    if latest is not None and latest.state in _OPEN:
        return Status.UNKNOWN, ErrorCode.SUBMIT_UNKNOWN, _unknown(run, group, latest)
    if group.status is not None:
        return group.status, group.error_code, group.error
    if latest is not None and latest.state == State.FAILED and group.step is not Step.SUBMIT:
        code = ErrorCode(latest.error_code) if latest.error_code in set(ErrorCode) else ErrorCode.GENERATION_FAILED
        return Status.FAILED, code, latest.error or messages.failed_before()
    if latest is not None and latest.state in PAID and group.step is not Step.SUBMIT:
        return Status.UNDELIVERED, ErrorCode.INTERRUPTED, messages.interrupted_paid()
    return Status.SKIPPED, *run.why_skipped()


def _unknown(run: "Run", group: RowGroup, latest: Attempt) -> str:
    if latest.state == State.CLAIMED and latest.run_id != run.run_id:  # a dead run's claim would be unknown by now
        return messages.sent_by_another(latest.run_id)
    told = latest.error or messages.crashed_while_sending(latest.claimed_at)
    if group.status is None or group.status is Status.UNKNOWN:
        return told
    return f"{group.error} An earlier submission of this row is still open: {told}"


def _is_refusal(status: Status, latest: Attempt) -> bool:
    """What the row says is of a submission that was not accepted; an earlier attempt stays what it is."""
    return status in {Status.FAILED, Status.INVALID} and latest.state != State.FAILED


def _name_clips(run: "Run", line: RowResult, group: RowGroup) -> None:
    stored = group.history.delivered(run.destination.address) if group.history else ()
    if not stored:
        return
    main = stored[0]
    line.video_uri = run.destination.uri(main.key)
    line.more_video_uris = tuple(run.destination.uri(one.key) for one in stored[1:])
    line.video_bytes, line.video_sha256 = main.bytes, main.sha256
    line.width, line.height, line.duration_s = main.width, main.height, main.duration_s


def _utc(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
