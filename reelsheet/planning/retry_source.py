"""What `retry` is given: a results file, a run or a destination → the table to read and where its clips belong."""

import re
from dataclasses import replace
from typing import Any

from reelsheet.errors import ManifestError, UsageError
from reelsheet.ledger import Ledger, RunRecord
from reelsheet.manifest.source import fetch
from reelsheet.options import Options
from reelsheet.results import earlier
from reelsheet.settings import Settings
from reelsheet.storage.destination import Destination, open_destination

RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4,32}")
TABLE_ENDINGS = (".csv", ".xlsx", ".tsv", ".txt")


def resolve(options: Options, ledger: Ledger, settings: Settings) -> Options:
    """The same options with `source` the table to read and `destination` set. Raises UsageError or ManifestError."""
    source = options.source.rstrip("/")
    if RUN_ID.fullmatch(source):
        record = ledger.run(source)
        if record is None:
            raise UsageError(f"The ledger knows no run {source}; name its destination or its results file instead.")
        return _of_run(options, record)
    if source.lower().endswith(TABLE_ENDINGS):
        return replace(options, destination=options.destination or _destination_of(source, options, ledger, settings))
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


def _destination_of(source: str, options: Options, ledger: Ledger, settings: Settings) -> str:
    """Where a results file belongs: the folder that it lies in, or what its run says."""
    parts = source.split("/")
    if len(parts) > 3 and parts[-3] == "runs":  # runs/RUN/results.csv
        return "/".join(parts[:-3])
    fetched = fetch(source, sheet=options.sheet, allow_private=settings.allow_private_hosts)
    cells = earlier.result_cells(fetched.content, fetched.name, sheet=options.sheet)
    runs = [run_id for run_id in cells["run_id"].unique() if RUN_ID.fullmatch(run_id)]
    for run_id in runs:
        record = ledger.run(run_id)
        if record is not None:
            return record.destination
    parent = open_destination("/".join(parts[:-1]) or ".")
    if any(parent.read(f"runs/{run_id}/manifest.csv") is not None for run_id in runs[:1]):
        return parent.address
    raise UsageError(f"reelsheet cannot tell where the clips of {source} belong; name the destination with --to.")


def import_table(ledger: Ledger, options: Options, settings: Settings, destination: Destination) -> None:
    """Give the ledger the attempts and deliveries that the table to be retried names and the ledger does not know."""
    fetched = fetch(options.source, sheet=options.sheet, allow_private=settings.allow_private_hosts)
    earlier.import_table(ledger, fetched.content, fetched.name, destination, sheet=options.sheet)
