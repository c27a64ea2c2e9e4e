"""What `retry` is given: a results file, a run or a destination → the table to read and where its clips belong."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reelsheet.errors import ManifestError, UsageError
from reelsheet.ledger import ImportedAttempt, Ledger, RunRecord
from reelsheet.manifest import columns, table
from reelsheet.manifest.rows import Manifest
from reelsheet.options import Options
from reelsheet.results import earlier
from reelsheet.settings import Settings
from reelsheet.storage.destination import Destination, open_destination

RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4,32}")
TABLE_ENDINGS = (".csv", ".xlsx", ".tsv", ".txt")


def resolve(options: Options, ledger: Ledger) -> Options:
    """The same options with `source` the table to read and `destination` set. Raises UsageError or ManifestError."""
    source = options.source.rstrip("/")
    if RUN_ID.fullmatch(source):
        record = ledger.run(source)
        if record is None:
            raise UsageError(f"The ledger knows no run {source}; name its destination or its results file instead.")
        return _of_run(options, record)
    if source.lower().endswith(TABLE_ENDINGS):
        return replace(options, destination=options.destination or _destination_of(source, ledger))
    place = open_destination(source)
    if place.read("results.csv") is None:
        raise ManifestError(f"There is no results.csv under {source}; name a results file, a run or a destination.")
    return replace(options, source=place.uri("results.csv"), destination=options.destination or place.address)


def _of_run(options: Options, record: RunRecord) -> Options:
    """The run's own table, destination, columns and names, where the command does not name others."""
    names = ("image_column", "prompt_column", "id_column", "name")
    recorded: dict[str, Any] = {name: record.options.get(name) for name in names if getattr(options, name) is None}
    return replace(
        options,
        source=open_destination(record.destination).uri(f"runs/{record.run_id}/results.csv"),
        destination=options.destination or record.destination,
        **recorded,
    )


def _destination_of(source: str, ledger: Ledger) -> str:
    """Where a results file belongs: the folder that it lies in, or what its run says."""
    parts = source.split("/")
    if len(parts) > 3 and parts[-3] == "runs":  # runs/RUN/results.csv
        return "/".join(parts[:-3])
    content = _content(source)
    runs = _runs_in(content, source) if content is not None else []
    for run_id in runs:
        record = ledger.run(run_id)
        if record is not None:
            return record.destination
    parent = open_destination("/".join(parts[:-1]) or ".")
    if any(parent.read(f"runs/{run_id}/manifest.csv") is not None for run_id in runs[:1]):
        return parent.address
    raise UsageError(f"reelsheet cannot tell where the clips of {source} belong; name the destination with --to.")


def _runs_in(content: bytes, source: str) -> list[str]:
    """The runs that a results file names, in whatever form a spreadsheet saved it; [] where it is no results file."""
    try:
        read = table.read(
            content, source, sheet=None, accepts=lambda header: bool(columns.result_block(header)), page=False
        )
    except ManifestError:
        return []
    column = columns.result_block(read.header).get("run_id")
    cells = (record[column].strip() for _, record in read.records if column is not None and column < len(record))
    return [run_id for run_id in dict.fromkeys(cells) if RUN_ID.fullmatch(run_id)]


def _content(source: str) -> bytes | None:
    if source.startswith("s3://"):
        parent, _, name = source.rpartition("/")
        return open_destination(parent).read(name)
    try:
        return Path(source).expanduser().read_bytes()
    except OSError:
        return None


# What the table says of attempts that this ledger does not know


def import_table(ledger: Ledger, source: str, destination: Destination) -> None:
    """The attempts and deliveries that the table at `source` names."""
    content = _content(source)
    if content is not None:
        earlier.take_over_rows(ledger, content, destination)


def import_rows(ledger: Ledger, manifest: Manifest, identities: Mapping[int, str], settings: Settings) -> None:
    """The attempts that only the rows themselves name: those of an earlier workbook, say."""
    known = ledger.histories(identities.values())
    past = {
        identity: row.earlier
        for row in reversed(manifest.rows)  # the first row of an identity counts
        if (identity := identities.get(row.position)) is not None
        and identity not in known
        and row.earlier is not None
        and row.earlier.identity == identity
    }
    attempts = (earlier.attempt_of(identity, row, settings.price_cents) for identity, row in past.items())
    ledger.import_attempts(ImportedAttempt(attempt) for attempt in attempts if attempt is not None)
