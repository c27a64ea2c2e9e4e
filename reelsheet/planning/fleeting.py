"""Pictures whose addresses change with every export (Airtable): was the same row paid for under another one?

Such an address counts as it stands, for nothing in it tells which picture it is. So the plan warns.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final
from urllib.parse import unquote, urlsplit

from reelsheet import messages
from reelsheet.ledger import Ledger
from reelsheet.manifest.identity import image_key, prompt_key
from reelsheet.manifest.rows import Manifest, Row
from reelsheet.money import dollars
from reelsheet.planning.edits import PAID
from reelsheet.planning.paid_cells import PaidCellsReader
from reelsheet.planning.plan import Plan, Step
from reelsheet.storage.destination import Destination
from reelsheet.web import share_links

MOST_RUNS: Final = 10  # whose tables are read, the latest first
_NAMED: Final = re.compile(r"\s*([^()\r\n]+\.\w{2,5})\s*\(\s*https?://")  # cup.jpg (https://…)
_FILE: Final = re.compile(r"[^/]+\.\w{2,5}$")


def warn_of_paid_rows(plan: Plan, reader: PaidCellsReader) -> tuple[str, ...]:
    """Warn the groups whose row was paid for under another address; a note for the plan, where there are some."""
    groups = [group for group in plan.at_step(Step.SUBMIT) if share_links.is_fleeting(group.row.image)]
    if not groups:
        return ()
    paid: dict[tuple[str, ...], str] = {}  # what makes two rows the same → the address that was paid for
    for run_id in _runs(reader.ledger, reader.destination):
        for manifest in reader.tables(run_id, reader.ledger.run(run_id)):
            for row in manifest.rows:
                if row.earlier is not None and row.earlier.status in PAID:
                    for key in _keys(manifest, row):
                        paid.setdefault(key, image_key(row.image))
    count = 0
    for group in groups:
        addresses = {paid[key] for key in _keys(plan.manifest, group.row) if key in paid}
        if addresses - {image_key(group.row.image)}:
            group.warnings.append(messages.PAID_UNDER_ANOTHER_ADDRESS)
            count += 1
    return (messages.paid_under_other_addresses(count, dollars(count * plan.price_cents)),) if count else ()


def _runs(ledger: Ledger, destination: Destination | None) -> Iterable[str]:
    """The latest runs at the destination, also those of other ledgers; without one, the ledger's own."""
    address = destination.address if destination else None
    known = [record.run_id for record in ledger.recent_runs(MOST_RUNS, destination=address)]
    tables = destination.listing("runs/") if destination else {}
    others = sorted({key.split("/")[1] for key in tables if key.endswith("/results.csv")}, reverse=True)
    return list(dict.fromkeys(chain(known, others)))[:MOST_RUNS]


def _keys(manifest: Manifest, row: Row) -> Iterator[tuple[str, ...]]:
    """What makes a row the same as another: its id, or its prompt with the picture's file name."""
    if row.id:
        yield ("id", row.id)
    cell = str(manifest.table.iat[row.position, manifest.roles["image"]])
    name = _NAMED.match(cell) or _FILE.search(unquote(urlsplit(row.image).path))
    if name:
        yield ("file", prompt_key(row.prompt) or "", name[name.lastindex or 0].strip().casefold())
