"""Versioned notifications (nova/notifications/objects/instance.py) as they travel. Pure.

Written as plain data because making Nova's objects for 10,000 servers would take minutes; the tests
compare with what Nova's own code emits. Versions are those of Nova 34.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controlplane.domain.records import Announced, NotificationData, ServerAnnouncement

Json = dict[str, Any]

POWER_STATES = {
    0: "pending",
    1: "running",
    3: "paused",
    4: "shutdown",
    6: "crashed",
    7: "suspended",
}
"""nova/objects/fields.py:InstancePowerState."""

_COPIED = (
    "uuid",
    "user_id",
    "reservation_id",
    "display_name",
    "display_description",
    "host",
    "node",
    "os_type",
    "architecture",
    "availability_zone",
    "key_name",
    "kernel_id",
    "ramdisk_id",
    "task_state",
    "progress",
)
_TIMES = ("created_at", "launched_at", "terminated_at", "deleted_at", "updated_at")
_FLAVOR_FIELDS = (
    "flavorid",
    "memory_mb",
    "vcpus",
    "root_gb",
    "ephemeral_gb",
    "name",
    "swap",
    "rxtx_factor",
    "vcpu_weight",
    "disabled",
    "is_public",
    "extra_specs",
    "description",
)


def payload(
    announcement: ServerAnnouncement,
    state: NotificationData,
    audit_period: tuple[datetime, datetime],
    instance_name: str,
) -> Json:
    """Make the payload of one notification."""
    if announcement.kind is Announced.CREATE:
        return _object("InstanceCreatePayload", "1.13", _create(state, instance_name))
    if announcement.kind is Announced.UPDATE:
        return _object("InstanceUpdatePayload", "2.1", _update(announcement, state, audit_period))
    return _object(
        "InstanceActionPayload", "1.9", {**_common(state), "block_devices": [], "fault": None}
    )


def _create(state: NotificationData, instance_name: str) -> Json:
    return {
        **_common(state),
        "block_devices": [],
        "fault": None,
        "keypairs": [],
        "tags": list(state.tags),
        "trusted_image_certificates": None,
        "instance_name": instance_name,
    }


def _update(
    announcement: ServerAnnouncement,
    state: NotificationData,
    audit_period: tuple[datetime, datetime],
) -> Json:
    columns = state.columns
    states = {
        "old_state": announcement.old_vm_state or columns["vm_state"],
        "state": columns["vm_state"],
        "old_task_state": columns["task_state"],
        "new_task_state": columns["task_state"],
    }
    begins, ends = audit_period
    period = {"audit_period_beginning": _time(begins), "audit_period_ending": _time(ends)}
    return {
        **_common(state),
        "state_update": _object("InstanceStateUpdatePayload", "1.0", states),
        "audit_period": _object("AuditPeriodPayload", "1.0", period),
        "old_display_name": announcement.old_display_name,
        "tags": list(state.tags),
    }


def _common(state: NotificationData) -> Json:
    """Make the fields of InstancePayload."""
    columns = state.columns
    return {
        **{name: columns[name] for name in _COPIED},
        **{name: _time(columns[name]) for name in _TIMES},
        "tenant_id": columns["project_id"],
        "host_name": columns["hostname"],
        "image_uuid": columns["image_ref"],
        "state": columns["vm_state"],
        "power_state": POWER_STATES.get(columns["power_state"]),
        "locked": bool(columns["locked"]),
        "locked_reason": state.system_metadata.get("locked_reason"),
        "auto_disk_config": "AUTO" if columns["auto_disk_config"] else "MANUAL",
        "metadata": dict(state.metadata),
        "flavor": _flavor(state.flavor),
        "ip_addresses": [_address(vif, ip) for vif in state.network_info for ip in _fixed_ips(vif)],
        "block_devices": None,
        "shares": None,
        # As in Nova's periodic tasks: no user requested it.
        "request_id": None,
        "action_initiator_user": None,
        "action_initiator_project": None,
    }


def _flavor(flavor: Mapping[str, Any]) -> Json:
    fields = {name: flavor.get(name) for name in _FLAVOR_FIELDS}
    return _object("FlavorPayload", "1.4", {**fields, "projects": None})


def _fixed_ips(vif: Mapping[str, Any]) -> list[Json]:
    return [ip for subnet in vif["network"]["subnets"] for ip in subnet["ips"]]


def _address(vif: Mapping[str, Any], ip: Mapping[str, Any]) -> Json:
    fields = {
        "label": vif["network"]["label"],
        "mac": vif["address"],
        "meta": vif["meta"],
        "port_uuid": vif["id"],
        "version": ip["version"],
        "address": ip["address"],
        "device_name": vif["devname"],
    }
    return _object("IpPayload", "1.0", fields)


def _time(time: datetime | None) -> str | None:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}" if time else None


def _object(name: str, version: str, data: Json) -> Json:
    return {
        "nova_object.name": name,
        "nova_object.namespace": "nova",
        "nova_object.version": version,
        "nova_object.data": data,
    }
