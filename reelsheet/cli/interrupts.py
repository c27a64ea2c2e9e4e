"""SIGINT, SIGTERM and SIGHUP of a command: they end it at once, except where rows are under way (`flows.signals`).

Nothing that takes long to import is imported here, so that `install` comes early.
"""

import os
import signal

from reelsheet.cli.streams import say_at_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType
    from typing import Final, TypeVar

    T = TypeVar("T")

MESSAGE: "Final" = "Interrupted. What was sent is in the ledger; the same command again pays for nothing twice."


class Interrupts:
    """What a signal does: it ends the process, or, once `is_finished` says so, only what is still waited for.

    Unwinding would wait for threads that wait for a slow network, and there is nothing to undo.
    """

    def __init__(self) -> None:
        self.is_finished: Callable[[], bool] = lambda: False
        self.number: int | None = None  # of the signal that came when everything was finished
        self.leaves_tasks = False  # the process ends without waiting for what hangs
        self.message = MESSAGE
        self.tidy: Callable[[], object] = lambda: None  # what a command does not leave behind; it must be quick
        self._wake: Callable[[], object] = lambda: None

    def install(self) -> None:
        """A signal that the caller has ignored (nohup) stays ignored."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) in {signal.default_int_handler, signal.SIG_DFL}:
                signal.signal(number, self._on_signal)

    async def unless_interrupted(self, awaitable: "Awaitable[T]") -> "T | None":
        """Await it, but no longer than until a signal; then None, and it is left to the end of the process."""
        import asyncio

        loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(interrupted.set)
        task, waiter = asyncio.ensure_future(awaitable), asyncio.create_task(interrupted.wait())
        if self.number is None:
            await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        self._wake = lambda: None
        waiter.cancel()
        return await task if task.done() else None

    def end(self, number: int) -> None:
        """Everything is finished; what is still waited for is left."""
        self.number, self.leaves_tasks = number, True
        self._wake()

    def _on_signal(self, number: int, _frame: "FrameType | None") -> None:
        if self.number is None and self.is_finished():
            self.end(number)
            return
        new_line = "\n" if os.isatty(2) else ""  # the terminal has put ^C at the end of a line
        say_at_once(f"{new_line}reelsheet: {self.message}\n")
        try:
            self.tidy()
        finally:
            os._exit(128 + number)  # also where it fails


interrupts: "Final" = Interrupts()  # signals belong to the process, not to an object
