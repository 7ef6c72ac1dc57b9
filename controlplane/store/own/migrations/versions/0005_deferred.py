"""Deletes that wait for their edge are called deferred, as in the code and the documentation."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Restate the rows that are left."""
    operations = sa.table("operations", sa.column("state"))
    op.execute(
        operations.update().where(operations.c.state == "postponed").values(state="deferred")
    )
