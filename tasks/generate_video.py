"""Submit a row and poll its prediction: the one task that may cost money."""

from typing import Any

from prefect import State, Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.results import ResultRecord, ResultRecordMetadata  # type: ignore[attr-defined]  # where Prefect has it
from prefect.serializers import JSONSerializer
from prefect.states import Completed, Failed

from reelsheet.outcomes import Status
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.run.run import live

# Left to itself, Prefect resolves a path for the result of each row: a fifth of what a task run costs.
NO_RESULT: ResultRecord[None] = ResultRecord(
    result=None, metadata=ResultRecordMetadata(serializer=JSONSerializer(), storage_key="nothing")
)


def is_unexpected(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Only an unexpected error is worth a repeat; a row's own outcome is final for this run."""
    return state.name != "Undelivered"


@task(
    name="generate-video",
    task_run_name="{row} · generate",
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=is_unexpected,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def generate_video(row: str, identity: str, run_id: str) -> State[None]:
    """Bring a row to a finished prediction. `row` is its name for people."""
    group = await live(run_id).generate(identity)
    if group.step is Step.COPY:
        return Completed(message=f"{row} is ready to be copied", data=NO_RESULT)
    return state_of(group, row)


def state_of(group: RowGroup, row: str) -> State[None]:
    """A row's outcome as a state that Prefect shows."""
    if group.status in {Status.FAILED, Status.UNDELIVERED, Status.UNKNOWN}:
        return Failed(name="Undelivered", message=f"{row}: {group.error}")
    if group.status is Status.SKIPPED:
        return Completed(name="Skipped", message=f"{row}: {group.error}", data=NO_RESULT)
    return Completed(message=f"{row} needs no more work here", data=NO_RESULT)
