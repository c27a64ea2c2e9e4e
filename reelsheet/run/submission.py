"""One row's submission: claim, POST, commit. The only place from which a request that costs money leaves.

The ledger is asked before every POST; nothing stands between a POST and the commit of its answer. What an answer
proves is decided in `reelsheet.provider.classification`.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from reelsheet import messages
from reelsheet.errors import LedgerError
from reelsheet.ledger import Attempt, Claimed, Found, IdentityHistory, OverBudget, State, Wait
from reelsheet.ledger.lease import awake_and_asleep
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.pacing.poll_schedule import estimate_seconds
from reelsheet.planning import plan
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.provider.classification import SubmitOutcome, SubmitResult
from reelsheet.provider.client import LeaseLost
from reelsheet.results import earlier

if TYPE_CHECKING:
    from reelsheet.run.run import Run

log = logging.getLogger("reelsheet")

NO_ANSWER_STREAK = 5
CONNECT_TRIES = 5
REFUSED_SECONDS = 600.0  # without a single acceptance, before a rate limit stops the run
COMMIT_PAUSES = (0.1, 0.5, 2.0)  # between tries to have the ledger take an answer
OTHERS_SECONDS = 2.0  # between two looks at another run's claim, at the most


class InFlight:
    """The POSTs of this process that are on their way, or about to be."""

    def __init__(self) -> None:
        self._leaving: set[str] = set()  # identities that the pace has admitted and whose POST has not left
        self._left = asyncio.Event()
        self._left.set()
        self._answers: set[asyncio.Task[Any]] = set()
        self._sending: set[asyncio.Task[Any]] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()

    def __bool__(self) -> bool:
        return bool(self._answers)

    async def quiet(self) -> None:
        """Until none is on its way."""
        await self._quiet.wait()

    def leaving(self, identity: str) -> None:
        """A row is admitted: whatever can wait had better wait until its POST has left (see `all_left`)."""
        self._leaving.add(identity)
        self._left.clear()

    def left(self, identity: str) -> None:
        """It has left, or does not leave after all."""
        self._leaving.discard(identity)
        if not self._leaving:
            self._left.set()

    async def all_left(self, seconds: float) -> None:
        """Until every admitted POST has left, but for `seconds` at the most."""
        if not self._left.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._left.wait(), seconds)

    def cut(self) -> None:
        """Wait for no answer any longer; what is known of each is still recorded."""
        for task in self._sending:
            task.cancel()

    def track(self, answer: "asyncio.Task[Any]") -> None:
        self._answers.add(answer)
        self._quiet.clear()
        answer.add_done_callback(self._answered)

    def track_sending(self, sending: "asyncio.Task[Any]") -> None:
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    def _answered(self, answer: "asyncio.Task[Any]") -> None:
        self._answers.discard(answer)
        if not self._answers:
            self._quiet.set()


class OtherClaims:
    """Claims of other living runs that this one waits for, looked at all together."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[IdentityHistory]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def settled(self, run: "Run", identity: str) -> IdentityHistory:
        """How an identity stands once none of its attempts is claimed any more."""
        if identity not in self._waiting:
            self._waiting[identity] = asyncio.get_running_loop().create_future()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(run))
        return await asyncio.shield(self._waiting[identity])

    async def _look(self, run: "Run") -> None:
        pause = OTHERS_SECONDS / 10
        while self._waiting and not run.interrupted.is_set():
            try:
                histories = await run.in_ledger(run.ledger.histories, list(self._waiting))
            except Exception as error:  # noqa: BLE001 - it is raised where each is waited for
                for waiting in self._waiting.values():
                    waiting.set_exception(error)
                self._waiting.clear()
                return
            settled = [one for one in histories.values() if all(a.state != State.CLAIMED for a in one.attempts)]
            for history in settled:
                self._waiting.pop(history.latest.identity).set_result(history)
            pause = OTHERS_SECONDS / 10 if settled else min(OTHERS_SECONDS, 1.5 * pause)
            await run.pause(pause)


@dataclass(slots=True)
class _Tries:
    """How often a row was not sent, and since when (on the run's clock) it is refused for its pace."""

    unsent: int = 0
    refused_since: float | None = None


async def submit_row(run: "Run", group: RowGroup) -> Attempt | None:
    """Claim and submit until there is an id, or a reason why there is none."""
    tries = _Tries()
    while group.claimed or await run.admit(group):
        if run.stopping:
            run.skip(group)
            return None
        image = await _image(run, group)
        if image is None:
            return None
        claim = await run.in_ledger(
            run.ledger.claim,
            group.identity,
            run_id=run.run_id,
            price_cents=run.price_cents,
            daily_cap_cents=run.settings.daily_cap_cents,
            fingerprint=group.fingerprint,
        )
        if isinstance(claim, Claimed):
            answer = await _post(run, group, claim, image)
            if not await _may_try_again(run, group, answer, tries):
                latest = group.history.latest if group.history else None
                return latest if latest is not None and latest.state == State.SUBMITTED else None
            continue
        run.unsend(group)
        history = await _unclaimed(run, group, claim)
        if history is not None:
            return found(run, group, history)
        if group.status is not None or run.interrupted.is_set():
            return None
    return None


async def _unclaimed(run: "Run", group: RowGroup, claim: Found | Wait | OverBudget) -> IdentityHistory | None:
    """The standing that makes a POST needless; None: ask again, unless the row says why not."""
    match claim:
        case Found(history=history):
            return history
        case Wait():
            settled = await _settled(run, group)
            return None if settled is None or settled.is_free else settled
        case OverBudget() if run.posts:  # something reserved may yet be released
            await run.posts.quiet()
        case OverBudget():
            group.set_outcome(
                Status.SKIPPED,
                ErrorCode.OVER_BUDGET,
                messages.over_budget(claim.which, claim.cap_cents, run.price_cents),
            )
            run.stop_over_budget(group.error)
    return None


async def await_other_claim(run: "Run", group: RowGroup) -> Attempt | None:
    """Another living run is submitting this identity: share its result, or submit where it came to nothing."""
    settled = await _settled(run, group)
    if settled is None:
        return None
    if not settled.is_free:
        return found(run, group, settled)
    group.step = Step.SUBMIT
    return await submit_row(run, group)


def found(run: "Run", group: RowGroup, history: IdentityHistory) -> Attempt | None:
    """The ledger says that no POST is needed or allowed: what is left to do, and with which attempt."""
    group.history = history
    group.step = plan.step_of(group, run.destination.address, None, lambda _: False)
    return history.latest if group.step in {Step.POLL, Step.COPY} else None


async def _settled(run: "Run", group: RowGroup) -> IdentityHistory | None:
    """How the row stands once no living run is at it; None where this run is interrupted before."""
    history = await run.bounded(run.others.settled(run, group.identity))
    group.history = history or group.history
    return history


async def _image(run: "Run", group: RowGroup) -> str | None:
    """What the provider is asked to fetch; None (and said so) where the address cannot be signed."""
    from reelsheet.images.preflight import provider_address

    try:
        return await provider_address(group.row.image)
    except Exception as error:  # noqa: BLE001 - whatever ails this one address, the other rows go on
        run.unsend(group)
        group.set_outcome(Status.INVALID, ErrorCode.IMAGE_UNREACHABLE, messages.unsigned_image(error))
        return None


# The POST and the commit of its answer


async def _post(run: "Run", group: RowGroup, claim: Claimed, image: str) -> SubmitResult:
    """One task that no cancellation reaches."""
    answer = asyncio.create_task(_post_and_commit(run, group, claim, image))
    run.posts.track(answer)
    return await asyncio.shield(answer)


async def _post_and_commit(run: "Run", group: RowGroup, claim: Claimed, image: str) -> SubmitResult:
    run.take(group, claim.attempt)
    try:
        answer = await _answer(run, group, claim, image)
        attempt = await _committed(run, claim.attempt, answer)
    finally:
        run.posts.left(group.identity)
        run.ledger.mark_unawaited(claim.attempt)
    run.take(group, attempt)
    group.claimed = False
    run.answered(group, attempt, answer)
    return answer


async def _answer(run: "Run", group: RowGroup, claim: Claimed, image: str) -> SubmitResult:
    """The POST, and what is certain after it whatever happens to it."""
    left = False

    def before_send() -> None:
        nonlocal left
        if awake_and_asleep() >= claim.leave_by or run.signal is not None:
            raise LeaseLost
        left = True
        run.posts.left(group.identity)

    sending = asyncio.create_task(
        run.provider.submit(
            image=image, prompt=group.row.prompt, expansion=group.row.expansion, before_send=before_send
        )
    )
    run.posts.track_sending(sending)
    try:
        return await sending
    except LeaseLost:
        return SubmitResult(SubmitOutcome.NOT_SENT, message="this machine slept or stalled")
    except asyncio.CancelledError:
        told = "the run was stopped before the answer came"
    except Exception as error:
        log.exception("A submission ended in a way that was not foreseen.")
        told = type(error).__name__
    return SubmitResult(SubmitOutcome.UNKNOWN if left else SubmitOutcome.NOT_SENT, message=told)


async def _committed(run: "Run", attempt: Attempt, answer: SubmitResult) -> Attempt:
    """The answer in the ledger; where that cannot take it, kept for when it can, and the run stops submitting."""
    record, state, told = _entry(run, attempt, answer)
    for pause in (*COMMIT_PAUSES, None):
        try:
            return await run.in_ledger(record)
        except Exception as error:  # noqa: BLE001 - an id is not lost for any fault of the ledger's, foreseen or not
            failure = error
        if pause is not None:
            await asyncio.sleep(pause)
    run.defer_write(attempt.identity, record)
    if answer.outcome is SubmitOutcome.ACCEPTED:
        await _rescue(run, attempt, answer)
    known = failure if isinstance(failure, LedgerError) else LedgerError(f"{type(failure).__name__}: {failure}")
    run.stop(ErrorCode.STORAGE, messages.ledger_down(known))
    attempt = replace(attempt, state=state, error=told or None)
    if state != State.SUBMITTED:
        return attempt
    cents = attempt.price_cents if answer.price_cents is None else answer.price_cents
    return replace(attempt, prediction_id=answer.prediction_id, quoted_cents=cents, submitted_at=time.time())


def _entry(run: "Run", attempt: Attempt, answer: SubmitResult) -> tuple[Callable[[], Attempt], State, str]:
    """How the answer is recorded, the state that follows, and what is said of it."""
    ledger = run.ledger
    match answer.outcome:
        case SubmitOutcome.ACCEPTED:
            return partial(ledger.record_id, attempt, answer.prediction_id, answer.price_cents), State.SUBMITTED, ""
        case SubmitOutcome.UNKNOWN:
            told = messages.no_answer(answer.status, answer.message)
            return partial(ledger.record_unknown, attempt, told), State.UNKNOWN, told
        case SubmitOutcome.REJECTED:
            told = messages.refused(answer.status, answer.message)
            return partial(ledger.record_refused, attempt, _code(answer), told), State.REFUSED, told
        case _:
            return partial(ledger.record_refused, attempt, None, None), State.REFUSED, ""


async def _rescue(run: "Run", attempt: Attempt, answer: SubmitResult) -> None:
    """An id that the ledger cannot take, into every other place that can: the log, and a table at the destination."""
    log.error(
        "PAID, BUT THE LEDGER CANNOT TAKE IT: prediction %s, identity %s, attempt %d",
        answer.prediction_id, attempt.identity, attempt.number,
    )  # fmt: skip
    cents = attempt.price_cents if answer.price_cents is None else answer.price_cents
    run.unrecorded_ids[attempt.identity] = (attempt.number, answer.prediction_id, cents)
    table = earlier.recovery_table([(attempt.identity, attempt.number, answer.prediction_id, cents)], run.run_id)
    key = f"runs/{run.run_id}/{earlier.RECOVERY}-{attempt.identity[:16]}-{attempt.number}.csv"  # one file, one id
    with contextlib.suppress(Exception):  # the log has it already; this is one more place
        await run.in_thread(run.destination.write, key, table, "text/csv")


def _code(answer: SubmitResult) -> ErrorCode:
    return ErrorCode.MODERATED if answer.moderated else ErrorCode.REJECTED


# What follows from an answer


def apply_submit_result(run: "Run", group: RowGroup, attempt: Attempt, answer: SubmitResult) -> None:
    """What an answer means for the row and for the rest of the run."""
    collided = answer.outcome is SubmitOutcome.ACCEPTED and attempt.state != State.SUBMITTED
    if answer.outcome not in {SubmitOutcome.NOT_SENT, SubmitOutcome.UNKNOWN} and not collided:
        run.no_answer = 0
    match answer.outcome:
        case SubmitOutcome.ACCEPTED if not collided:
            run.accepted_at = run.now()
            run.gate.accepted()
            group.in_flight, group.status = True, None
            group.estimate = estimate_seconds(answer.estimate)
            _heed_price(run, answer)
        case SubmitOutcome.THROTTLED:
            run.gate.refused(answer.retry_after_s)
        case SubmitOutcome.REJECTED:
            run.gate.release()
            group.set_outcome(Status.FAILED, _code(answer), messages.refused(answer.status, answer.message))
        case SubmitOutcome.KEY_REFUSED:
            run.gate.release()
            run.stop(ErrorCode.AUTH, messages.key_refused(answer.message))
            group.set_outcome(Status.SKIPPED, ErrorCode.AUTH, run.stop_error)
        case SubmitOutcome.NO_BALANCE:
            run.gate.release()
            run.stop(ErrorCode.NO_BALANCE, messages.no_balance(answer.message))
            group.set_outcome(Status.SKIPPED, ErrorCode.NO_BALANCE, run.stop_error)
        case SubmitOutcome.NOT_SENT:
            run.gate.release()
        case _:
            run.gate.release()
            group.set_outcome(
                Status.UNKNOWN,
                ErrorCode.SUBMIT_UNKNOWN,
                attempt.error or messages.no_answer(answer.status, answer.message),
            )
            run.no_answer += 1
            if run.no_answer >= NO_ANSWER_STREAK:
                run.stop(ErrorCode.PROVIDER_DOWN, messages.provider_down(answer.message))


def _heed_price(run: "Run", answer: SubmitResult) -> None:
    """What is reserved from now on: the highest of the latest quotes."""
    if answer.price_cents is None:
        return
    run.quotes.append(answer.price_cents)
    price = max(run.quotes)
    if price != run.price_cents:
        if not run.remarked_price:
            run.remarks.append(messages.other_price(run.price_cents, answer.price_cents))
            log.warning("%s", run.remarks[-1])
        run.remarked_price = True
        run.price_cents = price


async def _may_try_again(run: "Run", group: RowGroup, answer: SubmitResult, tries: _Tries) -> bool:
    """Whether the same row may be sent again: only where it surely was not accepted."""
    if answer.outcome is SubmitOutcome.THROTTLED:
        tries.refused_since = tries.refused_since or run.now()
        if answer.retry_after_s is not None and answer.retry_after_s >= REFUSED_SECONDS:
            run.stop(ErrorCode.RATE_LIMITED, messages.rate_limited(answer.retry_after_s))
        elif run.now() - max(tries.refused_since, run.accepted_at or 0.0) > REFUSED_SECONDS:
            run.stop(ErrorCode.RATE_LIMITED, messages.rate_limited(None))
    elif answer.outcome is SubmitOutcome.NOT_SENT:
        tries.unsent += 1
        if tries.unsent >= CONNECT_TRIES and not run.stopping:
            run.stop(ErrorCode.PROVIDER_DOWN, messages.unreachable(answer.message))
        if not run.stopping:
            await run.pause(min(30.0, 2.0 ** (tries.unsent - 1)) * (0.75 + secrets.randbelow(500) / 1000))
    else:
        return False
    if run.stopping:
        run.skip(group)
        return False
    return True
