"""A scheduled run that finds its deployment's last run alive has nothing to do: that one does it."""

import logging
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import flow_run

log = logging.getLogger("reelsheet")

PAGE = 200
UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]


async def last_run_alive() -> FlowRun | None:
    """The run of the same deployment that a scheduled run would repeat; None where there is none, or nobody can say.

    Of two that begin together, the one that was to start first goes on.
    """
    try:
        async with get_client() as client:
            this = await client.read_flow_run(UUID(flow_run.id))
            if not this.auto_scheduled or this.deployment_id is None or this.run_count > 1:
                return None
            found = await client.read_flow_runs(
                flow_run_filter=FlowRunFilter(
                    deployment_id=FlowRunFilterDeploymentId(any_=[this.deployment_id]),
                    state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[*UNDER_WAY, StateType.SCHEDULED])),
                ),
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                limit=PAGE,
            )
    except Exception as error:  # noqa: BLE001 - two runs at once pay for nothing twice
        log.warning("Prefect's server did not say whether the last run is going on (%s).", type(error).__name__)
        return None
    return next((run for run in found if _is_alive(run) and _order(run) < _order(this)), None)


def _is_alive(run: FlowRun) -> bool:
    """It is under way, or has been and goes on by itself."""
    return run.state is not None and (run.state.type in UNDER_WAY or run.run_count > 0)


def _order(run: FlowRun) -> tuple[str, str]:
    moment = run.expected_start_time
    return (moment.isoformat() if moment is not None else "", str(run.id))
