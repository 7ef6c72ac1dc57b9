"""The tables as they were first."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None

TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
BIG_INTEGER = sa.BigInteger().with_variant(sa.INTEGER(), "sqlite")
LONG_TEXT = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
HASH = sa.BINARY(length=16).with_variant(sa.LargeBinary(length=16), "sqlite")
BODY = sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
OPTIONS: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
}


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "alarms",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("vcenter_uuid", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("cluster_uuid", sa.String(length=36), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("held", LONG_TEXT, nullable=False),
        sa.Column("raised_at", TIME, nullable=False),
        sa.Column("released_at", TIME, nullable=True),
        sa.Column("released_by", sa.String(length=255), nullable=False),
        sa.Column("settled_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_alarms"),
        **OPTIONS,
    )
    op.create_index("ix_alarms_vcenter_uuid_settled_at", "alarms", ["vcenter_uuid", "settled_at"])

    op.create_table(
        "clusters",
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("vcenter_uuid", sa.String(length=36), nullable=False),
        sa.Column("moref", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("known_name", sa.String(length=255), nullable=False),
        sa.Column("host_uuids", sa.Text(), nullable=False),
        sa.Column("compute_host", sa.String(length=255), nullable=False),
        sa.Column("compute_node_uuid", sa.String(length=36), nullable=False),
        sa.Column("hypervisor_hostname", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=False),
        sa.Column("policy", sa.String(length=16), nullable=False),
        sa.Column("synchronised_at", TIME, nullable=True),
        sa.Column("allocations_at", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("uuid", name="pk_clusters"),
        sa.UniqueConstraint("compute_host", name="uq_clusters_compute_host"),
        sa.UniqueConstraint("compute_node_uuid", name="uq_clusters_compute_node_uuid"),
        sa.UniqueConstraint("vcenter_uuid", "moref", name="uq_clusters_vcenter_uuid_moref"),
        **OPTIONS,
    )
    op.create_table(
        "edges",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("vcenter_uuid", sa.String(length=36), nullable=True),
        sa.Column("epoch", BIG_INTEGER, nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("peer", sa.String(length=255), nullable=False),
        sa.Column("vcenter_state", sa.SmallInteger(), nullable=False),
        sa.Column("vcenter_message", sa.Text(), nullable=False),
        sa.Column("certificate_not_before", TIME, nullable=True),
        sa.Column("certificate_not_after", TIME, nullable=True),
        sa.Column("first_seen_at", TIME, nullable=False),
        sa.Column("last_seen_at", TIME, nullable=False),
        sa.Column("online", sa.Boolean(), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_edges"),
        **OPTIONS,
    )
    op.create_table(
        "images",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("vcenter_uuid", sa.String(length=36), nullable=False),
        sa.Column("moref", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("visibility", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("removed_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        **OPTIONS,
    )
    op.create_index("ix_images_vcenter_uuid_moref", "images", ["vcenter_uuid", "moref"])

    op.create_table(
        "leases",
        sa.Column("resource", sa.String(length=255), nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=False),
        sa.Column("fencing_epoch", BIG_INTEGER, nullable=False),
        sa.Column("acquired_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("resource", name="pk_leases"),
        **OPTIONS,
    )
    op.create_table(
        "objects",
        sa.Column("vcenter_uuid", sa.String(length=36), nullable=False),
        sa.Column("reference", sa.String(length=191), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("content_hash", HASH, nullable=False),
        sa.Column("epoch", BIG_INTEGER, nullable=False),
        sa.Column("revision", BIG_INTEGER, nullable=False),
        sa.Column("body", BODY, nullable=False),
        sa.Column("cluster", sa.String(length=128), nullable=True),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("standing", sa.SmallInteger(), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("vcenter_uuid", "reference", name="pk_objects"),
        **OPTIONS,
    )
    op.create_index(
        "ix_objects_vcenter_uuid_kind_cluster", "objects", ["vcenter_uuid", "kind", "cluster"]
    )
    op.create_index("ix_objects_vcenter_uuid_standing", "objects", ["vcenter_uuid", "standing"])

    op.create_table(
        "quarantine",
        sa.Column("vcenter_uuid", sa.String(length=36), nullable=False),
        sa.Column("reference", sa.String(length=191), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("content_hash", HASH, nullable=True),
        sa.Column("since", TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("tried_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("vcenter_uuid", "reference", name="pk_quarantine"),
        **OPTIONS,
    )
    op.create_table(
        "servers",
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("vcenter_uuid", sa.String(length=36), nullable=False),
        sa.Column("moref", sa.String(length=128), nullable=False),
        sa.Column("instance_uuid", sa.String(length=64), nullable=False),
        sa.Column("cluster_uuid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("derived", sa.Boolean(), nullable=False),
        sa.Column("cpus", sa.Integer(), nullable=False),
        sa.Column("memory_mb", BIG_INTEGER, nullable=False),
        sa.Column("disk_gb", BIG_INTEGER, nullable=False),
        sa.Column("adopted_at", TIME, nullable=False),
        sa.Column("removed_at", TIME, nullable=True),
        sa.Column("removed_reason", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("uuid", name="pk_servers"),
        **OPTIONS,
    )
    op.create_index("ix_servers_cluster_uuid_state", "servers", ["cluster_uuid", "state"])
    op.create_index("ix_servers_instance_uuid", "servers", ["instance_uuid"])
    op.create_index("ix_servers_vcenter_uuid_moref", "servers", ["vcenter_uuid", "moref"])

    op.create_table(
        "vcenters",
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("full_name", sa.String(length=255), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("build", sa.String(length=64), nullable=False),
        sa.Column("api_version", sa.String(length=64), nullable=False),
        sa.Column("first_seen_at", TIME, nullable=False),
        sa.Column("parity_generation", BIG_INTEGER, nullable=False),
        sa.Column("parity_epoch", BIG_INTEGER, nullable=False),
        sa.Column("parity_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("uuid", name="pk_vcenters"),
        **OPTIONS,
    )
