"""`python -m flows.services`: Prefect's background services, in a process that ends where one of them does.

With `--check`: whether they listen, as a container's health check; 1 where one does not, and says which.

Prefect's own process goes on without it. Where its database does not answer at that moment, the service that fires
automations dies at its start and nobody hears of it. Whoever started this process (a container engine) starts it again.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

log = logging.getLogger("prefect.server.services")

Start = Callable[[Any], Awaitable[Any]]


def ends_the_process(start: Start) -> Start:
    """A service's `start`, which returns only where it is told to stop."""

    @wraps(start)
    async def run(service: Any) -> None:
        try:
            await start(service)
        except asyncio.CancelledError:
            raise
        except BaseException:
            log.exception("%s has ended, and with it this process, to be started again.", type(service).__name__)
            logging.shutdown()
            os._exit(1)

    return run


def main() -> None:
    """Start every service that the settings enable."""
    from prefect.cli import app
    from prefect.server.services.base import Service

    for service in Service.enabled_services():
        service.start = ends_the_process(service.start)  # type: ignore[assignment]
    sys.argv = ["prefect", "server", "services", "start"]
    app()


def check() -> int:
    """0 where every service listens."""
    from flows.health import silent_listeners

    try:
        problems = asyncio.run(silent_listeners())
    except Exception as error:  # noqa: BLE001 - whatever is wrong with Redis, events do not arrive
        problems = [f"Redis does not answer ({type(error).__name__})."]
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(check())
    main()
