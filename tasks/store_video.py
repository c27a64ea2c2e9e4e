"""Copy a finished clip to the destination; costs nothing, however often it runs."""

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from reelsheet.planning.plan import Step
from reelsheet.run.run import live
from tasks.generate_video import NO_RESULT, is_unexpected, state_of


@task(
    name="store-video",
    task_run_name="{row} · store",
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=is_unexpected,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def store_video(row: str, identity: str, run_id: str) -> State[None]:
    """Copy every output of a row's prediction. `row` is its name for people."""
    group = await live(run_id).store(identity)
    if group.step is Step.DONE:
        return Completed(message=f"{row} is stored", data=NO_RESULT)
    return state_of(group, row)
