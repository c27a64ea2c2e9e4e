"""One part of a large run: its rows, in the process of the run or in one of its own."""

from typing import Annotated

from prefect.runtime import flow_run
from pydantic import Field

from flows import sharding
from flows.form import form
from flows.reporting import artifacts, states

RunId = Annotated[str, Field(min_length=1, max_length=64, description="The run that this is a part of.")]
Number = Annotated[int, Field(ge=1, description="Which part of it, counted from 1.")]
Ceiling = Annotated[
    int | None,
    Field(ge=1, le=10_000, description="A ceiling for predictions in flight in this part; empty: none of its own."),
]


@form("generate-shard", run_name=artifacts.shard_name)
async def generate_shard(run_id: RunId, shard: Number, concurrency: Ceiling = None) -> states.Outcome:
    """Bring a shard's rows as far as they get, in the name and under the cap of its run.

    Running it again does no work twice: the ledger says which process has it, and what became of each row.
    """
    return await sharding.one_shard(run_id, shard, flow_run_id=flow_run.id, concurrency=concurrency)
