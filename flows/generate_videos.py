"""A manifest of pictures and prompts in; clips, a results manifest and a gallery out."""

from typing import Annotated, Any

from pydantic import Field

from flows.form import form
from flows.lifecycle import execute_run
from flows.reporting import names, states
from reelsheet.options import Options

Manifest = Annotated[
    str, Field(min_length=1, description="A path, s3://bucket/key, https:// address or Google Sheets link.")
]
Destination = Annotated[str, Field(min_length=1, description="Where the clips go: s3://bucket/prefix or a folder.")]


@form("generate-videos", run_name=names.run_name)
async def generate_videos(
    manifest: Manifest,
    destination: Destination,
    **options: Any,
) -> states.Outcome:
    """Pay for every row once, copy its clip to the destination, and write one result for one row.

    Without `max_cost_usd` the plan's total is the cap. Returns the summary.
    """
    return await execute_run(Options(verb="run", source=manifest, destination=destination, **options))
