"""Which process applies a vCenter's inventory."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; nobody is named yet."""
    with op.batch_alter_table("vcenters") as table:
        table.add_column(
            sa.Column("served_by", sa.String(length=36), nullable=False, server_default="")
        )
