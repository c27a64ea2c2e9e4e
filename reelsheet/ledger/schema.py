"""The ledger's tables. Money in integer cents, times as seconds since 1970 UTC.

Changes come as Alembic migrations in `migrations/versions`; the newest one must make what stands here.
"""

from enum import StrEnum

import sqlalchemy as sa

metadata = sa.MetaData()
BigId = sa.BigInteger().with_variant(sa.Integer, "sqlite")
LIVE = sa.text("state = 'claimed'")


class State(StrEnum):
    """Where an attempt stands. Only `claimed` may become `submitted`, `refused` or `unknown` by an answer."""

    CLAIMED = "claimed"  # reserved; the POST may be on its way
    REFUSED = "refused"  # certainly not accepted: no charge, may be claimed again in place
    UNKNOWN = "unknown"  # may have been charged; no id
    ABANDONED = "abandoned"  # a person says it never was; may be claimed again in place
    SUBMITTED = "submitted"  # the provider's id is known: paid, to be polled
    COMPLETED = "completed"  # the provider has the clip
    FAILED = "failed"  # the provider's verdict


StateType = sa.Enum(State, native_enum=False, length=16, values_callable=list)
PAID = (State.SUBMITTED, State.COMPLETED, State.FAILED)
VACANT = (State.REFUSED, State.ABANDONED)

owners = sa.Table(
    "owners",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("boot", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),  # by the ledger's clock
    sa.Column("awake_until", sa.Float, nullable=False, server_default="0"),  # by the machine's, which nobody can set
    sa.Column("account", sa.String(64)),  # whose places it uses; None: it wants no more of them
    sa.Column("in_flight", sa.Integer, nullable=False, server_default="0"),  # predictions
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("verb", sa.String(16), nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("command", sa.String(64), nullable=False),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("flow_run_id", sa.String(64)),
    sa.Column("options", sa.Text, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("cap_cents", sa.BigInteger),
    sa.Column("confirmed_cents", sa.BigInteger, nullable=False, default=0),
    sa.Column("reserved_cents", sa.BigInteger, nullable=False, default=0),
    sa.Column("at_risk_cents", sa.BigInteger, nullable=False, default=0),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("finished_at", sa.Float),
    sa.Column("exit_code", sa.Integer),
    sa.Column("summary", sa.Text),
    sa.Column("sequence", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("asks", sa.String(64), nullable=False, server_default=""),  # what it asks to pay again for, by `Ask`
    sa.Column("is_concluded", sa.Boolean, nullable=False, server_default=sa.false()),  # its wish is over
    sa.Index("ix_runs_command", "command"),
    sa.Index("ix_runs_flow_run_id", "flow_run_id"),
    sa.Index("ix_runs_sequence", "sequence"),
)

days = sa.Table(
    "days",
    metadata,
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("is_play_money", sa.Boolean, primary_key=True),
    sa.Column("confirmed_cents", sa.BigInteger, nullable=False, default=0),
    sa.Column("reserved_cents", sa.BigInteger, nullable=False, default=0),
    sa.Column("at_risk_cents", sa.BigInteger, nullable=False, default=0),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("identity", sa.String(64), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("state", StateType, nullable=False),
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
    sa.Column("imported", sa.Boolean, nullable=False, default=False),
    sa.Column("sequence", sa.BigInteger, nullable=False, server_default="0"),  # of the claim
    sa.Column("is_play_money", sa.Boolean, nullable=False, server_default=sa.false()),  # claimed at a loopback address
    sa.UniqueConstraint("identity", "number", name="uq_attempts_identity_number"),
    sa.Index("ix_attempts_run_id", "run_id"),
    sa.Index("ix_attempts_claimed", "owner", sqlite_where=LIVE, postgresql_where=LIVE),
    # The database itself refuses a second live claim.
    sa.Index("uq_attempts_live_claim", "identity", unique=True, sqlite_where=LIVE, postgresql_where=LIVE),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("attempt_id", BigId, sa.ForeignKey("attempts.id", ondelete="CASCADE"), nullable=False),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("output", sa.Integer, nullable=False),
    sa.Column("outputs", sa.Integer, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("width", sa.Integer),
    sa.Column("height", sa.Integer),
    sa.Column("duration_s", sa.Float),
    sa.Column("delivered_at", sa.Float, nullable=False),
    sa.UniqueConstraint("attempt_id", "destination", "output", name="uq_deliveries_attempt_destination_output"),
)

grants = sa.Table(
    "grants",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("identity", sa.String(64), primary_key=True),
    sa.Column("replaces", sa.Integer, nullable=False),  # the number of an attempt; 0: there was none to replace
    sa.Column("ask", sa.String(16)),  # why, by `Ask`
)

# The ledger's own order. No clock has a say in what came first.
counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

tries = sa.Table(
    "tries",
    metadata,
    sa.Column("identity", sa.String(64), primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),  # when a run last took a step for it, beside its claims
)

notes = sa.Table(
    "notes",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("error_code", sa.String(32)),
    sa.Column("error", sa.Text, nullable=False, default=""),
    sa.Column("warnings", sa.Text, nullable=False, default="[]"),
)

shards = sa.Table(
    "shards",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("first_position", sa.Integer, nullable=False),
    sa.Column("last_position", sa.Integer, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("owner", sa.String(64)),
    sa.Column("flow_run_id", sa.String(64)),
    sa.Column("started_at", sa.Float),
    sa.Column("finished_at", sa.Float),
    sa.Column("stop_code", sa.String(32)),
    sa.Column("stop_error", sa.Text),
    sa.Column("content", sa.LargeBinary),  # the rows, for whoever takes the shard; empty once it is finished
)

sheets = sa.Table(
    "sheets",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),  # which rows a run has, packed
)

imports = sa.Table(
    "imports",
    metadata,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("version", sa.String(80), nullable=False),
)
