"""`run` and `retry`: plan, consent, flow, and the last lines."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from reelsheet import money, settings
from reelsheet.cli import print_json, print_message
from reelsheet.errors import ConfigurationError, UsageError
from reelsheet.options import Options
from reelsheet.redaction import visible

NO_KEY = "There is no API key: set VIBEDREAM_API_KEY in the environment or in .env. Nothing was spent."
Closing = Callable[[Any, Mapping[str, Any]], None]


def execute(options: Options, *, yes: bool, as_json: bool, closing: Closing | None = None) -> int:
    """One run in this process, its exit code. What needs no look at the sheet is refused before anything slow.

    `closing` says how it went where the usual last lines would not do.
    """
    told = settings.load()
    if options.destination is None and options.verb == "run":
        raise UsageError("Where to? Name the destination with --to s3://bucket/prefix or --to FOLDER.")
    if not yes and options.max_cost_usd is None and not _can_ask():
        raise UsageError("Without a terminal to ask on, agree beforehand: --yes, or --max-cost USD. Nothing was spent.")
    if told.api_key is None:
        raise ConfigurationError(NO_KEY)
    prefect_quietly()
    from flows.embedded_server import EmbeddedServer

    server = EmbeddedServer()
    server.start()  # it comes up while the sheet is read and the pictures are looked at
    try:
        return asyncio.run(_execute(options, told, server, yes=yes, as_json=as_json, closing=closing))
    finally:
        server.stop()


async def _execute(
    options: Options, told: settings.Settings, server: Any, *, yes: bool, as_json: bool, closing: Closing | None
) -> int:
    from reelsheet import display
    from reelsheet.planning import preparation
    from reelsheet.run import start

    with display.looking() as looking:
        prepared = await preparation.prepare(options, told, progress=looking)
    options = prepared.options
    display.show_plan(prepared)
    spending = min(prepared.cap_cents, prepared.plan.cost_cents)
    if not yes and _can_ask() and spending and not _agreed(spending):
        prepared.close()
        print_message("Nothing was spent.")
        return 2
    with display.waiting("Starting Prefect …"):
        await asyncio.to_thread(server.ready)
        flow, parameters = await asyncio.to_thread(_flow, options)
    with start.reuse_preparation(prepared) as handover:
        state = await _watched(handover, flow(**parameters, return_state=True))
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


async def _watched(handover: Any, flowing: Any) -> Any:
    """The flow, with the live display beside it."""
    from reelsheet import display

    watching = asyncio.create_task(display.watch(handover))
    try:
        return await flowing
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def _flow(options: Options) -> tuple[Any, dict[str, Any]]:
    """The flow of a verb, imported where it is needed, and its parameters.

    Prefect keeps the parameters; the flow itself takes over the options of what is prepared already.
    """
    options = options.for_flow()
    parameters = options.flow_parameters() | {"destination": options.destination}
    if options.verb == "retry":
        from flows.reprocess_failed import reprocess_failed

        return reprocess_failed, parameters | {"results": options.source}
    from flows.generate_videos import generate_videos

    return generate_videos, parameters | {"manifest": options.source}


def _can_ask() -> bool:
    """Somebody is there who sees the question and can answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _agreed(cents: int) -> bool:
    # asyncio would note Ctrl-C and go on waiting for an answer
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.stderr.write(f"Spend up to {money.dollars(cents)}? [y/N] ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, before)
    return answer.strip().casefold() in {"y", "yes", "j", "ja", "o", "oui", "s", "si"}


def show_plan(options: Options, *, as_json: bool) -> int:
    """`plan`: what a run would do. 0 whatever it found: bad rows are its answer, not its failure."""
    return asyncio.run(_show_plan(options, settings.load(), as_json=as_json))


async def _show_plan(options: Options, told: settings.Settings, *, as_json: bool) -> int:
    from reelsheet import display
    from reelsheet.planning import preparation

    with display.looking() as looking:
        prepared = await preparation.prepare(options, told, progress=looking, spending=False)
    try:
        if as_json:
            print_json(display.plan_json(prepared))
        else:
            display.show_plan(prepared, sys.stdout)
    finally:
        prepared.close()
    return 0


def prefect_quietly() -> None:
    """Prefect shows in its own UI; here reelsheet speaks. Before prefect is imported."""
    for name, value in {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "reelsheet",
        "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",  # its state says how a row's task ended
        "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
        "DO_NOT_TRACK": "1",
    }.items():
        os.environ.setdefault(name, value)
    ours = logging.getLogger("reelsheet")
    ours.setLevel(logging.WARNING)
    ours.handlers = [_Said()]
    ours.propagate = False


class _Said(logging.Handler):
    """What the run logs, one line each on what stderr is at that moment, so that it stands above the live display."""

    def emit(self, record: logging.LogRecord) -> None:
        print_message(visible(record.getMessage()))
