"""The preparation of a run that another process began: its own copy of the sheet, its options and its permissions.

Nothing is planned again. What was not to be paid for when the run began is not paid for now, whatever has changed.
"""

from reelsheet import messages
from reelsheet.errors import ConfigurationError, LedgerError, ManifestError, WorkerError
from reelsheet.ledger import Ledger, RunRecord, Sheet
from reelsheet.manifest.identity import identity_of
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning import permissions
from reelsheet.planning.plan import OPEN, Plan, RowOutcome, Step
from reelsheet.planning.preparation import Preparation
from reelsheet.results import earlier
from reelsheet.run import rebuild
from reelsheet.settings import Settings
from reelsheet.storage.destination import open_destination, tidy
from reelsheet.storage.errors import StorageError
from reelsheet.surroundings.work import demand_for_work

FINAL = {Status.FAILED, Status.INVALID}


def resumed_preparation(flow_run_id: str, settings: Settings, begun: str | None = None) -> Preparation | None:
    """What a flow run goes on with; None where it has not begun, or where its copy of the sheet does not tell all.

    `begun`: the id of the run that Prefect knows it has begun.
    Raises WorkerError where this machine cannot go on with it, but another one may.
    """
    ledger = Ledger.open(settings.ledger_url)
    try:
        record = ledger.run_of_flow(flow_run_id)
        preparation = None if record is None else _resume(record, ledger, settings)
    except BaseException:
        ledger.close()
        raise
    if preparation is None:
        ledger.close()
    if record is None and begun is not None:
        raise WorkerError(messages.other_ledger(ledger.shown, begun))
    return preparation


def _resume(record: RunRecord, ledger: Ledger, settings: Settings) -> Preparation | None:
    if settings.api_key is None:
        raise WorkerError(messages.NO_KEY)
    if (settings.base_url, settings.model) != (record.options.get("base_url"), record.options.get("model")):
        raise WorkerError(messages.OTHER_API)
    _read_destination(record.destination, ledger)
    sheet = ledger.sheet(record.run_id)
    if sheet is None or sheet.wanted is None:
        return None
    may_repay = permissions.from_grants(ledger.permissions(record.run_id))
    try:
        context = rebuild.load_context(record, ledger, settings, may_repay=may_repay)
    except ManifestError:  # it ended before the copy was written, so before anything was paid for
        return None
    if any(identity_of(group.row, settings) != group.identity for group in context.plan.at_step(Step.SUBMIT)):
        return None
    for group in context.plan.groups.values():  # a row of a results table that stays as paid for, whatever it says now
        if identity_of(group.row, settings) != group.identity:
            group.hold_back(_TEXT_CHANGED)
    _keep_to(context.plan, sheet)
    identities = {position: identity for position, identity in enumerate(sheet.identities) if identity}
    plan = context.plan
    if work := plan.at_step(*OPEN):
        _demand(settings, min(len(work), context.options.concurrency or len(work)))
    return Preparation(context.options, settings, plan.manifest, ledger, context.destination, plan, identities)


def _demand(settings: Settings, at_once: int) -> None:
    """Raises WorkerError where this machine cannot work so."""
    try:
        demand_for_work(settings, at_once=at_once)
    except ConfigurationError as error:
        raise WorkerError(str(error)) from error


def _read_destination(address: str, ledger: Ledger) -> None:
    """Ids that the ledger could not take are there. Raises WorkerError where this machine has no access."""
    try:
        destination = open_destination(address)
        destination.probe()
        tidy(destination)
        ledger.expire_dead_claims()
        earlier.import_from_destination(ledger, destination)
    except LedgerError:
        raise
    except (StorageError, ConfigurationError) as error:
        raise WorkerError(str(error)) from error


def _keep_to(plan: Plan, sheet: Sheet) -> None:
    """Rows that the run did not want to pay for stay as it said; what kept it from others may be over."""
    assert sheet.wanted is not None  # noqa: S101 - the caller saw to it
    for group in plan.groups.values():
        if group.order not in sheet.wanted:
            group.hold_back(group.outcome or _NOT_WANTED)
        elif group.status not in FINAL and group.left_out is None:
            group.clear_outcome()


_TEXT_CHANGED = RowOutcome(Status.UNDELIVERED, ErrorCode.LOST, messages.PAID_WITHOUT_ID)
_NOT_WANTED = RowOutcome(Status.SKIPPED, ErrorCode.INTERRUPTED, messages.INTERRUPTED)
