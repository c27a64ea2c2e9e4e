"""one live claim: refused by the database itself; leases by a clock that no one can set; which rows a run has"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sheets",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id"),
    )
    with op.batch_alter_table("owners", schema=None) as batch_op:
        batch_op.add_column(sa.Column("awake_until", sa.Float(), server_default="0", nullable=False))
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        live = sa.text("state = 'claimed'")
        batch_op.create_index(
            "uq_attempts_live_claim", ["identity"], unique=True, sqlite_where=live, postgresql_where=live
        )
