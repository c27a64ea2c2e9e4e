"""How a flow run ends: all delivered → Completed; some rows not → Incomplete; stopped → Failed with the reason."""

from typing import Any

from prefect import State
from prefect.client.schemas.objects import FlowRun, StateType

from flows import bad_workers
from reelsheet.errors import ReelsheetError
from reelsheet.money import dollars
from reelsheet.outcomes import Status
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.results.table import Summary
from reelsheet.run.stop_control import StopControl
from tasks import this_run

INTERRUPTED = "Interrupted; run the same command again to go on."


class NotApproved(ReelsheetError):
    """The plan was above `approve_above_usd` and nobody, or nobody yet, agreed to it; nothing was spent."""


class Outcome(State[dict[str, Any]]):
    """A final state whose result is the summary, also where the run was stopped.

    Prefect would raise when a flow that returned a Failed state is asked for its result; a caller in Python gets
    the summary of what was paid for and delivered all the same. What never started raises its ReelsheetError.
    """

    async def aresult(self, raise_on_failure: bool = True, retry_result_failure: bool = True) -> Any:  # noqa: ARG002 - Prefect's signature
        result = getattr(self.data, "result", self.data)
        if not isinstance(result, ReelsheetError):
            return result
        if this_run.is_of_deployment():
            return None  # nobody calls in a worker's process; a traceback in its log would help nobody
        raise result


def concluded(stops: StopControl, summary: Summary, *, is_cancelled: bool = False) -> Outcome:
    """The state that says how the run went, with the summary as its data."""
    message, data = counts(summary), summary.as_json()
    if summary.exit_code in {0, 1}:
        name = "Incomplete" if summary.exit_code else None
        return Outcome(type=StateType.COMPLETED, name=name, message=message, data=data)
    message = f"{stops.message or INTERRUPTED} {message}"
    if is_cancelled:
        return Outcome(type=StateType.CANCELLED, message=message, data=data)
    return Outcome(type=StateType.FAILED, name="Stopped", message=message, data=data)


def shard_concluded(stops: StopControl, groups: list[RowGroup]) -> Outcome:
    """A shard's own state: only for people; the run reads the ledger."""
    delivered = sum(group.step is Step.DONE for group in groups)
    message, data = f"{delivered} of {len(groups)} delivered", {"delivered": delivered, "of": len(groups)}
    if stops.signal is not None or stops.code is not None:
        message = f"{stops.error or INTERRUPTED} {message}"
        return Outcome(type=StateType.FAILED, name="Stopped", message=message, data=data)
    name = None if delivered == len(groups) else "Incomplete"
    return Outcome(type=StateType.COMPLETED, name=name, message=message, data=data)


def shard_elsewhere() -> Outcome:
    """Another process does this shard, or has done it."""
    return Outcome(type=StateType.COMPLETED, name="Elsewhere", message="Another process has this shard.", data={})


def not_started(error: ReelsheetError) -> Outcome:
    """The sentence as the state's message; a traceback would help nobody."""
    return Outcome(type=StateType.FAILED, name="NotStarted", message=str(error), data=error)


def shard_not_started(error: ReelsheetError) -> Outcome:
    """As `not_started`; the machine is named, for the shard's run and for people."""
    return not_started(bad_workers.shard_refused(error))


def skipped(other: FlowRun) -> Outcome:
    """A scheduled run does nothing, because an earlier one does it."""
    message = f"The deployment's last run, {other.name} ({other.id}), is still going on; it does the same."
    return Outcome(type=StateType.COMPLETED, name="Skipped", message=message, data={})


def cancelled() -> Outcome:
    """A person cancelled it before it could be put back."""
    return Outcome(type=StateType.CANCELLED, message="Cancelled; what is paid for is in the ledger.", data={})


def refused(message: str) -> Outcome:
    """A person said no."""
    return Outcome(type=StateType.CANCELLED, name="Refused", message=message, data=NotApproved(message))


def not_approved(message: str) -> Outcome:
    """Nobody answered in time."""
    return Outcome(type=StateType.FAILED, name="NotApproved", message=message, data=NotApproved(message))


def counts(summary: Summary) -> str:
    """ "7 rows: 5 succeeded, 1 failed, 1 invalid; $2.70 spent"."""
    parts = [f"{getattr(summary, status)} {status}" for status in Status if getattr(summary, status)]
    risk = f", {dollars(summary.at_risk_cents)} at risk" if summary.at_risk_cents else ""
    return f"{summary.rows} rows: {', '.join(parts) or 'none'}; {dollars(summary.cost_cents)} spent{risk}"
