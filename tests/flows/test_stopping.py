"""SIGTERM to a job, a worker and a run: answers on their way are recorded, and the runs go on by themselves."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from tests.deployments import stopping

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect")]

IS_JOB_POSSIBLE = shutil.which("unshare") is not None and os.geteuid() == 0


@pytest.mark.timeout(300)
def test_what_is_stopped_politely_loses_no_answer_and_is_finished_by_the_next_worker(tmp_path: Path) -> None:
    with stopping.a_setup(tmp_path, PREFECT_API_URL.value()) as setup:
        setup.sandbox.fault("poll", status="processing", times=-1)  # no run ends by itself
        runs = {"worker": setup.new_run("worker")}
        worker = stopping.worker(setup)
        if IS_JOB_POSSIBLE:  # as the first process of a namespace, where a signal without a handler is lost
            runs["job"] = setup.new_run("job")
            job = stopping.job(setup, runs["job"])
        for kind in runs:
            stopping.until(lambda kind=kind: setup.charged(kind), 120, f"the first answer to the {kind}")  # type: ignore[misc]

        if IS_JOB_POSSIBLE:
            os.kill(job.target, signal.SIGTERM)
        os.kill(stopping.process_of(runs["worker"], worker.process), signal.SIGTERM)  # a service manager tells it too
        os.kill(worker.target, signal.SIGTERM)
        assert worker.process.wait(stopping.LIMIT_S) == 0
        assert not IS_JOB_POSSIBLE or job.process.wait(stopping.LIMIT_S) == 0

        for kind, flow_run_id in runs.items():
            assert setup.state(flow_run_id)["type"] == "SCHEDULED"
            assert not setup.problems_of_stop(kind, ended_s=0, code=0)
        setup.sandbox.clear_faults()
        setup.next_worker_ends(*runs.values())
        for kind, flow_run_id in runs.items():
            assert not setup.problems_of_end(kind, flow_run_id)
