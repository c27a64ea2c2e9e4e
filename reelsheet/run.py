"""One run, alive: it takes each row from the sheet to its clip and knows at any moment where every row stands.

A row's way: identity → the ledger's verdict → submit → poll → clip → destination → ledger → results row.
The ledger is asked before every POST; nothing stands between a POST and the commit of its answer.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from reelsheet import carried, sentences
from reelsheet.acceptance import Answer, Proof
from reelsheet.errors import LedgerError, Stopped
from reelsheet.ledger import (
    PAID,
    Attempt,
    Claimed,
    Delivery,
    Found,
    Ledger,
    Note,
    OverBudget,
    RunRecord,
    Standing,
    State,
    Wait,
)
from reelsheet.ledger.owner import HEARTBEAT_SECONDS, awake_and_asleep
from reelsheet.manifest import Manifest
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, RowResult, Status
from reelsheet.pacing import Gate, Pace
from reelsheet.plan import Plan, Step, Work
from reelsheet.polling import PollSchedule, estimate_seconds
from reelsheet.provider import LeaseLost, Look, Phase, Provider
from reelsheet.redaction import unsigned
from reelsheet.settings import Settings

if TYPE_CHECKING:
    import httpx

    from reelsheet.clips import Clip, ClipError
    from reelsheet.destination import Destination
    from reelsheet.record import Files
    from reelsheet.thumbnails import Album

log = logging.getLogger("reelsheet")

P = ParamSpec("P")
T = TypeVar("T")

COPIES = 12  # clips copied at once; memory is at most this many times what `clips` says of one
HOLD_COPIES = 60  # clips waiting to be copied: above, nothing new is submitted (links expire)
NO_ANSWER_STREAK = 5
FAILED_STREAK = 10
CONNECT_TRIES = 5
REFUSED_SECONDS = 600.0  # without a single acceptance, before a rate limit stops the run
OUTPUT_TRIES = 6
MISSING_TRIES = 5
FRESH_SECONDS = 120.0  # a prediction this young may not be known everywhere yet
REJECTED_TRIES = 3
LINK_TRIES = 3
GRACE_SECONDS = 20.0  # for POSTs in flight when a signal comes
STOP_EXIT = 3
CAP_EXIT = 4


class Interrupted(Stopped):
    """A signal asked for the end. `exit_code` is 128 + the signal."""

    def __init__(self, signal: int) -> None:
        super().__init__("Interrupted; run the same command again to go on.")
        self.exit_code = 128 + signal


class Run:
    """A run's live parts. Made by `reelsheet.preparation`, driven by `flows`, one event loop."""

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
        self.price_cents = plan.price_cents
        self.flow_run_id: str | None = record.flow_run_id
        self._now = now
        self.started = now()
        self.gate = Gate(Pace(ceiling=options.concurrency, clock=now))
        self.polls = PollSchedule(clock=now)
        self.stop_code: ErrorCode | None = None
        self.stop_error = ""
        self.over_budget = ""
        self.signal: int | None = None
        self.interrupted = asyncio.Event()
        self.task_runs = 0  # how many the flow has started
        self.remarks: list[str] = list(plan.notes)
        self.recovered: dict[str, tuple[int, str, int]] = {}
        self.files: Files | None = None  # set when they are written
        self.album: Album | None = None  # thumbnails on their way
        self.touched: set[str] = set()  # identities that a step was taken for, until the display has looked
        self._by_position = {position: work for work in plan.works.values() for position in work.positions}
        self._posting: set[asyncio.Task[Any]] = set()
        self._no_answer = 0
        self._finished = 0
        self._generated = 0
        self._accepted_at: float | None = None
        self._refused_since: float | None = None
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._copying = asyncio.Semaphore(COPIES)
        self._to_copy = 0
        # SQLite has one writer: one thread spares it the queueing. PostgreSQL answers several at once.
        self._ledger_thread = ThreadPoolExecutor(1 if ledger.is_sqlite else 4, thread_name_prefix="ledger")
        self._threads = ThreadPoolExecutor(COPIES + 4, thread_name_prefix="reelsheet")
        self._provider: Provider | None = None
        self._assets: httpx.AsyncClient | None = None

    # Its life

    @contextlib.asynccontextmanager
    async def going(self) -> AsyncIterator["Run"]:
        """Clients open, lease renewed, table written every few seconds; all of it ended on the way out."""
        from reelsheet.fetch import guarded_client

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
                await self._await_posts()
                _live.pop(self.run_id, None)
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)

    def close(self) -> None:
        """Give back threads; the ledger is its opener's."""
        self._ledger_thread.shutdown(wait=True)
        self._threads.shutdown(wait=True)

    def interrupt(self, signal: int) -> None:
        """Claim nothing more, let POSTs in flight be answered and recorded, leave everything else."""
        if self.signal is None:
            self.signal = signal
            self.gate.close(Interrupted(signal))
            self.interrupted.set()

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

    # What there is to do

    def to_do(self) -> list[Work]:
        """In row order: everything that needs a step in this run."""
        return self.plan.having(Step.PAY, Step.POLL, Step.COPY)

    async def admit(self, work: Work) -> bool:
        """Wait until the pace lets this row's submission leave; False where the run has stopped submitting."""
        try:
            await self.gate.admit(work.order)
        except Stopped:
            self._leave(work)
            return False
        work.claimed = True
        return True

    def work(self, identity: str) -> Work:
        self.touched.add(identity)
        return self.plan.works[identity]

    # Submit and poll

    async def generate(self, identity: str) -> Work:
        """Bring a row to a finished prediction: submit if the ledger lets, else poll. Safe to run again at any time."""
        work = self.work(identity)
        if work.status is Status.SKIPPED:
            work.status = None  # a repeated body looks anew
        try:
            attempt = await self._secure(work) if work.step is Step.PAY else work.standing.latest if work.standing else None
            if attempt is not None and attempt.state == State.CLAIMED:
                attempt = await self._await_other(work)
            if attempt is not None and attempt.state == State.SUBMITTED:
                work.step = Step.POLL
                await self._poll(work, attempt)
            elif attempt is not None and attempt.state == State.COMPLETED:
                work.step = Step.COPY
        except LedgerError as error:
            self._ledger_down(work, error)
        finally:
            if work.claimed:
                work.claimed = False
                self.gate.unsent()
        return work

    async def _secure(self, work: Work) -> Attempt | None:
        """Claim and submit until there is an id, or a reason why there is none."""
        tries = 0
        refused_since: float | None = None
        while True:
            if not work.claimed and not await self.admit(work):
                return None
            if self.stopping:
                self._leave(work)
                return None
            image = await self._image(work)
            claim = await self._in_ledger(
                self.ledger.claim,
                work.identity,
                run_id=self.run_id,
                price_cents=self.price_cents,
                daily_cap_cents=self.settings.daily_cap_cents,
                fingerprint=work.fingerprint,
            )
            if isinstance(claim, Found):
                self._unsend(work)
                return self._found(work, claim.standing)
            if isinstance(claim, Wait):
                self._unsend(work)
                attempt = await self._await_other(work)
                if attempt is not None:
                    return attempt
                if work.status is not None:
                    return None
                continue
            if isinstance(claim, OverBudget):
                self._unsend(work)
                if self._posting:  # something reserved may yet be released
                    await self._quiet.wait()
                    continue
                work.say(Status.SKIPPED, ErrorCode.OVER_BUDGET, sentences.over_budget(claim, self.price_cents))
                self.stop_over_budget(work.error)
                return None
            self._take(work, claim.attempt)
            answer = await self._post(work, claim, image)
            if answer.proof is Proof.ACCEPTED and work.standing is not None:
                latest = work.standing.latest
                return latest if latest.state == State.SUBMITTED else None
            if answer.proof is Proof.THROTTLED:
                refused_since = refused_since or self._now()
                if not self._may_go_on(refused_since, answer):
                    self._leave(work)
                    return None
                continue
            if answer.proof is Proof.NOT_SENT:
                tries += 1
                if tries >= CONNECT_TRIES or self.stopping:
                    if not self.stopping:
                        self.stop(ErrorCode.PROVIDER_DOWN, sentences.unreachable(answer.told))
                    self._leave(work)
                    return None
                await self._pause(min(30.0, 2.0 ** (tries - 1)) * (0.75 + secrets.randbelow(500) / 1000))
                continue
            return None

    async def _post(self, work: Work, claim: Claimed, image: str) -> Answer:
        """The POST and the commit of its answer: one task that no cancellation reaches."""
        task = asyncio.create_task(self._post_and_commit(work, claim, image))
        self._posting.add(task)
        self._quiet.clear()
        task.add_done_callback(self._posted)
        return await asyncio.shield(task)

    def _posted(self, task: "asyncio.Task[Any]") -> None:
        self._posting.discard(task)
        if not self._posting:
            self._quiet.set()

    async def _post_and_commit(self, work: Work, claim: Claimed, image: str) -> Answer:
        assert self._provider is not None  # noqa: S101 - `going` opened it
        attempt = claim.attempt

        def may_leave() -> None:
            if awake_and_asleep() >= claim.leave_by or self.signal is not None:
                raise LeaseLost

        try:
            try:
                answer = await self._provider.submit(
                    image=image, prompt=work.row.prompt, expansion=work.row.expansion, may_leave=may_leave
                )
            except LeaseLost:
                answer = Answer(Proof.NOT_SENT, told="this machine slept or stalled")
            match answer.proof:
                case Proof.ACCEPTED:
                    attempt = await self._commit_id(attempt, answer)
                case Proof.UNKNOWN:
                    told = sentences.no_answer(answer)
                    attempt = await self._in_ledger(self.ledger.record_unknown, attempt, told)
                case Proof.REJECTED:
                    code = ErrorCode.MODERATED if answer.moderated else ErrorCode.REJECTED
                    told = sentences.refused(answer)
                    attempt = await self._in_ledger(self.ledger.record_refused, attempt, code, told)
                    work.say(Status.FAILED, code, told)
                case _:
                    attempt = await self._in_ledger(self.ledger.record_refused, attempt, None, None)
        finally:
            self.ledger.let_go(attempt)
        self._take(work, attempt)
        work.claimed = False
        self._learn(work, attempt, answer)
        return answer

    async def _commit_id(self, attempt: Attempt, answer: Answer) -> Attempt:
        """The id, into the ledger before anything else; where it cannot take it, into every place that can."""
        for pause in (0.1, 0.5, 2.0, 0.0):
            try:
                return await self._in_ledger(
                    self.ledger.record_id, attempt, answer.prediction_id, answer.cents
                )
            except LedgerError as error:
                failure = error
                await asyncio.sleep(pause)
        cents = attempt.price_cents if answer.cents is None else answer.cents
        self.recovered[attempt.identity] = (attempt.number, answer.prediction_id, cents)
        log.error(
            "PAID, BUT THE LEDGER CANNOT TAKE IT: prediction %s, identity %s, attempt %d",
            answer.prediction_id, attempt.identity, attempt.number,
        )  # fmt: skip
        self.stop(ErrorCode.STORAGE, sentences.ledger_down(failure))
        rows = [(identity, *what) for identity, what in self.recovered.items()]
        key = f"runs/{self.run_id}/{carried.RECOVERY}-{self.ledger.owner.id[:8]}.csv"
        with contextlib.suppress(Exception):  # stderr has it already; this is one more place
            await self._in_thread(self.destination.write, key, carried.recovery_table(rows), "text/csv")
        return replace(
            attempt, state=State.SUBMITTED, prediction_id=answer.prediction_id, quoted_cents=cents,
            submitted_at=time.time(),
        )  # fmt: skip

    def _learn(self, work: Work, attempt: Attempt, answer: Answer) -> None:
        """What an answer means for the rest of the run."""
        match answer.proof:
            case Proof.ACCEPTED if attempt.state == State.SUBMITTED:
                self._no_answer = 0
                self._accepted_at = self._now()
                self.gate.accepted()
                work.in_flight, work.status = True, None
                work.estimate = estimate_seconds(answer.estimate)
                if answer.cents is not None and answer.cents != self.price_cents:
                    self.remarks.append(sentences.other_price(self.price_cents, answer.cents))
                    log.warning("%s", self.remarks[-1])
                    self.price_cents = answer.cents
            case Proof.THROTTLED:
                self._no_answer = 0
                self.gate.refused(answer.retry_after)
            case Proof.REJECTED:
                self._no_answer = 0
                self.gate.unsent()
            case Proof.KEY_REFUSED:
                self.gate.unsent()
                self.stop(ErrorCode.AUTH, sentences.key_refused(answer.told))
                work.say(Status.SKIPPED, ErrorCode.AUTH, self.stop_error)
            case Proof.NO_BALANCE:
                self.gate.unsent()
                self.stop(ErrorCode.NO_BALANCE, sentences.no_balance(answer.told))
                work.say(Status.SKIPPED, ErrorCode.NO_BALANCE, self.stop_error)
            case _:
                self.gate.unsent()
                if answer.proof is not Proof.NOT_SENT:
                    work.say(Status.UNKNOWN, ErrorCode.SUBMIT_UNKNOWN, attempt.error or sentences.no_answer(answer))
                self._no_answer += 1
                if self._no_answer >= NO_ANSWER_STREAK:
                    self.stop(ErrorCode.PROVIDER_DOWN, sentences.provider_down(answer.told))

    def _may_go_on(self, since: float, answer: Answer) -> bool:
        if answer.retry_after is not None and answer.retry_after >= REFUSED_SECONDS:
            self.stop(ErrorCode.RATE_LIMITED, sentences.rate_limited(answer.retry_after))
        elif self._now() - max(since, self._accepted_at or 0.0) > REFUSED_SECONDS:
            self.stop(ErrorCode.RATE_LIMITED, sentences.rate_limited(None))
        return not self.stopping

    def _found(self, work: Work, standing: Standing) -> Attempt | None:
        """The ledger says that no POST is needed or allowed."""
        work.standing = standing
        latest = standing.latest
        if latest.state in {State.SUBMITTED, State.COMPLETED}:
            return latest
        work.step = Step.REPORT
        return None

    async def _await_other(self, work: Work) -> Attempt | None:
        """Another living run is submitting this identity: share its result. None: look again, it settled nothing."""
        while not self.interrupted.is_set():
            standing = await self._in_ledger(self.ledger.standing, work.identity)
            if standing is None or standing.latest.state in {State.REFUSED, State.ABANDONED}:
                work.standing = standing
                if work.step is Step.PAY:
                    return None
                work.step = Step.PAY
                return await self._secure(work)
            if standing.latest.state != State.CLAIMED:
                return self._found(work, standing)
            await self._pause(0.5)
        return None

    async def _poll(self, work: Work, attempt: Attempt) -> None:
        """Look until the provider is done with it, at least once and until this run's deadline for it."""
        assert self._provider is not None  # noqa: S101 - `going` opened it
        prediction = attempt.prediction_id or ""
        submitted = self._now() - max(0.0, time.time() - (attempt.submitted_at or time.time()))
        if work.in_flight:
            wait = self.polls.started(prediction, self._now() - submitted, work.estimate)
        else:
            self.gate.adopted()
            work.in_flight, wait = True, 0.0
        deadline: float | None = None
        polls = missing = rejected = empty = 0
        last = ""
        try:
            while True:
                if wait > 0 or self.interrupted.is_set():
                    await self._pause(wait)
                if self.interrupted.is_set():
                    work.say(Status.UNDELIVERED, ErrorCode.INTERRUPTED, sentences.interrupted_paid())
                    return
                if deadline is None:
                    deadline = self._now() + self.options.deadline_seconds
                look = await self._provider.look(prediction)
                polls += 1
                age = self._now() - submitted
                wait = self.polls.again(prediction, age, polls)
                last = look.told or last
                match look.phase:
                    case Phase.COMPLETED if look.outputs:
                        self.polls.done(prediction, age, polls, look.took)
                        await self._completed(work, attempt, look)
                        return
                    case Phase.COMPLETED:
                        empty += 1
                        if empty >= OUTPUT_TRIES:
                            work.say(Status.UNDELIVERED, ErrorCode.NO_OUTPUT, sentences.no_output(prediction))
                            return
                        wait = min(20.0, 2.0 ** (empty - 1))
                    case Phase.FAILED:
                        self.polls.done(prediction, age, polls, None)
                        await self._failed(work, attempt, look)
                        return
                    case Phase.MISSING:
                        missing += 1
                        if missing >= MISSING_TRIES and (look.gone or age > FRESH_SECONDS):
                            work.say(Status.UNDELIVERED, ErrorCode.LOST, sentences.lost(prediction))
                            return
                        wait = min(15.0, 2.0 ** (missing - 1))
                    case Phase.KEY_REFUSED:
                        self.stop(ErrorCode.AUTH, sentences.key_refused(look.told))
                        work.say(Status.UNDELIVERED, ErrorCode.AUTH, sentences.key_refused_paid())
                        return
                    case Phase.REJECTED:
                        rejected += 1
                        if rejected >= REJECTED_TRIES:
                            work.say(Status.UNDELIVERED, ErrorCode.DEADLINE, sentences.poll_rejected(prediction, last))
                            return
                    case Phase.THROTTLED:
                        self.polls.throttled(look.retry_after)
                        wait = max(wait, min(look.retry_after or 2.0, 60.0))
                    case _:
                        pass
                left = deadline - self._now()
                if left <= 0:
                    code = ErrorCode.LOST if missing and look.phase is Phase.MISSING else ErrorCode.DEADLINE
                    if look.phase is Phase.COMPLETED:
                        code = ErrorCode.NO_OUTPUT
                    work.say(
                        Status.UNDELIVERED, code, sentences.deadline(prediction, self.options.deadline_seconds, last)
                    )
                    return
                wait = min(wait, left)
        finally:
            work.in_flight = False
            self.gate.finished()

    async def _completed(self, work: Work, attempt: Attempt, look: Look) -> None:
        moment = look.completed_at.timestamp() if look.completed_at else None
        self._take(work, await self._recorded(self.ledger.record_completed, attempt, moment, to=State.COMPLETED))
        work.links = look.outputs
        if look.more_outputs:
            work.warnings.append(f"The provider made {look.more_outputs} more outputs than are copied.")
        work.step, work.status = Step.COPY, None
        self._finished += 1
        self._generated += 1

    async def _failed(self, work: Work, attempt: Attempt, look: Look) -> None:
        moment = look.completed_at.timestamp() if look.completed_at else None
        told = sentences.generation_failed(look)
        self._take(
            work, await self._recorded(self.ledger.record_failed, attempt, look.error_code, told, moment, to=State.FAILED)
        )
        work.step = Step.REPORT
        work.say(Status.FAILED, look.error_code, told)
        self._finished += 1
        if self._finished >= FAILED_STREAK and self._generated == 0:
            self.stop(ErrorCode.PROVIDER_DOWN, sentences.all_failed(self._finished, told))

    async def _recorded(
        self, record: Callable[..., Attempt], attempt: Attempt, *arguments: Any, to: State
    ) -> Attempt:
        """Write a verdict down; it is not lost where the ledger is down, for it can be asked for again."""
        try:
            if attempt.identity in self.recovered:
                attempt = await self._in_ledger(
                    self.ledger.record_id, attempt, attempt.prediction_id or "", attempt.quoted_cents
                )
                del self.recovered[attempt.identity]
            return await self._in_ledger(record, attempt, *arguments)
        except LedgerError as error:
            self.stop(ErrorCode.STORAGE, sentences.ledger_down(error))
            return replace(attempt, state=to, completed_at=time.time())

    # Copy

    async def store(self, identity: str) -> Work:
        """Copy every output of a finished prediction to the destination. Safe to run again; costs nothing."""
        work = self.work(identity)
        if work.step is not Step.COPY or work.standing is None:
            return work
        self._to_copy += 1
        self.gate.hold(self._to_copy > HOLD_COPIES)
        try:
            async with self._copying:
                if self.interrupted.is_set():
                    work.say(Status.UNDELIVERED, ErrorCode.INTERRUPTED, sentences.interrupted_paid())
                    return work
                await self._store(work, work.standing.latest)
        finally:
            self._to_copy -= 1
            self.gate.hold(self._to_copy > HOLD_COPIES)
        return work

    async def _store(self, work: Work, attempt: Attempt) -> None:
        from reelsheet.clips import ClipError

        found = await self._from_elsewhere(work, attempt)
        tries = 0
        while found is None:
            if not work.links and not await self._fresh_links(work, attempt):
                return
            try:
                found = await self._copy_all(work, attempt)
            except ClipError as error:
                tries += 1
                if error.expired and tries < LINK_TRIES:
                    work.links = ()  # ask the provider for a fresh link
                    continue
                self._not_stored(work, error)
                return
        try:
            await self._in_ledger(self.ledger.record_deliveries, attempt, found)
        except LedgerError as error:
            self.stop(ErrorCode.STORAGE, sentences.ledger_down(error))
        assert work.standing is not None  # noqa: S101 - `store` looked
        work.standing = Standing(work.standing.attempts, (*work.standing.deliveries, *found))
        work.step, work.status = Step.DONE, None

    async def _copy_all(self, work: Work, attempt: Attempt) -> list[Delivery]:
        from reelsheet import clips

        assert self._assets is not None  # noqa: S101 - `going` opened it
        found: list[Delivery] = []
        for output, link in enumerate(work.links):
            clip = await clips.copy(
                link,
                self.destination,
                self.key(work, attempt, output),
                client=self._assets,
                metadata=self._metadata(attempt, output),
            )
            work.warnings.extend(clip.warnings)
            found.append(self._delivery(attempt, output, len(work.links), clip))
        return found

    def _delivery(self, attempt: Attempt, output: int, outputs: int, clip: "Clip") -> Delivery:
        return Delivery(
            attempt.number, self.destination.address, output, outputs, clip.key,
            clip.bytes, clip.sha256, clip.width, clip.height, clip.duration_s,
        )  # fmt: skip

    async def _from_elsewhere(self, work: Work, attempt: Attempt) -> list[Delivery] | None:
        """Fill this destination from another one that has the clip; None where none can."""
        from reelsheet.destination import open_destination

        assert work.standing is not None  # noqa: S101 - `store` looked
        for stored in work.standing.elsewhere(self.destination.address):
            try:
                other = open_destination(stored[0].destination)
                found = []
                for one in stored:
                    key = self.key(work, attempt, one.output)
                    metadata = self._metadata(attempt, one.output) | ({"sha256": one.sha256} if one.sha256 else {})
                    copied = await self._in_thread(self.destination.copy_from, other, one.key, key, metadata)
                    found.append(
                        replace(one, destination=self.destination.address, key=key, bytes=copied.size)
                    )
            except Exception as error:  # noqa: BLE001 - whatever ails the other place, the provider still has it
                log.info("Not copied from %s (%s); asking the provider.", stored[0].destination, type(error).__name__)
                continue
            return found
        return None

    async def _fresh_links(self, work: Work, attempt: Attempt) -> bool:
        """Ask the provider where the clip is; False (and said so) where it does not tell."""
        assert self._provider is not None  # noqa: S101 - `going` opened it
        prediction = attempt.prediction_id or ""
        begun = self._now()
        for n in range(OUTPUT_TRIES):
            look = await self._provider.look(prediction)
            if look.phase is Phase.COMPLETED and look.outputs:
                work.links = look.outputs
                return True
            late = self._now() - begun >= self.options.deadline_seconds
            if look.phase in {Phase.MISSING, Phase.KEY_REFUSED} or late or self.interrupted.is_set():
                break
            await self._pause(min(20.0, 2.0**n))
        match look.phase:
            case Phase.MISSING:
                work.say(Status.UNDELIVERED, ErrorCode.LOST, sentences.lost(prediction))
            case Phase.KEY_REFUSED:
                self.stop(ErrorCode.AUTH, sentences.key_refused(look.told))
                work.say(Status.UNDELIVERED, ErrorCode.AUTH, sentences.key_refused_paid())
            case Phase.COMPLETED:
                work.say(Status.UNDELIVERED, ErrorCode.NO_OUTPUT, sentences.no_output(prediction))
            case _ if self.interrupted.is_set():
                work.say(Status.UNDELIVERED, ErrorCode.INTERRUPTED, sentences.interrupted_paid())
            case _:
                work.say(Status.UNDELIVERED, ErrorCode.ASSET_UNAVAILABLE, sentences.no_link(prediction, look.told))
        return False

    def _not_stored(self, work: Work, error: "ClipError") -> None:
        work.say(Status.UNDELIVERED, error.code, str(error))
        if error.systemic:
            self.stop(ErrorCode.STORAGE, str(error))

    def key(self, work: Work, attempt: Attempt, output: int) -> str:
        """Where an output is stored below the destination."""
        return object_key(self.options, self.manifest, work, attempt.number, output)

    def _metadata(self, attempt: Attempt, output: int) -> dict[str, str]:
        return {
            "identity": attempt.identity,
            "attempt": str(attempt.number),
            "output": str(output),
            "prediction-id": attempt.prediction_id or "",
            "cost-cents": str(attempt.paid_cents),
            "run-id": attempt.run_id,
        }

    # How it stands

    def result(self, position: int) -> RowResult:
        """One row's line as of now."""
        row = self.manifest.rows[position]
        if row.problems:
            return RowResult(
                Status.INVALID,
                " ".join(row.problems),
                ErrorCode.INVALID_ROW,
                row.warnings,
                run_id=self.run_id,
            )
        work = self._by_position[position]
        status, code, error = self._verdict(work)
        found = RowResult(
            status,
            error,
            code,
            warnings=tuple(dict.fromkeys((*row.warnings, *work.warnings))),
            identity=work.identity,
            run_id=self.run_id,
        )
        standing = work.standing
        if standing is None:
            return found
        first = position == work.positions[0]
        if first:
            found.cost_cents = standing.run_cents(self.run_id)
            found.total_cost_cents = standing.total_cents
            found.at_risk_cents = standing.risk_cents
        latest = standing.latest
        if latest.state in PAID or latest.state in {State.UNKNOWN, State.CLAIMED}:
            found.attempt = latest.number
            found.prediction_id = latest.prediction_id or ""
            found.submitted_at = _utc(latest.submitted_at)
            found.completed_at = _utc(latest.completed_at)
        if latest.state in PAID:
            found.reused = not first or latest.run_id != self.run_id
        if status is Status.SUCCEEDED:
            stored = standing.delivered(self.destination.address)
            if stored:
                main = stored[0]
                found.video_uri = self.destination.uri(main.key)
                found.more_video_uris = tuple(self.destination.uri(one.key) for one in stored[1:])
                found.video_bytes, found.video_sha256 = main.bytes, main.sha256
                found.width, found.height, found.duration_s = main.width, main.height, main.duration_s
        return found

    def results(self) -> list[RowResult]:
        """Every row of the sheet, in order."""
        return [self.result(position) for position in range(len(self.manifest.rows))]

    def _verdict(self, work: Work) -> tuple[Status, ErrorCode | None, str]:
        if work.step is Step.DONE:
            return Status.SUCCEEDED, None, ""
        if work.status is not None:
            return work.status, work.error_code, work.error
        latest = work.standing.latest if work.standing else None
        if latest is not None and latest.state == State.FAILED:
            code = ErrorCode(latest.error_code) if latest.error_code in set(ErrorCode) else ErrorCode.GENERATION_FAILED
            return Status.FAILED, code, latest.error or sentences.failed_before()
        if latest is not None and latest.state in {State.UNKNOWN, State.CLAIMED}:
            return Status.UNKNOWN, ErrorCode.SUBMIT_UNKNOWN, latest.error or sentences.crashed_while_sending(latest)
        if latest is not None and latest.state in PAID:
            return Status.UNDELIVERED, ErrorCode.INTERRUPTED, sentences.interrupted_paid()
        return Status.SKIPPED, *self._why_skipped()

    def _why_skipped(self) -> tuple[ErrorCode, str]:
        if self.signal is not None:
            return ErrorCode.INTERRUPTED, sentences.interrupted()
        if self.stop_code is not None:
            return self.stop_code, self.stop_error
        if self.over_budget:
            return ErrorCode.OVER_BUDGET, self.over_budget
        return ErrorCode.INTERRUPTED, sentences.interrupted()

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
        """Read every row's standing from the ledger once more: what the results say is what it says."""
        standings = await self._in_ledger(self.ledger.standings, list(self.plan.works))
        for identity, standing in standings.items():
            work = self.plan.works[identity]
            if identity not in self.recovered:
                work.standing = standing

    def notes(self) -> list[Note]:
        """What the ledger's tables of attempts cannot tell."""
        return [
            Note(work.order, str(work.status or ""), work.error_code, work.error, tuple(work.warnings))
            for work in self.plan.works.values()
            if work.status is not None or work.warnings
        ]

    # Keeping

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                await self._in_ledger(self.ledger.heartbeat)
            except LedgerError as error:
                log.warning("%s", error)

    async def _keep_table(self) -> None:
        from reelsheet import record

        pause = 1.0
        while True:
            await asyncio.sleep(pause)
            begun = self._now()
            try:
                await self._in_ledger(self.ledger.write_notes, self.run_id, self.notes())
                await record.checkpoint(self)
            except Exception as error:  # noqa: BLE001 - the table of a moment; the next one, or the last, will do
                log.warning("The table could not be written just now: %s", error)
            pause = max(3.0, 20 * (self._now() - begun))

    async def _await_posts(self) -> None:
        """POSTs in flight are answered and recorded, for up to 20 s after a signal."""
        if self._posting:
            patience = GRACE_SECONDS if self.signal is not None else None
            _, late = await asyncio.wait(set(self._posting), timeout=patience)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # Small steps

    def _take(self, work: Work, attempt: Attempt) -> None:
        """The row's standing with this attempt in it."""
        others = [a for a in work.standing.attempts if a.number != attempt.number] if work.standing else []
        deliveries = work.standing.deliveries if work.standing else ()
        attempts = tuple(sorted([*others, attempt], key=lambda a: a.number))
        work.standing = Standing(attempts, deliveries)

    def _leave(self, work: Work) -> None:
        code, error = self._why_skipped()
        work.say(Status.SKIPPED, code, error)

    def _unsend(self, work: Work) -> None:
        if work.claimed:
            work.claimed = False
            self.gate.unsent()

    def _ledger_down(self, work: Work, error: LedgerError) -> None:
        self.stop(ErrorCode.STORAGE, sentences.ledger_down(error))
        if work.standing is None or work.standing.latest.state not in PAID:
            work.say(Status.SKIPPED, ErrorCode.STORAGE, self.stop_error)

    async def _image(self, work: Work) -> str:
        from reelsheet.preflight import provider_address

        return await provider_address(work.row.image)

    async def _pause(self, seconds: float) -> None:
        """Sleep, but no longer than until an interruption."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.interrupted.wait(), max(0.0, seconds))

    async def _in_ledger(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._ledger_thread, partial(function, *args, **kwargs)
        )

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args, **kwargs))

    in_ledger = _in_ledger
    in_thread = _in_thread


_live: dict[str, Run] = {}


def live(run_id: str) -> Run:
    """The run that is going on in this process; tasks take its id, for live objects are no parameters."""
    return _live[run_id]


def object_key(options: Options, manifest: Manifest, work: Work, attempt: int, output: int) -> str:
    """The key of a clip below its destination, the same in every run."""
    from reelsheet.names import Template, default_name

    if options.name:
        template = Template.parse(options.name, manifest.columns, manifest.roles)
        cells = dict(zip(manifest.columns, work.row.cells, strict=False))
        name = template.render(cells, identity=work.identity, attempt=attempt, output=output, width=work.width)
    else:
        name = default_name(work.row.id, work.row.prompt, work.identity, attempt, output, width=work.width)
    return f"videos/{name}.mp4"


def command_key(options: Options, destination: str) -> str:
    """What makes two commands the same for a permission to pay again."""
    asked = [options.verb, unsigned(options.source), destination, options.fresh, options.retry_unknown]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def new_run_id(now: datetime | None = None) -> str:
    """Sorts by time: 20260115-120000-1f3a9c."""
    moment = now or datetime.now(UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _utc(seconds: float | None) -> datetime | None:
    return None if not seconds else datetime.fromtimestamp(seconds, UTC)


