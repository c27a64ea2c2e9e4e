"""Runs: registered and closed, the rows that they have, their notes on rows, and the days' money."""

import json
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from reelsheet.ledger import grants
from reelsheet.ledger import schema as s
from reelsheet.ledger.database import Database
from reelsheet.ledger.histories import CHUNK
from reelsheet.ledger.lease import Lease
from reelsheet.ledger.records import DayTotal, Note, RepayPermission, RunRecord, Sheet


class Runs:
    """Every method is one transaction."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._db = database
        self._lease = lease

    def open_run(
        self,
        *,
        run_id: str,
        verb: str,
        source: str,
        destination: str,
        command: str,
        flow_run_id: str | None,
        options: Mapping[str, Any],
        rows: int,
        cap_cents: int | None,
        permissions: Mapping[str, int] | None = None,
        sheet: Sheet | None = None,
    ) -> RunRecord:
        """Register a run; the same `flow_run_id` (or `run_id`) again is the same run and keeps its money and cap.

        `permissions` maps identities to the attempt that may be paid for once more. The same `command` repeated
        while its run is unfinished shares the permissions given then; what these have paid for gets no new ones.
        """
        values = {
            "run_id": run_id, "verb": verb, "source": _storable(source), "destination": destination,
            "command": command, "owner": self._lease.owner.id, "flow_run_id": flow_run_id,
            "options": json.dumps(dict(options)), "rows": rows, "cap_cents": cap_cents, "confirmed_cents": 0,
            "reserved_cents": 0, "at_risk_cents": 0, "started_at": time.time(),
        }  # fmt: skip
        return self._db.committed(self._open, values, permissions or {}, sheet)

    def _open(
        self, connection: Connection, values: Mapping[str, Any], permissions: Mapping[str, int], sheet: Sheet | None
    ) -> RunRecord:
        run_id, command = values["run_id"], values["command"]
        self._db.serialise(connection, command)
        known = _known_run(connection, run_id, values["flow_run_id"])
        if known is not None:
            reopened = {"owner": self._lease.owner.id, "finished_at": None, "exit_code": None}
            connection.execute(update(s.runs).where(s.runs.c.run_id == known.run_id).values(**reopened))
            _keep_sheet(connection, known.run_id, sheet)
            return replace(_run(known), owner=self._lease.owner.id, finished_at=None, exit_code=None)
        unfinished = grants.unfinished_run(connection, command)
        permit = run_id if unfinished is None else unfinished.permit
        grants.grant(connection, permit, permissions)
        connection.execute(insert(s.runs).values(permit=permit, **values))
        _keep_sheet(connection, run_id, sheet)
        row = connection.execute(select(s.runs).where(s.runs.c.run_id == run_id)).one()
        return replace(_run(row), continues=None if unfinished is None else unfinished.run_id)

    def finish_run(self, run_id: str, *, exit_code: int, summary: Mapping[str, Any]) -> None:
        """Record how a run ended."""
        ended = {"finished_at": time.time(), "exit_code": exit_code, "summary": json.dumps(dict(summary))}
        self._db.execute(update(s.runs).where(s.runs.c.run_id == run_id).values(**ended))

    def run(self, run_id: str) -> RunRecord | None:
        """One run, by its id or an unambiguous beginning of it."""
        query = select(s.runs).where(s.runs.c.run_id.startswith(run_id, autoescape=True)).order_by(s.runs.c.run_id)
        candidates = self._records(query.limit(2))
        exact = [record for record in candidates if record.run_id == run_id]
        return next(iter(exact or candidates), None) if exact or len(candidates) == 1 else None

    def run_of_flow(self, flow_run_id: str) -> RunRecord | None:
        """The run that a Prefect flow run stands for."""
        return next(iter(self._records(select(s.runs).where(s.runs.c.flow_run_id == flow_run_id))), None)

    def recent_runs(self, limit: int = 20, destination: str | None = None) -> list[RunRecord]:
        """Newest first."""
        query = select(s.runs).order_by(s.runs.c.started_at.desc()).limit(limit)
        return self._records(query if destination is None else query.where(s.runs.c.destination == destination))

    def days(self, limit: int = 14) -> list[DayTotal]:
        """The latest days with any money, newest first."""
        return [DayTotal(*row) for row in self._db.fetch(select(s.days).order_by(s.days.c.day.desc()).limit(limit))]

    def sheet(self, run_id: str) -> Sheet | None:
        """Which rows a run has; None where they were not recorded."""
        stored = self._db.fetch(select(s.sheets.c.content).where(s.sheets.c.run_id == run_id))
        return _unpacked(stored[0].content) if stored else None

    # Permission to pay again

    def shared_permissions(self, command: str) -> RepayPermission | None:
        """What an unfinished run of the same command may replace, and a new one with it; None: there is none."""
        with self._db.read() as connection:
            return grants.shared(connection, command)

    def permissions(self, run_id: str) -> dict[str, int]:
        """identity → the attempt that this run may still replace, where that is its latest."""
        with self._db.read() as connection:
            permit = connection.execute(select(s.runs.c.permit).where(s.runs.c.run_id == run_id)).scalar()
            return {} if permit is None else grants.of_permit(connection, permit)

    # Notes

    def write_notes(self, run_id: str, notes: Sequence[Note]) -> None:
        """What the run says of these rows now; later notes replace earlier ones."""
        if notes:
            self._db.committed(_write_notes, run_id, notes)

    def notes(self, run_id: str) -> dict[int, Note]:
        """position → note."""
        query = select(s.notes).where(s.notes.c.run_id == run_id)
        return {
            row.position: Note(row.position, row.status, row.error_code, row.error, tuple(json.loads(row.warnings)))
            for row in self._db.fetch(query)
        }

    def forget_notes(self, run_id: str, first_position: int, last_position: int) -> None:
        """Delete the notes on these positions, both ends included."""
        n = s.notes.c
        self._db.execute(delete(s.notes).where(n.run_id == run_id, n.position.between(first_position, last_position)))

    def _records(self, query: Select[Any]) -> list[RunRecord]:
        with self._db.read() as connection:
            return [
                _run(row, alive=row.finished_at is None and not self._lease.is_dead(connection, row.owner))
                for row in connection.execute(query).all()
            ]


def _run(row: Row[Any], *, alive: bool = False) -> RunRecord:
    columns = row._asdict()
    del columns["command"]
    columns["options"] = json.loads(row.options)
    columns["summary"] = None if row.summary is None else json.loads(row.summary)
    return RunRecord(**columns, alive=alive)


def _known_run(connection: Connection, run_id: str, flow_run_id: str | None) -> Row[Any] | None:
    same = s.runs.c.run_id == run_id
    if flow_run_id is not None:
        same |= s.runs.c.flow_run_id == flow_run_id
    return connection.execute(select(s.runs).where(same).with_for_update()).first()


def _keep_sheet(connection: Connection, run_id: str, sheet: Sheet | None) -> None:
    if sheet is None:
        return
    content = zlib.compress(json.dumps(asdict(sheet), separators=(",", ":")).encode())
    connection.execute(delete(s.sheets).where(s.sheets.c.run_id == run_id))
    connection.execute(insert(s.sheets).values(run_id=run_id, content=content))


def _unpacked(content: bytes) -> Sheet:
    stored = json.loads(zlib.decompress(content))
    problems, warnings = (
        {int(position): tuple(texts) for position, texts in stored.get(name, {}).items()}
        for name in ("problems", "warnings")
    )
    return Sheet(tuple(stored["lines"]), tuple(stored["names"]), tuple(stored["identities"]), problems, warnings)


def _write_notes(connection: Connection, run_id: str, notes: Sequence[Note]) -> None:
    n = s.notes.c
    for start in range(0, len(notes), CHUNK):
        part = notes[start : start + CHUNK]
        positions = [note.position for note in part]
        connection.execute(delete(s.notes).where(n.run_id == run_id, n.position.in_(positions)))
        rows = [
            asdict(note) | {"run_id": run_id, "error": _storable(note.error), "warnings": json.dumps(note.warnings)}
            for note in part
            if note.status or note.warnings
        ]
        if rows:
            connection.execute(insert(s.notes), rows)


def _storable(text: str) -> str:
    """As every database takes it: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
