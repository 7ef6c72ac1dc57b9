"""Nova's versioned objects as the JSON that its columns hold.

Written from templates because making the objects costs milliseconds each; the tests compare with
Nova's own objects. Versions are those of Nova 34.
"""

import functools
import json
import uuid
from typing import Any

from controlplane.domain.records import FlavorRecord, NicRecord, ServerRecord

FLAVOR_VERSION = "1.2"
REQUEST_SPEC_VERSION = "1.15"
IMAGE_META_VERSION = "1.8"
IMAGE_META_PROPERTIES_VERSION = "1.44"
PCI_REQUESTS_VERSION = "1.1"
LIMITS_VERSION = "1.0"

Json = dict[str, Any]


class DamagedRowError(Exception):
    """A column of Nova's does not hold the JSON that it should."""


def primitive(name: str, version: str, data: Json) -> Json:
    """Serialise an object as oslo.versionedobjects does (base.py:obj_to_primitive)."""
    return {
        "nova_object.name": name,
        "nova_object.namespace": "nova",
        "nova_object.version": version,
        "nova_object.data": data,
    }


def flavor_data(flavor: FlavorRecord) -> Json:
    """Make the fields of a Flavor object."""
    return {
        "id": flavor.id,
        "name": flavor.name,
        "memory_mb": flavor.memory_mb,
        "vcpus": flavor.vcpus,
        "root_gb": flavor.root_gb,
        "ephemeral_gb": flavor.ephemeral_gb,
        "flavorid": flavor.flavorid,
        "swap": 0,
        "rxtx_factor": 1.0,
        "vcpu_weight": 0,
        "disabled": False,
        "is_public": False,
        "extra_specs": {},
        "description": None,
    }


@functools.lru_cache(maxsize=4096)
def _flavor(flavor: FlavorRecord) -> str:
    return json.dumps(primitive("Flavor", FLAVOR_VERSION, flavor_data(flavor)))


@functools.lru_cache(maxsize=4096)
def embedded_flavor(flavor: FlavorRecord) -> str:
    """Make `instance_extra.flavor` (nova/objects/instance.py:_save_flavor)."""
    return f'{{"cur": {_flavor(flavor)}, "old": null, "new": null}}'


def current_flavor(embedded: str) -> Json:
    """Parse the fields of the current flavor in `instance_extra.flavor`.

    Raises ``DamagedRowError``.
    """
    try:
        data: Json = json.loads(embedded)["cur"]["nova_object.data"]
        _ = [data[name] for name in _FLAVOR_FIELDS]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRowError(f"instance_extra.flavor holds no flavor: {error!r}") from error
    return data


_FLAVOR_FIELDS = ("id", "name", "flavorid", "vcpus", "memory_mb", "root_gb", "ephemeral_gb")


def request_spec(record: ServerRecord) -> str:
    """Make `request_specs.spec` (nova/objects/request_spec.py), as after a plain boot."""
    return (
        f'{_REQUEST_SPEC_HEAD}"image": {_image(record.image_id, record.flavor.root_gb)}, '
        f'"flavor": {_flavor(record.flavor)}, '
        f'"project_id": {json.dumps(record.project_id)}, '
        f'"user_id": {json.dumps(record.user_id)}, '
        f'"instance_uuid": "{record.uuid}"}}}}'
    )


def request_spec_with(spec: str, flavor: FlavorRecord) -> str:
    """Put another flavor into a stored request spec. Raises ``DamagedRowError``."""
    try:
        loaded = json.loads(spec)
        loaded["nova_object.data"]["flavor"] = primitive(
            "Flavor", FLAVOR_VERSION, flavor_data(flavor)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRowError(f"request_specs.spec holds no request spec: {error!r}") from error
    return json.dumps(loaded)


@functools.lru_cache(maxsize=4096)
def _image(image_id: str, min_disk: int) -> str:
    properties = primitive(
        "ImageMetaProps", IMAGE_META_PROPERTIES_VERSION, {"img_hv_type": "vmware"}
    )
    data: Json = {
        "id": image_id,
        "container_format": "bare",
        "disk_format": "vmdk",
        "min_ram": 0,
        "min_disk": min_disk,
        "properties": properties,
    }
    return json.dumps(primitive("ImageMeta", IMAGE_META_VERSION, data))


def _request_spec_head() -> str:
    data: Json = {
        "numa_topology": None,
        "pci_requests": primitive("InstancePCIRequests", PCI_REQUESTS_VERSION, {"requests": []}),
        "availability_zone": None,
        "num_instances": 1,
        "ignore_hosts": None,
        "force_hosts": None,
        "force_nodes": None,
        "requested_destination": None,
        "retry": None,
        "limits": primitive(
            "SchedulerLimits",
            LIMITS_VERSION,
            {"numa_topology": None, "vcpu": None, "disk_gb": None, "memory_mb": None},
        ),
        "instance_group": None,
        "scheduler_hints": {},
        "is_bfv": False,
        "requested_resources": [],
    }
    # The data come last and stay open: the fields that differ are appended.
    return json.dumps(primitive("RequestSpec", REQUEST_SPEC_VERSION, data))[:-2] + ", "


_REQUEST_SPEC_HEAD = _request_spec_head()


def vif(nic: NicRecord) -> Json:
    """Make one interface of `instance_info_caches.network_info` (nova/network/model.py:VIF).

    It has no id, which would be a Neutron port's: the scheduler asks Neutron for each that it finds
    (nova/scheduler/request_filter.py:remote_managed_ports_filter), and a live migration of a server
    with a port that Neutron does not know ends in ERROR.
    """
    return {
        "id": None,
        "address": nic.mac_address,
        "network": {
            "id": nic.network_uuid,
            "bridge": None,
            "label": nic.network_label,
            "subnets": _subnets(nic.addresses),
            "meta": {},
        },
        "type": "dvs",
        "details": {},
        "devname": None,
        "ovs_interfaceid": None,
        "qbh_params": None,
        "qbg_params": None,
        "active": nic.active,
        "vnic_type": "normal",
        "profile": None,
        "preserve_on_delete": True,
        "delegate_create": False,
        "meta": {},
    }


def _subnets(addresses: tuple[str, ...]) -> list[Json]:
    by_version: dict[int, list[Json]] = {}
    for address in addresses:
        version = 6 if ":" in address else 4
        by_version.setdefault(version, []).append(
            {
                "address": address,
                "type": "fixed",
                "version": version,
                "meta": {},
                "floating_ips": [],
            }
        )
    return [
        {
            "cidr": None,
            "dns": [],
            "gateway": None,
            "ips": ips,
            "routes": [],
            "version": version,
            "meta": {},
        }
        for version, ips in sorted(by_version.items())
    ]


def network_info(nics: tuple[NicRecord, ...], cached: str | None = None) -> str:
    """Make `instance_info_caches.network_info` for the adapters that vCenter reports.

    Interfaces that Nova made from Neutron ports stay as ``cached`` has them: they are Neutron's.
    Raises ``DamagedRowError``.
    """
    foreign = [known for known in interfaces(cached) if not is_ours(known)]
    covered = {known["address"] for known in foreign}
    added = [vif(nic) for nic in nics if nic.mac_address not in covered]
    return json.dumps(foreign + added)


def interfaces(cached: str | None) -> list[Json]:
    """Parse `instance_info_caches.network_info`. Raises ``DamagedRowError``."""
    try:
        found: list[Json] = json.loads(cached or "[]")
        for one in found:
            _ = is_ours(one), one["address"], one["network"]["subnets"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedRowError(
            f"instance_info_caches.network_info holds no interfaces: {error!r}"
        ) from error
    return found


_FORMER_VERSION = 5
"""Of the UUIDs that such interfaces once had; those of Neutron's ports have version 4."""


def is_ours(known: Json) -> bool:
    """Whether an interface is an adapter of vCenter's, and not a Neutron port's."""
    return known["id"] is None or uuid.UUID(known["id"]).version == _FORMER_VERSION
