"""The ledger's tables. Money in integer cents, times as seconds since 1970 UTC.

Changes come as Alembic migrations in `migrations/versions`; the newest one must make what stands here.
"""

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Enum,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()
BigId = BigInteger().with_variant(Integer, "sqlite")
LIVE = text("state = 'claimed'")


class State(StrEnum):
    """Where an attempt stands. Only `claimed` may become `submitted`, `refused` or `unknown` by an answer."""

    CLAIMED = "claimed"  # reserved; the POST may be on its way
    REFUSED = "refused"  # certainly not accepted: no charge, may be claimed again in place
    UNKNOWN = "unknown"  # may have been charged; no id
    ABANDONED = "abandoned"  # a person says it never was; may be claimed again in place
    SUBMITTED = "submitted"  # the provider's id is known: paid, to be polled
    COMPLETED = "completed"  # the provider has the clip
    FAILED = "failed"  # the provider's verdict


StateType = Enum(State, native_enum=False, length=16, values_callable=list)
PAID = (State.SUBMITTED, State.COMPLETED, State.FAILED)
VACANT = (State.REFUSED, State.ABANDONED)

owners = Table(
    "owners",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("host", Text, nullable=False),
    Column("boot", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", Text, nullable=False),
    Column("expires_at", Float, nullable=False),  # by the ledger's clock
    Column("awake_until", Float, nullable=False, server_default="0"),  # the same by the machine's, which no one can set
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("verb", String(16), nullable=False),
    Column("source", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("command", String(64), nullable=False),
    Column("permit", String(64), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("flow_run_id", String(64)),
    Column("options", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("cap_cents", BigInteger),
    Column("confirmed_cents", BigInteger, nullable=False, default=0),
    Column("reserved_cents", BigInteger, nullable=False, default=0),
    Column("at_risk_cents", BigInteger, nullable=False, default=0),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("exit_code", Integer),
    Column("summary", Text),
    Index("ix_runs_command", "command"),
    Index("ix_runs_flow_run_id", "flow_run_id"),
    Index("ix_runs_started_at", "started_at"),
)

days = Table(
    "days",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("confirmed_cents", BigInteger, nullable=False, default=0),
    Column("reserved_cents", BigInteger, nullable=False, default=0),
    Column("at_risk_cents", BigInteger, nullable=False, default=0),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("identity", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", StateType, nullable=False),
    Column("owner", String(64)),
    Column("run_id", String(64), nullable=False),
    Column("day", String(10), nullable=False),
    Column("price_cents", Integer, nullable=False),
    Column("quoted_cents", Integer),
    Column("prediction_id", String(200), unique=True),
    Column("error_code", String(32)),
    Column("error", Text),
    Column("fingerprint", String(80)),
    Column("claimed_at", Float, nullable=False),
    Column("submitted_at", Float),
    Column("completed_at", Float),
    Column("imported", Boolean, nullable=False, default=False),
    UniqueConstraint("identity", "number", name="uq_attempts_identity_number"),
    Index("ix_attempts_run_id", "run_id"),
    Index("ix_attempts_claimed", "owner", sqlite_where=LIVE, postgresql_where=LIVE),
    # The database itself refuses a second live claim.
    Index("uq_attempts_live_claim", "identity", unique=True, sqlite_where=LIVE, postgresql_where=LIVE),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("attempt_id", BigId, ForeignKey("attempts.id", ondelete="CASCADE"), nullable=False),
    Column("destination", Text, nullable=False),
    Column("output", Integer, nullable=False),
    Column("outputs", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("duration_s", Float),
    Column("delivered_at", Float, nullable=False),
    UniqueConstraint("attempt_id", "destination", "output", name="uq_deliveries_attempt_destination_output"),
)

grants = Table(
    "grants",
    metadata,
    Column("permit", String(64), primary_key=True),
    Column("identity", String(64), primary_key=True),
    Column("replaces", Integer, nullable=False),
)

notes = Table(
    "notes",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("status", String(16), nullable=False),
    Column("error_code", String(32)),
    Column("error", Text, nullable=False, default=""),
    Column("warnings", Text, nullable=False, default="[]"),
)

shards = Table(
    "shards",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("first_position", Integer, nullable=False),
    Column("last_position", Integer, nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    Column("owner", String(64)),
    Column("flow_run_id", String(64)),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("stop_code", String(32)),
    Column("stop_error", Text),
    Column("content", LargeBinary),  # the rows, for whoever takes the shard; empty once it is finished
)

sheets = Table(
    "sheets",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("content", LargeBinary, nullable=False),  # which rows a run has, packed
)

imports = Table(
    "imports",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("version", String(80), nullable=False),
)
