"""A desk with a results table of an earlier run, its destination, and a ledger that has not seen them."""

import asyncio
import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reelsheet.manifest import rows
from reelsheet.manifest.identity import identity_of
from reelsheet.options import Options
from reelsheet.outcomes import ErrorCode, RowResult, Status
from reelsheet.planning import preparation
from reelsheet.planning.plan import Plan, Step
from reelsheet.results import table
from reelsheet.settings import Settings

RUN_ID = "20260115-120000-abc123"
HAS_ID = {Status.SUCCEEDED, Status.UNDELIVERED, Status.FAILED}


def result_of(row: rows.Row, status: Status, settings: Settings, **more: Any) -> RowResult:
    """What a run wrote of a row; `more` changes it."""
    identity = identity_of(row, settings)
    told: dict[str, Any] = {"identity": identity, "run_id": RUN_ID}
    if status in HAS_ID:
        told |= {"attempt": 1, "prediction_id": f"p-{identity[:12]}", "total_cost_cents": 54}
        told |= {"submitted_at": datetime(2026, 1, 15, 12, tzinfo=UTC)}
    if status == Status.SUCCEEDED:
        told |= {"video_uri": f"videos/{identity[:8]}.mp4", "video_bytes": 4}
    if status == Status.UNKNOWN:
        told |= {"attempt": 1, "at_risk_cents": 54}
    if status == Status.FAILED:
        told |= {"error_code": ErrorCode.GENERATION_FAILED, "error": "No."}
    if status == Status.UNDELIVERED:
        told |= {"error_code": ErrorCode.DEADLINE, "error": "Not ready."}
    return RowResult(status, **told | more)


@dataclass
class Desk:
    """`results` is the table as the run wrote it; `plan` and `prepare` take one as it became."""

    folder: Path
    settings: Settings = field(default_factory=lambda: Settings(ledger_url=None))
    prepared: list[preparation.Preparation] = field(default_factory=list)
    run_id: str = RUN_ID

    @property
    def destination(self) -> Path:
        return self.folder / "dest"

    def ran(
        self,
        sheet: str,
        statuses: list[Status] | Status = Status.SUCCEEDED,
        *,
        template: str | None = None,
        **more: Any,
    ) -> str:
        """An earlier run of `sheet`, as its destination has it; its results table as text."""
        content = sheet.encode()
        manifest = rows.parse(content, "sheet.csv", prompt=template)
        if isinstance(statuses, Status):
            statuses = [statuses] * len(manifest.rows)
        results = []
        for row, status in zip(manifest.rows, statuses, strict=True):
            if row.problems:
                results.append(RowResult(Status.INVALID, " ".join(row.problems), ErrorCode.INVALID_ROW))
                continue
            result = result_of(row, status, self.settings, **more)
            result.prompt_sent = (row.prompt or "") if row.is_rendered else ""
            if result.video_uri:
                path = self.destination / result.video_uri
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"clip")
                result.video_uri = str(path)
            results.append(result)
        written = table.results_csv(manifest, results)
        folder = self.destination / "runs" / self.run_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.csv").write_bytes(written)
        (folder / "manifest.csv").write_bytes(table.manifest_csv(manifest))
        (self.destination / "results.csv").write_bytes(written)
        return written.decode()

    def prepare(self, content: str | bytes, verb: str = "run", *, name: str = "mine.csv", **options: Any) -> Any:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        asked = Options(verb=verb, source=str(path), destination=str(self.destination), preflight=False, **options)
        self.prepared.append(asyncio.run(preparation.prepare(asked, self.settings, spending=False)))
        return self.prepared[-1]

    def close(self) -> None:
        for prepared in self.prepared:
            prepared.close()

    def plan(self, content: str | bytes, verb: str = "run", **options: Any) -> Plan:
        return self.prepare(content, verb, **options).plan


def edited(content: str, change: Callable[[list[dict[str, str]]], Any]) -> str:
    """A table after `change` has seen to its records."""
    reader = csv.DictReader(io.StringIO(content, newline=""))
    records = list(reader)
    changed = change(records)
    records = records if changed is None else changed
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, reader.fieldnames or [])
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def paying(plan: Plan) -> list[str | None]:
    """The prompts that would be sent."""
    return [group.row.prompt for group in plan.at_step(Step.SUBMIT)]
