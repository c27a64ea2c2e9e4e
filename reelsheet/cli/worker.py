"""`worker`: a Prefect worker that stops politely."""

import os
import signal
from collections.abc import Sequence
from types import FrameType


def end_on_signal() -> None:
    """SIGTERM, SIGINT and SIGHUP end the process at once, with 0, until the worker has its own handlers.

    Nothing runs yet. An exception would not do: libraries turn it into one of their own while they start.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def work(arguments: Sequence[str]) -> int:
    """Serve a work pool until a signal ends it. Raises UnusableSurroundings where Prefect could not be imported."""
    from flows import prefect_settings, working_folder
    from reelsheet.surroundings import network, prefect_setup
    from reelsheet.surroundings.problems import demand

    # not the server, which may be started at the same time; Prefect's worker waits for it or ends
    demand(prefect_setup.settings(), network.certificates(), network.proxies(), ending="")
    working_folder.ignore()
    prefect_settings.check()
    from flows.worker import start

    start(arguments)
    return 0
