"""The walk that both flows share: prepare, ask where it is dear, run the rows, write the table, say how it went."""

import time
from contextlib import suppress
from datetime import UTC, datetime

from prefect.runtime import deployment, flow_run

from flows import approval, sharding
from flows.reporting import artifacts, states
from flows.signals import interruptible
from reelsheet import messages, settings
from reelsheet.errors import ConfigurationError, LedgerError, ReelsheetError
from reelsheet.ledger import RunRecord, durability
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, RowResult
from reelsheet.planning import preparation
from reelsheet.planning.preparation import Preparation
from reelsheet.results import notification
from reelsheet.results import publication as record
from reelsheet.results.table import Summary, summarise
from reelsheet.run.run import Run

LIVES = 10  # of one flow run; a crash that always comes again must not go on for ever


async def execute_run(options: Options) -> states.Outcome:
    """Bring every row as far as it gets. Returns the state that Prefect shows; its result is the summary."""
    try:
        if (flow_run.run_count or 0) > LIVES:
            raise ConfigurationError(f"This run has crashed {LIVES} times; its worker's logs say why. Start a new one.")
        prepared = preparation.reused_preparation(options) or await _prepared(options)
        try:
            asked = await approval.ask(prepared)
            if isinstance(asked, states.Outcome):
                return asked
            if asked is not prepared.options:  # it took a while, and may cost less now
                prepared = await preparation.prepare(asked, prepared.settings)
            return await _run(prepared)
        finally:
            prepared.close()
    except ReelsheetError as error:
        return states.not_begun(error)


async def _prepared(options: Options) -> Preparation:
    told = settings.load()
    if deployment.id:
        durability.check(told.ledger_url)
    return await preparation.prepare(options, told)


async def _run(prepared: Preparation) -> states.Outcome:
    await sharding.check(prepared)
    run = await preparation.begin(prepared, flow_run_id=flow_run.id)
    try:
        await artifacts.tag(run)
        with interruptible(run):
            async with run.session(), artifacts.progress(run):
                await record.begin(run)
                await sharding.all_rows(run)
            return await _conclude(run)
    finally:
        run.close()


async def _conclude(run: Run) -> states.Outcome:
    """The ledger's truth into the table, the books closed, the state that says it."""
    try:
        await run.refresh()
    except LedgerError as error:  # what this process knows is the best there is
        run.stop(ErrorCode.STORAGE, messages.ledger_down(error))
    found = run.results()
    exit_code = run.exit_code(found)
    summary = _summary(run, found, exit_code)
    files = await record.finish(run, found, summary)
    if files.fallback and exit_code in {0, 1, 4}:
        exit_code = 3
        summary = _summary(run, found, exit_code)
    run.files = files
    with suppress(LedgerError):
        await run.in_ledger(run.ledger.write_notes, run.run_id, run.notes())
        await run.in_ledger(run.ledger.finish_run, run.run_id, exit_code=exit_code, summary=summary.as_json())
    key = run.settings.api_key
    await notification.send(
        run.settings.notify_url, run.manifest, found, summary, files,
        stopped_because=run.stop_error or run.over_budget,
        secrets=() if key is None else (key.get_secret_value(),),
    )  # fmt: skip
    await artifacts.report(run, found, summary)
    cancelled = run.signal is not None and await artifacts.is_cancelling()
    return states.concluded(run, summary, exit_code, cancelled=cancelled)


def _summary(run: Run, found: list[RowResult], exit_code: int) -> Summary:
    return summarise(
        found,
        run_id=run.run_id,
        started_at=started(run.record),
        finished_at=datetime.now(UTC),
        seconds=time.monotonic() - run.started,
        flow_run_id=run.flow_run_id,
        exit_code=exit_code,
    )


def started(record: RunRecord) -> datetime:
    return datetime.fromtimestamp(record.started_at, UTC)
