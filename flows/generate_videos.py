"""A manifest of pictures and prompts in; clips, a results manifest and a gallery out."""

from typing import Annotated

from pydantic import Field

from flows.form import form
from flows.lifecycle import execute_run
from flows.reporting import artifacts, states
from reelsheet import options as o

Manifest = Annotated[
    str, Field(min_length=1, description="A path, s3://bucket/key, https:// address or Google Sheets link.")
]
Destination = Annotated[str, Field(min_length=1, description="Where the clips go: s3://bucket/prefix or a folder.")]


@form("generate-videos", run_name=artifacts.run_name)
async def generate_videos(
    manifest: Manifest,
    destination: Destination,
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
    """Pay for every row once, copy its clip to the destination, and write one result for one row.

    Without `max_cost_usd` the plan's total is the cap. Returns the summary.
    """
    return await execute_run(
        o.Options(
            verb="run",
            source=manifest,
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
