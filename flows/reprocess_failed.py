"""The rows of an earlier run that did not succeed, each at the cheapest step that can still deliver it."""

from typing import Annotated, Any

from pydantic import Field

from flows.form import form
from flows.lifecycle import execute_run
from flows.reporting import names, states
from reelsheet.options import Options

Results = Annotated[
    str, Field(min_length=1, description="A results or review file, a run's id, or a destination: its latest.")
]
Destination = Annotated[str | None, Field(description="Where the clips go; empty: where the earlier run put them.")]


@form("reprocess-failed", run_name=names.run_name)
async def reprocess_failed(
    results: Results,
    destination: Destination = None,
    **options: Any,
) -> states.Outcome:
    """Copy again, poll again, or submit again; pays for failed, skipped and `redo` rows only. Returns the summary."""
    return await execute_run(Options(verb="retry", source=results, destination=destination, **options))
