"""`run` and `retry`: plan, consent, flow, and the last lines."""

import asyncio
import contextlib
import logging
import math
import os
import select
import sys
import termios
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from reelsheet import messages, money, settings
from reelsheet.cli import print_json, print_message
from reelsheet.cli.interrupts import interrupts
from reelsheet.cli.log import show_log
from reelsheet.display.waiting import Waiting
from reelsheet.errors import ConfigurationError, UsageError
from reelsheet.options import Options
from reelsheet.redaction import clean
from reelsheet.surroundings import network, prefect_setup
from reelsheet.surroundings import problems as wrong
from reelsheet.surroundings.problems import UnusableSurroundings, demand

if TYPE_CHECKING:
    from flows.embedded_server import EmbeddedServer
    from reelsheet.planning.preparation import Preparation
    from reelsheet.run.run import RunMonitor
    from reelsheet.run.start import Handover

T = TypeVar("T")
CHECK_S: Final = 0.5
PUBLISH_GRACE_S: Final = 10.0  # after a signal: for the results, beside the time for answers of the provider
PREFECT_GRACE_S: Final = 5.0  # after that: for Prefect's own record of the end
PREFECT_LIMIT_S: Final = 60.0  # without a signal: for the same
Closing = Callable[[Any, Mapping[str, Any]], None]


def execute(options: Options, *, yes: bool, as_json: bool, closing: Closing | None = None) -> int:
    """One run in this process, its exit code. What is wrong without reading the sheet is refused first.

    `closing` replaces the usual last lines.
    """
    current = settings.load()
    if options.destination is None and options.verb == "run":
        raise UsageError("A run needs a destination: --to s3://bucket/prefix or --to FOLDER.")
    options = _with_clear_destination(options)
    if not yes and options.max_cost_usd is None and not _can_ask():
        raise UsageError("Without a terminal nobody can be asked: add --yes, or --max-cost USD. Nothing was spent.")
    if current.api_key is None:
        raise ConfigurationError(messages.NO_KEY)
    quiet_prefect()
    from flows.embedded_server import EmbeddedServer

    server, runner = EmbeddedServer(), asyncio.Runner()
    try:
        return runner.run(_execute(options, current, server, yes=yes, as_json=as_json, closing=closing))
    finally:
        if not interrupts.leaves_tasks:
            runner.close()
        server.stop(wait=not interrupts.leaves_tasks)


async def _execute(
    options: Options, current: settings.Settings, server: "EmbeddedServer", *, yes: bool, as_json: bool,
    closing: Closing | None,
) -> int:  # fmt: skip
    prefect = _Prefect(server, options.verb)
    prepared = await _prepare(options, current, on_work=prefect.start)
    try:
        records = await prefect.is_usable(has_work=prepared.has_work)
    except BaseException:
        prepared.close()
        raise
    from reelsheet.display import closing as closing_lines
    from reelsheet.display import plan_screen

    plan_screen.show_plan(prepared)
    cost_cents = min(prepared.cap_cents, prepared.plan.cost_cents)
    # Also where no cap has room now: it may have some before the run ends. `_publish` pays for nothing.
    if records and not yes and _can_ask() and cost_cents and not _agreed(cost_cents):
        prepared.close()
        print_message("Nothing was spent.")
        return 2
    if records:
        monitor, message = await _run_flow(prepared, await prefect.ready())
    else:
        monitor, message = await _publish(prepared), ""
    summary = None if monitor is None else monitor.summary
    if monitor is None or summary is None:
        print_message(message or "The run could not start.")
        return 3 if monitor is not None and monitor.has_started_rows else 2  # 2 says that no money can have moved
    if as_json:
        print_json(summary.as_json())
    else:
        (closing or closing_lines.show_closing)(monitor, summary.as_json())
    sys.stdout.flush()
    _heed_late_signal(monitor)
    if summary.flow_run_id is not None and not interrupts.leaves_tasks:
        with Waiting("Saving the run in Prefect"):
            await interrupts.unless_interrupted(server.settled(summary.flow_run_id, monitor.task_runs))
    if interrupts.number is not None:
        return 128 + interrupts.number
    await asyncio.to_thread(_conclude, monitor)
    return int(summary.exit_code or 0)


def _heed_late_signal(monitor: "RunMonitor") -> None:
    """One that came when the exit code stood already, while the last files were written: it ends the command now."""
    signal, summary = monitor.stops.signal, monitor.summary
    if signal is not None and summary is not None and summary.exit_code != 128 + signal:
        interrupts.end(signal)


def _conclude(monitor: "RunMonitor") -> None:
    from reelsheet.run.publish import conclude

    with contextlib.closing(monitor.context.ledger):  # it was closed before, and opens again by itself
        conclude(monitor.context)


async def _prepare(options: Options, current: settings.Settings, **more: Any) -> "Preparation":
    """The plan; what takes time is shown from the first import on."""
    with Waiting("Reading the sheet and the destination") as waiting:
        from reelsheet.planning import preparation

        def progress(what: str, done: int, total: int) -> None:
            waiting(f"Checking {what}", f"{done:,} of {total:,}")

        return await preparation.prepare(options, current, progress=progress, **more)


class _Prefect:
    """The server, and the flow of `verb`, which is imported while the server starts."""

    def __init__(self, server: "EmbeddedServer", verb: str) -> None:
        self._server, self._verb = server, verb
        self._beginning: asyncio.Future[None] | None = None
        self._importing: asyncio.Future[Any] | None = None

    def start(self) -> None:
        """Both begin; the sheet's pictures are checked and the plan is read meanwhile."""
        if self._beginning is None:
            self._beginning = _in_background(self._begin())

    async def _begin(self) -> None:
        """Raises UnusableSurroundings."""
        await asyncio.to_thread(lambda: demand(prefect_setup.settings(), network.certificates(), network.proxies()))
        if self._server.is_needed:
            self._server.start()
        else:
            demand(await asyncio.to_thread(prefect_setup.server_in_time))
        self._importing = _in_background(asyncio.to_thread(_flow, self._verb))

    async def is_usable(self, *, has_work: bool) -> bool:
        """Whether Prefect is to record this run. Raises UnusableSurroundings where that is necessary and impossible.

        Without work it is not: then only a server that is configured is used, if it can be.
        """
        if not has_work and self._server.is_needed:
            return False
        self.start()
        assert self._beginning is not None  # noqa: S101 - just set
        try:
            with Waiting("Asking Prefect's server"):
                await self._beginning
        except UnusableSurroundings as error:
            if has_work:
                raise
            print_message(f"{error.problems[0]} This run has nothing to do, and is not shown in Prefect.")
            return False
        return True

    async def ready(self) -> Any:
        """The flow, when the server answers. Raises ConfigurationError."""
        assert self._importing is not None  # noqa: S101 - `is_usable` came first
        with Waiting("Starting Prefect"):
            flow, _ = await asyncio.gather(self._importing, self._server.ready())
        return flow


def _in_background(doing: Coroutine[Any, Any, T]) -> "asyncio.Future[T]":
    """Its exception is told where it is awaited, and nowhere if it is not."""
    task = asyncio.ensure_future(doing)
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    return task


async def _run_flow(prepared: "Preparation", flow: Any) -> "tuple[RunMonitor | None, str]":
    """What is known of the flow's run, if there was one, and the message of its state."""
    from reelsheet.display import live
    from reelsheet.run import start

    # Prefect keeps the parameters; the flow itself uses what was prepared.
    options = prepared.options.for_flow()
    source = {"results" if options.verb == "retry" else "manifest": options.source, "destination": options.destination}
    with start.reuse_preparation(prepared) as handover:
        interrupts.is_finished = lambda: handover.run is not None and handover.run.monitor.summary is not None
        expected = prepared.ledger.observed_pace(is_play_money=prepared.settings.is_play_money)
        display_task = asyncio.create_task(live.watch(handover, expected))
        message = ""
        try:
            flow_run = flow(**options.flow_parameters(), **source, return_state=True)
            state = await interrupts.unless_interrupted(_end_in_time(flow_run, handover))
            message = state.message or "" if state else ""
        except Exception as error:
            if handover.run is None and _is_prefects_own(error):
                why = clean(str(error) or type(error).__name__, limit=240).rstrip(".")
                if isinstance(error, ValueError) and "block document" in why:  # no exception of its own says so
                    profile = prefect_setup.active_profile()
                    name, block = prefect_setup.storage_block(profile)
                    demand([wrong.PREFECT_STORAGE(profile.where(name), block=block, reason=why)] if name else [])
                raise ConfigurationError(
                    f"Prefect could not begin the run ({why}); check Prefect's server and the PREFECT_… settings. "
                    "Nothing was spent."
                ) from error
            if not interrupts.is_finished():
                raise
            print_message(
                f"Prefect did not record how the run ended ({type(error).__name__}); the results are written."
            )
        finally:
            display_task.cancel()
            await asyncio.gather(display_task, return_exceptions=True)
    return handover.run.monitor if handover.run else None, message


def _is_prefects_own(error: Exception) -> bool:
    """True where Prefect failed before it called the flow: at what its settings say, or at its server."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    packages = {module.partition(".")[0] for module in modules}
    return "prefect" in packages and "flows" not in packages


async def _end_in_time(flow_run: Awaitable[T], handover: "Handover") -> T | None:
    """A flow's state; None where Prefect takes too long to record it. The results are written all the same."""
    from reelsheet.run.publish import publish
    from reelsheet.run.stop_control import ANSWER_GRACE_S

    limits_s = {  # (is there a signal, are the results written) → for how long it may stay so
        (False, False): math.inf,
        (True, False): ANSWER_GRACE_S + PUBLISH_GRACE_S,
        (False, True): PREFECT_LIMIT_S,
        (True, True): PREFECT_GRACE_S,
    }
    task, stage, since = asyncio.ensure_future(flow_run), None, time.monotonic()
    while True:
        done, _ = await asyncio.wait({task}, timeout=CHECK_S)
        if done:
            return await task
        if handover.run is None:
            continue
        stops, monitor = handover.run.stops, handover.run.monitor
        if stage != (stops.signal is not None, monitor.summary is not None):
            stage, since = (stops.signal is not None, monitor.summary is not None), time.monotonic()
        if time.monotonic() - since >= limits_s[stage]:
            print_message("Prefect's server does not answer; the results are written without it.")
            if monitor.summary is None:
                await publish(handover.run)
            interrupts.leaves_tasks = True
            return None


async def _publish(prepared: "Preparation") -> "RunMonitor":
    """A sheet that has nothing to poll or copy, nor to send under its caps: its results need no Prefect."""
    from flows.signals import stop_signals
    from reelsheet.planning.plan import Step
    from reelsheet.run.publish import publish
    from reelsheet.run.start import reuse_preparation, start_run

    with reuse_preparation(prepared):
        run = await start_run(prepared, flow_run_id=None)
        try:
            with Waiting("Writing the results"), stop_signals() as signals:
                signals.tell(run.stops.interrupt)
                if prepared.plan.at_step(Step.SUBMIT):
                    await run.caps.has_room()  # there is none, and the rows say so
                await run.writer.begin(run.results())
                await publish(run)
        finally:
            run.close()
            prepared.close()
    return run.monitor


def _flow(verb: str) -> Any:
    from flows import working_folder

    working_folder.ignore()
    from flows import prefect_settings

    prefect_settings.check()
    if verb == "retry":
        from flows.reprocess_failed import reprocess_failed

        return reprocess_failed
    from flows.generate_videos import generate_videos

    return generate_videos


def _can_ask() -> bool:
    """Whether a person sees the question and can answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _with_clear_destination(options: Options) -> Options:
    """Ask whether `my-bucket/x` is a bucket or a folder. Raises UsageError where nobody answers."""
    from reelsheet.storage import bucket_or_folder as either

    address = options.destination or ""
    if _can_ask() and either.is_doubtful(address):
        bucket, folder = either.as_bucket(address), either.as_folder(address)
        sys.stderr.write(f"Is --to the bucket {bucket}, or a new folder, {folder}? [bucket/folder] ")
        sys.stderr.flush()
        answer = _answer()
        if answer in {"b", "bucket", "f", "folder"}:
            return replace(options, destination=bucket if answer[0] == "b" else folder)
    either.refuse_doubtful(address)
    return options


def _agreed(cents: int) -> bool:
    if not _forgets_typed_ahead():
        return False
    sys.stderr.write(f"Spend up to {money.dollars(cents)}? [y/N] ")
    sys.stderr.flush()
    return _answer() in {"y", "yes", "j", "ja", "o", "oui", "s", "si"}


def _answer() -> str:
    """What a person types. A signal just before a read would be heard only after it, so nothing is read too early."""
    while sys.stdin.isatty() and not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    return sys.stdin.readline().strip().casefold()


def _forgets_typed_ahead() -> bool:
    """Drop what was typed before there was a question: it answers nothing. False where the input has ended.

    Complete lines are read, not flushed, so that a program that closed the terminal after its answer is not waited for.
    """
    if not sys.stdin.isatty():
        return True
    while select.select([sys.stdin], [], [], 0)[0]:
        if not sys.stdin.readline():
            return False
    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    return True


def show_plan(options: Options, *, strict: bool, as_json: bool) -> int:
    """`plan`: what a run would do. Bad rows are part of the answer, and a failure (1) only where `strict` is set."""
    options = _with_clear_destination(options)
    return asyncio.run(_show_plan(options, settings.load(), strict=strict, as_json=as_json))


async def _show_plan(options: Options, current: settings.Settings, *, strict: bool, as_json: bool) -> int:
    with contextlib.closing(await _prepare(options, current, spending=False)) as prepared:
        from reelsheet.display import plan_screen

        if as_json:
            print_json(plan_screen.plan_json(prepared))
        else:
            plan_screen.show_plan(prepared, sys.stdout)
        return 1 if strict and prepared.plan.cannot_run else 0


def quiet_prefect() -> None:
    """Prefect writes to its own UI; stderr is reelsheet's. To be called before prefect is imported."""
    for name, value in {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_HANDLERS_DEBUG_LEVEL": "CRITICAL",  # its internals, as what its threads could not send
        "PREFECT_LOGGING_EXTRA_LOGGERS": "reelsheet",
        "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",  # its state says how a row's task ended
        "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
        "DO_NOT_TRACK": "1",
    }.items():
        os.environ.setdefault(name, value)
    logging.raiseExceptions = False  # Prefect's own, of messages that its stopped server does not take any more
    show_log()
