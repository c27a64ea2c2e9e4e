"""Who may be paid for again: the one place that turns options, redo cells and grants into a permission."""

import hashlib
import json
from collections.abc import Callable, Container, Mapping, Sequence

from reelsheet import messages
from reelsheet.ledger import PAID, Ask, Attempt, Grant, RepayRequest, State, UnfinishedRun
from reelsheet.ledger.grants import decide
from reelsheet.manifest.identity import is_identity
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.paths import expanded
from reelsheet.planning import redo
from reelsheet.planning.plan import Plan, RowGroup, Step
from reelsheet.redaction import unsigned
from reelsheet.web import share_links

MayRepay = Callable[[RowGroup], bool]  # whether a group's latest attempt may be replaced by another paid one


def command_key(options: Options, destination: str, tab: str = "") -> str:
    """What makes two commands the same: the verb, the sheet however it is written, and the destination.

    What is asked for is compared by itself (`asks_of`), row by row: neither --limit nor another column, nor one more
    row, makes another command. `retry` is given the same rows as a file, a run or a destination. `tab` is the sheet of
    a workbook that was read.
    """
    sheet = None if options.verb == "retry" else (_same_source(options.source.strip()), tab)
    return hashlib.sha256(json.dumps([options.verb, sheet, destination]).encode()).hexdigest()


def _same_source(source: str) -> str:
    if "://" not in source:
        return str(expanded(source).resolve())
    return share_links.canonical(share_links.sheet_export(unsigned(source))).removesuffix("&gid=0")  # the first tab


def asks_of(options: Options) -> frozenset[Ask]:
    """What a command asks for of all rows."""
    asks = {Ask.FRESH: options.fresh, Ask.UNKNOWN: options.retry_unknown, Ask.FAILED: options.verb == "retry"}
    return frozenset(ask for ask, is_asked in asks.items() if is_asked)


def request_of(group: RowGroup, options: Options, manifest: Manifest) -> RepayRequest:
    """What a command asks for of one group: why its latest attempt may be replaced."""
    latest = group.latest
    if latest is None:
        return RepayRequest()
    asks = set()
    if latest.state == State.UNKNOWN and options.retry_unknown:
        asks.add(Ask.UNKNOWN)
    if latest.state in PAID and options.fresh:
        asks.add(Ask.FRESH)
    if options.verb == "retry" and latest.state == State.FAILED:
        asks.add(Ask.FAILED)
    rows = (row for position in group.positions if (row := manifest.rows[position]).left_out is None)
    if any(_is_redo(row, latest) for row in rows):
        asks.add(Ask.REDO)
    return RepayRequest(latest.number, frozenset(asks)) if asks else RepayRequest()


def from_options(
    options: Options, unfinished: Sequence[UnfinishedRun], manifest: Manifest, *, held: Container[str] = ()
) -> MayRepay:
    """What these options allow, where these runs of the same command are unfinished.

    `held`: identities that no row asks for any more.
    """

    def may_repay(group: RowGroup) -> bool:
        if group.identity in held:
            return False
        grant = decide(group.identity, request_of(group, options, manifest), unfinished)
        return group.latest is not None and grant.allows(group.latest)

    return may_repay


def from_grants(grants: Mapping[str, Grant]) -> MayRepay:
    """What a registered run was granted, by identity."""

    def may_repay(group: RowGroup) -> bool:
        return group.latest is not None and grants.get(group.identity, Grant()).allows(group.latest)

    return may_repay


def requests_of(plan: Plan, options: Options) -> dict[str, RepayRequest]:
    """identity → what the run asks for, of each group that it may come to pay for.

    A command that asks to pay again asks of rows that were never paid for, too: repeated, it does not pay for them
    again.
    """
    requests = {}
    for group in plan.groups.values():
        if not group.is_chosen or group.held is not None:
            continue
        request, history = request_of(group, options, plan.manifest), group.history
        is_replaced = group.step is Step.SUBMIT and history is not None and not history.is_free
        is_claimed = history is not None and history.latest.state == State.CLAIMED
        if request.asks or is_replaced or (asks_of(options) and (group.step is Step.SUBMIT or is_claimed)):
            requests[group.identity] = request
    return requests


def hold_back_undelivered(plan: Plan, options: Options) -> None:
    """A clip that a results table says was paid for, though nothing here knows of it, is paid for with --fresh only."""
    if options.fresh:
        return
    for group in (group for group in plan.groups.values() if group.step is Step.SUBMIT):
        rows = [plan.manifest.rows[position] for position in group.positions]
        if group.history is None and any(_says_paid(row, group.identity, options) for row in rows):
            group.leave(Step.REPORT, Status.UNDELIVERED, ErrorCode.LOST, messages.PAID_WITHOUT_ID)


def _says_paid(row: Row, identity: str, options: Options) -> bool:
    """The row's results say that this identity was paid for, or may have been; or they name none."""
    earlier = row.earlier
    if earlier is None or (is_identity(earlier.identity) and earlier.identity != identity):
        return False
    if earlier.status == Status.UNKNOWN:
        return not options.retry_unknown
    # where the status is gone, an attempt was paid for
    return earlier.status in {Status.UNDELIVERED, Status.SUCCEEDED} or (
        not earlier.status and earlier.attempt is not None
    )


def answer_redo_left_out(plan: Plan) -> None:
    """Redo on a row that is not to be run pays for nothing, and the row says so."""
    for group in plan.groups.values():
        for row in (plan.manifest.rows[position] for position in group.positions):
            if row.left_out is not None and redo.is_asked(row.earlier):
                group.warnings.append(messages.redo_left_out(row.left_out))


def _is_redo(row: Row, latest: Attempt) -> bool:
    """A person asks for another clip in place of this very one."""
    return row.earlier is not None and row.earlier.identity == latest.identity and redo.is_heard(row.earlier, latest)
