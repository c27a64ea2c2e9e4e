"""`worker`: a Prefect worker that stops politely."""

import signal
import sys
from collections.abc import Sequence
from types import FrameType


def end_on_sigterm() -> None:
    """Nothing runs yet, so there is nothing to be told to a person, as there is where a command is interrupted."""

    def end(_number: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)


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
