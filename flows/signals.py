"""SIGINT and SIGTERM end a run in order; a second one at once."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from reelsheet.run.run import Run

log = logging.getLogger("reelsheet")

_ours: Callable[[], None] | None = None


@contextmanager
def interruptible(run: Run) -> Iterator[None]:
    """Signals ask `run` to stop claiming; answers on their way are awaited. Earlier handlers come back after."""
    global _ours  # noqa: PLW0603 - signal handlers belong to the process, not to an object
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if run.signal is not None:
            os._exit(128 + number)
        log.warning("Stopping: answers on their way are awaited, nothing new is sent. Once more stops at once.")
        run.interrupt(number)

    def install() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal, int(number))

    before: dict[int, Any] = {}
    try:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        install()
        _ours = install
    except (ValueError, RuntimeError):  # not the main thread: whoever started us passes signals on
        before.clear()
    try:
        yield
    finally:
        if before:
            _ours = None
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            with suppress(TypeError, ValueError):
                signal.signal(number, handler)


def ours_again() -> None:
    """Prefect puts its own SIGTERM handler in place at the beginning and end of every subflow."""
    if _ours is not None:
        _ours()
