"""What was paid for: the cells of a row as an earlier run read them, from that run's tables."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, zip_longest

from reelsheet.errors import ReelsheetError
from reelsheet.images import picture_rows
from reelsheet.ledger import Ledger, RunRecord
from reelsheet.manifest import columns, rows
from reelsheet.manifest.identity import identity_of
from reelsheet.manifest.rows import Row
from reelsheet.options import Options
from reelsheet.settings import Settings, state_home
from reelsheet.storage.destination import Destination, open_destination

MOST_RUNS = 20  # whose tables are read; nearly always it is one


@dataclass(frozen=True, slots=True)
class PaidCells:
    """A row whose cells hash to an identity, and the model that they were sent to."""

    row: Row
    model: str


@dataclass(frozen=True, slots=True)
class PaidCellsReader:
    """Finds them. `destination` is this run's own, where the tables of earlier runs often lie, too."""

    options: Options
    settings: Settings
    ledger: Ledger
    destination: Destination | None

    def find(self, wanted: Mapping[str, Sequence[str]]) -> dict[str, PaidCells]:
        """identity → its cells, where a table still has them. `wanted`: identity → runs, the likeliest first."""
        found: dict[str, PaidCells] = {}
        runs = dict.fromkeys(filter(None, chain.from_iterable(zip_longest(*wanted.values()))))
        for run_id in list(runs)[:MOST_RUNS]:
            record = self.ledger.run(run_id)
            for table in self.tables(run_id, record):
                if found.keys() >= wanted.keys():
                    return found
                for identity, cells in self._identified(table, record):
                    if identity in wanted:
                        found.setdefault(identity, cells)
        return found

    def tables(self, run_id: str, record: RunRecord | None) -> Iterator[rows.Manifest]:
        """A run's tables, wherever there are some: as it wrote its results, and as it read its sheet."""
        places = [record.destination] if record else []
        places += [self.destination.address] if self.destination else []
        for place in dict.fromkeys([*places, str(state_home())]):
            for name in ("results.csv", "manifest.csv"):
                with suppress(ReelsheetError, OSError):  # a table that cannot be read tells nothing
                    content = open_destination(place).read(f"runs/{run_id}/{name}")
                    if content is not None:
                        yield self._parse(content, record, is_copy=name == "manifest.csv")

    def _parse(self, content: bytes, record: RunRecord | None, *, is_copy: bool) -> rows.Manifest:
        named = record.options if record else vars(self.options)
        return rows.parse(
            content,
            "the table",
            prompt=named.get("prompt") if record is not None and is_copy else None,
            image_column=named.get("image_column"),
            prompt_column=named.get("prompt_column"),
            id_column=named.get("id_column"),
            allow_private=self.settings.allow_private_hosts,
            copy=is_copy,
        )

    def _identified(self, table: rows.Manifest, record: RunRecord | None) -> Iterator[tuple[str, PaidCells]]:
        models = {self.settings.model: self.settings}
        if record is not None and (model := record.options.get("model")):
            models[model] = self.settings.model_copy(update={"model": model})
        label = columns.label(table.columns, table.roles["image"])
        for row in (picture_rows.as_recorded(row, label) for row in table.rows):
            for model, settings in models.items() if not row.problems else ():
                yield identity_of(row, settings), PaidCells(row, model)
