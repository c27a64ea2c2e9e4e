"""What this process knows of its own flow run, for tasks and flows.

`prefect.runtime` asks Prefect's server for the same, and holds up the whole event loop until it answers.
"""

import os

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

RUN_TAG = "run:"  # of flow runs: the id of the run in the ledger


def is_of_deployment() -> bool:
    """True in a deployment's run, and in each process that a worker or a job started for one."""
    run = _flow_run()
    return (run is not None and run.deployment_id is not None) or "PREFECT__FLOW_RUN_ID" in os.environ


def count() -> int:
    """How often this flow run was begun, as far as it was known at the beginning."""
    run = _flow_run()
    return run.run_count if run is not None else 0


def begun_run() -> str | None:
    """The id of the run in the ledger that this flow run stands for, where it has begun before."""
    run = _flow_run()
    tags = [] if run is None else run.tags
    return next((tag.removeprefix(RUN_TAG) for tag in tags if tag.startswith(RUN_TAG)), None)


def _flow_run() -> FlowRun | None:
    context = FlowRunContext.get()
    return context.flow_run if context is not None else None
