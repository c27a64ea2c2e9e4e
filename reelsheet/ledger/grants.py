"""Grants: permission to pay once more for an attempt that is named.

Each run has its own. A command repeated while a run of it is unfinished gets what that run got, used or not: so one
wish is paid for once, however often its command is given.
"""

import json
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, Row, bindparam, delete, insert, select

from reelsheet.ledger.lease import Lease
from reelsheet.ledger.records import Ask, Attempt, Grant, RepayRequest, UnfinishedRun
from reelsheet.ledger.schema import grants, runs

_GRANTED = select(grants.c.replaces, grants.c.ask).where(
    grants.c.run_id == bindparam("_run"), grants.c.identity == bindparam("_identity")
)
_IS_UNFINISHED = runs.c.is_concluded.is_(False)


def decide(identity: str, request: RepayRequest, unfinished: Sequence[UnfinishedRun]) -> Grant:
    """What a run gets for one identity; `unfinished`: the runs of its command that are, the latest first.

    Where one of them asked for as much, it gets the same.
    """
    run = _granted_by(identity, request, unfinished)
    if run is not None:
        return run.grants[identity]
    return Grant(request.replaces, min(request.asks, key=list(Ask).index, default=None))


def continued(
    requests: Mapping[str, RepayRequest],
    asks: Collection[Ask],
    unfinished: Sequence[UnfinishedRun],
    where: Collection[str] = (),
) -> UnfinishedRun | None:
    """The unfinished run that a run with these requests goes on with: the latest that has a part in it."""
    parts = {run.run_id for one in requests.items() if (run := _granted_by(*one, unfinished)) is not None}
    alike = (run for run in unfinished if run.is_latest and run.asks == set(asks) and run.where == set(where))
    parts |= {run.run_id for run in alike}
    return next((run for run in unfinished if run.run_id in parts), None)


def _granted_by(identity: str, request: RepayRequest, unfinished: Sequence[UnfinishedRun]) -> UnfinishedRun | None:
    """The run whose grant counts. A redo is kept although the table that said so has been written again since."""
    for run in unfinished:
        earlier = run.grants.get(identity)
        if earlier is not None and (request.asks <= run.asks if request.asks else earlier.ask is Ask.REDO):
            return run
    return None


def allows(connection: Connection, run_id: str, attempt: Attempt) -> bool:
    """Whether this run may pay again for this very attempt."""
    row = connection.execute(_GRANTED, {"_run": run_id, "_identity": attempt.identity}).first()
    return row is not None and _grant(row).allows(attempt)


def of_run(connection: Connection, run_id: str) -> dict[str, Grant]:
    """By identity."""
    return {row.identity: _grant(row) for row in connection.execute(select(grants).where(grants.c.run_id == run_id))}


def add(connection: Connection, run_id: str, given: Mapping[str, Grant]) -> None:
    """Insert a new run's grants."""
    rows = [
        {"run_id": run_id, "identity": identity, "replaces": grant.replaces, "ask": grant.ask}
        for identity, grant in sorted(given.items())
    ]
    if rows:
        connection.execute(insert(grants), rows)


def unfinished_runs(connection: Connection, lease: Lease, command: str) -> list[UnfinishedRun]:
    """The runs of a command that are not concluded, the latest first."""
    r, of_command = runs.c, runs.c.command == command
    spent_cents = (r.confirmed_cents + r.reserved_cents + r.at_risk_cents).label("spent_cents")
    query = select(
        r.run_id, r.started_at, r.finished_at, r.exit_code, r.owner, r.asks, r.sequence, r.options, spent_cents
    )
    rows = connection.execute(query.where(of_command, _IS_UNFINISHED).order_by(r.sequence.desc())).all()
    if not rows:
        return []
    latest: dict[frozenset[str], int] = {}  # where → the sequence of the latest run, unfinished or not
    for row in connection.execute(select(r.sequence, r.options).where(of_command).order_by(r.sequence)):
        latest[_where(row.options)] = row.sequence
    given: dict[str, dict[str, Grant]] = {row.run_id: {} for row in rows}
    named = select(r.run_id).where(of_command, _IS_UNFINISHED)
    for grant in connection.execute(select(grants).where(grants.c.run_id.in_(named))):
        given[grant.run_id][grant.identity] = _grant(grant)
    return [
        UnfinishedRun(
            row.run_id,
            row.started_at,
            row.exit_code,
            alive=row.finished_at is None and not lease.is_dead(connection, row.owner),
            is_latest=row.sequence == latest[_where(row.options)],
            asks=frozenset(map(Ask, row.asks.split())),
            grants=given[row.run_id],
            spent_cents=row.spent_cents,
            where=_where(row.options),
        )
        for row in rows
        if row.sequence == latest[_where(row.options)] or given[row.run_id]
    ]


def end_earlier(connection: Connection, lease: Lease, run_id: str, rows: Mapping[str, bool]) -> None:
    """A run is concluded, and with it the earlier runs of its command whose rows it went on with.

    `rows`: by identity, whether the run chose it. One that left out rows of an earlier run, or asked for less (a plain
    run after a killed `--fresh`), does not end that one, nor does it end a run that still goes on beside it.
    """
    query = select(runs.c.command, runs.c.sequence, runs.c.asks).where(runs.c.run_id == run_id)
    run = connection.execute(query).first()
    if run is None:
        return
    is_earlier = (runs.c.command == run.command) & (runs.c.sequence < run.sequence) & _IS_UNFINISHED
    earlier = select(runs.c.run_id, runs.c.owner, runs.c.finished_at, runs.c.asks).where(is_earlier)
    for row in connection.execute(earlier).all():
        asked_as_much = set(row.asks.split()) <= set(run.asks.split())
        shared = [rows[identity] for identity in of_run(connection, row.run_id) if identity in rows]
        is_alive = row.finished_at is None and not lease.is_dead(connection, row.owner)
        if asked_as_much and shared and all(shared) and not is_alive:
            connection.execute(delete(grants).where(grants.c.run_id == row.run_id))


def _where(options: str) -> frozenset[str]:
    return frozenset(json.loads(options).get("where") or ())


def _grant(row: Row[tuple[int, str | None]]) -> Grant:
    return Grant(row.replaces, None if row.ask is None else Ask(row.ask))
