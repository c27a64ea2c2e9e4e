"""Read the sheet, check the pictures, make the plan; spends nothing."""

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import deployment
from prefect.states import Completed, Failed

from reelsheet import settings
from reelsheet.errors import ReelsheetError
from reelsheet.ledger import durability
from reelsheet.options import Options
from reelsheet.planning.plan import OPEN
from reelsheet.planning.preparation import Preparation, prepare
from reelsheet.run.start import reused_preparation


@task(name="prepare-run", task_run_name="prepare", cache_policy=NO_CACHE, persist_result=False)
async def prepare_run(options: Options) -> State[Preparation]:
    """The plan of a run, or the error that keeps it from starting. The command line's own plan is used again."""
    try:
        preparation = reused_preparation(options) or await _prepare(options)
    except ReelsheetError as error:
        return Failed(name="NotStarted", message=str(error), data=error)
    plan = preparation.plan
    message = f"{len(plan.at_step(*OPEN))} of {len(plan.groups)} clips to make"
    return Completed(message=message, data=preparation)


async def _prepare(options: Options) -> Preparation:
    loaded = settings.load()
    if deployment.id:
        durability.check(loaded.ledger_url)
    return await prepare(options, loaded)
