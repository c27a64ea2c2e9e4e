"""The end of a run: the ledger's truth into the files, the run closed in the ledger, the notification."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from reelsheet.errors import LedgerError
from reelsheet.outcomes import ErrorCode, RowResult
from reelsheet.results import notification
from reelsheet.results.publication import Files
from reelsheet.results.table import Summary, summarise
from reelsheet.run.context import RunContext
from reelsheet.run.run import Run
from reelsheet.run.start import is_handed_over
from reelsheet.run.stop_control import STOPPED_EXIT


@dataclass(frozen=True, slots=True)
class Published:
    """How a run ended; `results[i]` belongs to row i of the manifest."""

    results: list[RowResult]
    summary: Summary
    files: Files


async def publish(run: Run) -> Published:
    """Write every file and close the run in the ledger. Its exit code is 3 where a copy of the table is not written."""
    context, stops = run.context, run.stops
    await run.refresh()
    results = run.results()
    hurry = stops.signal is not None
    files = await run.writer.finish_tables(results, is_complete=not run.ledger_session.unrecorded_ids, hurry=hurry)
    exit_code = run.exit_code(results)
    if files.failed and exit_code in {0, 1, 4}:
        exit_code = STOPPED_EXIT
    run.monitor.files = files
    figures = partial(
        summarise,
        run_id=run.run_id,
        started_at=datetime.fromtimestamp(context.record.started_at, UTC),
        finished_at=datetime.fromtimestamp(context.ledger.now(), UTC),
        seconds=context.clock() - run.monitor.started_at,
        flow_run_id=context.record.flow_run_id,
        exit_code=exit_code,
    )
    summary, rows = figures(results), zip(context.manifest.rows, results, strict=True)
    run.monitor.chosen = figures([one for row, one in rows if row.left_out is not ErrorCode.NOT_CHOSEN])
    files = replace(files, link=await run.writer.finish_pages(results, summary, hurry=hurry))
    run.monitor.files = files
    with suppress(LedgerError):
        await run.write_notes(is_last=True)
        await run.ledger_session.call(
            context.ledger.finish_run, run.run_id, exit_code=exit_code, summary=summary.as_json()
        )
    key = context.settings.api_key
    await notification.send(
        context.settings.notify_url, context.manifest, results, summary, files,
        stopped_because=stops.message, secrets=() if key is None else (key.get_secret_value(),),
    )  # fmt: skip
    run.monitor.summary = summary
    if not is_handed_over(run):
        await run.ledger_session.call(conclude, context)
    return Published(results, summary, files)


def conclude(context: RunContext) -> None:
    """Nothing comes after this: from now on the same command is a new wish, if the run is finished.

    A command that was killed before, or says that it was interrupted, is continued when it is repeated.
    """
    with suppress(LedgerError):
        rows = {group.identity: group.is_chosen for group in context.plan.groups.values()}
        context.ledger.conclude_run(context.run_id, rows)
