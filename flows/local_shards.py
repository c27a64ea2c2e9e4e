"""Shards of a large run in the run's own process: each a subflow, so that Prefect's graph of none grows too large."""

import asyncio
import logging
from collections.abc import Callable

from flows.generate_shard import LocalShard, generate_shard, local_shards
from flows.rows import process_rows
from flows.signals import reinstall_handlers
from reelsheet.planning.plan import RowGroup
from reelsheet.run import shards
from reelsheet.run.run import Run

log = logging.getLogger("reelsheet")


async def process_in_order(run: Run, groups: list[RowGroup]) -> None:
    """One subflow after another; the next begins when the last row of the one before has been admitted."""
    async with asyncio.TaskGroup() as subflows:
        for number, part in enumerate(shards.chunks(groups, run.context.options.shard_size), 1):
            all_admitted = asyncio.Event()
            subflow = subflows.create_task(process_shard(run, number, part, all_admitted.set))
            subflow.add_done_callback(lambda _, event=all_admitted: event.set())  # type: ignore[misc]
            await all_admitted.wait()


async def process_shard(
    run: Run, number: int, groups: list[RowGroup], on_all_admitted: Callable[[], None] = lambda: None
) -> None:
    """One shard as a subflow; without Prefect where that cannot run it."""
    run.monitor.task_runs += 1  # Prefect counts a subflow among its parent's tasks
    key = (run.run_id, number)
    local_shards[key] = LocalShard(run, groups, on_all_admitted)
    try:
        await generate_shard(run.run_id, number)
    except Exception as error:  # noqa: BLE001 - rows do not wait for Prefect
        log.warning("Shard %d goes on without Prefect (%s).", number, type(error).__name__)
        left = {group.identity for group in run.to_do()}
        rest = [group for group in groups if group.identity in left]
        await process_rows(run, rest, on_all_admitted=on_all_admitted)
    finally:
        reinstall_handlers()
        local_shards.pop(key, None)
