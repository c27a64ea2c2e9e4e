"""The worker that stops politely: which processes it starts, and when one can be told to stop."""

import os
import signal
import subprocess
import sys
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.workers.base import BaseWorker

from flows import worker
from reelsheet import cli


def configuration_of(flow: str, **given: Any) -> worker.JobConfiguration:
    configuration = worker.JobConfiguration(**given)
    flow_run = FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4())
    configuration.prepare_for_flow_run(flow_run, flow=SimpleNamespace(id=uuid.uuid4(), name=flow))
    return configuration


@pytest.mark.parametrize("flow", ["generate-videos", "reprocess-failed", "generate-shard"])
def test_our_flows_run_in_a_process_that_loses_no_signal(flow: str) -> None:
    assert configuration_of(flow).command == f"{sys.executable} -m flows.job"


def test_other_flows_and_commands_that_somebody_chose_stay_as_they_are() -> None:
    assert "flows.job" not in str(configuration_of("somebody-elses").command)
    assert configuration_of("generate-videos", command="env python -m flows.job").command == "env python -m flows.job"


def test_prefect_takes_it_for_its_worker_of_process_pools() -> None:
    assert BaseWorker.get_worker_class_from_type("process") is worker.PoliteWorker


@pytest.mark.parametrize(
    ("program", "listens"),
    [
        ("pass", False),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})", True),
        ("signal.signal(signal.SIGTERM, lambda *_: None)", True),
    ],
)
def test_a_process_is_told_to_stop_only_when_it_would_not_be_killed_by_that(program: str, listens: bool) -> None:
    words = [sys.executable, "-c", f"import signal; {program}; print(flush=True); input()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert worker._listens(process.pid) is listens
        process.communicate("\n")
    assert worker._listens(process.pid), "nothing can be said of a process that is gone"


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["worker"], ["--pool", "reelsheet"]),
        (["worker", "--pool", "p", "--name", "n"], ["--pool", "p", "--name", "n"]),
        (["worker", "-p", "p", "--limit", "4"], ["--pool", "p", "--limit", "4"]),
        (["worker", "--type", "process", "--name", "n", "-q", "high"], ["--pool", "reelsheet", "--name", "n", "--type", "process", "-q", "high"]),
        (["worker", "--with-healthcheck", "--run-once"], ["--pool", "reelsheet", "--with-healthcheck", "--run-once"]),
    ],
)  # fmt: skip
def test_the_command_passes_every_flag_of_prefects_worker_on(
    given: list[str], passed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(worker, "start", lambda arguments: calls.append(list(arguments)))
    assert cli.call(given) == 0
    assert calls == [passed]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_stop_before_it_has_begun_ends_at_once_whatever_a_library_makes_of_exceptions(
    number: signal.Signals,
) -> None:
    program = """
from reelsheet.cli.worker import end_on_signal
end_on_signal()
try:
    print(flush=True)
    input()
except BaseException as error:
    raise ValueError("a library's own exception") from error
"""
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(20) == 0
