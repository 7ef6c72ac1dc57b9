"""Decides what to write so that a server's rows say what vCenter says. Pure.

Only fields that vCenter owns are touched (docs/concepts/fields.md), and none while Nova works on
the server.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Table
from sqlalchemy.engine import RowMapping

from controlplane.domain.mapping.hardware import FLAVOR_ID_BASE, sized_flavor
from controlplane.domain.mapping.servers import METADATA_PREFIX
from controlplane.domain.records import (
    FlavorRecord,
    Origin,
    Policy,
    Power,
    ServerChange,
    ServerRecord,
)
from controlplane.store.nova import primitives, rows
from controlplane.store.nova.cell_rows import INSTANCE_COLUMNS, Existing, Writes
from controlplane.store.nova.primitives import DamagedRowError
from controlplane.store.nova.tables import (
    BLOCK_DEVICES,
    INFO_CACHES,
    INSTANCE_EXTRA,
    INSTANCES,
    METADATA,
    SYSTEM_METADATA,
)

POWERED_STATES = frozenset({"active", "stopped", "suspended"})
"""The vm_states that follow vCenter's power state; Nova itself corrects no other
(nova/compute/manager.py:_sync_instance_power_state)."""
SETTLED_STATES = POWERED_STATES | {"error", "paused"}
"""The vm_states in which host, flavor and disks are vCenter's. In the others (building, resized,
rescued, shelved, ...) Nova keeps two versions of them, or none."""


@dataclass(slots=True)
class ServerPlan:
    """What to do about one server, and what to write."""

    record: ServerRecord
    change: ServerChange
    writes: Writes = field(default_factory=Writes)
    reason: str = ""
    origin: Origin = Origin.ADOPTED
    flavor: FlavorRecord | None = None
    """The new embedded flavor; None when the one in the row stays."""
    moved: bool = False
    old_vm_state: str | None = None
    old_display_name: str | None = None


def adopt(
    record: ServerRecord, compute_id: int | None, availability_zone: str, now: datetime
) -> ServerPlan:
    """Plan the rows of a server that Nova does not know."""
    plan = ServerPlan(record, ServerChange.ADOPTED, flavor=record.flavor, moved=True)
    inserts = plan.writes.inserts
    inserts[INSTANCES].append(rows.instance(record, compute_id, availability_zone, now))
    inserts[INSTANCE_EXTRA].append(rows.instance_extra(record, now))
    inserts[INFO_CACHES].append(rows.info_cache(record, now))
    _insert_pairs(plan.writes, METADATA, record.uuid, record.metadata, now)
    _insert_pairs(plan.writes, SYSTEM_METADATA, record.uuid, rows.system_metadata(record), now)
    inserts[BLOCK_DEVICES].extend(rows.block_device(record, disk, now) for disk in record.disks)
    return plan


def restore(
    record: ServerRecord, existing: Existing, compute_id: int | None, now: datetime
) -> ServerPlan:
    """Plan the return of a deleted server, with the children that were deleted with it."""
    plan = ServerPlan(record, ServerChange.RESTORED, origin=existing.origin, moved=True)
    _compare(plan, existing, compute_id, now, revive=True)
    return plan


def compare(
    record: ServerRecord, existing: Existing, compute_id: int | None, now: datetime
) -> ServerPlan:
    """Plan what differs between a record and the rows of a server that is not deleted."""
    plan = ServerPlan(record, ServerChange.NONE, origin=existing.origin)
    withheld = _compare(plan, existing, compute_id, now, revive=False)
    columns = existing.columns
    if columns["task_state"] is not None and (plan.writes or withheld):
        return ServerPlan(
            record,
            ServerChange.DEFERRED,
            reason=f"Nova is busy with it (task_state {columns['task_state']})",
            origin=plan.origin,
        )
    if plan.writes:
        plan.change = ServerChange.UPDATED
    if withheld:
        plan.change = ServerChange.DEFERRED
        plan.reason = f"hardware withheld while its vm_state is {columns['vm_state']}"
    return plan


def _compare(
    plan: ServerPlan, existing: Existing, compute_id: int | None, now: datetime, revive: bool
) -> bool:
    """Fill the plan; returns whether hardware differs but is Nova's at present."""
    columns = existing.columns
    settled = revive or columns["vm_state"] in SETTLED_STATES
    wanted = _identity_columns(plan.record, columns)
    hardware = _hardware_columns(plan, existing, compute_id)
    hardware_differs = _differs(columns, hardware)
    if settled:
        wanted |= hardware
    else:
        plan.flavor, plan.moved = None, False
    wanted |= _power_columns(plan.record, columns, revive)
    if plan.origin is Origin.ADOPTED:
        wanted |= _lock_columns(plan.record.policy, columns)
    if revive:
        wanted |= {"deleted": 0, "deleted_at": None, "terminated_at": None, "cleaned": 0}
        wanted["task_state"] = None
    _instance(plan, columns, wanted, now)
    _flavor(plan, existing, now)
    _info_cache(plan, existing, now)
    _metadata(plan, existing, now)
    if settled and plan.origin is Origin.ADOPTED:
        _devices(plan, existing, now)
    elif settled and not revive:
        _created_devices(plan, existing, now)
    if revive:
        _revive(plan, existing, now)
    return not settled and hardware_differs


def _identity_columns(record: ServerRecord, columns: RowMapping) -> dict[str, Any]:
    # A clone whose name was taken has its UUID in the name: OpenStack's name is the better one.
    own_suffix = record.uuid in record.display_name and record.display_name.startswith(
        columns["display_name"] or ""
    )
    return {} if own_suffix else {"display_name": record.display_name}


def _hardware_columns(
    plan: ServerPlan, existing: Existing, compute_id: int | None
) -> dict[str, Any]:
    record, columns = plan.record, existing.columns
    wanted: dict[str, Any] = {"host": record.compute_host, "node": record.node}
    plan.moved = plan.moved or (columns["host"], columns["node"]) != (
        record.compute_host,
        record.node,
    )
    if compute_id is not None:
        wanted["compute_id"] = compute_id
    plan.flavor = _new_flavor(record, existing, plan.origin)
    if plan.flavor:
        wanted |= {
            "instance_type_id": plan.flavor.id,
            "vcpus": plan.flavor.vcpus,
            "memory_mb": plan.flavor.memory_mb,
            "root_gb": plan.flavor.root_gb,
            "ephemeral_gb": plan.flavor.ephemeral_gb,
        }
    if plan.origin is Origin.ADOPTED:
        wanted["root_device_name"] = rows.root_device_name(record)
    return wanted


def _new_flavor(record: ServerRecord, existing: Existing, origin: Origin) -> FlavorRecord | None:
    """Find the flavor to embed, None when the present one describes the hardware.

    A flavor out of Nova's own table says what was ordered: its disks may be 0 (as large as the
    image) or leave out volumes, so only processors and memory are compared.
    """
    if existing.extra is None or not existing.extra["flavor"]:
        return record.flavor
    wanted = record.flavor
    try:
        current = primitives.current_flavor(existing.extra["flavor"])
    except DamagedRowError:
        return wanted
    same = (current["vcpus"], current["memory_mb"]) == (wanted.vcpus, wanted.memory_mb)
    disks = (current["root_gb"], current["ephemeral_gb"])
    if origin is Origin.CREATED:
        return None if same else sized_flavor(wanted.vcpus, wanted.memory_mb, *disks)
    if current["id"] >= FLAVOR_ID_BASE:
        same = same and disks == (wanted.root_gb, wanted.ephemeral_gb)
    return None if same else wanted


def _power_columns(record: ServerRecord, columns: RowMapping, revive: bool) -> dict[str, Any]:
    if record.power is Power.UNKNOWN:
        return {}
    wanted: dict[str, Any] = {"power_state": record.power.value}
    if revive or columns["vm_state"] in POWERED_STATES:
        wanted["vm_state"] = rows.VM_STATES[record.power]
    return wanted


def _lock_columns(policy: Policy, columns: RowMapping) -> dict[str, Any]:
    """Lock or unlock when the policy became, or ceased to be, read only.

    Between those the lock is OpenStack's: an administrator may unlock what was adopted locked.
    """
    if bool(columns["disable_terminate"]) is (policy is Policy.LISTED):
        return {}
    return rows.policy_columns(policy)


def _differs(columns: RowMapping, wanted: Mapping[str, Any]) -> bool:
    return any(columns[name] != value for name, value in wanted.items())


def _instance(
    plan: ServerPlan, columns: RowMapping, wanted: Mapping[str, Any], now: datetime
) -> None:
    if not _differs(columns, wanted):
        return
    values = {name: columns[name] for name in INSTANCE_COLUMNS} | dict(wanted)
    plan.writes.updates[INSTANCES].append(values | {"updated_at": now})
    if values["vm_state"] != columns["vm_state"]:
        plan.old_vm_state = columns["vm_state"]
    if values["display_name"] != columns["display_name"]:
        plan.old_display_name = columns["display_name"]


def _flavor(plan: ServerPlan, existing: Existing, now: datetime) -> None:
    if plan.flavor is None:
        return
    if existing.extra is None:
        plan.writes.inserts[INSTANCE_EXTRA].append(rows.instance_extra(plan.record, now))
        return
    flavor = primitives.embedded_flavor(plan.flavor)
    plan.writes.updates[INSTANCE_EXTRA].append(_alive(existing.extra, now, flavor=flavor))


def _info_cache(plan: ServerPlan, existing: Existing, now: datetime) -> None:
    cache = existing.info_cache
    if cache is None:
        plan.writes.inserts[INFO_CACHES].append(rows.info_cache(plan.record, now))
        return
    stored = cache["network_info"]
    try:
        wanted = primitives.network_info(plan.record.nics, stored)
        same = stored == wanted or (stored and json.loads(stored) == json.loads(wanted))
    except DamagedRowError:
        # Nova adds the ports again (nova/compute/manager.py:_heal_instance_info_cache).
        wanted, same = primitives.network_info(plan.record.nics), False
    if not same:
        plan.writes.updates[INFO_CACHES].append(_alive(cache, now, network_info=wanted))


def _metadata(plan: ServerPlan, existing: Existing, now: datetime) -> None:
    stored, wanted = existing.metadata, plan.record.metadata
    added = {key: value for key, value in wanted.items() if key not in stored}
    _insert_pairs(plan.writes, METADATA, plan.record.uuid, added, now)
    for key, row in stored.items():
        if key in wanted and row["value"] != wanted[key]:
            plan.writes.updates[METADATA].append(_alive(row, now, value=wanted[key]))
        elif key.startswith(METADATA_PREFIX) and key not in wanted and not row["deleted"]:
            plan.writes.deletes[METADATA].append(row["id"])


def _insert_pairs(
    writes: Writes, table: Table, uuid: str, pairs: Mapping[str, str], now: datetime
) -> None:
    writes.inserts[table].extend(rows.pair(uuid, key, value, now) for key, value in pairs.items())


def _devices(plan: ServerPlan, existing: Existing, now: datetime) -> None:
    record = plan.record
    ours = {disk.uuid: disk for disk in record.disks}
    for disk in record.disks:
        wanted = rows.block_device(record, disk, now)
        stored = existing.devices.get(disk.uuid)
        if stored is None:
            plan.writes.inserts[BLOCK_DEVICES].append(wanted)
            continue
        changed = {name: wanted[name] for name in _DEVICE_FIELDS}
        if stored["deleted"] or _differs(stored, changed):
            plan.writes.updates[BLOCK_DEVICES].append(_alive(stored, now, **changed))
    plan.writes.deletes[BLOCK_DEVICES].extend(
        row["id"]
        for uuid, row in existing.devices.items()
        if row["destination_type"] == "local" and uuid not in ours and not row["deleted"]
    )


def _created_devices(plan: ServerPlan, existing: Existing, now: datetime) -> None:
    """Restore the local disks of a server of Nova's own that has lost its root disk.

    Nova deletes it only of a server that it is about to delete. So what was deleted then or later
    was deleted with the server; what was deleted earlier stays deleted.
    """
    local = [row for row in existing.devices.values() if row["destination_type"] == "local"]
    gone = [row for row in local if row["deleted"] and row["deleted_at"]]
    lost = [row["deleted_at"] for row in gone if row["boot_index"] == 0]
    has_root = any(
        row["boot_index"] == 0 for row in existing.devices.values() if not row["deleted"]
    )
    if lost and not has_root:
        plan.writes.updates[BLOCK_DEVICES].extend(
            _alive(row, now) for row in gone if row["deleted_at"] >= max(lost)
        )


_DEVICE_FIELDS = ("device_name", "volume_size", "boot_index", "disk_bus")


def _revive(plan: ServerPlan, existing: Existing, now: datetime) -> None:
    """Undelete what no other comparison has touched."""
    children: tuple[tuple[Table, list[RowMapping]], ...] = (
        (INSTANCE_EXTRA, [existing.extra] if existing.extra else []),
        (INFO_CACHES, [existing.info_cache] if existing.info_cache else []),
        (METADATA, _still_ours(plan, existing)),
        (SYSTEM_METADATA, list(existing.system_metadata.values())),
        (BLOCK_DEVICES, _local_devices(plan, existing)),
    )
    for table, stored in children:
        handled = {row["id"] for row in plan.writes.updates[table]}
        plan.writes.updates[table].extend(
            _alive(row, now) for row in stored if row["deleted"] and row["id"] not in handled
        )


def _still_ours(plan: ServerPlan, existing: Existing) -> list[RowMapping]:
    return [
        row
        for key, row in existing.metadata.items()
        if key in plan.record.metadata or not key.startswith(METADATA_PREFIX)
    ]


def _local_devices(plan: ServerPlan, existing: Existing) -> list[RowMapping]:
    """Select the local disks: the volumes were given back to Cinder when Nova deleted the row."""
    ours = {disk.uuid for disk in plan.record.disks}
    adopted = plan.origin is Origin.ADOPTED
    return [
        row
        for uuid, row in existing.devices.items()
        if row["destination_type"] == "local" and (uuid in ours or not adopted)
    ]


def _alive(row: RowMapping, now: datetime, **changed: Any) -> dict[str, Any]:
    return {**row, "deleted": 0, "deleted_at": None, "updated_at": now, **changed}
