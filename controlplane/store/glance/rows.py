"""Makes the rows of an image for a template. Pure."""

from datetime import datetime
from typing import Any

from controlplane.domain.records import ImageRecord

LOCATION_SCHEME = "vsphere://"
"""Begins the locations that are ours."""
UNKNOWN_IMAGE_NAME = "not known to OpenStack"
_PROPERTY_NAMES = frozenset(
    {
        "hw_disk_bus",
        "hw_firmware_type",
        "hw_vif_model",
        "hypervisor_type",
        "vmware_adaptertype",
        "vmware_disktype",
        "vmware_ostype",
    }
)
_PROPERTY_PREFIXES = ("vsphere_", "trait:CUSTOM_VSG_")

Values = dict[str, Any]


def is_ours(property_name: str) -> bool:
    """Whether vCenter owns a property of an image of ours."""
    return property_name in _PROPERTY_NAMES or property_name.startswith(_PROPERTY_PREFIXES)


def hardware_columns(record: ImageRecord) -> Values:
    """Make the columns of `images` that are vCenter's."""
    return {
        "name": record.name,
        "size": record.size_bytes,
        "virtual_size": record.size_bytes,
        "min_disk": record.min_disk_gb,
        "min_ram": record.min_ram_mb,
        "disk_format": "vmdk",
        "container_format": "bare",
        "status": "active",
        "protected": True,
        "deleted": False,
        "deleted_at": None,
    }


def image(record: ImageRecord, now: datetime) -> Values:
    """Make the row of `images`; owner and visibility are OpenStack's from then on."""
    return {
        "id": record.id,
        "created_at": record.created_at,
        "updated_at": now,
        "owner": record.owner,
        "visibility": record.visibility,
        "os_hidden": False,
        **hardware_columns(record),
    }


def unknown_image(image_id: str, now: datetime) -> Values:
    """Make the row of the image of servers whose template is not known.

    It has no owner, can be read by id by everybody, and is in no list.
    """
    return {
        "id": image_id,
        "created_at": now,
        "updated_at": now,
        "name": UNKNOWN_IMAGE_NAME,
        "owner": None,
        "visibility": "public",
        "os_hidden": True,
        "disk_format": "vmdk",
        "container_format": "bare",
        "status": "active",
        "size": 0,
        "virtual_size": 0,
        "min_disk": 0,
        "min_ram": 0,
        "protected": True,
        "deleted": False,
        "deleted_at": None,
    }


def image_property(image_id: str, name: str, value: str, now: datetime) -> Values:
    """Make a row of `image_properties`."""
    return {**_child(image_id, now), "name": name, "value": value}


def location(record: ImageRecord, now: datetime) -> Values:
    """Make the row of `image_locations`; NULL as meta_data makes Glance answer 500."""
    return {
        **_child(record.id, now),
        "value": record.location,
        "meta_data": {},
        "status": "active",
    }


def member(record: ImageRecord, project_id: str, now: datetime) -> Values:
    """Make a row of `image_members`, accepted, so that the project sees the image at once."""
    return {
        **_child(record.id, now),
        "member": project_id,
        "can_share": False,
        "status": "accepted",
    }


def _child(image_id: str, now: datetime) -> Values:
    return {
        "image_id": image_id,
        "created_at": now,
        "updated_at": now,
        "deleted": False,
        "deleted_at": None,
    }
