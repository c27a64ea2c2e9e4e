"""One row's submission: claim, POST, commit. The only place from which a request that costs money leaves.

The ledger is asked before every POST; nothing stands between a POST and the commit of its answer. What an answer
proves is decided in `reelsheet.provider.classification`.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from reelsheet import messages
from reelsheet.errors import LedgerAway, LedgerError, Stopped
from reelsheet.images import preflight
from reelsheet.ledger import Attempt, Claimed, ClaimUncertain, IdentityHistory, Known, OverBudget, State, Wait
from reelsheet.ledger.lease import awake_and_asleep
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.pacing.gate import Gate
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.provider.classification import SubmitOutcome, SubmitResult
from reelsheet.provider.client import LeaseLost, Provider
from reelsheet.provider.estimate import estimate_seconds
from reelsheet.results import earlier
from reelsheet.run.context import RunContext
from reelsheet.run.in_flight import InFlight, OtherClaims
from reelsheet.run.ledger_session import LedgerSession, UnrecordedId
from reelsheet.run.picture_uploads import PictureUploads
from reelsheet.run.price_watch import PriceWatch
from reelsheet.run.stop_control import StopControl
from reelsheet.run.threads import Threads

log = logging.getLogger("reelsheet")

NO_ANSWER_STREAK = 5  # submissions in a row without a definite answer, before the run stops
DOUBTED_STREAK = 5  # rows in a row that were refused with a 403 or a web page, and none accepted between
CONNECT_TRIES = 5
CLAIM_TRIES = 5  # of a claim whose COMMIT the ledger did not answer
REFUSED_LIMIT_S = 600.0  # without a single acceptance, before a rate limit stops the run
COMMIT_PAUSES_S = (0.1, 0.5, 2.0)  # between tries to have the ledger take an answer


@dataclass(slots=True)
class _Tries:
    """How often a row was not sent, and since when (on the run's clock) it is refused for its pace."""

    unsent: int = 0
    refused_since: float | None = None


class _Entry(NamedTuple):
    """How an answer is recorded: the write, the state that it leads to, and the error for people."""

    write: Callable[[], Attempt]
    state: State
    error: str


class Submitter:
    """Submits rows of one run. `on_no_answer` hears of each submission without a definite answer."""

    def __init__(
        self,
        context: RunContext,
        *,
        provider: Provider,
        gate: Gate,
        stops: StopControl,
        session: LedgerSession,
        threads: Threads,
        in_flight: InFlight,
        prices: PriceWatch,
        uploads: PictureUploads,
        remark: Callable[[str], None],
        on_no_answer: Callable[[SubmitResult], None] = lambda _result: None,
    ) -> None:
        self._context, self._ledger, self._clock = context, context.ledger, context.clock
        self._provider, self._gate, self._stops, self._session = provider, gate, stops, session
        self._threads, self._in_flight, self._prices, self._uploads = threads, in_flight, prices, uploads
        self._other_claims = OtherClaims(session, stops)
        self._remark, self._on_no_answer = remark, on_no_answer
        self._no_answer_streak = 0
        self._doubted_streak = 0
        self._accepted_at: float | None = None

    async def submit_row(self, group: RowGroup) -> Attempt | None:
        """Claim and submit until there is an id; None where there is a reason why there is none."""
        tries = _Tries()
        while group.admitted or await self.admit(group):
            if self._stops.is_stopping:
                self._skip(group)
                return None
            image = await self._image(group)
            if image is None:
                return None
            claim = await self._claim(group)
            if isinstance(claim, Claimed):
                result = await self._post(group, claim, image)
                if not await self._may_try_again(group, result, tries):
                    latest = group.latest
                    return latest if latest is not None and latest.state == State.SUBMITTED else None
                continue
            self.give_back(group)
            history = await self._unclaimed(group, claim)
            if history is not None:
                return self._resolve_existing(group, history)
            if group.status is not None or self._stops.interrupted.is_set():
                return None
        return None

    async def await_other_claim(self, group: RowGroup) -> Attempt | None:
        """Another living run is submitting this identity: share its result, or submit where it came to nothing."""
        history = await self._settled(group)
        if history is None:
            return None
        if not history.is_free:
            return self._resolve_existing(group, history)
        if group.held is not None:
            group.replan(self._context.destination.address, None)
            return None
        group.advance(Step.SUBMIT)
        return await self.submit_row(group)

    async def admit(self, group: RowGroup) -> bool:
        """Wait until the pace lets this row's POST leave; False where the run has stopped submitting."""
        try:
            await self._gate.admit(group.order)
        except Stopped:
            self._skip(group)
            return False
        group.admitted = True
        self._in_flight.admitted(group.identity)
        return True

    def give_back(self, group: RowGroup) -> None:
        """Release a place that was admitted and not used."""
        self._in_flight.sent(group.identity)
        if group.admitted:
            group.admitted = False
            self._gate.release()

    async def _claim(self, group: RowGroup) -> Claimed | Known | Wait | OverBudget:
        """Ask the ledger. A claim that does not come to its POST is given back, for it was never sent."""
        for number in range(1, CLAIM_TRIES + 1):
            try:
                return await self._claim_once(group)
            except ClaimUncertain as uncertain:
                if number == CLAIM_TRIES:
                    raise uncertain.error from None
                await self._session.wait_for_ledger(uncertain.error)
        raise AssertionError  # the last try returned or raised

    async def _claim_once(self, group: RowGroup) -> Claimed | Known | Wait | OverBudget:
        await self._session.write_deferred(group.identity)  # an earlier claim, that is still to be given back
        claiming = asyncio.create_task(
            self._session.call(
                self._ledger.claim,
                group.identity,
                run_id=self._context.run_id,
                price_cents=self._prices.price_cents,
                daily_cap_cents=self._context.settings.daily_cap_cents,
                fingerprint=group.fingerprint,
                is_play_money=self._context.settings.is_play_money,
            )
        )
        try:
            return await asyncio.shield(claiming)
        except ClaimUncertain:
            self._release(claiming)
            raise
        except asyncio.CancelledError:
            claiming.add_done_callback(self._release)
            self._in_flight.track_answer(claiming)
            raise

    def _release(self, claiming: "asyncio.Task[Claimed | Known | Wait | OverBudget]") -> None:
        """Give its claim back, if it made one, as soon as the ledger takes that."""
        error = None if claiming.cancelled() else claiming.exception()
        claim = error.claim if isinstance(error, ClaimUncertain) else None
        if error is None and not claiming.cancelled():
            answer = claiming.result()
            claim = answer.attempt if isinstance(answer, Claimed) else None
        if claim is not None:
            self._session.defer_write(claim.identity, partial(self._ledger.release, claim))

    def _skip(self, group: RowGroup) -> None:
        group.set_outcome(Status.SKIPPED, *self._stops.skip_reason())

    async def _unclaimed(self, group: RowGroup, claim: Known | Wait | OverBudget) -> IdentityHistory | None:
        """The history that makes a POST needless; None: ask again, unless the row says why not."""
        match claim:
            case Known():
                return claim.history
            case Wait():
                history = await self._settled(group)
                return None if history is None or history.is_free else history
            case OverBudget() if self._in_flight:  # something that is reserved may yet be released
                await self._in_flight.wait_idle()
            case OverBudget():
                error = messages.over_budget(claim.which, claim.cap_cents, self._prices.price_cents)
                group.set_outcome(Status.SKIPPED, ErrorCode.OVER_BUDGET, error)
                self._stops.stop_over_budget(error)
        return None

    def _resolve_existing(self, group: RowGroup, history: IdentityHistory) -> Attempt | None:
        """No POST is needed or allowed: what is left to do, and with which attempt."""
        group.history = history
        group.replan(self._context.destination.address, None)
        return history.latest if group.step in {Step.POLL, Step.COPY} else None

    async def _settled(self, group: RowGroup) -> IdentityHistory | None:
        """The row's history once no living run is submitting it; None where this run is interrupted before."""
        history = await self._stops.bounded(self._other_claims.settled(group.identity))
        group.history = history or group.history
        return history

    async def _image(self, group: RowGroup) -> str | None:
        """The address that the provider is given; None (and said so) where there is none, or it cannot be signed."""
        is_there = await self._uploads.ready(group)
        if self._stops.is_stopping and is_there:  # it may have stopped before the picture was there
            self._skip(group)
        if self._stops.is_stopping or not is_there:
            self.give_back(group)
            return None
        lasts_s = preflight.presigned_for_s(self._context.options.deadline_seconds)
        try:
            return await preflight.provider_address(group.row.image, lasts_s)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with this address, the other rows go on
            self.give_back(group)
            group.set_outcome(Status.INVALID, ErrorCode.IMAGE_UNREACHABLE, messages.unsigned_image(error))
            return None

    # The POST and the commit of its answer

    async def _post(self, group: RowGroup, claim: Claimed, image: str) -> SubmitResult:
        """One task that no cancellation reaches."""
        answer = asyncio.create_task(self._post_and_commit(group, claim, image))
        self._in_flight.track_answer(answer)
        return await asyncio.shield(answer)

    async def _post_and_commit(self, group: RowGroup, claim: Claimed, image: str) -> SubmitResult:
        group.add_attempt(claim.attempt)
        try:
            result = await self._send(group, claim, image)
            attempt = await self._commit(claim.attempt, result)
        finally:
            self._in_flight.sent(group.identity)
            self._ledger.mark_unawaited(claim.attempt)
        group.add_attempt(attempt)
        group.admitted = False
        self._apply_submit_result(group, attempt, result)
        return result

    async def _send(self, group: RowGroup, claim: Claimed, image: str) -> SubmitResult:
        """The POST, and what is certain after it whatever happens to it."""
        has_left = False

        def before_send() -> None:
            nonlocal has_left
            if awake_and_asleep() >= claim.leave_by or self._stops.signal is not None:
                raise LeaseLost
            has_left = True
            self._in_flight.sent(group.identity)
            self._gate.left()

        row = group.row
        sending = asyncio.create_task(
            self._provider.submit(image=image, prompt=row.prompt, expansion=row.expansion, before_send=before_send)
        )
        self._in_flight.track_sending(sending)
        try:
            return await sending
        except LeaseLost:
            return SubmitResult(SubmitOutcome.NOT_SENT, message="this machine slept or stalled")
        except asyncio.CancelledError:
            message = "the run was stopped before the answer came"
        except Exception as error:
            log.exception("Unexpected error in a submission.")
            message = type(error).__name__
        return SubmitResult(SubmitOutcome.UNKNOWN if has_left else SubmitOutcome.NOT_SENT, message=message)

    async def _commit(self, attempt: Attempt, result: SubmitResult) -> Attempt:
        """The answer in the ledger; where that cannot take it, kept for when it can, and the run stops submitting."""
        entry = self._entry(attempt, result)
        for pause_s in (*COMMIT_PAUSES_S, None):
            try:
                return await self._session.call_once(entry.write)
            except Exception as error:  # noqa: BLE001 - an id is not lost for any fault of the ledger's
                failure = error
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        self._session.defer_write(attempt.identity, entry.write)
        cents = attempt.price_cents if result.price_cents is None else result.price_cents
        if result.outcome is SubmitOutcome.ACCEPTED:
            await self._rescue(UnrecordedId(attempt.identity, attempt.number, result.prediction_id, cents))
        if isinstance(failure, LedgerAway):
            try:
                written = await self._session.write_deferred(attempt.identity)
                return written if written is not None else await self._session.call(entry.write)
            except Exception as error:  # noqa: BLE001 - as above
                failure = error
        known = failure if isinstance(failure, LedgerError) else LedgerError(f"{type(failure).__name__}: {failure}")
        self._session.fail(known)
        attempt = replace(attempt, state=entry.state, error=entry.error or None)
        if entry.state != State.SUBMITTED:
            return attempt
        return replace(attempt, prediction_id=result.prediction_id, quoted_cents=cents, submitted_at=self._ledger.now())

    def _entry(self, attempt: Attempt, result: SubmitResult) -> _Entry:
        ledger = self._ledger
        match result.outcome:
            case SubmitOutcome.ACCEPTED:
                write = partial(ledger.record_id, attempt, result.prediction_id, result.price_cents)
                return _Entry(write, State.SUBMITTED, "")
            case SubmitOutcome.UNKNOWN:
                error = messages.no_answer(result.status, result.message)
                return _Entry(partial(ledger.record_unknown, attempt, error), State.UNKNOWN, error)
            case SubmitOutcome.REJECTED:
                error = messages.refused(result.status, result.message)
                write = partial(ledger.record_refused, attempt, _rejection_code(result), error)
                return _Entry(write, State.REFUSED, error)
            case _:
                return _Entry(partial(ledger.record_refused, attempt, None, None), State.REFUSED, "")

    async def _rescue(self, unrecorded: UnrecordedId) -> None:
        """Keep an id that the ledger cannot take in every other place: the log, and a table at the destination."""
        log.error(
            "PAID, BUT THE LEDGER CANNOT TAKE IT: prediction %s, identity %s, attempt %d",
            unrecorded.prediction_id, unrecorded.identity, unrecorded.attempt,
        )  # fmt: skip
        self._session.unrecorded_ids[unrecorded.identity] = unrecorded
        context = self._context
        table = earlier.recovery_table(
            unrecorded.identity, unrecorded.attempt, unrecorded.prediction_id, unrecorded.cents, context.run_id
        )
        file = f"{earlier.RECOVERY}-{unrecorded.identity[:16]}-{unrecorded.attempt}.csv"  # one file, one id
        with contextlib.suppress(Exception):  # the log has it already; this is one more place
            await self._threads.call(context.destination.write, f"runs/{context.run_id}/{file}", table, "text/csv")

    # What follows from an answer

    def _apply_submit_result(self, group: RowGroup, attempt: Attempt, result: SubmitResult) -> None:
        """What an answer means for the row and for the rest of the run."""
        collided = result.outcome is SubmitOutcome.ACCEPTED and attempt.state != State.SUBMITTED
        if result.outcome not in {SubmitOutcome.NOT_SENT, SubmitOutcome.UNKNOWN} and not collided:
            self._no_answer_streak = 0
        if result.outcome is SubmitOutcome.THROTTLED:
            self._gate.refused(result.retry_after_s)
            return
        if result.outcome is SubmitOutcome.ACCEPTED and not collided:
            self._accepted_at, self._doubted_streak = self._clock(), 0
            self._gate.accepted()
            group.clear_outcome()
            group.in_flight, group.estimate_s = True, estimate_seconds(result.estimate)
            self._check_price(group, attempt, result)
            return
        self._gate.release()
        self._apply_failure(group, attempt, result)

    def _apply_failure(self, group: RowGroup, attempt: Attempt, result: SubmitResult) -> None:
        """The row has no place at the provider: why, and whether the run goes on submitting."""
        match result.outcome:
            case SubmitOutcome.REJECTED:
                group.set_outcome(
                    Status.FAILED, _rejection_code(result), messages.refused(result.status, result.message)
                )
                self._doubt(result)
            case SubmitOutcome.KEY_REFUSED if result.status == 403:
                self._stop_and_skip(group, ErrorCode.AUTH, messages.forbidden(result.message))
            case SubmitOutcome.KEY_REFUSED:
                self._stop_and_skip(group, ErrorCode.AUTH, messages.key_refused(result.message))
            case SubmitOutcome.NO_BALANCE:
                self._stop_and_skip(group, ErrorCode.NO_BALANCE, messages.no_balance(result.message))
            case SubmitOutcome.FIREWALL:
                self._stop_and_skip(group, ErrorCode.PROVIDER_DOWN, messages.firewall(result.message))
            case SubmitOutcome.NOT_SENT:
                pass
            case _:
                error = attempt.error or messages.no_answer(result.status, result.message)
                group.set_outcome(Status.UNKNOWN, ErrorCode.SUBMIT_UNKNOWN, error)
                self._no_answer_streak += 1
                if self._no_answer_streak >= NO_ANSWER_STREAK:
                    self._stops.stop(ErrorCode.PROVIDER_DOWN, messages.provider_down(result.message))
        if result.outcome is SubmitOutcome.UNKNOWN:
            self._on_no_answer(result)

    def _check_price(self, group: RowGroup, attempt: Attempt, result: SubmitResult) -> None:
        """What the quote of an accepted submission means for the row and for the next ones."""
        if result.odd_quote:
            group.warnings.append(messages.no_price(result.odd_quote, attempt.paid_cents))
        if result.price_cents is not None and self._prices.is_excessive(result.price_cents):
            error = messages.excessive_price(self._prices.expected_cents, result.price_cents)
            self._stops.stop(ErrorCode.OVER_BUDGET, error)
        elif remark := self._prices.observe(result.price_cents):
            self._remark(remark)

    def _stop_and_skip(self, group: RowGroup, code: ErrorCode, error: str) -> None:
        """Everybody is refused, not this row."""
        self._stops.stop(code, error)
        group.set_outcome(Status.SKIPPED, code, error)

    def _doubt(self, result: SubmitResult) -> None:
        """A 403 about a row, or a page in place of an answer: a few of them may be about everybody after all."""
        self._doubted_streak += result.status == 403 or result.is_page
        if self._doubted_streak >= DOUBTED_STREAK:
            if result.is_page:
                self._stops.stop(ErrorCode.PROVIDER_DOWN, messages.only_web_pages(result.status, result.message))
            else:
                self._stops.stop(ErrorCode.AUTH, messages.all_forbidden(self._doubted_streak, result.message))

    async def _may_try_again(self, group: RowGroup, result: SubmitResult, tries: _Tries) -> bool:
        """Whether the same row may be sent again: only where it surely was not accepted."""
        if result.outcome is SubmitOutcome.THROTTLED:
            tries.refused_since = tries.refused_since or self._clock()
            since = max(tries.refused_since, self._accepted_at or 0.0)
            if result.retry_after_s is not None and result.retry_after_s >= REFUSED_LIMIT_S:
                self._stops.stop(ErrorCode.RATE_LIMITED, messages.rate_limited(result.retry_after_s))
            elif self._clock() - since > REFUSED_LIMIT_S:
                self._stops.stop(ErrorCode.RATE_LIMITED, messages.rate_limited(None))
        elif result.outcome is SubmitOutcome.NOT_SENT:
            tries.unsent += 1
            if tries.unsent >= CONNECT_TRIES and not self._stops.is_stopping:
                self._stops.stop(ErrorCode.PROVIDER_DOWN, messages.unreachable(result.message))
            if not self._stops.is_stopping:
                pause_s = min(30.0, 2.0 ** (tries.unsent - 1)) * (0.75 + secrets.randbelow(500) / 1000)
                await self._stops.pause(pause_s)
        else:
            return False
        if self._stops.is_stopping:
            self._skip(group)
            return False
        return True


def _rejection_code(result: SubmitResult) -> ErrorCode:
    return ErrorCode.MODERATED if result.moderated else ErrorCode.REJECTED
