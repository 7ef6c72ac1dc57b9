"""The ledger of operations."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
BIG_INTEGER = sa.BigInteger().with_variant(sa.INTEGER(), "sqlite")
BODY = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
OPTIONS: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
}


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "operations",
        sa.Column("operation_id", sa.String(36), nullable=False),
        sa.Column("idempotency_key", sa.String(191), nullable=False),
        sa.Column(
            "action",
            sa.String(32),
            nullable=False,
            comment="Operation.action, for example power_off",
        ),
        sa.Column("instance_uuid", sa.String(36), nullable=False, comment="The Nova UUID."),
        sa.Column("vcenter_uuid", sa.String(36), nullable=False),
        sa.Column("cluster", sa.String(128), nullable=False, comment="moref"),
        sa.Column("compute_host", sa.String(255), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False, comment="OpenStack's"),
        sa.Column("project_id", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column(
            "recorded_delete",
            sa.Boolean,
            nullable=False,
            comment="A person asked for this destroy.",
        ),
        sa.Column("state", sa.String(16), nullable=False, comment="OperationState"),
        sa.Column("fault", sa.SmallInteger, nullable=False, comment="FaultReason, 0 if none"),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("edge", sa.String(255), nullable=False),
        sa.Column("fencing_epoch", BIG_INTEGER, nullable=False),
        sa.Column("deadline", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("request", BODY, nullable=False, comment="Operation, serialised"),
        sa.Column("result", BODY, nullable=True, comment="OperationResult, serialised"),
        sa.PrimaryKeyConstraint("operation_id", name="pk_operations"),
        sa.UniqueConstraint("idempotency_key", name="uq_operations_idempotency_key"),
        **OPTIONS,
    )
    for columns in (["vcenter_uuid", "state"], ["instance_uuid", "action"], ["created_at"]):
        op.create_index(f"ix_operations_{'_'.join(columns)}", "operations", columns)
