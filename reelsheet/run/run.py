"""One run, alive: it takes each row from the sheet to its clip and knows at any moment where every row stands.

A row's way: identity → the ledger's verdict → submit (`submission`) → poll (`collection`) → clip → destination
(`delivering`) → ledger → results row (`verdicts`).
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from reelsheet import messages
from reelsheet.errors import LedgerError, Stopped
from reelsheet.ledger import Attempt, IdentityHistory, Ledger, Note, RunRecord, State
from reelsheet.ledger.lease import HEARTBEAT_SECONDS
from reelsheet.manifest.rows import Manifest
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, RowResult, Status
from reelsheet.pacing.congestion_window import CongestionWindow, Gate
from reelsheet.pacing.poll_schedule import PollSchedule, Watch
from reelsheet.planning.plan import Plan, RowGroup, Step
from reelsheet.provider.classification import SubmitResult
from reelsheet.provider.client import Provider
from reelsheet.redaction import unsigned
from reelsheet.run import delivery, polling, row_status, submission
from reelsheet.settings import Settings
from reelsheet.storage.clip_copy import COPIES_AT_ONCE, copy_slot

if TYPE_CHECKING:
    import httpx

    from reelsheet.images.thumbnails import Album
    from reelsheet.results.publication import Files
    from reelsheet.storage.destination import Destination

log = logging.getLogger("reelsheet")

P = ParamSpec("P")
T = TypeVar("T")

HOLD_COPIES = 60  # clips waiting to be copied: above, nothing new is submitted (links expire)
YIELD_SECONDS = 1.0  # that a copy waits at the most while submissions are about to leave
GRACE_SECONDS = 20.0  # for POSTs in flight when a signal comes
QUOTES = 8  # of the latest quotes the highest is what is reserved
STOP_EXIT = 3
CAP_EXIT = 4


class Interrupted(Stopped):
    """A signal asked for the end. `exit_code` is 128 + the signal."""

    def __init__(self, signal: int) -> None:
        super().__init__("Interrupted; run the same command again to go on.")
        self.exit_code = 128 + signal


class Run:
    """A run's live parts. Made by `reelsheet.planning.preparation`, driven by `flows`, one event loop."""

    def __init__(
        self,
        *,
        record: RunRecord,
        plan: Plan,
        options: Options,
        settings: Settings,
        ledger: Ledger,
        destination: "Destination",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.record = record
        self.run_id = record.run_id
        self.plan = plan
        self.manifest: Manifest = plan.manifest
        self.options = options
        self.settings = settings
        self.ledger = ledger
        self.destination = destination
        self.flow_run_id: str | None = record.flow_run_id
        self.now = now
        self.started = now()
        self._by_position = {position: group for group in plan.groups.values() for position in group.positions}

        # pace
        self.polls = PollSchedule(clock=now)
        self.watch = Watch(self.polls)
        self.gate = Gate(CongestionWindow(ceiling=options.concurrency, clock=now, unseen=self.polls.unseen))
        self.posts = submission.InFlight()
        self.others = submission.OtherClaims()
        self.no_answer = 0  # submissions in a row without a definite answer
        self.accepted_at: float | None = None
        self.finished = 0  # predictions, of which
        self.generated = 0  # came to a clip
        self._to_copy = 0

        # money
        self.price_cents = plan.price_cents
        self.quotes: deque[int] = deque(maxlen=QUOTES)
        self.remarked_price = False

        # stops
        self.stop_code: ErrorCode | None = None
        self.stop_error = ""
        self.over_budget = ""
        self.signal: int | None = None
        self.interrupted = asyncio.Event()
        self._limits: dict[asyncio.Timeout, float] = {}  # of what an interruption ends, and how long it may still take

        # words
        self.task_runs = 0  # how many the flow has started
        self.remarks: list[str] = list(plan.notes)
        self.unrecorded_ids: dict[
            str, tuple[int, str, int]
        ] = {}  # identity → attempt, id, cents that the ledger did not take
        self._deferred: dict[str, Callable[[], Attempt]] = {}  # identity → the entry that it did not take
        self._noted: dict[int, Note] = {}  # what the ledger holds of this run's words
        self.files: Files | None = None  # set when they are written
        self.album: Album | None = None  # thumbnails on their way
        self.touched: set[str] = set()  # identities that a step was taken for, until the display has looked
        self.tables = itertools.count(1)  # numbers them as they are drawn
        self.written = 0  # the latest table that was written
        self.writing = threading.Lock()

        # SQLite has one writer: one thread spares it the queueing. PostgreSQL answers several at once.
        self._ledger_thread = ThreadPoolExecutor(1 if ledger.is_sqlite else 4, thread_name_prefix="ledger")
        self._threads = ThreadPoolExecutor(COPIES_AT_ONCE + 4, thread_name_prefix="reelsheet")
        self._provider: Provider | None = None
        self._assets: httpx.AsyncClient | None = None

    # Its life

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator["Run"]:
        """Clients open, lease renewed, table written every few seconds; all of it ended on the way out."""
        from reelsheet.web.guarded_http import guarded_client

        async with (
            Provider(self.settings) as provider,
            guarded_client(allow_private=self.settings.allow_private_hosts) as assets,
        ):
            self._provider, self._assets = provider, assets
            _live[self.run_id] = self
            background = [asyncio.create_task(self._keep_lease()), asyncio.create_task(self._keep_table())]
            try:
                yield self
            finally:
                await self.posts.quiet()  # each is answered, or cut off, in bounded time
                _live.pop(self.run_id, None)
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)

    def close(self) -> None:
        """Give back threads; the ledger is its opener's. After a signal nobody waits for a slow network."""
        self._ledger_thread.shutdown(wait=True)
        self._threads.shutdown(wait=self.signal is None, cancel_futures=self.signal is not None)

    def interrupt(self, signal: int) -> None:
        """Claim nothing more, let POSTs in flight be answered and recorded, leave everything else."""
        if self.signal is not None:
            return
        self.signal = signal
        self.gate.close(Interrupted(signal))
        self.interrupted.set()
        loop = asyncio.get_running_loop()
        loop.call_later(GRACE_SECONDS, self.posts.cut)
        for limit, grace in self._limits.items():
            with contextlib.suppress(RuntimeError):  # it is over just now
                limit.reschedule(loop.time() + grace)

    def stop(self, code: ErrorCode, error: str) -> None:
        """Submit nothing more in this run; go on collecting what is paid. The first reason stands."""
        if self.stop_code is None:
            self.stop_code, self.stop_error = code, error
            log.warning("%s", error)
            self.gate.close(Stopped(error))

    def stop_over_budget(self, error: str) -> None:
        """Nothing more fits under a cap."""
        if not self.over_budget:
            self.over_budget = error
            log.warning("%s", error)
            self.gate.close(Stopped(error))

    @property
    def stopping(self) -> bool:
        return self.stop_code is not None or self.signal is not None or bool(self.over_budget)

    @property
    def provider(self) -> Provider:
        assert self._provider is not None  # noqa: S101 - `going` opened it
        return self._provider

    @property
    def assets(self) -> "httpx.AsyncClient":
        assert self._assets is not None  # noqa: S101 - `going` opened it
        return self._assets

    # What there is to do

    def to_do(self) -> list[RowGroup]:
        """In row order: everything that needs a step in this run."""
        return self.plan.having(Step.SUBMIT, Step.POLL, Step.COPY)

    async def admit(self, group: RowGroup) -> bool:
        """Wait until the pace lets this row's submission leave; False where the run has stopped submitting."""
        try:
            await self.gate.admit(group.order)
        except Stopped:
            self.skip(group)
            return False
        group.claimed = True
        self.posts.leaving(group.identity)
        return True

    def group(self, identity: str) -> RowGroup:
        self.touched.add(identity)
        return self.plan.groups[identity]

    def work_at(self, position: int) -> RowGroup | None:
        """The work that a row of the sheet belongs to; None where the row is invalid."""
        return self._by_position.get(position)

    # A row's steps

    async def generate(self, identity: str) -> RowGroup:
        """Bring a row to a finished prediction: submit if the ledger lets, else poll. Safe to run again at any time."""
        group = self.group(identity)
        if group.status in {Status.FAILED, Status.UNKNOWN}:
            return group  # a repeated body has nothing to add to a verdict
        if group.status is Status.SKIPPED:
            group.status = None  # but looks anew at what was left
        try:
            attempt = await self._secured(group)
            if attempt is not None and attempt.state == State.SUBMITTED:
                group.step = Step.POLL
                await polling.poll(self, group, attempt)
            elif attempt is not None and attempt.state == State.COMPLETED:
                group.step = Step.COPY
        except LedgerError as error:
            self._ledger_down(group, error)
        finally:
            self.unsend(group)
        return group

    async def _secured(self, group: RowGroup) -> Attempt | None:
        if group.step is Step.SUBMIT:
            return await submission.submit_row(self, group)
        attempt = group.history.latest if group.history else None
        if attempt is not None and attempt.state == State.CLAIMED:
            return await submission.await_other_claim(self, group)
        return attempt

    async def store(self, identity: str) -> RowGroup:
        """Copy every output of a finished prediction to the destination. Safe to run again; costs nothing."""
        group = self.group(identity)
        if group.step is not Step.COPY or group.history is None:
            return group
        self._to_copy += 1
        self.gate.hold(self._to_copy > HOLD_COPIES)
        try:
            async with copy_slot():
                if self.interrupted.is_set():
                    group.set_outcome(Status.UNDELIVERED, ErrorCode.INTERRUPTED, messages.interrupted_paid())
                    return group
                await delivery.store(self, group, group.history.latest)
        finally:
            self._to_copy -= 1
            self.gate.hold(self._to_copy > HOLD_COPIES)
        return group

    def answered(self, group: RowGroup, attempt: Attempt, answer: SubmitResult) -> None:
        """A POST was answered, and the answer recorded: what follows for the rest of the run."""
        submission.apply_submit_result(self, group, attempt, answer)

    def take(self, group: RowGroup, attempt: Attempt) -> None:
        """The row's standing with this attempt in it."""
        others = [a for a in group.history.attempts if a.number != attempt.number] if group.history else []
        deliveries = group.history.deliveries if group.history else ()
        group.history = IdentityHistory(tuple(sorted([*others, attempt], key=lambda a: a.number)), deliveries)

    def skip(self, group: RowGroup) -> None:
        """The row is not attempted in this run."""
        group.set_outcome(Status.SKIPPED, *self.why_skipped())

    async def yield_to_submissions(self) -> None:
        """Before a copy: free places are taken first, since a clip waits at no cost and an empty place does not."""
        if self._to_copy <= HOLD_COPIES:
            await self.posts.all_left(YIELD_SECONDS)

    def unsend(self, group: RowGroup) -> None:
        """Give back a place that was admitted and not used."""
        self.posts.left(group.identity)
        if group.claimed:
            group.claimed = False
            self.gate.release()

    def key(self, group: RowGroup, attempt: Attempt, output: int) -> str:
        """Where an output is stored below the destination."""
        return object_key(self.options, self.manifest, group, attempt.number, output)

    # What the ledger did not take

    def defer_write(self, identity: str, entry: Callable[[], Attempt]) -> None:
        """Tell the ledger later."""
        self._deferred[identity] = entry

    async def recorded(self, record: Callable[..., Attempt], attempt: Attempt, *arguments: Any, to: State) -> Attempt:
        """Write a verdict down; it is not lost where the ledger is down, for it can be asked for again."""
        try:
            if attempt.identity in self._deferred:
                attempt = await self.flush_deferred(attempt.identity)
            return await self.in_ledger(record, attempt, *arguments)
        except LedgerError as error:
            self.stop(ErrorCode.STORAGE, messages.ledger_down(error))
            return replace(attempt, state=to, completed_at=time.time())

    async def flush_deferred(self, identity: str) -> Attempt:
        attempt = await self.in_ledger(self._deferred[identity])
        del self._deferred[identity]
        self.unrecorded_ids.pop(identity, None)
        return attempt

    def _ledger_down(self, group: RowGroup, error: LedgerError) -> None:
        self.stop(ErrorCode.STORAGE, messages.ledger_down(error))
        if group.step is Step.SUBMIT and group.status is None:
            group.set_outcome(Status.SKIPPED, ErrorCode.STORAGE, self.stop_error)

    # How it stands

    def result(self, position: int) -> RowResult:
        """One row's line as of now."""
        return row_status.result(self, position)

    def results(self) -> list[RowResult]:
        """Every row of the sheet, in order."""
        return [self.result(position) for position in range(len(self.manifest.rows))]

    def why_skipped(self) -> tuple[ErrorCode, str]:
        """Why a row that this run did not come to was left."""
        if self.signal is not None:
            return ErrorCode.INTERRUPTED, messages.interrupted()
        if self.stop_code is not None:
            return self.stop_code, self.stop_error
        if self.over_budget:
            return ErrorCode.OVER_BUDGET, self.over_budget
        return ErrorCode.INTERRUPTED, messages.interrupted()

    def exit_code(self, results: Sequence[RowResult]) -> int:
        """0 all delivered, 1 some not, 3 stopped, 4 at a cap, 128 + signal; the gravest of them."""
        if self.signal is not None:
            return 128 + self.signal
        if self.stop_code is not None:
            return STOP_EXIT
        if self.over_budget:
            return CAP_EXIT
        missed = [r for r in results if r.status is not Status.SUCCEEDED and r.error_code is not ErrorCode.OVER_LIMIT]
        return 1 if missed else 0

    async def refresh(self) -> None:
        """Read every row's standing from the ledger once more: what the results say is what it says.

        What it never took stays as this process knows it, and its being down is a stop like any other.
        """
        try:
            for identity in list(self._deferred):
                await self.flush_deferred(identity)
            histories = await self.in_ledger(self.ledger.histories, list(self.plan.groups))
        except LedgerError as error:
            self.stop(ErrorCode.STORAGE, messages.ledger_down(error))
            return
        for identity, group in self.plan.groups.items():
            group.history = histories.get(identity)

    def notes(self) -> list[Note]:
        """What the ledger's tables of attempts cannot tell; words that do not hold any more are taken back."""
        said = {
            group.order: Note(
                group.order, str(group.status or ""), group.error_code, group.error, tuple(group.warnings)
            )
            for group in self.plan.groups.values()
            if group.status is not None or group.warnings
        }
        return [*said.values(), *(Note(at, "", None, "") for at in self._noted if at not in said)]

    # Keeping

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                await self.in_ledger(self.ledger.heartbeat)
                for identity in list(self._deferred):
                    await self.flush_deferred(identity)
            except LedgerError as error:
                log.warning("%s", error)

    async def _keep_table(self) -> None:
        from reelsheet.results import publication as record

        pause = 1.0
        while True:
            await asyncio.sleep(pause)
            begun = self.now()
            with contextlib.suppress(LedgerError):  # the next claim says so
                await self.write_notes()
            try:
                await record.checkpoint(self)
            except Exception as error:  # noqa: BLE001 - the table of a moment; the next one, or the last, will do
                log.warning("The table could not be written just now: %s", error)
            pause = max(3.0, 20 * (self.now() - begun))

    async def write_notes(self) -> None:
        """This run's words into the ledger, as far as they are new to it."""
        new = [note for note in self.notes() if self._noted.get(note.position) != note]
        await self.in_ledger(self.ledger.write_notes, self.run_id, new)
        for note in new:
            if note.status or note.warnings:
                self._noted[note.position] = note
            else:
                self._noted.pop(note.position, None)

    # Small steps

    async def pause(self, seconds: float) -> None:
        """Sleep, but no longer than until an interruption."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.interrupted.wait(), max(0.0, seconds))

    async def bounded(self, what: Awaitable[T], seconds: float | None = None, *, grace: float = 0.0) -> T | None:
        """Await `what`, for `seconds` at the most, and for `grace` after an interruption. None: it was cut off."""
        most = seconds
        if self.interrupted.is_set():
            most = grace if seconds is None else min(grace, seconds)
        try:
            async with asyncio.timeout(most) as limit:
                self._limits[limit] = grace
                try:
                    return await what
                finally:
                    del self._limits[limit]
        except TimeoutError:
            return None

    async def in_ledger(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function` in a thread of the ledger's."""
        call = partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._ledger_thread, call)

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function` in a thread for storage and files."""
        call = partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


_live: dict[str, Run] = {}


def live(run_id: str) -> Run:
    """The run that is going on in this process; tasks take its id, for live objects are no parameters."""
    return _live[run_id]


def object_key(options: Options, manifest: Manifest, group: RowGroup, attempt: int, output: int) -> str:
    """The key of a clip below its destination, the same in every run."""
    from reelsheet.storage.object_names import Template, default_name

    if options.name:
        template = Template.parse(options.name, manifest.columns, manifest.roles)
        cells = dict(zip(manifest.columns, group.row.cells, strict=False))
        name = template.render(cells, identity=group.identity, attempt=attempt, output=output, width=group.width)
    else:
        name = default_name(group.row.id, group.row.prompt, group.identity, attempt, output, width=group.width)
    return f"videos/{name}.mp4"


def command_key(options: Options, destination: str) -> str:
    """What makes two commands the same for a permission to pay again."""
    source = options.source if "://" in options.source else str(Path(options.source).expanduser().resolve())
    asked = [options.verb, unsigned(source), destination, options.fresh, options.retry_unknown]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def new_run_id(now: datetime | None = None) -> str:
    """Sorts by time: 20260115-120000-1f3a9c."""
    moment = now or datetime.now(UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
