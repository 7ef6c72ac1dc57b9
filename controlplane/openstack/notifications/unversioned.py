"""Unversioned notifications (nova/notifications/base.py:info_from_instance). Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from controlplane.domain.records import Announced, NotificationData, ServerAnnouncement

Json = dict[str, Any]

_COPIED = (
    "user_id",
    "display_name",
    "reservation_id",
    "hostname",
    "instance_type_id",
    "architecture",
    "host",
    "node",
    "availability_zone",
    "os_type",
    "kernel_id",
    "ramdisk_id",
    "access_ip_v4",
    "access_ip_v6",
)


def payload(
    announcement: ServerAnnouncement,
    state: NotificationData,
    audit_period: tuple[datetime, datetime],
) -> Json:
    """Make the payload of one notification."""
    info = _info(state)
    if announcement.kind is Announced.CREATE:
        return {**info, "fixed_ips": _fixed_ips(state), "message": "Success"}
    if announcement.kind is Announced.UPDATE:
        return {**info, **_update(announcement, state, audit_period)}
    return info


def _update(
    announcement: ServerAnnouncement,
    state: NotificationData,
    audit_period: tuple[datetime, datetime],
) -> Json:
    columns = state.columns
    begins, ends = audit_period
    update = {
        "old_state": announcement.old_vm_state or columns["vm_state"],
        "state": columns["vm_state"],
        "old_task_state": columns["task_state"],
        "new_task_state": columns["task_state"],
        "audit_period_beginning": _time(begins),
        "audit_period_ending": _time(ends),
    }
    if announcement.old_display_name:
        update["old_display_name"] = announcement.old_display_name
    return update


def _info(state: NotificationData) -> Json:
    columns, flavor = state.columns, state.flavor
    return {
        **{name: columns[name] for name in _COPIED},
        "tenant_id": columns["project_id"],
        "instance_id": columns["uuid"],
        "instance_type": flavor["name"],
        "instance_flavor_id": flavor["flavorid"],
        "memory_mb": flavor["memory_mb"],
        "disk_gb": flavor["root_gb"] + flavor["ephemeral_gb"],
        "vcpus": flavor["vcpus"],
        "root_gb": flavor["root_gb"],
        "ephemeral_gb": flavor["ephemeral_gb"],
        "cell_name": columns["cell_name"] or "",
        "created_at": str(columns["created_at"].replace(tzinfo=UTC)),
        "terminated_at": _time(columns["terminated_at"]),
        "deleted_at": _time(columns["deleted_at"]),
        "launched_at": _time(columns["launched_at"]),
        # Nova asks Keystone for Glance's endpoint to make a URL; without one it sends the id.
        "image_ref_url": columns["image_ref"],
        "state": columns["vm_state"],
        "state_description": columns["task_state"] or "",
        "progress": int(columns["progress"]) if columns["progress"] else "",
        "image_meta": _image_meta(state.system_metadata),
        "metadata": dict(state.metadata),
    }


def _image_meta(system_metadata: Mapping[str, str]) -> Json:
    prefix = "image_"
    return {
        key.removeprefix(prefix): value
        for key, value in system_metadata.items()
        if key.startswith(prefix)
    }


def _fixed_ips(state: NotificationData) -> list[Json]:
    return [
        {**ip, "label": vif["network"]["label"], "vif_mac": vif["address"]}
        for vif in state.network_info
        for subnet in vif["network"]["subnets"]
        for ip in subnet["ips"]
    ]


def _time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S.%f}" if time else ""
