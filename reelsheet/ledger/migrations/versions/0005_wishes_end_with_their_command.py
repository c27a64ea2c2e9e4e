"""wishes end with their command: a run that attempted every row may still be killed before its command has said so"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("runs") as batch_op:
        batch_op.add_column(sa.Column("is_concluded", sa.Boolean(), server_default=sa.false(), nullable=False))
    runs = sa.table("runs", sa.column("exit_code"), sa.column("is_concluded"))
    op.execute(sa.update(runs).where(runs.c.exit_code.in_([0, 1])).values(is_concluded=sa.true()))
