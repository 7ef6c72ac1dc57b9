"""Servers that were handed on and never taken are told apart from those that left management."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

REASON = "its virtual machine is gone; another with its UUID takes over"
"""What was written about them, and about nothing else."""


def upgrade() -> None:
    """Restate the rows; the next start finds who takes them, or ends them."""
    servers = sa.table("servers", sa.column("state"), sa.column("removed_reason"))
    op.execute(
        servers.update()
        .where(servers.c.state == "unmanaged", servers.c.removed_reason == REASON)
        .values(state="handed_on")
    )
