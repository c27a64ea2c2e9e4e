"""Polling a paid prediction until the provider is done with it, at no cost and as patiently as the deadline allows.

Whatever the network or the provider say in between, nothing is submitted here.
"""

from collections import Counter
from dataclasses import dataclass, field

from reelsheet import messages
from reelsheet.ledger import Attempt, State
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.pacing.gate import Gate
from reelsheet.pacing.poll_schedule import PollSchedule, Watch
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.provider.client import Provider
from reelsheet.provider.prediction import Phase, PollResult
from reelsheet.run.context import RunContext
from reelsheet.run.ledger_session import LedgerSession
from reelsheet.run.stop_control import StopControl

FAILED_STREAK = 10  # predictions that all failed, before the run stops
OUTPUT_TRIES = 6  # of a prediction that is complete and gives no clip: half a minute
MISSING_TRIES = 5
FRESH_S = 120.0  # a prediction this young may not be known everywhere yet
REJECTED_TRIES = 3
LONGEST_PAUSE_S = 20.0


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Why this run stops polling a prediction; another one may go on."""

    code: ErrorCode
    error: str


@dataclass(slots=True)
class _Polled:
    """One prediction, and what its polls have said so far. Times in seconds, `submitted_at` on the run's clock."""

    prediction_id: str
    submitted_at: float
    deadline_at: float | None = None  # counts from the first poll
    answers: Counter[Phase] = field(default_factory=Counter)  # that were not final
    last_message: str = ""


class Poller:
    """Polls the predictions of one run."""

    def __init__(
        self,
        context: RunContext,
        *,
        provider: Provider,
        gate: Gate,
        schedule: PollSchedule,
        stops: StopControl,
        session: LedgerSession,
    ) -> None:
        self._context, self._ledger, self._clock = context, context.ledger, context.clock
        self._provider, self._gate, self._stops, self._session = provider, gate, stops, session
        self._schedule, self._watch = schedule, Watch(schedule)
        self._finished = 0  # predictions, of which
        self._generated = 0  # ended with a clip

    async def poll(self, group: RowGroup, attempt: Attempt) -> None:
        """Until the provider is done with it, at least once and until this run's deadline for it."""
        polled = self._polled(attempt)
        prediction_id = polled.prediction_id
        try:
            if group.in_flight:
                await self._stops.bounded(self._watch.started(prediction_id, self._age_s(polled), group.estimate_s))
            else:
                self._gate.adopted()
                group.in_flight = True
            result = await self._until_final(group, polled, by_schedule=True)
            if result is None:
                return
            failed = result.phase is Phase.FAILED
            self._watch.done(prediction_id, self._age_s(polled), None if failed else result.generation_s)
            self._free(group)  # before the ledger is written, which may take a moment
            await (self._failed if failed else self._completed)(group, attempt, result)
        finally:
            self._schedule.gone(prediction_id)
            self._free(group)

    async def fresh_links(self, group: RowGroup, attempt: Attempt) -> bool:
        """Ask the provider where a finished clip is; False (and said so) where it does not say."""
        polled = self._polled(attempt)
        result = await self._until_final(group, polled, by_schedule=False)
        if result is not None and result.phase is Phase.FAILED:
            # Its first verdict stands, but there is no clip.
            error = messages.no_link(polled.prediction_id, result.message)
            group.set_outcome(Status.UNDELIVERED, ErrorCode.ASSET_UNAVAILABLE, error)
            return False
        group.links = result.outputs if result is not None else ()
        return result is not None

    async def _until_final(self, group: RowGroup, polled: _Polled, *, by_schedule: bool) -> PollResult | None:
        """The final answer; None (and said so) where this run polls no more."""
        while not self._stops.interrupted.is_set():
            result = await self._ask(polled)
            if result is None:
                break
            if isinstance(result, GivenUp):
                group.set_outcome(Status.UNDELIVERED, result.code, result.error)
                return None
            if _is_final(result):
                return result
            odd = result.phase in (Phase.COMPLETED, Phase.MISSING)  # says more than the schedule knows
            if by_schedule and not odd:
                again = self._watch.again(polled.prediction_id, self._age_s(polled))
                await self._stops.bounded(again, self._left_s(polled))
                continue
            tries = polled.answers[result.phase] if odd else polled.answers.total()
            pause_s = max(min(LONGEST_PAUSE_S, 2.0 ** (tries - 1)), result.retry_after_s or 0.0)
            await self._stops.pause(min(pause_s, self._left_s(polled)))
        group.set_outcome(Status.UNDELIVERED, ErrorCode.INTERRUPTED, messages.INTERRUPTED_PAID)
        return None

    def _polled(self, attempt: Attempt) -> _Polled:
        now = self._ledger.now()  # by whose clock it was submitted
        age_s = max(0.0, now - (attempt.submitted_at or now))
        return _Polled(attempt.prediction_id or "", self._clock() - age_s)

    def _age_s(self, polled: _Polled) -> float:
        return self._clock() - polled.submitted_at

    def _left_s(self, polled: _Polled) -> float:
        return max(0.0, (polled.deadline_at or 0.0) - self._clock())

    async def _ask(self, polled: _Polled) -> PollResult | GivenUp | None:
        """One poll. GivenUp: no more; None: the run is interrupted."""
        if polled.deadline_at is None:
            polled.deadline_at = self._clock() + self._context.options.deadline_seconds
        result = await self._stops.bounded(self._provider.poll(polled.prediction_id))
        if result is None:
            return None
        if _is_final(result):
            return result
        polled.answers[result.phase] += 1
        polled.last_message = result.message or polled.last_message
        if result.phase is Phase.THROTTLED:
            self._schedule.throttled(result.retry_after_s)
        return self._given_up(polled, result) or result

    def _given_up(self, polled: _Polled, result: PollResult) -> GivenUp | None:
        """The reason to poll no more after this answer, if there is one."""
        prediction_id = polled.prediction_id
        if result.phase is Phase.KEY_REFUSED:
            self._stops.stop(ErrorCode.AUTH, messages.key_refused(result.message))
            return GivenUp(ErrorCode.AUTH, messages.KEY_REFUSED_PAID)
        if result.phase is Phase.NO_BALANCE:
            self._stops.stop(ErrorCode.NO_BALANCE, messages.no_balance(result.message))
        if result.phase is Phase.COMPLETED and polled.answers[Phase.COMPLETED] >= OUTPUT_TRIES:
            return GivenUp(ErrorCode.NO_OUTPUT, messages.no_output(prediction_id))
        is_gone = result.gone or self._age_s(polled) > FRESH_S
        if result.phase is Phase.MISSING and polled.answers[Phase.MISSING] >= MISSING_TRIES and is_gone:
            return GivenUp(ErrorCode.LOST, messages.lost(prediction_id))
        if result.phase is Phase.REJECTED and polled.answers[Phase.REJECTED] >= REJECTED_TRIES:
            return GivenUp(ErrorCode.PROVIDER_DOWN, messages.poll_rejected(prediction_id, polled.last_message))
        if polled.deadline_at is not None and self._clock() >= polled.deadline_at:
            error = messages.deadline(prediction_id, self._context.options.deadline_seconds, polled.last_message)
            codes = {Phase.COMPLETED: ErrorCode.NO_OUTPUT, Phase.MISSING: ErrorCode.LOST}
            return GivenUp(codes.get(result.phase, ErrorCode.DEADLINE), error)
        return None

    def _free(self, group: RowGroup) -> None:
        """Its place at the provider may be taken again."""
        if group.in_flight:
            group.in_flight = False
            self._gate.finished()

    async def _completed(self, group: RowGroup, attempt: Attempt, result: PollResult) -> None:
        moment = result.completed_at.timestamp() if result.completed_at else None
        record = self._ledger.record_completed
        group.add_attempt(await self._session.record_verdict(record, attempt, moment, to=State.COMPLETED))
        group.links = result.outputs
        _warn_of_odd(group, result)
        if result.more_outputs:
            group.warnings.append(f"The provider made {result.more_outputs} more outputs than are copied.")
        group.advance(Step.COPY)
        self._finished += 1
        self._generated += 1

    async def _failed(self, group: RowGroup, attempt: Attempt, result: PollResult) -> None:
        moment = result.completed_at.timestamp() if result.completed_at else None
        error = messages.generation_failed(result.message)
        record, why = self._ledger.record_failed, (result.error_code, error)
        group.add_attempt(await self._session.record_verdict(record, attempt, *why, moment, to=State.FAILED))
        _warn_of_odd(group, result)
        group.leave(Step.REPORT, Status.FAILED, result.error_code, error)
        self._finished += 1
        if self._finished >= FAILED_STREAK and self._generated == 0:
            self._stops.stop(ErrorCode.PROVIDER_DOWN, messages.all_failed(self._finished, error))


def _warn_of_odd(group: RowGroup, result: PollResult) -> None:
    if result.odd:
        group.warnings.append(messages.odd_answer(result.odd))


def _is_final(result: PollResult) -> bool:
    return result.phase is Phase.FAILED or (result.phase is Phase.COMPLETED and bool(result.outputs))
