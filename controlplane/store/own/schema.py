"""The tables of the gateway database.

Times are UTC without a zone. The tables are made by the migrations beside this module; a test
holds the two against each other. The ledger's `operations` table is in
`controlplane.store.own.operations`, on the same metadata.
"""

from typing import Any

import sqlalchemy
from sqlalchemy import Boolean, Column, Index, Integer, LargeBinary, SmallInteger, String, Text
from sqlalchemy.dialects import mysql, sqlite

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sqlalchemy.MetaData(naming_convention=NAMING)

BINARY_UTF8: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
}
"""References are case-sensitive, and names may hold any character."""

Time = sqlalchemy.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
"""UTC without a zone, microseconds kept."""
BigInteger = sqlalchemy.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
Uuid = String(36)
LongText = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
Body = LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb")
Hash = sqlalchemy.BINARY(16).with_variant(LargeBinary(16), "sqlite")

edges = sqlalchemy.Table(
    "edges",
    metadata,
    Column("name", String(255), primary_key=True, doc="As in its certificate."),
    Column("vcenter_uuid", Uuid, nullable=True),
    Column("epoch", BigInteger, nullable=False, default=0),
    Column("version", String(64), nullable=False, default=""),
    Column("peer", String(255), nullable=False, default="", doc="Address of the last link."),
    Column("vcenter_state", SmallInteger, nullable=False, default=0, doc="VCenterState"),
    Column("vcenter_message", Text, nullable=False, default=""),
    Column("certificate_not_before", Time, nullable=True),
    Column("certificate_not_after", Time, nullable=True),
    Column("first_seen_at", Time, nullable=False),
    Column("last_seen_at", Time, nullable=False),
    Column("online", Boolean, nullable=False, default=False, doc="A control stream is open."),
    Column("since", Time, nullable=False, doc="The link was opened or lost then."),
    **BINARY_UTF8,
)

vcenters = sqlalchemy.Table(
    "vcenters",
    metadata,
    Column("uuid", Uuid, primary_key=True, doc="about.instanceUuid"),
    Column("full_name", String(255), nullable=False, default=""),
    Column("version", String(64), nullable=False, default=""),
    Column("build", String(64), nullable=False, default=""),
    Column("api_version", String(64), nullable=False, default=""),
    Column("first_seen_at", Time, nullable=False),
    Column("parity_generation", BigInteger, nullable=False, default=0),
    Column("parity_epoch", BigInteger, nullable=False, default=0),
    Column("parity_at", Time, nullable=True, doc="NULL until the first sync is complete."),
    Column("served_by", Uuid, nullable=False, server_default="", doc="Process that applies it"),
    **BINARY_UTF8,
)

clusters = sqlalchemy.Table(
    "clusters",
    metadata,
    Column("uuid", Uuid, primary_key=True, doc="Ours, made at first sight."),
    Column("vcenter_uuid", Uuid, nullable=False),
    Column("moref", String(128), nullable=False),
    Column("name", String(255), nullable=False, doc="Present name in vCenter."),
    Column("known_name", String(255), nullable=False, doc="Name at the last undoubted identity."),
    Column("host_uuids", Text, nullable=False, doc="JSON list of hardware UUIDs, as known_name."),
    Column("compute_host", String(255), nullable=False, doc="Frozen at first sight."),
    Column("compute_node_uuid", Uuid, nullable=False),
    Column("hypervisor_hostname", String(255), nullable=False),
    Column("state", String(16), nullable=False, doc="ClusterState"),
    Column("state_reason", Text, nullable=False, default=""),
    Column("policy", String(16), nullable=False, doc="managed, locked or listed"),
    Column("synchronised_at", Time, nullable=True, doc="Last parity with every server written"),
    Column("allocations_at", Time, nullable=True, doc="Placement held all allocations."),
    Column("created_at", Time, nullable=False),
    Column("updated_at", Time, nullable=False),
    sqlalchemy.UniqueConstraint("vcenter_uuid", "moref"),
    sqlalchemy.UniqueConstraint("compute_host"),
    sqlalchemy.UniqueConstraint("compute_node_uuid"),
    **BINARY_UTF8,
)

objects = sqlalchemy.Table(
    "objects",
    metadata,
    Column("vcenter_uuid", Uuid, primary_key=True),
    Column("reference", String(191), primary_key=True, doc="`<type>:<moref>`"),
    Column("kind", SmallInteger, nullable=False, doc="ObjectKind"),
    Column("content_hash", Hash, nullable=False, doc="Written after everything else."),
    Column("epoch", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("body", Body, nullable=False, doc="InventoryObject, serialised"),
    Column("cluster", String(128), nullable=True, doc="moref of the cluster it belongs to"),
    Column("name", String(255), nullable=False, default=""),
    Column("standing", SmallInteger, nullable=False, doc="ObjectStatus"),
    Column("updated_at", Time, nullable=False),
    Index(None, "vcenter_uuid", "kind", "cluster"),
    Index(None, "vcenter_uuid", "standing"),
    **BINARY_UTF8,
)

servers = sqlalchemy.Table(
    "servers",
    metadata,
    Column("uuid", Uuid, primary_key=True, doc="The Nova UUID."),
    Column("vcenter_uuid", Uuid, nullable=False),
    Column("moref", String(128), nullable=False, doc="Where it was last seen: a hint."),
    Column("instance_uuid", String(64), nullable=False, doc="config.instanceUuid"),
    Column("cluster_uuid", Uuid, nullable=False),
    Column("name", String(255), nullable=False),
    Column("origin", String(16), nullable=False, doc="adopted or created"),
    Column("state", String(16), nullable=False, doc="ServerState"),
    Column("project_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("derived", Boolean, nullable=False, doc="uuid is a UUIDv5: its own was taken."),
    Column("cpus", Integer, nullable=False),
    Column("memory_mb", BigInteger, nullable=False),
    Column("disk_gb", BigInteger, nullable=False),
    Column("adopted_at", Time, nullable=False),
    Column("removed_at", Time, nullable=True),
    Column("removed_reason", String(255), nullable=False, default=""),
    Index(None, "vcenter_uuid", "moref"),
    Index(None, "cluster_uuid", "state"),
    Index(None, "instance_uuid"),
    **BINARY_UTF8,
)

images = sqlalchemy.Table(
    "images",
    metadata,
    Column("id", Uuid, primary_key=True, doc="The Glance image id."),
    Column("vcenter_uuid", Uuid, nullable=False),
    Column("moref", String(128), nullable=False),
    Column("name", String(255), nullable=False),
    Column("owner", String(255), nullable=False, doc="Project id."),
    Column("visibility", String(16), nullable=False),
    Column("state", String(16), nullable=False, doc="active or removed"),
    Column("created_at", Time, nullable=False),
    Column("removed_at", Time, nullable=True),
    Index(None, "vcenter_uuid", "moref"),
    **BINARY_UTF8,
)

quarantine = sqlalchemy.Table(
    "quarantine",
    metadata,
    Column("vcenter_uuid", Uuid, primary_key=True),
    Column("reference", String(191), primary_key=True, doc="`<type>:<moref>`"),
    Column("reason", String(64), nullable=False, doc="QuarantineReason"),
    Column("message", Text, nullable=False),
    Column("name", String(255), nullable=False, default=""),
    Column("content_hash", Hash, nullable=True),
    Column("since", Time, nullable=False),
    Column("attempts", Integer, nullable=False, default=1),
    Column("tried_at", Time, nullable=False),
    **BINARY_UTF8,
)

alarms = sqlalchemy.Table(
    "alarms",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("vcenter_uuid", Uuid, nullable=False),
    Column("kind", String(64), nullable=False, doc="AlarmKind"),
    Column("cluster_uuid", Uuid, nullable=True),
    Column("message", Text, nullable=False),
    Column("held", LongText, nullable=False, doc="JSON list of references held back"),
    Column("raised_at", Time, nullable=False),
    Column("released_at", Time, nullable=True, doc="When a person said: go on."),
    Column("released_by", String(255), nullable=False, default=""),
    Column("settled_at", Time, nullable=True, doc="When what was held was done or came back."),
    Index(None, "vcenter_uuid", "settled_at"),
    **BINARY_UTF8,
)

leases = sqlalchemy.Table(
    "leases",
    metadata,
    Column("resource", String(255), primary_key=True, doc="`vcenter:<uuid>`, `cluster:<uuid>`"),
    Column("holder", String(255), nullable=False, doc="An edge's or a control plane's name"),
    Column("fencing_epoch", BigInteger, nullable=False, doc="Grows when the holder changes."),
    Column("acquired_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    **BINARY_UTF8,
)
