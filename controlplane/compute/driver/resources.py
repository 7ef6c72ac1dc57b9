"""Converts a cluster's totals for Nova's resource tracker. Pure."""

from typing import Any

from nova import exception
from nova.objects import fields

from common.placement_inventories import Amount, inventories
from vsphere_gateway.v1 import compute_pb2

HYPERVISOR_TYPE = "VMware vCenter Server"
"""That of the in-tree driver (nova/virt/vmwareapi/host.py), so that images fit both."""
RATIOS = {"VCPU": "cpu", "MEMORY_MB": "ram", "DISK_GB": "disk"}

Json = dict[str, Any]


def check_ready(resources: compute_pb2.GetClusterResourcesResponse) -> None:
    """Raise ``VirtDriverNotReady`` until the cluster's inventory is complete."""
    if not resources.synchronised:
        raise exception.VirtDriverNotReady()


def available_resource(resources: compute_pb2.GetClusterResourcesResponse) -> Json:
    """Build what ``ComputeDriver.get_available_resource`` returns."""
    architectures = (fields.Architecture.I686, fields.Architecture.X86_64)
    return {
        "uuid": resources.compute_node_uuid,
        "hypervisor_hostname": resources.hypervisor_hostname,
        "hypervisor_type": HYPERVISOR_TYPE,
        "hypervisor_version": resources.hypervisor_version,
        "cpu_info": resources.cpu_info,
        "vcpus": resources.cpus,
        "memory_mb": resources.memory_mb,
        "local_gb": resources.disk_gb,
        "vcpus_used": resources.cpus_used,
        "memory_mb_used": resources.memory_mb_used,
        "local_gb_used": resources.disk_gb_used,
        "supported_instances": [
            (one, fields.HVType.VMWARE, fields.VMMode.HVM) for one in architectures
        ],
        "numa_topology": None,
        # Nova then reports no uptime instead of asking for it each time
        # (nova/compute/stats.py:digest_stats).
        "stats": {},
    }


def provider_inventories(
    resources: compute_pb2.GetClusterResourcesResponse, stored: dict[str, Json], ratios: Json
) -> dict[str, Json]:
    """The inventories of the cluster's resource provider.

    ``stored`` is what placement has. ``ratios`` are those of Nova's configuration: they apply
    although the provider exists before its worker, but a ratio always covers what runs already.
    """
    amounts = {
        "VCPU": Amount(resources.cpus, resources.cpus_used, resources.largest_cpus),
        "MEMORY_MB": Amount(
            resources.memory_mb, resources.memory_mb_used, resources.largest_memory_mb
        ),
        "DISK_GB": Amount(resources.disk_gb, resources.disk_gb_used, resources.largest_disk_gb),
    }
    wanted = inventories(amounts, stored)
    for name, key in RATIOS.items():
        inventory = wanted[name]
        inventory["allocation_ratio"] = max(inventory["allocation_ratio"], ratios.get(key) or 0.0)
        inventory.setdefault("reserved", 0)
        inventory.setdefault("min_unit", 1)
        inventory.setdefault("step_size", 1)
    return wanted
