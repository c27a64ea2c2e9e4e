"""Who may be paid for again: the one place that turns options, redo cells and grants into a permission."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from reelsheet import messages
from reelsheet.ledger import PAID, Attempt, RepayPermission, State
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning.plan import Plan, RowGroup, Step
from reelsheet.redaction import unsigned

MayRepay = Callable[[RowGroup], bool]  # whether a group's latest attempt may be replaced by another paid one


def command_key(options: Options, destination: str) -> str:
    """What makes two commands the same for a permission to pay again."""
    source = options.source if "://" in options.source else str(Path(options.source).expanduser().resolve())
    command = [options.verb, unsigned(source), destination, options.fresh, options.retry_unknown]
    return hashlib.sha256(json.dumps(command).encode()).hexdigest()


def asks_to_repay(options: Options) -> bool:
    return options.fresh or options.retry_unknown or options.verb == "retry"


def from_options(options: Options, shared: RepayPermission | None, manifest: Manifest) -> MayRepay:
    """What these options allow; `shared` is the permission of an unfinished run of the same command."""

    def may_repay(group: RowGroup) -> bool:
        if group.history is None:
            return False
        latest = group.history.latest
        if shared is not None and group.identity in shared.grants:
            return shared.grants[group.identity] == latest.number and latest.state != State.CLAIMED
        if shared is not None and any(attempt.run_id in shared.runs for attempt in group.history.attempts):
            return False  # what that run paid for is not paid for again
        if latest.state == State.UNKNOWN:
            return options.retry_unknown
        if latest.state in PAID and options.fresh:
            return True
        if options.verb != "retry":
            return False
        rows = (manifest.rows[position] for position in group.positions)
        return latest.state == State.FAILED or any(_is_redo(row, latest) for row in rows)

    return may_repay


def from_grants(grants: Mapping[str, int]) -> MayRepay:
    """What a registered run was granted: identity → number of the attempt that it may replace."""

    def may_repay(group: RowGroup) -> bool:
        return group.latest is not None and grants.get(group.identity) == group.latest.number

    return may_repay


def wanted_grants(plan: Plan) -> dict[str, int]:
    """identity → the attempt that the plan would replace."""
    return {
        group.identity: group.history.latest.number
        for group in plan.at_step(Step.SUBMIT)
        if group.history is not None and not group.history.is_free
    }


def hold_back_undelivered(plan: Plan) -> None:
    """A clip that the results say was paid for, though no prediction id is known: `retry` never pays for it."""
    for group in plan.at_step(Step.SUBMIT):
        earlier = group.row.earlier
        if group.history is not None or earlier is None or earlier.identity != group.identity:
            continue
        if earlier.status in {Status.UNDELIVERED, Status.SUCCEEDED}:
            group.leave(Step.REPORT, Status.UNDELIVERED, ErrorCode.LOST, messages.PAID_WITHOUT_ID)


def _is_redo(row: Row, latest: Attempt) -> bool:
    """A person asks for another clip in place of this very one."""
    return (
        row.earlier is not None
        and row.earlier.review.strip().casefold() == "redo"
        and row.earlier.attempt == latest.number
        and row.earlier.identity == latest.identity
        and latest.state == State.COMPLETED
    )
