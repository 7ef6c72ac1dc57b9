"""A cluster's own identity: made at first sight, kept through renames, questioned after a restore.

Pure; time and UUIDs are passed in.
"""

import re
import unicodedata
import uuid
from collections.abc import Collection
from datetime import datetime

from controlplane.domain.mapping.hardware import NAMESPACE
from controlplane.store.own.clusters import ClusterRow, ClusterState

SLUG_LENGTH = 40
SUFFIX_LENGTH = 8

_NOT_IN_A_SLUG = re.compile(r"[^a-z0-9]+")


def found(
    vcenter_uuid: str, moref: str, name: str, policy: str, now: datetime, own_uuid: str
) -> ClusterRow:
    """The row of a cluster that was never seen before."""
    return ClusterRow(
        uuid=own_uuid,
        vcenter_uuid=vcenter_uuid,
        moref=moref,
        name=name,
        known_name=name,
        host_uuids=(),
        compute_host=compute_host(name, own_uuid),
        compute_node_uuid=compute_node_uuid(vcenter_uuid, moref),
        hypervisor_hostname=f"{moref}.{vcenter_uuid}",
        state=ClusterState.NEW,
        state_reason="",
        policy=policy,
        created_at=now,
        updated_at=now,
    )


def compute_host(name: str, own_uuid: str) -> str:
    """The compute host of a cluster: its first name's slug and 8 characters of its UUID."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = _NOT_IN_A_SLUG.sub("-", plain).strip("-")[:SLUG_LENGTH].strip("-")
    return f"{slug or 'cluster'}-{own_uuid.replace('-', '')[:SUFFIX_LENGTH]}"


def compute_node_uuid(vcenter_uuid: str, moref: str) -> str:
    """The UUID of a cluster's compute node, stable however often it is made again."""
    return str(uuid.uuid5(NAMESPACE, f"compute-node:{vcenter_uuid}:{moref}"))


def identity_mismatch(row: ClusterRow, name: str, host_uuids: Collection[str]) -> str:
    """Why a cluster is not the one that its reference named before; empty if it is.

    A vCenter restored from an old backup gives a reference to something else: then the name and
    every host differ. One of both alone is a rename, or hosts that were replaced.
    """
    if name == row.known_name or not host_uuids or not row.host_uuids:
        return ""
    if set(host_uuids) & set(row.host_uuids):
        return ""
    return (
        f"{row.moref} was cluster {row.known_name!r} and is now {name!r} with none of the hosts it "
        "had, as after a restore of the vCenter from an old backup; release the alarm if it is "
        "the same cluster all the same"
    )
