"""A run in progress: it takes each row from the sheet to its clip.

A row's way: identity → the ledger's verdict → submit (`submission`) → poll (`polling`) → copy (`delivery`) →
ledger → results row (`row_status`).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import httpx

from reelsheet import messages
from reelsheet.errors import LedgerError
from reelsheet.images import thumbnails
from reelsheet.ledger import PAID, Attempt, Note, State
from reelsheet.outcomes import ErrorCode, RowResult, Status
from reelsheet.pacing.congestion_window import CongestionWindow
from reelsheet.pacing.gate import Gate
from reelsheet.pacing.poll_schedule import PollSchedule
from reelsheet.planning.plan import OPEN, RowGroup, Step
from reelsheet.provider.classification import SubmitResult
from reelsheet.provider.client import Provider
from reelsheet.results.publication import TABLE_INTERVAL_S, Files, ResultsWriter
from reelsheet.results.table import Summary
from reelsheet.run import clip_warnings
from reelsheet.run.caps import Caps
from reelsheet.run.context import RunContext
from reelsheet.run.delivery import Courier
from reelsheet.run.in_flight import InFlight
from reelsheet.run.ledger_session import LedgerSession
from reelsheet.run.picture_uploads import PictureUploads
from reelsheet.run.polling import Poller
from reelsheet.run.price_watch import PriceWatch
from reelsheet.run.row_status import row_result
from reelsheet.run.stop_control import StopControl
from reelsheet.run.submission import Submitter
from reelsheet.run.threads import Threads
from reelsheet.storage.clip_copy import COPIES_AT_ONCE
from reelsheet.web.guarded_http import guarded_client

log = logging.getLogger("reelsheet")

GROUPS_AT_ONCE = 10_000  # whose histories are read again
FIRST_TABLE_S = 1.0  # after the run's start
LAST_PAUSES_S = (1.0, 2.0, 4.0, 8.0)  # between tries to have the ledger take what it did not take before


@dataclass(slots=True)
class RunMonitor:
    """What displays and Prefect may read of a run while it goes. `started_at` is on the context's clock."""

    context: RunContext
    stops: StopControl
    gate: Gate
    schedule: PollSchedule
    started_at: float
    remarks: list[str] = field(default_factory=list)  # odd things about the whole run, in sentences
    touched: set[str] = field(default_factory=set)  # identities that a step was taken for, until a display has looked
    task_runs: int = 0  # that the flow has started
    has_started_rows: bool = False  # from then on money may have moved
    files: Files | None = None  # once they are written
    summary: Summary | None = None  # once the run is over
    chosen: Summary | None = None  # the same of the rows that --where chose
    uploads: tuple[int, int] = (0, 0)  # of pictures: done, of how many

    def count_upload(self, done: int, total: int) -> None:
        self.uploads = (done, total)

    def take_touched(self) -> set[str]:
        touched, self.touched = self.touched, set()
        return touched


@dataclass(frozen=True, slots=True)
class _Steps:
    """The parts that need open clients."""

    submitter: Submitter
    poller: Poller
    courier: Courier


class Run:
    """The parts of one run, composed. Started by `reelsheet.run.start`, driven by `flows` on one event loop.

    `keep` runs beside the rows until the end; without it, this process writes the table every few seconds.
    """

    def __init__(
        self,
        context: RunContext,
        *,
        keep: Callable[[], Awaitable[None]] | None = None,
        on_stop: Callable[[ErrorCode, str], None] = lambda _code, _error: None,
        on_no_answer: Callable[[SubmitResult], None] = lambda _result: None,
    ) -> None:
        self.context = context
        self.run_id, self.plan = context.run_id, context.plan
        self._keep, self._on_no_answer = keep or self._keep_table, on_no_answer
        self.schedule = PollSchedule(clock=context.clock)
        window = CongestionWindow(ceiling=context.options.concurrency, clock=context.clock)
        self.gate = Gate(window)
        self.in_flight = InFlight()
        self.stops = StopControl(self.gate.close, on_grace_over=self.in_flight.cancel_all, on_stop=on_stop)
        self.ledger_session = LedgerSession(context.ledger, self.run_id, self.stops)
        self.threads = Threads(COPIES_AT_ONCE + 4, "reelsheet")
        self.writer = ResultsWriter(
            self.run_id, context.manifest, context.destination,
            ledger=context.ledger, copy_to=context.options.results, in_thread=self.threads.call,
            album=thumbnails.album_of(
                context.manifest.rows if context.options.preflight else (),
                allow_private=context.settings.allow_private_hosts,
            ),
        )  # fmt: skip
        self.monitor = RunMonitor(
            context, self.stops, self.gate, self.schedule, context.clock(), list(context.plan.notes)
        )
        self._prices = PriceWatch(context.plan.price_cents)
        self.caps = Caps(
            context, session=self.ledger_session, stops=self.stops, in_flight=self.in_flight, prices=self._prices
        )
        self.uploads = PictureUploads(context, self.stops, self.caps, self.monitor.count_upload)
        self._groups = {position: group for group in self.plan.groups.values() for position in group.positions}
        self._steps: _Steps | None = None
        self._tried: set[str] = set()  # identities that need work still, for the next notes

    # Its life

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator["Run"]:
        """Clients open, lease renewed, table written; all of it ended on the way out."""
        settings = self.context.settings
        async with (
            Provider(settings) as provider,
            guarded_client(allow_private=settings.allow_private_hosts) as assets,
        ):
            self._steps = self._open_steps(provider, assets)
            _live[self.run_id] = self
            background = [
                asyncio.create_task(self.ledger_session.keep_lease(self.gate, settings.account)),
                asyncio.ensure_future(self._keep()),
            ]
            self.uploads.begin()
            try:
                yield self
            finally:
                await self.uploads.close()
                await self.in_flight.wait_idle()  # each is answered, or cut off, in bounded time
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)
                with contextlib.suppress(LedgerError):  # `refresh` tries again, where the run comes to that
                    await self.ledger_session.flush_deferred()

    def _open_steps(self, provider: Provider, assets: httpx.AsyncClient) -> _Steps:
        context, gate, stops, session = self.context, self.gate, self.stops, self.ledger_session
        threads, in_flight = self.threads, self.in_flight
        submitter = Submitter(
            context, provider=provider, gate=gate, stops=stops, session=session, threads=threads, in_flight=in_flight,
            prices=self._prices, uploads=self.uploads, remark=self._remark, on_no_answer=self._on_no_answer,
        )  # fmt: skip
        poller = Poller(context, provider=provider, gate=gate, schedule=self.schedule, stops=stops, session=session)
        courier = Courier(
            context, poller=poller, assets=assets, gate=gate, stops=stops, session=session, threads=threads,
            in_flight=in_flight,
        )  # fmt: skip
        return _Steps(submitter, poller, courier)

    def close(self) -> None:
        """Give back threads; the ledger is its opener's. After a signal nobody waits for a slow network."""
        _live.pop(self.run_id, None)
        self.ledger_session.close()
        self.threads.close(wait=self.stops.signal is None)

    # What there is to do

    def to_do(self) -> list[RowGroup]:
        """In row order: everything that needs a step in this run."""
        return self.plan.at_step(*OPEN)

    async def admit(self, group: RowGroup) -> bool:
        """Wait until the pace lets this row's submission leave; False where the run has stopped submitting."""
        return await self._open.submitter.admit(group)

    async def generate(self, identity: str) -> RowGroup:
        """Bring a row to a finished prediction: submit if the ledger allows it, else poll. Safe to repeat."""
        group = self._touch(identity)
        if group.status in {Status.FAILED, Status.UNKNOWN}:
            return group  # a repeated body has nothing to add to a verdict
        if group.status is Status.SKIPPED:
            group.clear_outcome()  # and tries again what was left
        steps = self._open
        try:
            attempt = await self._attempt_of(group)
            if attempt is not None and attempt.state == State.SUBMITTED:
                group.advance(Step.POLL)
                await steps.poller.poll(group, attempt)
            elif attempt is not None and attempt.state == State.COMPLETED:
                group.advance(Step.COPY)
        except LedgerError as error:
            self.ledger_session.fail(error)
            if group.step is Step.SUBMIT and group.status is None:
                group.set_outcome(Status.SKIPPED, *self.stops.skip_reason())
        finally:
            steps.submitter.give_back(group)
        self._note_try(group)
        return group

    async def store(self, identity: str) -> RowGroup:
        """Copy every output of a finished prediction to the destination. Safe to repeat; costs nothing."""
        group = self._touch(identity)
        if group.step is Step.COPY and group.latest is not None:
            await self._open.courier.store(group, group.latest)
            self._note_try(group)
        return group

    def give_up(self, group: RowGroup, error: Exception) -> None:
        """A step failed for a reason that nobody foresaw, and the row says so. A later run goes on with it."""
        is_paid = group.latest is not None and group.latest.state in PAID and group.step is not Step.SUBMIT
        status = Status.UNDELIVERED if is_paid else Status.SKIPPED
        group.set_outcome(status, ErrorCode.INTERRUPTED, messages.step_failed(error))

    async def yield_to_submissions(self) -> None:
        """Before a copy: let admitted submissions leave first."""
        await self._open.courier.yield_to_submissions()

    # How it stands

    def result(self, position: int) -> RowResult:
        """One row's line as of now."""
        return row_result(self.context, position, self._groups.get(position), self.stops.skip_reason())

    def results(self) -> list[RowResult]:
        """Every row of the sheet, in order, with what is odd about its clip."""
        results = [self.result(position) for position in range(len(self.context.manifest.rows))]
        clip_warnings.add(results, self.plan)
        return results

    def exit_code(self, results: Sequence[RowResult]) -> int:
        """What `results`, one for each row, come to; rows that are left out do not count."""
        rows = self.context.manifest.rows
        return self.stops.exit_code([result for row, result in zip(rows, results, strict=True) if not row.left_out])

    def notes(self) -> list[Note]:
        """What this run says of its rows beyond the ledger's attempts."""
        return [
            Note(group.order, str(group.status or ""), group.error_code, group.error, tuple(group.warnings))
            for group in self.plan.groups.values()
            if group.outcome is not None or group.warnings
        ]

    async def write_notes(self, *, is_last: bool = False) -> None:
        """This run's notes into the ledger, and which rows it has tried."""
        await self.ledger_session.write_notes(self.notes(), is_last=is_last)
        tried = frozenset(self._tried)
        session = self.ledger_session
        await (session.call if is_last else session.call_once)(self.context.ledger.mark_tried, tried)
        self._tried -= tried

    async def refresh(self) -> None:
        """Read every row's history from the ledger once more: what the results say is what it says.

        What it never took stays as this process knows it, and its being down is a stop like any other.
        """
        session = self.ledger_session
        try:
            await session.flush_deferred(LAST_PAUSES_S)
            groups = list(self.plan.groups.values())
            for start in range(0, len(groups), GROUPS_AT_ONCE):  # never two histories of every row
                part = groups[start : start + GROUPS_AT_ONCE]
                histories = await session.call(self.context.ledger.histories, [group.identity for group in part])
                for group in part:
                    group.history = histories.get(group.identity)
        except LedgerError as error:
            session.fail(error)

    # Small steps

    @property
    def _open(self) -> _Steps:
        assert self._steps is not None  # noqa: S101 - `session` opened them
        return self._steps

    async def _attempt_of(self, group: RowGroup) -> Attempt | None:
        """The attempt to go on with; None where the row's outcome says why there is none."""
        if group.step is Step.SUBMIT:
            return await self._open.submitter.submit_row(group)
        if group.latest is not None and group.latest.state == State.CLAIMED:
            return await self._open.submitter.await_other_claim(group)
        return group.latest

    def _note_try(self, group: RowGroup) -> None:
        """--limit comes to this row again when all others had their turn."""
        if group.status not in {None, Status.SKIPPED} and group.error_code is not ErrorCode.INTERRUPTED:
            self._tried.add(group.identity)

    def _touch(self, identity: str) -> RowGroup:
        self.monitor.touched.add(identity)
        return self.plan.groups[identity]

    def _remark(self, remark: str) -> None:
        self.monitor.remarks.append(remark)
        log.warning("%s", remark)

    async def _keep_table(self) -> None:
        pause_s = FIRST_TABLE_S
        while True:
            await asyncio.sleep(pause_s)
            with contextlib.suppress(LedgerError):  # the next claim says so
                await self.write_notes()
            try:
                await self.writer.checkpoint(self.results)
            except Exception:  # the next table, or the last, will do
                log.exception("Unexpected error: the table could not be made just now.")
            pause_s = TABLE_INTERVAL_S


_live: dict[str, Run] = {}


def live(run_id: str) -> Run:
    """The run that is going on in this process; tasks take its id, for live objects are no parameters."""
    return _live[run_id]
