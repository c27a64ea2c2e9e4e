"""The end of a run: the ledger's truth into the files, the run closed in the ledger, the notification."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from reelsheet.errors import LedgerError
from reelsheet.outcomes import RowResult
from reelsheet.results import notification
from reelsheet.results.publication import Files
from reelsheet.results.table import Summary, summarise
from reelsheet.run.run import Run
from reelsheet.run.stop_control import STOPPED_EXIT


@dataclass(frozen=True, slots=True)
class Published:
    """How a run ended; `results[i]` belongs to row i of the manifest."""

    results: list[RowResult]
    summary: Summary
    files: Files


async def publish(run: Run) -> Published:
    """Write every file and close the run in the ledger. Its exit code is 3 where the destination took no table."""
    context, stops = run.context, run.stops
    await run.refresh()
    results = run.results()
    exit_code = stops.exit_code(results)
    summary = summarise(
        results,
        run_id=run.run_id,
        started_at=datetime.fromtimestamp(context.record.started_at, UTC),
        finished_at=datetime.now(UTC),
        seconds=context.clock() - run.monitor.started_at,
        flow_run_id=context.record.flow_run_id,
        exit_code=exit_code,
    )
    files = await run.writer.finish(
        results, summary, is_complete=not run.ledger_session.unrecorded_ids, hurry=stops.signal is not None
    )
    if files.fallback and exit_code in {0, 1, 4}:
        exit_code = STOPPED_EXIT
        summary = replace(summary, exit_code=exit_code)
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
    return Published(results, summary, files)
