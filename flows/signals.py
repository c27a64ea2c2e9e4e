"""SIGINT, SIGTERM and SIGHUP (the terminal is closed) end a run in order; a second one at once."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

log = logging.getLogger("reelsheet")

END_LIMIT_S = 56.0  # from a signal to the end of the process, whatever still hangs; whoever sent it waits for 60 s
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """The signal that asked this process to end, if any, and who is told of it."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._lock = threading.Lock()
        self._tell: Callable[[int], object] | None = None
        self._end_late = threading.Timer(END_LIMIT_S, self._end)
        self._end_late.daemon = True

    def tell(self, obey: Callable[[int], object]) -> None:
        """Call `obey` on this loop when the signal comes, or now where it has come. It replaces who was told before."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._tell = lambda number: loop.call_soon_threadsafe(obey, number)
            if self.number is not None:
                self._tell(self.number)

    def receive(self, number: int) -> None:
        if self.number is not None:
            if signal.SIGHUP not in {self.number, number}:  # a terminal's end comes twice, or with a SIGTERM
                os._exit(128 + number)
            return
        log.warning("Stopping: answers on their way are awaited, nothing new is sent. Once more stops at once.")
        self._end_late.start()
        with self._lock, suppress(RuntimeError):  # the loop has just ended
            self.number = number
            if self._tell is not None:
                self._tell(number)

    def close(self) -> None:
        """What had to end has ended."""
        self._end_late.cancel()

    def _end(self) -> None:
        os._exit(128 + (self.number or 0))


_of_job: StopSignals | None = None
_install_again: Callable[[], None] = lambda: None  # noqa: E731 - until handlers are installed


def receive_in_thread() -> None:
    """Of a process whose threads all hold signals back: one that waits for them, from before Prefect is imported."""
    global _of_job  # noqa: PLW0603 - signals belong to the process, not to an object
    _of_job = signals = StopSignals()

    def wait() -> None:
        signals.receive(signal.sigwait(STOP_SIGNALS))
        while True:  # a service manager and a worker may both send one; nobody is in a hurry here
            signal.sigwait(STOP_SIGNALS)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Signals come to the object that this yields; in a process that is no job, earlier handlers come back after."""
    if _of_job is not None:
        yield _of_job
        return
    global _install_again  # noqa: PLW0603 - signal handlers belong to the process, not to an object
    loop = asyncio.get_running_loop()
    signals = StopSignals()

    def install() -> None:
        for number in before:
            loop.add_signal_handler(number, signals.receive, int(number))

    # What the caller ignores (nohup, a script's background) stays ignored.
    before = {number: handler for number in STOP_SIGNALS if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    try:
        install()
        _install_again = install
    except (ValueError, RuntimeError):  # not the main thread: whoever started us passes signals on
        before.clear()
    try:
        yield signals
    finally:
        signals.close()
        _install_again = lambda: None  # noqa: E731
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            with suppress(TypeError, ValueError):
                signal.signal(number, handler)


def reinstall_handlers() -> None:
    """Prefect puts its own SIGTERM handler in place at the beginning and end of every subflow."""
    _install_again()
