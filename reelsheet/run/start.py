"""From a preparation to a run: registered in the ledger, within the permissions that it was granted."""

import asyncio
import contextlib
import secrets
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, astuple, dataclass
from datetime import UTC, datetime

from reelsheet import messages
from reelsheet.ledger import Grant, Sheet
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode
from reelsheet.planning import permissions
from reelsheet.planning.plan import OPEN, Step
from reelsheet.planning.preparation import Preparation
from reelsheet.provider.client import KeyState
from reelsheet.run.context import RunContext
from reelsheet.run.run import Run


@dataclass(slots=True)
class Handover:
    """A preparation that the command line gives to the flow that it calls, and the run that comes of it."""

    preparation: Preparation
    run: Run | None = None


_handover: ContextVar[Handover | None] = ContextVar("handover", default=None)


@contextlib.contextmanager
def reuse_preparation(preparation: Preparation) -> Iterator[Handover]:
    """What the command line has prepared is not prepared again by the flow that it calls."""
    token = _handover.set(Handover(preparation))
    try:
        yield _handover.get()  # type: ignore[misc] # set just now
    finally:
        _handover.reset(token)


def reused_preparation(options: Options) -> Preparation | None:
    """The preparation of the same options, where the caller has one."""
    handover = _handover.get()
    if handover is None or handover.preparation.options.for_flow() != options.for_flow():
        return None
    return handover.preparation


def is_handed_over(run: Run) -> bool:
    """The command line waits for this run, and says itself when it is over."""
    handover = _handover.get()
    return handover is not None and handover.run is run


async def start_run(preparation: Preparation, *, flow_run_id: str | None) -> Run:
    """Register the run. From here on money may move. Raises LedgerError."""
    assert preparation.destination is not None  # noqa: S101 - `prepare` saw to it
    ledger, options, settings = preparation.ledger, preparation.options, preparation.settings
    await asyncio.to_thread(ledger.heartbeat)  # a person may have read the plan for longer than a lease lasts
    known = ledger.run_of_flow(flow_run_id) if flow_run_id else None
    record = await asyncio.to_thread(
        ledger.open_run,
        run_id=known.run_id if known else new_run_id(),
        verb=options.verb,
        source=options.shown().source,
        destination=preparation.destination.address,
        command=preparation.command,
        flow_run_id=flow_run_id,
        options=asdict(options.shown()) | {"base_url": settings.base_url, "model": settings.model},
        rows=len(preparation.manifest.rows),
        cap_cents=preparation.cap_cents,
        asks=permissions.asks_of(options),
        requests=preparation.requests,
        is_new=options.new_run,
        sheet=_sheet(preparation),
    )
    run = Run(RunContext(record, preparation.plan, options, settings, ledger, preparation.destination))
    _narrow(preparation, await asyncio.to_thread(ledger.permissions, record.run_id))
    if record.continues:
        earlier = await asyncio.to_thread(ledger.run, record.continues)
        paid = ": what that run paid for is not paid for again" if earlier is None or earlier.spent_cents else ""
        run.monitor.remarks.append(f"This continues run {record.continues}, which is not finished{paid}.")
    if preparation.key.state is KeyState.REFUSED and preparation.plan.at_step(Step.SUBMIT, Step.POLL):
        run.stops.stop(ErrorCode.AUTH, messages.key_refused(preparation.key.message))
    if preparation.key.state is KeyState.SILENT and preparation.plan.at_step(Step.SUBMIT):
        run.stops.stop(ErrorCode.PROVIDER_DOWN, messages.key_unanswered(preparation.key.message))
    handover = _handover.get()
    if handover is not None and handover.preparation is preparation:
        handover.run = run
    return run


def new_run_id(now: datetime | None = None) -> str:
    """Sorts by time: 20260115-120000-1f3a9c."""
    moment = now or datetime.now(UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _sheet(preparation: Preparation) -> Sheet:
    rows = preparation.manifest.rows
    return Sheet(
        tuple(row.line for row in rows),
        tuple(row.name for row in rows),
        tuple(preparation.identities.get(row.position, "") for row in rows),
        {row.position: row.problems for row in rows if row.problems},
        {row.position: row.warnings for row in rows if row.warnings},
        {row.position: row.left_out for row in rows if row.left_out is not None},
        tuple(group.order for group in preparation.plan.at_step(*OPEN)),
        {row.position: row.prompt for row in rows if row.is_rendered and row.prompt is not None},
        {row.position: astuple(row.picture) for row in rows if row.picture is not None},
        {row.position: row.problem_code for row in rows if row.problems},
        preparation.manifest.title,
    )


def _narrow(preparation: Preparation, grants: Mapping[str, Grant]) -> None:
    """Take back what the run is not allowed to pay for again after all."""
    destination = preparation.destination.address if preparation.destination else ""
    may_repay = permissions.from_grants(grants)
    for group in preparation.plan.at_step(Step.SUBMIT):
        if group.history is not None and group.outcome is None:
            group.replan(destination, preparation.objects, may_repay=may_repay(group))
