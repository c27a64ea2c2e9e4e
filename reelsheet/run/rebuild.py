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
from reelsheet.ledger import IdentityHistory, Ledger, Note, RunRecord, Sheet, State
from reelsheet.manifest import columns
from reelsheet.manifest import rows as manifest
from reelsheet.manifest.identity import identity_of
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, Status
from reelsheet.planning import plan
from reelsheet.planning.plan import RowGroup, Step
from reelsheet.results import publication
from reelsheet.results.table import Summary, summarise
from reelsheet.run.run import Run
from reelsheet.settings import Settings
from reelsheet.storage.destination import Destination, open_destination


@dataclass(frozen=True, slots=True)
class Report:
    """What was written, and where. `exit_code` is the run's own; for one that never ended, what its rows come to."""

    summary: Summary
    files: publication.Files
    exit_code: int


async def rebuild(told: RunRecord, ledger: Ledger, settings: Settings, *, results: str | None = None) -> Report:
    """Write a run's results, gallery and summary anew. Raises ReelsheetError where its folder cannot be read.

    `results`: a file that takes the table as well. Nothing moves in the ledger: a run that was killed stays unfinished.
    """
    run = load_run(told, ledger, settings, results=results)
    try:
        found = run.results()
        computed = run.exit_code(found)
        exit_code = computed if told.exit_code is None else told.exit_code
        summary = summarise(
            found,
            run_id=told.run_id,
            started_at=datetime.fromtimestamp(told.started_at, UTC),
            finished_at=None if told.finished_at is None else datetime.fromtimestamp(told.finished_at, UTC),
            seconds=_seconds(told, run),
            flow_run_id=told.flow_run_id,
            exit_code=None if told.alive else exit_code,
        )
        newest = next(iter(ledger.recent_runs(1, destination=told.destination)), None)
        files = await publication.finish(run, found, summary, latest=newest is None or newest.run_id == told.run_id)
    finally:
        run.close()
    return Report(summary, files, exit_code if exit_code < 128 else computed)


def load_run(told: RunRecord, ledger: Ledger, settings: Settings, *, results: str | None = None) -> Run:
    """The run as an object that can say how its rows stand; it sends nothing."""
    settings = as_recorded(told, settings)
    destination = open_destination(told.destination)
    found = manifest_of(told, settings)
    sheet = ledger.sheet(told.run_id)
    if sheet is not None and len(sheet.identities) != len(found.rows):
        sheet = None  # of another table than the one that lies there now
    identities = _identities(found, sheet, settings)
    found = replace(found, rows=tuple(_as_read(row, sheet, identities) for row in found.rows))
    drawn = plan.draw(
        found, identities, ledger.histories(identities.values()),
        destination=destination.address, objects=frozenset(destination.listing("videos/")),
        may_replace=lambda _: False, price_cents=settings.price_cents,
    )  # fmt: skip
    options = Options.from_record(
        told.options, verb=told.verb, source=told.source, destination=told.destination, results=results
    )
    notes = ledger.notes(told.run_id)
    for group in drawn.groups.values():
        _believe(group, notes.get(group.order), told)
    return Run(record=told, plan=drawn, options=options, settings=settings, ledger=ledger, destination=destination)


def as_recorded(told: RunRecord, settings: Settings) -> Settings:
    """These settings with the API and the model that the run had: they are part of an identity."""
    kept = {name: told.options[name] for name in ("base_url", "model") if told.options.get(name)}
    return settings.model_copy(update=kept)


def manifest_of(told: RunRecord, settings: Settings) -> Manifest:
    """The sheet that the run read, from its folder. Raises ManifestError where it is not there."""
    destination = open_destination(told.destination)
    key = f"runs/{told.run_id}/manifest.csv"
    content = destination.read(key)
    if content is None:
        raise ManifestError(
            f"{destination.uri(key)} is not there: the run ended before it was written, or it was removed. "
            f"`reelsheet status {told.run_id}` shows what the ledger knows."
        )
    found = manifest.parse(
        content,
        told.source,
        image_column=told.options.get("image_column"),
        prompt_column=told.options.get("prompt_column"),
        id_column=told.options.get("id_column"),
        allow_private=settings.allow_private_hosts,
        copy=True,
    )
    return _with_earlier_words(found, destination, told.run_id)


def _identities(found: Manifest, sheet: Sheet | None, settings: Settings) -> dict[int, str]:
    """position → identity of each valid row, as the ledger was told when the run began, else worked out anew."""
    if sheet is not None:
        return {position: identity for position, identity in enumerate(sheet.identities) if identity}
    return {row.position: identity_of(row, settings) for row in found.rows if not row.problems}


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


def _believe(group: RowGroup, note: Note | None, told: RunRecord) -> None:
    """Take from a note what the ledger does not contradict."""
    if note is None:
        _say_refusal(group, told)
        return
    group.warnings.extend(note.warnings)
    status = Status(note.status) if note.status in set(Status) else None
    if status is not None and _is_consistent(group.step, group.history, status):
        code = ErrorCode(note.error_code) if note.error_code in set(ErrorCode) else None
        group.set_outcome(status, code, note.error)
    else:
        _say_refusal(group, told)


def _is_consistent(step: Step, history: IdentityHistory | None, status: Status) -> bool:
    match step:
        case Step.SUBMIT | Step.REFUSE:
            # A row that was settled as never charged is not unknown any more.
            return history is None or status not in {Status.UNKNOWN, Status.UNDELIVERED}
        case Step.POLL | Step.COPY:
            return status is Status.UNDELIVERED
        case Step.REPORT:
            failed = history is not None and history.latest.state == State.FAILED
            return status is (Status.FAILED if failed else Status.UNKNOWN)
        case _:
            return False


def _say_refusal(group: RowGroup, told: RunRecord) -> None:
    """The provider refused the row in this run, which ended before it could say so."""
    last = group.history.attempts[-1] if group.history is not None else None
    if group.step is Step.SUBMIT and last is not None and last.run_id == told.run_id and last.state == State.REFUSED:
        code = ErrorCode(last.error_code) if last.error_code in set(ErrorCode) else None
        if code is not None:
            group.set_outcome(Status.FAILED, code, last.error or "")
    elif group.step is Step.SUBMIT and last is not None and last.state == State.ABANDONED:
        group.set_outcome(
            Status.SKIPPED,
            ErrorCode.INTERRUPTED,
            "Settled as never charged; run the same command again to have it made.",
        )


def _seconds(told: RunRecord, run: Run) -> float:
    """From the start to the end, or to the last that is known of a run without one."""
    if told.finished_at is not None:
        return max(0.0, told.finished_at - told.started_at)
    if told.alive:
        return max(0.0, time.time() - told.started_at)
    moments = [
        moment
        for group in run.plan.groups.values()
        if group.history is not None
        for attempt in group.history.attempts
        if attempt.run_id == told.run_id
        for moment in (attempt.claimed_at, attempt.submitted_at, attempt.completed_at)
        if moment is not None
    ]
    return max(0.0, max(moments, default=told.started_at) - told.started_at)
