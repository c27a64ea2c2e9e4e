"""A run as the ledger and its own folder tell it, without the process that ran it: it may go on, be done or be dead.

What counts is where each row's identity stands now. What the run itself said of a row (its notes) is believed only
where that does not contradict the ledger.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from reelsheet.errors import ManifestError
from reelsheet.ledger import Ledger, RunRecord, Sheet
from reelsheet.manifest import rows as manifest_rows
from reelsheet.manifest.image_url import is_address
from reelsheet.manifest.picture_file import PictureFile
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode
from reelsheet.planning import pictures
from reelsheet.planning.permissions import MayRepay
from reelsheet.planning.plan import Plan, make_plan
from reelsheet.results.publication import Files
from reelsheet.results.table import Summary, summarise
from reelsheet.run.context import RunContext
from reelsheet.run.row_status import outcome_of_note
from reelsheet.run.run import Run
from reelsheet.run.stop_control import STOPPED_EXIT
from reelsheet.settings import Settings
from reelsheet.storage.destination import open_destination


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
        computed = run.exit_code(rows)
        exit_code = computed if record.exit_code is None else record.exit_code
        summary = summarise(
            rows,
            run_id=record.run_id,
            started_at=datetime.fromtimestamp(record.started_at, UTC),
            finished_at=None if record.finished_at is None else datetime.fromtimestamp(record.finished_at, UTC),
            seconds=_seconds(record, run.plan, ledger),
            flow_run_id=record.flow_run_id,
            exit_code=None if record.alive else exit_code,
        )
        newest = next(iter(ledger.recent_runs(1, destination=record.destination)), None)
        is_latest = newest is None or newest.run_id == record.run_id
        files = await run.writer.finish_tables(rows, is_latest=is_latest)
        files = replace(files, link=await run.writer.finish_pages(rows, summary))
    finally:
        run.close()
    exit_code = exit_code if exit_code < 128 else computed
    return Rebuilt(summary, files, STOPPED_EXIT if files.failed and exit_code in {0, 1, 4} else exit_code)


def load_run(record: RunRecord, ledger: Ledger, settings: Settings, *, results: str | None = None) -> Run:
    """The run, able to say how its rows stand; it sends nothing."""
    return Run(load_context(record, ledger, as_recorded(record, settings), results=results))


def load_context(
    record: RunRecord,
    ledger: Ledger,
    settings: Settings,
    *,
    results: str | None = None,
    may_repay: MayRepay = lambda _: False,
) -> RunContext:
    """What the run is, with its rows as they stand now."""
    destination = open_destination(record.destination)
    manifest = manifest_of(record, settings)
    sheet = ledger.sheet(record.run_id)
    if sheet is None or len(sheet.identities) != len(manifest.rows):
        raise ManifestError(
            f"The manifest.csv in {destination.uri(f'runs/{record.run_id}')} is not the one that this run read; "
            f"`reelsheet status {record.run_id}` shows what the ledger knows."
        )
    manifest = replace(manifest, rows=tuple(_as_read(row, sheet) for row in manifest.rows), first_title=sheet.title)
    identities = {position: identity for position, identity in enumerate(sheet.identities) if identity}
    plan = make_plan(
        manifest, identities, ledger.histories(identities.values()),
        destination=destination.address, objects=frozenset(destination.listing("videos/")),
        may_repay=may_repay, price_cents=settings.price_cents,
    )  # fmt: skip
    pictures.mark_uploaded(plan, destination)
    notes = ledger.notes(record.run_id)
    for group in plan.groups.values():
        note = notes.get(group.order)
        group.warnings.extend(note.warnings if note is not None else ())
        outcome = outcome_of_note(note, group.step, group.history, record.run_id)
        if outcome is not None and group.left_out is None:
            group.set_outcome(outcome.status, outcome.code, outcome.error)
    options = Options.from_record(
        record.options, verb=record.verb, source=record.source, destination=record.destination, results=results
    )
    return RunContext(record, plan, options, settings, ledger, destination)


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
    return manifest_rows.parse(
        content,
        record.source,
        image_column=record.options.get("image_column"),
        prompt_column=record.options.get("prompt_column"),
        id_column=record.options.get("id_column"),
        allow_private=settings.allow_private_hosts,
        copy=True,
    )


def _as_read(row: Row, sheet: Sheet) -> Row:
    """The row with its line, warnings and problems in the sheet as it was, even where its copy shows them no more."""
    position = row.position
    code, prompt = sheet.left_out.get(position), sheet.prompts.get(position)
    fields, problems = sheet.pictures.get(position), sheet.problems.get(position, ())
    picture = PictureFile(*fields) if fields else None
    return replace(
        row,
        prompt=row.prompt if prompt is None else prompt,
        is_rendered=prompt is not None,
        line=sheet.lines[position],
        warnings=sheet.warnings.get(position, ()),
        problems=problems,
        left_out=ErrorCode(code) if code else None,
        image=picture.address if picture else row.image if is_address(row.image) else "",
        picture=picture,
        problem_code=ErrorCode(sheet.problem_codes.get(position, ErrorCode.INVALID_ROW)),
    )


def _seconds(record: RunRecord, plan: Plan, ledger: Ledger) -> float:
    """From the start to the end, or to the last that is known of a run without one."""
    if record.finished_at is not None:
        return max(0.0, record.finished_at - record.started_at)
    if record.alive:
        return max(0.0, ledger.now() - record.started_at)
    moments = [
        moment
        for group in plan.groups.values()
        if group.history is not None
        for attempt in group.history.attempts
        if attempt.run_id == record.run_id
        for moment in (attempt.claimed_at, attempt.submitted_at)  # by the ledger's clock, as the start is
        if moment is not None
    ]
    return max(0.0, max(moments, default=record.started_at) - record.started_at)
