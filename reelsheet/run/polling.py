"""Polling a paid prediction until the provider is done with it, at no cost and as patiently as the deadline allows.

Whatever the network or the provider say in between, nothing is submitted here.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reelsheet import messages
from reelsheet.ledger import Attempt, State
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.provider.client import Phase, PollResult

if TYPE_CHECKING:
    from reelsheet.run.run import Run

FAILED_STREAK = 10
OUTPUT_TRIES = 6  # of a prediction that is complete and gives no clip: half a minute
MISSING_TRIES = 5
FRESH_SECONDS = 120.0  # a prediction this young may not be known everywhere yet
REJECTED_TRIES = 3
LONGEST_PAUSE = 20.0


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Why this run stops asking; another one may ask again."""

    code: ErrorCode
    error: str


@dataclass(slots=True)
class _Watched:
    """One prediction under watch, and what it has been seen to do."""

    run: "Run"
    prediction: str
    submitted: float  # on the run's clock
    deadline: float | None = None
    polls: int = 0
    empty: int = 0
    missing: int = 0
    rejected: int = 0
    last: str = ""

    @property
    def age(self) -> float:
        return self.run.now() - self.submitted

    def given_up(self, look: PollResult) -> GivenUp | None:
        """The reason to stop asking after this look, if there is one."""
        match look.phase:
            case Phase.KEY_REFUSED:
                self.run.stop(ErrorCode.AUTH, messages.key_refused(look.message))
                return GivenUp(ErrorCode.AUTH, messages.key_refused_paid())
            case Phase.COMPLETED:
                self.empty += 1
                if self.empty >= OUTPUT_TRIES:
                    return GivenUp(ErrorCode.NO_OUTPUT, messages.no_output(self.prediction))
            case Phase.MISSING:
                self.missing += 1
                if self.missing >= MISSING_TRIES and (look.gone or self.age > FRESH_SECONDS):
                    return GivenUp(ErrorCode.LOST, messages.lost(self.prediction))
            case Phase.REJECTED:
                self.rejected += 1
                if self.rejected >= REJECTED_TRIES:
                    told = messages.poll_rejected(self.prediction, self.last)
                    return GivenUp(ErrorCode.PROVIDER_DOWN, told)
            case _:
                pass
        if self.deadline is not None and self.run.now() >= self.deadline:
            told = messages.deadline(self.prediction, self.run.options.deadline_seconds, self.last)
            codes = {Phase.COMPLETED: ErrorCode.NO_OUTPUT, Phase.MISSING: ErrorCode.LOST}
            return GivenUp(codes.get(look.phase, ErrorCode.DEADLINE), told)
        return None

    def pause(self, look: PollResult) -> float | None:
        """Seconds until the next look, where this one says more than the schedule knows."""
        match look.phase:
            case Phase.COMPLETED:
                return min(LONGEST_PAUSE, 2.0 ** (self.empty - 1))
            case Phase.MISSING:
                return min(LONGEST_PAUSE, 2.0 ** (self.missing - 1))
            case Phase.THROTTLED:
                self.run.polls.throttled(look.retry_after_s)
            case _:
                pass
        return None

    async def ask(self) -> PollResult | GivenUp | None:
        """One look. GivenUp: no more; None: the run is interrupted. The deadline counts from the first."""
        run = self.run
        if self.deadline is None:
            self.deadline = run.now() + run.options.deadline_seconds
        look = await run.bounded(run.provider.poll(self.prediction))
        if look is None:
            return None
        self.polls += 1
        self.last = look.message or self.last
        if look.phase is Phase.FAILED or (look.phase is Phase.COMPLETED and look.outputs):
            return look
        return self.given_up(look) or look

    @property
    def left(self) -> float:
        return max(0.0, (self.deadline or 0.0) - self.run.now())


def _is_final(look: PollResult) -> bool:
    return look.phase is Phase.FAILED or (look.phase is Phase.COMPLETED and bool(look.outputs))


async def poll(run: "Run", group: RowGroup, attempt: Attempt) -> None:
    """Look until the provider is done with it, at least once and until this run's deadline for it."""
    prediction = attempt.prediction_id or ""
    watched = _Watched(run, prediction, run.now() - max(0.0, time.time() - (attempt.submitted_at or time.time())))
    try:
        if group.in_flight:
            await run.bounded(run.watch.started(prediction, watched.age, group.estimate))
        else:
            run.gate.adopted()
            group.in_flight = True
        while not run.interrupted.is_set():
            seen = await watched.ask()
            if seen is None:
                break
            if isinstance(seen, GivenUp):
                group.set_outcome(Status.UNDELIVERED, seen.code, seen.error)
                return
            if _is_final(seen):
                if seen.phase is Phase.FAILED:
                    run.watch.done(prediction, watched.age, watched.polls, None)
                    await _failed(run, group, attempt, seen)
                    return
                run.watch.done(prediction, watched.age, watched.polls, seen.generation_s)
                _free(run, group)  # before the ledger is told, which may take a moment
                await _completed(run, group, attempt, seen)
                return
            pause = watched.pause(seen)
            if pause is None:
                await run.bounded(run.watch.again(prediction, watched.age, watched.polls), watched.left)
            else:
                await run.pause(min(pause, watched.left))
        group.set_outcome(Status.UNDELIVERED, ErrorCode.INTERRUPTED, messages.interrupted_paid())
    finally:
        run.polls.gone(prediction)
        _free(run, group)


def _free(run: "Run", group: RowGroup) -> None:
    """Its place at the provider may be taken again."""
    if group.in_flight:
        group.in_flight = False
        run.gate.finished()


async def fresh_links(run: "Run", group: RowGroup, attempt: Attempt) -> bool:
    """Ask the provider where a finished clip is; False (and said so) where it does not tell."""
    prediction = attempt.prediction_id or ""
    watched = _Watched(run, prediction, run.now() - max(0.0, time.time() - (attempt.submitted_at or 0.0)))
    while not run.interrupted.is_set():
        seen = await watched.ask()
        if seen is None:
            break
        if isinstance(seen, GivenUp):
            group.set_outcome(Status.UNDELIVERED, seen.code, seen.error)
            return False
        if seen.phase is Phase.FAILED:  # its first verdict stands; there is no clip all the same
            told = messages.no_link(prediction, seen.message)
            group.set_outcome(Status.UNDELIVERED, ErrorCode.ASSET_UNAVAILABLE, told)
            return False
        if _is_final(seen):
            group.links = seen.outputs
            return True
        pause = watched.pause(seen)
        pause = min(LONGEST_PAUSE, 2.0 ** (watched.polls - 1)) if pause is None else pause
        await run.pause(min(max(pause, seen.retry_after_s or 0.0), watched.left))
    group.set_outcome(Status.UNDELIVERED, ErrorCode.INTERRUPTED, messages.interrupted_paid())
    return False


async def _completed(run: "Run", group: RowGroup, attempt: Attempt, look: PollResult) -> None:
    moment = look.completed_at.timestamp() if look.completed_at else None
    run.take(group, await run.recorded(run.ledger.record_completed, attempt, moment, to=State.COMPLETED))
    group.links = look.outputs
    if look.more_outputs:
        group.warnings.append(f"The provider made {look.more_outputs} more outputs than are copied.")
    group.step, group.status = Step.COPY, None
    run.finished += 1
    run.generated += 1


async def _failed(run: "Run", group: RowGroup, attempt: Attempt, look: PollResult) -> None:
    moment = look.completed_at.timestamp() if look.completed_at else None
    told = messages.generation_failed(look.message)
    failed = await run.recorded(run.ledger.record_failed, attempt, look.error_code, told, moment, to=State.FAILED)
    run.take(group, failed)
    group.step = Step.REPORT
    group.set_outcome(Status.FAILED, look.error_code, told)
    run.finished += 1
    if run.finished >= FAILED_STREAK and run.generated == 0:
        run.stop(ErrorCode.PROVIDER_DOWN, messages.all_failed(run.finished, told))
