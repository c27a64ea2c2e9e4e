"""the first ledger that was released; the five before it were of its development"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = None
branch_labels = None
depends_on = None

SUMS = ("confirmed_cents", "reserved_cents", "at_risk_cents")
LIVE = sa.text("state = 'claimed'")


def upgrade() -> None:
    big_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "owners",
        sa.Column("id", sa.String(64), primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("host", "boot", "started")),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("awake_until", sa.Float, server_default="0", nullable=False),
        sa.Column("account", sa.String(64)),
        sa.Column("in_flight", sa.Integer, server_default="0", nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("verb", sa.String(16), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("source", "destination", "options")),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("command", "owner")),
        sa.Column("flow_run_id", sa.String(64)),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("cap_cents", sa.BigInteger),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in SUMS),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("finished_at", sa.Float),
        sa.Column("exit_code", sa.Integer),
        sa.Column("summary", sa.Text),
        sa.Column("sequence", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("asks", sa.String(64), server_default="", nullable=False),
        sa.Column("is_concluded", sa.Boolean, server_default=sa.false(), nullable=False),
        *(sa.Index(f"ix_runs_{name}", name) for name in ("command", "flow_run_id", "sequence")),
    )
    op.create_table(
        "days",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("is_play_money", sa.Boolean, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in SUMS),
    )
    op.create_table(
        "attempts",
        sa.Column("id", big_id, primary_key=True, autoincrement=True),
        sa.Column("identity", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(64)),
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("price_cents", sa.Integer, nullable=False),
        sa.Column("quoted_cents", sa.Integer),
        sa.Column("prediction_id", sa.String(200), unique=True),
        sa.Column("error_code", sa.String(32)),
        sa.Column("error", sa.Text),
        sa.Column("fingerprint", sa.String(80)),
        sa.Column("claimed_at", sa.Float, nullable=False),
        sa.Column("submitted_at", sa.Float),
        sa.Column("completed_at", sa.Float),
        sa.Column("imported", sa.Boolean, nullable=False),
        sa.Column("sequence", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("is_play_money", sa.Boolean, server_default=sa.false(), nullable=False),
        sa.UniqueConstraint("identity", "number", name="uq_attempts_identity_number"),
        sa.Index("ix_attempts_run_id", "run_id"),
        sa.Index("ix_attempts_claimed", "owner", sqlite_where=LIVE, postgresql_where=LIVE),
        sa.Index("uq_attempts_live_claim", "identity", unique=True, sqlite_where=LIVE, postgresql_where=LIVE),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", big_id, primary_key=True, autoincrement=True),
        sa.Column("attempt_id", big_id, sa.ForeignKey("attempts.id", ondelete="CASCADE"), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("destination", "key")),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("output", "outputs")),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        *(sa.Column(name, sa.Integer) for name in ("width", "height")),
        sa.Column("duration_s", sa.Float),
        sa.Column("delivered_at", sa.Float, nullable=False),
        sa.UniqueConstraint("attempt_id", "destination", "output", name="uq_deliveries_attempt_destination_output"),
    )
    op.create_table(
        "grants",
        *(sa.Column(name, sa.String(64), primary_key=True) for name in ("run_id", "identity")),
        sa.Column("replaces", sa.Integer, nullable=False),
        sa.Column("ask", sa.String(16)),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "tries",
        sa.Column("identity", sa.String(64), primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "notes",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("error_code", sa.String(32)),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("error", "warnings")),
    )
    op.create_table(
        "shards",
        sa.Column("run_id", sa.String(64), primary_key=True),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("first_position", "last_position", "tries")),
        sa.Column("number", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.String(64)) for name in ("owner", "flow_run_id")),
        *(sa.Column(name, sa.Float) for name in ("started_at", "finished_at")),
        sa.Column("stop_code", sa.String(32)),
        sa.Column("stop_error", sa.Text),
        sa.Column("content", sa.LargeBinary),
    )
    op.create_table(
        "sheets",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "imports",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("destination", "key")),
        sa.Column("version", sa.String(80), nullable=False),
    )
