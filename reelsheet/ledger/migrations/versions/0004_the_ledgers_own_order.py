"""the ledger's own order: what came first is told by no clock; grants of each run; play money apart"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from reelsheet.settings import is_loopback_url

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("runs") as batch_op:
        batch_op.add_column(sa.Column("sequence", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("asks", sa.String(length=64), server_default="", nullable=False))
        batch_op.drop_index("ix_runs_started_at")
        batch_op.create_index("ix_runs_sequence", ["sequence"], unique=False)
    with op.batch_alter_table("attempts") as batch_op:
        batch_op.add_column(sa.Column("sequence", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("is_play_money", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "tries",
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("identity"),
    )
    _number(op.get_bind())
    _give_each_run_its_grants()
    _set_play_money_apart(op.get_bind())


def _number(connection: sa.Connection) -> None:
    """Runs by their start, attempts by their id: the best that is known of the past."""
    runs = sa.table("runs", *map(sa.column, ("run_id", "verb", "options", "started_at", "sequence", "asks")))
    attempts = sa.table("attempts", *map(sa.column, ("id", "sequence")))
    query = sa.select(runs.c.run_id, runs.c.verb, runs.c.options).order_by(runs.c.started_at, runs.c.run_id)
    last = 0
    for last, run in enumerate(connection.execute(query).all(), 1):
        values = {"sequence": last, "asks": _asks(run.verb, json.loads(run.options))}
        connection.execute(sa.update(runs).where(runs.c.run_id == run.run_id).values(**values))
    connection.execute(sa.update(attempts).values(sequence=attempts.c.id))
    last = max(last, connection.execute(sa.select(sa.func.max(attempts.c.id))).scalar() or 0)
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    connection.execute(sa.insert(counters).values(name="sequence", value=last))


def _asks(verb: str, options: dict[str, Any]) -> str:
    asks = {"fresh": options.get("fresh"), "unknown": options.get("retry_unknown"), "failed": verb == "retry"}
    return " ".join(sorted(name for name, is_asked in asks.items() if is_asked))


def _give_each_run_its_grants() -> None:
    """So far, runs that shared a permission had it in the name of the first of them."""
    op.rename_table("grants", "shared_grants")
    op.create_table(
        "grants",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("replaces", sa.Integer(), nullable=False),
        sa.Column("ask", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "identity"),
    )
    op.execute(
        "INSERT INTO grants (run_id, identity, replaces) SELECT runs.run_id, g.identity, g.replaces "
        "FROM shared_grants AS g JOIN runs ON runs.permit = g.permit"
    )
    op.drop_table("shared_grants")
    with op.batch_alter_table("runs") as batch_op:
        batch_op.drop_column("permit")


def _set_play_money_apart(connection: sa.Connection) -> None:
    """The money of runs at a loopback API address leaves the days' sums for days of its own."""
    runs = sa.table("runs", *map(sa.column, ("run_id", "options")))
    for run in connection.execute(sa.select(runs)).all():
        if is_loopback_url(json.loads(run.options).get("base_url", "")):
            statement = sa.text("UPDATE attempts SET is_play_money = :yes WHERE run_id = :run")
            connection.execute(statement.bindparams(sa.bindparam("yes", True, sa.Boolean)), {"run": run.run_id})
    op.drop_table("days")
    op.create_table(
        "days",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("is_play_money", sa.Boolean(), nullable=False),
        sa.Column("confirmed_cents", sa.BigInteger(), nullable=False),
        sa.Column("reserved_cents", sa.BigInteger(), nullable=False),
        sa.Column("at_risk_cents", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "is_play_money"),
    )
    op.execute(
        "INSERT INTO days (day, is_play_money, confirmed_cents, reserved_cents, at_risk_cents) "
        "SELECT day, is_play_money, "
        "SUM(CASE WHEN state IN ('submitted', 'completed', 'failed') THEN coalesce(quoted_cents, price_cents) "
        "ELSE 0 END), "
        "SUM(CASE WHEN state = 'claimed' THEN price_cents ELSE 0 END), "
        "SUM(CASE WHEN state = 'unknown' THEN price_cents ELSE 0 END) "
        "FROM attempts WHERE NOT imported GROUP BY day, is_play_money"
    )
