"""A run as the ledger and its own folder tell it, without the process that ran it: it may go on, be done or be dead.

What counts is where each row's identity stands now. What the run itself said of a row (its notes) is believed only
where that does not contradict the ledger.
"""

import csv
import io
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from reelsheet.errors import ManifestError
from reelsheet.ledger import Ledger, RunRecord, Sheet
from reelsheet.manifest import columns
from reelsheet.manifest import rows as manifest_rows
from reelsheet.manifest.identity import identity_of
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode
from reelsheet.planning.plan import Plan, make_plan
from reelsheet.results.publication import Files
from reelsheet.results.table import Summary, summarise
from reelsheet.run.context import RunContext
from reelsheet.run.row_status import outcome_of_note
from reelsheet.run.run import Run
from reelsheet.settings import Settings
from reelsheet.storage.destination import Destination, open_destination


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was written, and where. `exit_code` is the run's own; for one that never ended, what its rows come to."""

    summary: Summary
    files: Files
    exit_code: int


async def rebuild(record: RunRecord, ledger: Ledger, settings: Settings, *, results: str | None = None) -> Rebuilt:
    """Write a run's results, gallery and summary again. Raises ReelsheetError where its folder cannot be read.

    `results`: a file that takes the table as well. Nothing moves in the ledger: a run that was killed stays unfinished.
    """
    run = load_run(record, ledger, settings, results=results)
    try:
        rows = run.results()
        computed = run.stops.exit_code(rows)
        exit_code = computed if record.exit_code is None else record.exit_code
        summary = summarise(
            rows,
            run_id=record.run_id,
            started_at=datetime.fromtimestamp(record.started_at, UTC),
            finished_at=None if record.finished_at is None else datetime.fromtimestamp(record.finished_at, UTC),
            seconds=_seconds(record, run.plan),
            flow_run_id=record.flow_run_id,
            exit_code=None if record.alive else exit_code,
        )
        newest = next(iter(ledger.recent_runs(1, destination=record.destination)), None)
        files = await run.writer.finish(rows, summary, is_latest=newest is None or newest.run_id == record.run_id)
    finally:
        run.close()
    return Rebuilt(summary, files, exit_code if exit_code < 128 else computed)


def load_run(record: RunRecord, ledger: Ledger, settings: Settings, *, results: str | None = None) -> Run:
    """The run, able to say how its rows stand; it sends nothing."""
    settings = as_recorded(record, settings)
    destination = open_destination(record.destination)
    manifest = manifest_of(record, settings)
    sheet = ledger.sheet(record.run_id)
    if sheet is not None and len(sheet.identities) != len(manifest.rows):
        sheet = None  # of another table than the one that lies there now
    identities = _identities(manifest, sheet, settings)
    manifest = replace(manifest, rows=tuple(_as_read(row, sheet, identities) for row in manifest.rows))
    plan = make_plan(
        manifest, identities, ledger.histories(identities.values()),
        destination=destination.address, objects=frozenset(destination.listing("videos/")),
        may_repay=lambda _: False, price_cents=settings.price_cents,
    )  # fmt: skip
    notes = ledger.notes(record.run_id)
    for group in plan.groups.values():
        note = notes.get(group.order)
        group.warnings.extend(note.warnings if note is not None else ())
        outcome = outcome_of_note(note, group.step, group.history, record.run_id)
        if outcome is not None:
            group.set_outcome(outcome.status, outcome.code, outcome.error)
    options = Options.from_record(
        record.options, verb=record.verb, source=record.source, destination=record.destination, results=results
    )
    return Run(RunContext(record, plan, options, settings, ledger, destination))


def as_recorded(record: RunRecord, settings: Settings) -> Settings:
    """These settings with the API and the model that the run had: they are part of an identity."""
    kept = {name: record.options[name] for name in ("base_url", "model") if record.options.get(name)}
    return settings.model_copy(update=kept)


def manifest_of(record: RunRecord, settings: Settings) -> Manifest:
    """The sheet that the run read, from its folder. Raises ManifestError where it is not there."""
    destination = open_destination(record.destination)
    key = f"runs/{record.run_id}/manifest.csv"
    content = destination.read(key)
    if content is None:
        raise ManifestError(
            f"{destination.uri(key)} is not there: the run ended before it was written, or it was removed. "
            f"`reelsheet status {record.run_id}` shows what the ledger knows."
        )
    manifest = manifest_rows.parse(
        content,
        record.source,
        image_column=record.options.get("image_column"),
        prompt_column=record.options.get("prompt_column"),
        id_column=record.options.get("id_column"),
        allow_private=settings.allow_private_hosts,
        copy=True,
    )
    return _with_earlier_words(manifest, destination, record.run_id)


def _identities(manifest: Manifest, sheet: Sheet | None, settings: Settings) -> dict[int, str]:
    """position → identity of each valid row, as the ledger was told when the run began, else worked out anew."""
    if sheet is not None:
        return {position: identity for position, identity in enumerate(sheet.identities) if identity}
    return {row.position: identity_of(row, settings) for row in manifest.rows if not row.problems}


def _as_read(row: Row, sheet: Sheet | None, identities: Mapping[int, str]) -> Row:
    """The row with the line and the words of the sheet as it was, even where its copy shows them no more."""
    if sheet is not None:
        at = row.position
        row = replace(row, line=sheet.lines[at], warnings=sheet.warnings.get(at, row.warnings))
        row = replace(row, problems=sheet.problems.get(at, row.problems))
    if row.position in identities:
        return replace(row, problems=())
    return row if row.problems else replace(row, problems=("This row was invalid when the run read it.",))


def _with_earlier_words(found: Manifest, destination: Destination, run_id: str) -> Manifest:
    """Rows that were invalid in the sheet as it was stay so: a copy squared to its header shows it no more."""
    words = list(_words(destination.read(f"runs/{run_id}/results.csv") or b""))
    if len(words) != len(found.rows):
        return found
    rows = [
        replace(row, problems=(said.get("error") or "This row was invalid.",))
        if said.get("error_code") == ErrorCode.INVALID_ROW and not row.problems
        else row
        for row, said in zip(found.rows, words, strict=True)
    ]
    return replace(found, rows=tuple(rows))


def _words(content: bytes) -> Iterator[Mapping[str, str]]:
    """What the last table says of each row, by the names of our columns."""
    records = csv.reader(io.StringIO(content.decode("utf-8-sig", "replace"), newline=""))
    try:
        block = columns.result_block(next(records, []))
        for cells in records:
            yield {name: cells[at] for name, at in block.items() if at < len(cells)}
    except csv.Error:
        return


def _seconds(record: RunRecord, plan: Plan) -> float:
    """From the start to the end, or to the last that is known of a run without one."""
    if record.finished_at is not None:
        return max(0.0, record.finished_at - record.started_at)
    if record.alive:
        return max(0.0, time.time() - record.started_at)
    moments = [
        moment
        for group in plan.groups.values()
        if group.history is not None
        for attempt in group.history.attempts
        if attempt.run_id == record.run_id
        for moment in (attempt.claimed_at, attempt.submitted_at, attempt.completed_at)
        if moment is not None
    ]
    return max(0.0, max(moments, default=record.started_at) - record.started_at)
