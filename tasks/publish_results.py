"""Write the tables, the workbook and the gallery, close the run in the ledger, notify; costs nothing."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from reelsheet.run.publish import Published, publish
from reelsheet.run.run import live


@task(name="publish-results", task_run_name="publish", cache_policy=NO_CACHE, persist_result=False)
async def publish_results(run_id: str) -> Published:
    """How the run ended, once everything is written."""
    return await publish(live(run_id))
