"""The rows of an earlier run that did not succeed, each at the cheapest step that can still deliver it."""

from typing import Annotated

from pydantic import Field

from flows.form import form
from flows.lifecycle import execute_run
from flows.reporting import artifacts, states
from reelsheet import options as o

Results = Annotated[
    str, Field(min_length=1, description="A results file, a run's id, or a destination: its latest results.")
]
Destination = Annotated[str | None, Field(description="Where the clips go; empty: where the earlier run put them.")]


@form("reprocess-failed", run_name=artifacts.run_name)
async def reprocess_failed(
    results: Results,
    destination: Destination = None,
    max_cost_usd: o.MaxCost = None,
    limit: o.Limit = None,
    concurrency: o.Concurrency = None,
    deadline_seconds: o.Deadline = o.DEADLINE_SECONDS,
    fresh: o.Fresh = False,
    retry_unknown: o.RetryUnknown = False,
    preflight: o.Preflight = True,
    sheet: o.Sheet = None,
    image_column: o.ImageColumn = None,
    prompt_column: o.PromptColumn = None,
    id_column: o.IdColumn = None,
    name: o.Name = None,
    shard_size: o.ShardSize = o.SHARD_SIZE,
    approve_above_usd: o.ApproveAbove = None,
) -> states.Outcome:
    """Copy again, poll again, or submit again; pays for failed, skipped and `redo` rows only. Returns the summary."""
    return await execute_run(
        o.Options(
            verb="retry",
            source=results,
            destination=destination,
            max_cost_usd=max_cost_usd,
            limit=limit,
            concurrency=concurrency,
            deadline_seconds=deadline_seconds,
            fresh=fresh,
            retry_unknown=retry_unknown,
            preflight=preflight,
            sheet=sheet,
            image_column=image_column,
            prompt_column=prompt_column,
            id_column=id_column,
            name=name,
            shard_size=shard_size,
            approve_above_usd=approve_above_usd,
        )
    )
