"""Read the sheet, check the pictures, make the plan; spends nothing."""

import asyncio
from functools import partial

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from reelsheet import settings
from reelsheet.errors import ReelsheetError
from reelsheet.ledger import durability
from reelsheet.options import Options
from reelsheet.planning.plan import OPEN
from reelsheet.planning.preparation import Preparation, prepare
from reelsheet.run.ledger_session import while_away
from reelsheet.run.resumption import resumed_preparation
from reelsheet.run.start import reused_preparation
from tasks import this_run


@task(name="prepare-run", task_run_name="prepare", cache_policy=NO_CACHE, persist_result=False)
async def prepare_run(options: Options) -> State[Preparation]:
    """The plan of a run, or the error that keeps it from starting. A plan that was made before is used again."""
    try:
        preparation = reused_preparation(options) or await _prepare(options)
    except ReelsheetError as error:
        return Failed(name="NotStarted", message=str(error), data=error)
    plan = preparation.plan
    message = f"{len(plan.at_step(*OPEN))} of {len(plan.groups)} clips to make"
    return Completed(message=message, data=preparation)


async def _prepare(options: Options) -> Preparation:
    loaded = settings.load()
    if this_run.is_of_deployment():
        durability.check(loaded.ledger_url)
        resume = partial(asyncio.to_thread, resumed_preparation, str(flow_run.id), loaded, this_run.begun_run())
        resumed = await while_away(resume)
        return resumed if resumed is not None else await while_away(partial(prepare, options, loaded))
    return await prepare(options, loaded)
