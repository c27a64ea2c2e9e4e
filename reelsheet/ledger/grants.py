"""Grants: permission to pay once more for an attempt that is named, inside a transaction.

A run has its grants under a permit, which an unfinished run shares with the runs that repeat its command.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select

from reelsheet.ledger.records import RepayPermission
from reelsheet.ledger.schema import VACANT, attempts, grants, runs

FINISHED_EXIT_CODES = (0, 1)  # of a run that tried every row

_GRANTED = (
    select(grants.c.replaces)
    .join(runs, runs.c.permit == grants.c.permit)
    .where(runs.c.run_id == bindparam("_run"), grants.c.identity == bindparam("_identity"))
)


def is_granted(connection: Connection, run_id: str, identity: str, number: int) -> bool:
    """True where this run may pay again for this very attempt."""
    return connection.execute(_GRANTED, {"_run": run_id, "_identity": identity}).scalar() == number


def of_permit(connection: Connection, permit: str) -> dict[str, int]:
    """identity → the number of the attempt that may be replaced."""
    query = select(grants.c.identity, grants.c.replaces).where(grants.c.permit == permit)
    return {row.identity: row.replaces for row in connection.execute(query)}


def grant(connection: Connection, permit: str, requested: Mapping[str, int]) -> None:
    """New grants, except where the permit gave one already or has itself paid for what would be replaced."""
    if not requested:
        return
    paid = (
        select(attempts.c.identity)
        .join(runs, runs.c.run_id == attempts.c.run_id)
        .where(runs.c.permit == permit, attempts.c.state.not_in(VACANT))
    )
    settled = set(of_permit(connection, permit)) | set(connection.execute(paid).scalars())
    new = [
        {"permit": permit, "identity": identity, "replaces": number}
        for identity, number in sorted(requested.items())
        if identity not in settled
    ]
    if new:
        connection.execute(insert(grants), new)


def unfinished_run(connection: Connection, command: str) -> Row[Any] | None:
    """(run_id, permit) of the latest run of this command, where it has grants and did not finish."""
    latest = connection.execute(
        select(runs.c.run_id, runs.c.permit, runs.c.exit_code)
        .where(runs.c.command == command)
        .order_by(runs.c.started_at.desc(), runs.c.run_id.desc())
        .limit(1)
    ).first()
    if latest is None or latest.exit_code in FINISHED_EXIT_CODES:
        return None
    count = select(func.count()).select_from(grants).where(grants.c.permit == latest.permit)
    return latest if connection.execute(count).scalar() else None


def shared(connection: Connection, command: str) -> RepayPermission | None:
    """What an unfinished run of the same command may replace, and a new one with it."""
    unfinished = unfinished_run(connection, command)
    if unfinished is None:
        return None
    sharing = select(runs.c.run_id).where(runs.c.permit == unfinished.permit)
    return RepayPermission(of_permit(connection, unfinished.permit), frozenset(connection.execute(sharing).scalars()))
