"""Why a run submits nothing more, and how what is under way comes to its end."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from reelsheet import messages
from reelsheet.errors import Stopped
from reelsheet.outcomes import ErrorCode, RowResult, Status

log = logging.getLogger("reelsheet")

T = TypeVar("T")

STOPPED_EXIT = 3
CAP_EXIT = 4
ANSWER_GRACE_S = 40.0  # for POSTs on their way when a signal comes


class StopControl:
    """The reasons to stop, the first of each kind; `interrupted` is set by a signal.

    `close_gate` ends waiting for admission; `on_stop` hears of a stop that this process decided;
    `on_grace_over` is called when answers have had their time after a signal.
    """

    def __init__(
        self,
        close_gate: Callable[[BaseException], None],
        *,
        on_grace_over: Callable[[], None] = lambda: None,
        on_stop: Callable[[ErrorCode, str], None] = lambda _code, _error: None,
    ) -> None:
        self._close_gate = close_gate
        self._on_grace_over = on_grace_over
        self._on_stop = on_stop
        self.code: ErrorCode | None = None
        self.error = ""
        self.over_budget = ""
        self.signal: int | None = None
        self.interrupted = asyncio.Event()
        self._bounds: dict[asyncio.Timeout, float] = {}  # what an interruption ends → the seconds it may still take

    def stop(self, code: ErrorCode, error: str) -> None:
        """Submit nothing more in this run; go on with what is paid for. The first reason stands."""
        if not (self.over_budget if code is ErrorCode.OVER_BUDGET else self.code):
            self.stop_quietly(code, error)
            self._on_stop(code, error)

    def stop_quietly(self, code: ErrorCode, error: str) -> None:
        """As `stop`, for a reason that another process of the run has published already."""
        if code is ErrorCode.OVER_BUDGET:
            self.stop_over_budget(error)
        elif self.code is None:
            self.code, self.error = code, error
            log.warning("%s", error)
            self._close_gate(Stopped(error))

    def stop_over_budget(self, error: str) -> None:
        """Nothing more fits under a cap, as far as this process can tell."""
        if not self.over_budget:
            self.over_budget = error
            log.warning("%s", error)
            self._close_gate(Stopped(error))

    def interrupt(self, signal: int) -> None:
        """Claim nothing more, let POSTs on their way be answered and recorded, leave everything else."""
        if self.signal is not None:
            return
        self.signal = signal
        self._close_gate(Stopped(messages.INTERRUPTED))
        self.interrupted.set()
        loop = asyncio.get_running_loop()
        loop.call_later(ANSWER_GRACE_S, self._on_grace_over)
        for bound, grace_s in self._bounds.items():
            with contextlib.suppress(RuntimeError):  # it has just ended
                bound.reschedule(loop.time() + grace_s)

    @property
    def is_stopping(self) -> bool:
        return self.code is not None or self.signal is not None or bool(self.over_budget)

    @property
    def message(self) -> str:
        """Why the run stopped early; "" where it did not, or only a signal asked for it."""
        return self.error or self.over_budget

    def skip_reason(self) -> tuple[ErrorCode, str]:
        """Why a row that this run did not reach was left."""
        if self.signal is None and self.code is not None:
            return self.code, self.error
        if self.signal is None and self.over_budget:
            return ErrorCode.OVER_BUDGET, self.over_budget
        return ErrorCode.INTERRUPTED, messages.INTERRUPTED

    def exit_code(self, results: Sequence[RowResult]) -> int:
        """0 all delivered, 1 some not, 3 stopped, 4 at a cap, 128 + signal; the gravest of them."""
        if self.signal is not None:
            return 128 + self.signal
        if self.code is not None:
            return STOPPED_EXIT
        if self.over_budget:
            return CAP_EXIT
        missed = [r for r in results if r.status is not Status.SUCCEEDED and r.error_code is not ErrorCode.OVER_LIMIT]
        return 1 if missed else 0

    async def pause(self, seconds: float) -> None:
        """Sleep, but no longer than until an interruption."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.interrupted.wait(), max(0.0, seconds))

    async def bounded(self, awaitable: Awaitable[T], seconds: float | None = None, *, grace_s: float = 0.0) -> T | None:
        """Await for at most `seconds`, and for at most `grace_s` after an interruption. None: it was cut off."""
        limit_s = seconds
        if self.interrupted.is_set():
            limit_s = grace_s if seconds is None else min(grace_s, seconds)
        try:
            async with asyncio.timeout(limit_s) as bound:
                self._bounds[bound] = grace_s
                try:
                    return await awaitable
                finally:
                    del self._bounds[bound]
        except TimeoutError:
            return None
