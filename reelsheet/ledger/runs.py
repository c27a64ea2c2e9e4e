"""Runs: registered and closed, the rows that they have, and their notes on rows."""

import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from reelsheet.ledger import grants
from reelsheet.ledger import schema as s
from reelsheet.ledger.database import Database
from reelsheet.ledger.lease import Lease
from reelsheet.ledger.records import Ask, Grant, Note, RepayRequest, RunRecord, Sheet, UnfinishedRun
from reelsheet.ledger.sequence import CHUNK, next_number

FINISHED_EXIT_CODES = (0, 1)  # of a run that attempted every row that it chose


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
        asks: Collection[Ask] = (),
        requests: Mapping[str, RepayRequest] | None = None,
        is_new: bool = False,
        sheet: Sheet | None = None,
    ) -> RunRecord:
        """Register a run; the same `flow_run_id` (or `run_id`) again is the same run and keeps its money and cap.

        `requests`: by identity, of every row that it may pay for; `asks` is what it asks for of all rows. The same
        `command` repeated while a run of it is unfinished gets what that one got, unless it `is_new`.
        """
        values = {
            "run_id": run_id, "verb": verb, "source": _storable(source), "destination": destination,
            "command": command, "owner": self._lease.owner.id, "flow_run_id": flow_run_id,
            "options": json.dumps(dict(options)), "rows": rows, "cap_cents": cap_cents, "confirmed_cents": 0,
            "reserved_cents": 0, "at_risk_cents": 0, "asks": " ".join(sorted(asks)),
        }  # fmt: skip
        return self._db.committed(self._open, values, requests or {}, sheet, is_new=is_new)

    def _open(
        self,
        connection: Connection,
        values: Mapping[str, Any],
        requests: Mapping[str, RepayRequest],
        sheet: Sheet | None,
        *,
        is_new: bool,
    ) -> RunRecord:
        run_id, command = values["run_id"], values["command"]
        self._db.serialise(connection, command)
        known = _known_run(connection, run_id, values["flow_run_id"])
        if known is not None:
            reopened = {"owner": self._lease.owner.id, "finished_at": None, "exit_code": None, "is_concluded": False}
            connection.execute(update(s.runs).where(s.runs.c.run_id == known.run_id).values(**reopened))
            _keep_sheet(connection, known.run_id, sheet)
            return replace(_run(known), owner=self._lease.owner.id, finished_at=None, exit_code=None)
        unfinished = [] if is_new else grants.unfinished_runs(connection, self._lease, command)
        given = {identity: grants.decide(identity, request, unfinished) for identity, request in requests.items()}
        grants.add(connection, run_id, given)
        _keep_sheet(connection, run_id, sheet)
        started = {"started_at": self._db.now(connection), "sequence": next_number(connection)}
        connection.execute(insert(s.runs).values(**values, **started))
        row = connection.execute(select(s.runs).where(s.runs.c.run_id == run_id)).one()
        where = json.loads(values["options"]).get("where") or ()
        continued = grants.continued(requests, values["asks"].split(), unfinished, where)
        return replace(_run(row), continues=None if continued is None else continued.run_id)

    def finish_run(self, run_id: str, *, exit_code: int, summary: Mapping[str, Any]) -> None:
        """Record how a run ended."""
        self._db.committed(self._finish, run_id, exit_code, json.dumps(dict(summary)))

    def _finish(self, connection: Connection, run_id: str, exit_code: int, summary: str) -> None:
        ended = {"finished_at": self._db.now(connection), "exit_code": exit_code, "summary": summary}
        connection.execute(update(s.runs).where(s.runs.c.run_id == run_id).values(**ended))

    def conclude_run(self, run_id: str, rows: Mapping[str, bool]) -> None:
        """The command has ended, and with it its wish, where the run attempted every row that it chose.

        `rows`: by identity, whether the run chose it. From now on the same command is a new wish.
        """
        self._db.committed(self._conclude, run_id, rows)

    def _conclude(self, connection: Connection, run_id: str, rows: Mapping[str, bool]) -> None:
        is_finished = (s.runs.c.run_id == run_id) & s.runs.c.exit_code.in_(FINISHED_EXIT_CODES)
        if connection.execute(update(s.runs).where(is_finished).values(is_concluded=True)).rowcount:
            grants.end_earlier(connection, self._lease, run_id, rows)

    def run(self, run_id: str) -> RunRecord | None:
        """One run, by its id or an unambiguous beginning of it."""
        query = select(s.runs).where(s.runs.c.run_id.startswith(run_id, autoescape=True)).order_by(s.runs.c.run_id)
        candidates = self._records(query.limit(2))
        exact = [record for record in candidates if record.run_id == run_id]
        return next(iter(exact or candidates), None) if exact or len(candidates) == 1 else None

    def run_of_flow(self, flow_run_id: str) -> RunRecord | None:
        """The run that a Prefect flow run stands for."""
        return next(iter(self._records(select(s.runs).where(s.runs.c.flow_run_id == flow_run_id))), None)

    def recent_runs(self, limit: int | None = 20, destination: str | None = None) -> list[RunRecord]:
        """The latest first, in the ledger's own order; `limit` None: all of them."""
        query = select(s.runs).order_by(s.runs.c.sequence.desc()).limit(limit)
        return self._records(query if destination is None else query.where(s.runs.c.destination == destination))

    def runs_since(self, run_id: str) -> frozenset[str]:
        """This run and those of its destination that began after it."""
        began = select(s.runs.c.sequence, s.runs.c.destination).where(s.runs.c.run_id == run_id).subquery()
        same = s.runs.c.destination == began.c.destination
        query = select(s.runs.c.run_id).join(began, same & (s.runs.c.sequence >= began.c.sequence))
        return frozenset(row.run_id for row in self._db.fetch(query))

    def sheet(self, run_id: str) -> Sheet | None:
        """Which rows a run has; None where they were not recorded."""
        stored = self._db.fetch(select(s.sheets.c.content).where(s.sheets.c.run_id == run_id))
        return _unpacked(stored[0].content) if stored else None

    # Permission to pay again

    def unfinished_runs(self, command: str) -> list[UnfinishedRun]:
        """The runs of a command that are not concluded, the latest first."""
        with self._db.read() as connection:
            return grants.unfinished_runs(connection, self._lease, command)

    def permissions(self, run_id: str) -> dict[str, Grant]:
        """identity → which attempt this run may replace, where that is its latest."""
        with self._db.read() as connection:
            return grants.of_run(connection, run_id)

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
    for name in ("command", "sequence", "asks", "is_concluded"):
        del columns[name]
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
    return Sheet(**{name: _frozen(value) for name, value in json.loads(zlib.decompress(content)).items()})


def _frozen(value: Any) -> Any:
    """As it was packed: JSON has no tuples, and no numbers as keys."""
    if isinstance(value, dict):
        return {int(position): _frozen(inner) for position, inner in value.items()}
    return tuple(value) if isinstance(value, list) else value


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
