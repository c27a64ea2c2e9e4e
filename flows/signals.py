"""SIGINT and SIGTERM end a run in order; a second one at once."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from reelsheet.run.stop_control import StopControl

log = logging.getLogger("reelsheet")

_install_again: Callable[[], None] | None = None


@contextmanager
def interruptible(stops: StopControl) -> Iterator[None]:
    """Signals ask a run to stop claiming; answers on their way are awaited. Earlier handlers come back after."""
    global _install_again  # noqa: PLW0603 - signal handlers belong to the process, not to an object
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stops.signal is not None:
            os._exit(128 + number)
        log.warning("Stopping: answers on their way are awaited, nothing new is sent. Once more stops at once.")
        stops.interrupt(number)

    def install() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal, int(number))

    before: dict[int, Any] = {}
    try:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        install()
        _install_again = install
    except (ValueError, RuntimeError):  # not the main thread: whoever started us passes signals on
        before.clear()
    try:
        yield
    finally:
        if before:
            _install_again = None
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            with suppress(TypeError, ValueError):
                signal.signal(number, handler)


def reinstall_handlers() -> None:
    """Prefect puts its own SIGTERM handler in place at the beginning and end of every subflow."""
    if _install_again is not None:
        _install_again()
