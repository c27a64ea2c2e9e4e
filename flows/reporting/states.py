"""How a flow run ends: all delivered → Completed; some rows not → Incomplete; stopped → Failed with the reason."""

from typing import Any

from prefect import State
from prefect.client.schemas.objects import StateType
from prefect.runtime import deployment

from reelsheet.errors import ReelsheetError
from reelsheet.outcomes import Status
from reelsheet.results.table import Summary
from reelsheet.run.run import Run

INTERRUPTED = "Interrupted; run the same command again to go on."


class Outcome(State[dict[str, Any]]):
    """A final state whose result is the summary, also where the run was stopped.

    Prefect would raise when a flow that returned a Failed state is asked for its result; a caller in Python gets
    the summary of what was paid for and delivered all the same. What never began raises its ReelsheetError.
    """

    async def aresult(self, raise_on_failure: bool = True, retry_result_failure: bool = True) -> Any:  # noqa: ARG002 - Prefect's signature
        found = getattr(self.data, "result", self.data)
        if not isinstance(found, ReelsheetError):
            return found
        if deployment.id:
            return None  # nobody calls in a worker's process; a traceback in its log would help nobody
        raise found


def concluded(run: Run, summary: Summary, exit_code: int, *, cancelled: bool = False) -> Outcome:
    """The state that says how the run went, with the summary as its data."""
    told, data = counts(summary), summary.as_json()
    if exit_code == 0:
        return Outcome(type=StateType.COMPLETED, message=told, data=data)
    if exit_code == 1:
        return Outcome(type=StateType.COMPLETED, name="Incomplete", message=told, data=data)
    why = run.stop_error or run.over_budget or INTERRUPTED
    if cancelled:
        return Outcome(type=StateType.CANCELLED, message=f"{why} {told}", data=data)
    return Outcome(type=StateType.FAILED, name="Stopped", message=f"{why} {told}", data=data)


def not_begun(error: ReelsheetError) -> Outcome:
    """The sentence as the state's message; no traceback is anybody's business."""
    return Outcome(type=StateType.FAILED, name="NotStarted", message=str(error), data=error)


def refused(message: str) -> Outcome:
    """A person said no."""
    return Outcome(type=StateType.CANCELLED, name="Refused", message=message, data=NotApproved(message))


def not_approved(message: str) -> Outcome:
    """Nobody answered in time."""
    return Outcome(type=StateType.FAILED, name="NotApproved", message=message, data=NotApproved(message))


class NotApproved(ReelsheetError):
    """The plan was above `approve_above_usd` and nobody, or nobody yet, agreed to it; nothing was spent."""


def counts(summary: Summary) -> str:
    """ "7 rows: 5 succeeded, 1 failed, 1 invalid; $2.70 spent"."""
    parts = [f"{getattr(summary, status)} {status}" for status in Status if getattr(summary, status)]
    risk = f", ${summary.at_risk_cents / 100:,.2f} at risk" if summary.at_risk_cents else ""
    return f"{summary.rows} rows: {', '.join(parts) or 'none'}; ${summary.cost_cents / 100:,.2f} spent{risk}"
