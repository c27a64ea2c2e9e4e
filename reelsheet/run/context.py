"""What a run is, as opposed to how it is going: nothing in here changes while it runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from reelsheet.ledger import Attempt, Ledger, RunRecord
from reelsheet.manifest.rows import Manifest
from reelsheet.options import Options
from reelsheet.planning.plan import Plan, RowGroup, object_key
from reelsheet.settings import Settings
from reelsheet.storage.destination import Destination


@dataclass(frozen=True, slots=True)
class RunContext:
    """The record, plan, options and places of a run. `clock` gives monotonic seconds."""

    record: RunRecord
    plan: Plan
    options: Options
    settings: Settings
    ledger: Ledger
    destination: Destination
    clock: Callable[[], float] = time.monotonic

    @property
    def run_id(self) -> str:
        return self.record.run_id

    @property
    def manifest(self) -> Manifest:
        return self.plan.manifest

    def object_key(self, group: RowGroup, attempt: Attempt, output: int) -> str:
        """Where an output is stored below the destination."""
        return object_key(self.options, self.manifest, group, attempt.number, output)
