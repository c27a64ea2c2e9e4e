"""`run` and `retry`: plan, consent, flow, and the last lines."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from reelsheet import messages, money, settings
from reelsheet.cli import print_json, print_message
from reelsheet.errors import ConfigurationError, UsageError
from reelsheet.options import Options

Closing = Callable[[Any, Mapping[str, Any]], None]


def execute(options: Options, *, yes: bool, as_json: bool, closing: Closing | None = None) -> int:
    """One run in this process, its exit code. What is wrong without reading the sheet is refused first.

    `closing` replaces the usual last lines.
    """
    current = settings.load()
    if options.destination is None and options.verb == "run":
        raise UsageError("A run needs a destination: --to s3://bucket/prefix or --to FOLDER.")
    if not yes and options.max_cost_usd is None and not _can_ask():
        raise UsageError("Without a terminal nobody can be asked: add --yes, or --max-cost USD. Nothing was spent.")
    if current.api_key is None:
        raise ConfigurationError(messages.NO_KEY)
    quiet_prefect()
    from flows.embedded_server import EmbeddedServer

    server = EmbeddedServer()
    server.start()  # it starts while the sheet is read and the pictures are checked
    try:
        return asyncio.run(_execute(options, current, server, yes=yes, as_json=as_json, closing=closing))
    finally:
        server.stop()


async def _execute(
    options: Options, current: settings.Settings, server: Any, *, yes: bool, as_json: bool, closing: Closing | None
) -> int:
    from reelsheet import display
    from reelsheet.planning import preparation
    from reelsheet.run import start

    with display.preparing() as progress:
        prepared = await preparation.prepare(options, current, progress=progress)
    options = prepared.options
    display.show_plan(prepared)
    cost_cents = min(prepared.cap_cents, prepared.plan.cost_cents)
    if not yes and _can_ask() and cost_cents and not _agreed(cost_cents):
        prepared.close()
        print_message("Nothing was spent.")
        return 2
    with display.status_line() as write:
        write("Starting Prefect … ")
        await asyncio.to_thread(server.ready)
        flow, parameters = await asyncio.to_thread(_flow, options)
    with start.reuse_preparation(prepared) as handover:
        state = await _with_live_display(handover, flow(**parameters, return_state=True))
    monitor = handover.run.monitor if handover.run else None
    summary = state.data if isinstance(state.data, dict) else getattr(state.data, "result", None)
    await server.settled(monitor.context.record.flow_run_id if monitor else None, monitor.task_runs if monitor else 0)
    if monitor is None or not isinstance(summary, dict):
        print_message(state.message or "The run could not start.")
        return 3 if monitor is not None and monitor.has_started_rows else 2  # 2 says that no money can have moved
    if as_json:
        print_json(summary)
    else:
        (closing or display.show_closing)(monitor, summary)
    sys.stdout.flush()
    return int(summary["exit_code"])


async def _with_live_display(handover: Any, flow_run: Awaitable[Any]) -> Any:
    from reelsheet import display

    display_task = asyncio.create_task(display.watch(handover))
    try:
        return await flow_run
    finally:
        display_task.cancel()
        await asyncio.gather(display_task, return_exceptions=True)


def _flow(options: Options) -> tuple[Any, dict[str, Any]]:
    """The flow of a verb, imported where it is needed, and its parameters.

    Prefect keeps the parameters; the flow itself uses the options that were prepared.
    """
    options = options.for_flow()
    parameters = options.flow_parameters() | {"destination": options.destination}
    if options.verb == "retry":
        from flows.reprocess_failed import reprocess_failed

        return reprocess_failed, parameters | {"results": options.source}
    from flows.generate_videos import generate_videos

    return generate_videos, parameters | {"manifest": options.source}


def _can_ask() -> bool:
    """Whether a person sees the question and can answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _agreed(cents: int) -> bool:
    # asyncio would note Ctrl-C and still wait for an answer
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.stderr.write(f"Spend up to {money.dollars(cents)}? [y/N] ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, handler)
    return answer.strip().casefold() in {"y", "yes", "j", "ja", "o", "oui", "s", "si"}


def show_plan(options: Options, *, as_json: bool) -> int:
    """`plan`: what a run would do. Always 0: bad rows are part of the answer, not a failure."""
    return asyncio.run(_show_plan(options, settings.load(), as_json=as_json))


async def _show_plan(options: Options, current: settings.Settings, *, as_json: bool) -> int:
    from reelsheet import display
    from reelsheet.planning import preparation

    with display.preparing() as progress:
        prepared = await preparation.prepare(options, current, progress=progress, spending=False)
    try:
        if as_json:
            print_json(display.plan_json(prepared))
        else:
            display.show_plan(prepared, sys.stdout)
    finally:
        prepared.close()
    return 0


def quiet_prefect() -> None:
    """Prefect writes to its own UI; stderr is reelsheet's. To be called before prefect is imported."""
    for name, value in {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "reelsheet",
        "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",  # its state says how a row's task ended
        "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
        "DO_NOT_TRACK": "1",
    }.items():
        os.environ.setdefault(name, value)
    logger = logging.getLogger("reelsheet")
    logger.setLevel(logging.WARNING)
    logger.handlers = [_MessageHandler()]
    logger.propagate = False


class _MessageHandler(logging.Handler):
    """Each record as one line on the present sys.stderr, which the live display replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        print_message(record.getMessage())
