"""What `retry` is given: a results file, run, destination or review → the table to read and where its clips belong."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reelsheet.errors import ManifestError, ReelsheetError, UsageError
from reelsheet.ledger import Ledger, RunRecord
from reelsheet.manifest.rows import Manifest
from reelsheet.manifest.source import Content, fetch
from reelsheet.options import Options
from reelsheet.redaction import clean
from reelsheet.results import earlier
from reelsheet.results.review import Review, apply_review, read_review
from reelsheet.results.run_copy import RUN_ID
from reelsheet.settings import Settings, state_home
from reelsheet.storage.destination import Destination, open_destination

TABLE_ENDINGS = (".csv", ".xlsx", ".tsv", ".txt")


@dataclass(frozen=True, slots=True)
class RetrySource:
    """`options` have their `destination`. `table`: a run's results with a review in them; None: it is at the source.

    `notes`: what a review says that is not followed.
    """

    options: Options
    table: Content | None = None
    notes: tuple[str, ...] = ()


def resolve(options: Options, ledger: Ledger, settings: Settings) -> RetrySource:
    """The table to read, and where its clips belong. Raises UsageError or ManifestError."""
    source = options.source.rstrip("/")
    if RUN_ID.fullmatch(source):
        record = ledger.run(source)
        if record is None:
            raise UsageError(f"The ledger knows no run {source}; name its destination or its results file instead.")
        return RetrySource(_of_run(options, record))
    if source.lower().startswith(("http://", "https://")) or source.lower().endswith(TABLE_ENDINGS):
        fetched = fetch(source, sheet=options.sheet, allow_private=settings.allow_private_hosts)
        review = read_review(fetched.content, fetched.name, sheet=options.sheet, encoding=options.encoding)
        if review is not None:
            return _of_review(review, options, ledger)
        runs = _runs_of(fetched, options.sheet)
        destination = options.destination or _destination_of(source, fetched, runs, options, ledger)
        return RetrySource(replace(_with_pictures(options, _known(runs, ledger)), destination=destination))
    place = open_destination(source)
    content = place.read("results.csv")
    if content is None:
        raise ManifestError(f"There is no results.csv under {source}; name a results file, a run or a destination.")
    record = _known(_runs_of(Content(content, "results.csv")), ledger)
    destination = options.destination or place.address
    options = _with_recorded(options, record) if record else options
    return RetrySource(replace(options, source=place.uri("results.csv"), destination=destination))


def _of_review(review: Review, options: Options, ledger: Ledger) -> RetrySource:
    """The complete table of the run that a review names, with the review in it."""
    run_id = review.run_id
    if not RUN_ID.fullmatch(run_id):
        raise ManifestError(f"{review.name} is a review file of '{clean(run_id, limit=40)}', which is no run's id.")
    record = _known([run_id], ledger)
    home = record.destination if record else review.destination
    places, why = [place for place in (home, options.destination) if place], ""
    for address in [*places, str(state_home())]:
        try:
            place = open_destination(address)
            content = place.read(f"runs/{run_id}/results.csv")
        except ReelsheetError as error:
            why = why or f" {error}"
            continue
        if content is not None:
            table = place.uri(f"runs/{run_id}/results.csv")
            break
    else:
        where = " or ".join(clean(address, limit=200) for address in dict.fromkeys(places)) or "the state folder"
        raise ManifestError(
            f"{review.name} is a review of run {run_id}, whose results.csv is not in {where}.{why} "
            "Name the folder or bucket that holds this run with --to."
        )
    marked, notes = apply_review(review, content, table)
    if record is None and address in places:  # another ledger paid for it, and may have paid for more since
        earlier.import_from_destination(ledger, place)
    if record is not None and review.destination and not _is_same(review.destination, record.destination):
        named = clean(review.destination, limit=200)
        notes = [*notes, f"{review.name} names {named}; the clips of run {run_id} are at {record.destination}."]
    destination = options.destination or home
    if not destination:
        raise UsageError(f"{review.name} does not say where the run's clips are; name the destination with --to.")
    options = _with_recorded(options, record) if record else options
    return RetrySource(replace(options, destination=destination), Content(marked, table), tuple(notes))


def _is_same(one: str, other: str) -> bool:
    with suppress(ReelsheetError):
        return open_destination(one).address == open_destination(other).address
    return False


def _of_run(options: Options, record: RunRecord) -> Options:
    """The run's own table, destination, columns and names, where the command does not name others."""
    return replace(
        _with_recorded(options, record),
        source=open_destination(record.destination).uri(f"runs/{record.run_id}/results.csv"),
        destination=options.destination or record.destination,
    )


def _with_recorded(options: Options, record: RunRecord) -> Options:
    names = ("image_column", "prompt_column", "id_column", "name")
    recorded: dict[str, Any] = {name: record.options.get(name) for name in names if getattr(options, name) is None}
    return _with_pictures(replace(options, **recorded), record)


def _with_pictures(options: Options, record: RunRecord | None) -> Options:
    """The folder in which the run found its pictures, where it is on this machine."""
    folder = record.options.get("pictures") if record else None
    is_wanted = options.pictures is None and folder and Path(folder).is_dir()
    return replace(options, pictures=folder) if is_wanted else options


def _runs_of(table: Content, sheet: str | None = None) -> list[str]:
    """The runs that a results table names."""
    cells = earlier.result_cells(table.content, table.name, sheet=sheet)
    return [run_id for run_id in cells["run_id"].unique() if RUN_ID.fullmatch(run_id)]


def _known(runs: Sequence[str], ledger: Ledger) -> RunRecord | None:
    """The first of `runs` that the ledger knows."""
    records = ((run_id, ledger.run(run_id)) for run_id in runs)
    return next((record for run_id, record in records if record and record.run_id == run_id), None)


def _destination_of(source: str, fetched: Content, runs: Sequence[str], options: Options, ledger: Ledger) -> str:
    """Where a results file belongs: the folder that it lies in, or what its run says."""
    parts = source.split("/")
    if len(parts) > 3 and parts[-3] == "runs":  # runs/RUN/results.csv
        return "/".join(parts[:-3])
    if (record := _known(runs, ledger)) is not None:
        return record.destination
    if not runs:
        earlier.read_cells(fetched.content, fetched.name, sheet=options.sheet)  # raises where it is no results table
    parent = open_destination("/".join(parts[:-1]) or ".")
    if any(parent.read(f"runs/{run_id}/manifest.csv") is not None for run_id in runs[:1]):
        return parent.address
    raise UsageError(f"reelsheet cannot tell where the clips of {source} belong; name the destination with --to.")


def first_title(manifest: Manifest, ledger: Ledger) -> str:
    """What the sheet was named when the run began whose results these are; "" where they are no results."""
    runs = filter(RUN_ID.fullmatch, manifest.earlier_cells.get("run_id", ()))
    run_id = next(runs, None)
    if run_id is None:
        return ""
    sheet = ledger.sheet(run_id)
    return (sheet.title if sheet else "") or f"Run {run_id}"


def import_table(
    ledger: Ledger, options: Options, settings: Settings, destination: Destination | None, table: Content | None
) -> None:
    """Give the ledger the attempts and deliveries that a results table names and the ledger does not know.

    `table`: the one of a review; None: the one at the options' source.
    """
    fetched = table or fetch(options.source, sheet=options.sheet, allow_private=settings.allow_private_hosts)
    sheet = None if table else options.sheet
    earlier.import_table(ledger, fetched.content, fetched.name, destination, sheet=sheet)
