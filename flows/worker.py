"""`reelsheet worker`: Prefect's own worker, which stops politely.

Prefect's kills the processes of its runs at once. This one takes up nothing more, passes the signal on to them, and
waits until each has recorded its answers and has put its run back.
"""

import asyncio
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.abc
from prefect.utilities.processutils import command_to_string
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from flows import bad_workers
from flows.signals import stop_signals

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

log = logging.getLogger("reelsheet")

monotonic = time.monotonic  # a test's own clock, where it has one

OUR_FLOWS = {"generate-videos", "reprocess-failed", "generate-shard"}
SIT_OUT_S = 300.0  # after a run that this worker could not begin, for others may be set up rightly
LISTENS_LIMIT_S = 10.0  # for a new process to say what it does with a signal
LOOK_INTERVAL_S = 0.1


def start(arguments: Sequence[str]) -> None:
    """`prefect worker start` with these flags; for process pools, with the worker below."""
    from prefect.cli import app

    sys.argv = ["prefect", "worker", "start", *arguments]
    app()


class JobConfiguration(ProcessJobConfiguration):
    """Our flows run in a process that loses no signal while it starts."""

    def prepare_for_flow_run(
        self, flow_run: "FlowRun", deployment: Any = None, flow: Any = None, *arguments: Any, **options: Any
    ) -> None:
        if self.command is None and flow is not None and flow.name in OUR_FLOWS:
            self.command = command_to_string([sys.executable, "-m", "flows.job"])
        super().prepare_for_flow_run(flow_run, deployment, flow, *arguments, **options)


class _Started(anyio.abc.TaskStatus[int]):
    """Hands a process id on, and keeps it."""

    def __init__(self, process_ids: set[int], task_status: anyio.abc.TaskStatus[int]) -> None:
        self._process_ids, self._task_status = process_ids, task_status
        self.process_id: int | None = None

    def started(self, value: Any = None) -> None:
        self.process_id = value
        self._process_ids.add(value)
        self._task_status.started(value)


with warnings.catch_warnings(action="ignore"):  # that it replaces Prefect's is what it is for

    class PoliteWorker(ProcessWorker):
        """Prefect finds it under the type of its own process worker, which it replaces in this process."""

        type = "process"
        job_configuration = JobConfiguration

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._process_ids: set[int] = set()  # of runs that are going on
            self._runs = 0
            self._stopping: asyncio.Task[None] | None = None
            self._sits_out_until = 0.0

        async def start(self, *arguments: Any, **options: Any) -> None:
            this_task = asyncio.current_task()
            assert this_task is not None  # noqa: S101 - in a coroutine

            def stop(_number: int) -> None:
                self._stopping = asyncio.create_task(self._end_runs())
                self._stopping.add_done_callback(lambda _: this_task.cancel())

            with stop_signals() as signals:  # after Prefect's own handlers
                signals.tell(stop)
                await super().start(*arguments, **options)

        async def get_and_submit_flow_runs(self) -> "list[FlowRun]":
            if self._stopping or monotonic() < self._sits_out_until:
                return []
            return await super().get_and_submit_flow_runs()

        async def run(
            self,
            flow_run: "FlowRun",
            configuration: ProcessJobConfiguration,
            task_status: anyio.abc.TaskStatus[int] | None = None,
        ) -> ProcessWorkerResult:
            self._runs += 1
            started = _Started(self._process_ids, task_status or anyio.TASK_STATUS_IGNORED)
            try:
                return await super().run(flow_run, configuration, started)
            finally:
                self._runs -= 1
                self._process_ids.discard(started.process_id or 0)
                await self._sit_out_after(flow_run)

        async def _sit_out_after(self, flow_run: "FlowRun") -> None:
            """Leave work to other workers for a while, where this one could not take part in another's run."""
            with suppress(Exception):  # the server is away: nothing is known, and nothing new comes
                ended = await self.client.read_flow_run(flow_run.id)
                if ended.state is not None and bad_workers.is_blamed_by(ended):
                    self._sits_out_until = monotonic() + SIT_OUT_S
                    log.error("This worker takes up nothing for %d minutes. %s", SIT_OUT_S // 60, ended.state.message)

        async def _end_runs(self) -> None:
            """Until no run is left; also those that this worker is just about to start."""
            told: set[int] = set()
            while self._runs or self._submitting_flow_run_ids:
                for process_id in self._process_ids - told:
                    told.add(process_id)
                    await _tell_to_stop(process_id)
                await asyncio.sleep(LOOK_INTERVAL_S)


async def _tell_to_stop(process_id: int) -> None:
    """SIGTERM, but not before the process has said what it does with it: it would be killed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LISTENS_LIMIT_S):
            while not _listens(process_id):  # noqa: ASYNC110 - another process's state is no event
                await asyncio.sleep(LOOK_INTERVAL_S)
    with suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGTERM)


def _listens(process_id: int) -> bool:
    """Whether a process catches or holds back SIGTERM, as far as this system tells."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    masks = [line.split()[1] for line in status.splitlines() if line.startswith(("SigBlk:", "SigCgt:"))]
    return any(int(mask, 16) & 1 << signal.SIGTERM - 1 for mask in masks)
