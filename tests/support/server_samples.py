"""Virtual machines of one imaginary cluster, and the records that they map to."""

import itertools
import uuid
from datetime import datetime
from typing import Any

from controlplane.domain.mapping import servers as mapping
from controlplane.domain.records import ComputeHostRecord, Policy, ServerRecord
from vsphere_gateway.v1 import inventory_pb2

VCENTER = "dbed6e0c-bd88-4ef6-b594-21283e1c677f"
HOST = "vcenter-cluster1-0a1b2c3d"
NODE = f"domain-c7.{VCENTER}"
NODE_UUID = "c0000000-0000-4000-8000-000000000001"
PROJECT = "9f0c1f6e5d0b4f6c8e5a1b2c3d4e5f60"
USER = "1b2c3d4e5f609f0c1f6e5d0b4f6c8e5a"
NOW = datetime(2026, 11, 22, 8, 0, 0)  # noqa: DTZ001 - as the columns hold it
GIB = 1024**3

_numbers = itertools.count(1)


class Names:
    """A fake of the names that the inventory knows, as vCenter would have them."""

    vcenter_uuid = VCENTER
    vcenter_name = "vcenter.example"

    def name(self, reference: inventory_pb2.ObjectReference) -> str:
        """The reference itself, with a prefix."""
        return f"name of {reference.value}" if reference.value else ""

    def folder_path(self, _: inventory_pb2.ObjectReference) -> str:
        """One folder."""
        return "DC0/prod/web"

    def datacenter(self, _: inventory_pb2.ObjectReference) -> str:
        """One datacenter."""
        return "DC0"


def machine(**changes: Any) -> inventory_pb2.VirtualMachine:
    """A running virtual machine with two disks and one adapter; a new one each time."""
    number = next(_numbers)
    fields = {
        "name": f"web-{number}",
        "instance_uuid": str(uuid.uuid4()),
        "cpus": 2,
        "memory_mb": 4096,
        "guest_id": "ubuntu64Guest",
        "vmx_path": f"[ds1] web-{number}/web-{number}.vmx",
        "hardware_version": "vmx-19",
        "power_state": inventory_pb2.POWER_STATE_ON,
        "connection_state": inventory_pb2.CONNECTION_STATE_CONNECTED,
    }
    made = inventory_pb2.VirtualMachine(**{**fields, **changes})
    made.cluster.value, made.host.value, made.folder.value = "domain-c7", "host-1", "group-v3"
    made.created_at.seconds, made.booted_at.seconds = 1_600_000_000, 1_700_000_000
    if "disks" not in changes:
        for key, size in ((2000, 40), (2001, 100)):
            made.disks.add(
                key=key,
                capacity_bytes=size * GIB,
                adapter_type="paraVirtual",
                file_name=f"[ds1] web-{number}/disk-{key}.vmdk",
                disk_type="thin",
            )
    if "nics" not in changes:
        nic = made.nics.add(
            key=4000,
            mac_address=f"00:50:56:00:{number >> 8:02x}:{number & 255:02x}",
            model="VirtualVmxnet3",
            connected=True,
            ip_addresses=["10.0.0.5", "2001:db8::5"],
        )
        nic.network.value = "dvportgroup-12"
    return made


def record(made: inventory_pb2.VirtualMachine | None = None, **decisions: Any) -> ServerRecord:
    """The record of a machine, with the pipeline's decisions."""
    made = made or machine()
    number = made.name.rpartition("-")[2]
    fields: dict[str, Any] = {
        "instance_uuid": made.instance_uuid,
        "project_id": PROJECT,
        "user_id": USER,
        "policy": Policy.MANAGED,
        "compute_host": HOST,
        "node": NODE,
        "compute_node_uuid": NODE_UUID,
    }
    decision = mapping.ServerDecision(**{**fields, **decisions})
    reference = inventory_pb2.ObjectReference(type="VirtualMachine", value=f"vm-{number}")
    return mapping.server_record(made, reference, decision, Names(), NOW)


def compute_host(host: str = HOST, node: str = NODE, uuid: str = NODE_UUID) -> ComputeHostRecord:
    """A cluster of two hosts."""
    return ComputeHostRecord(
        host=host,
        node=node,
        node_uuid=uuid,
        cpus=64,
        memory_mb=262144,
        disk_gb=10240,
        largest_cpus=32,
        largest_memory_mb=131072,
        largest_disk_gb=4096,
        cpus_used=0,
        memory_mb_used=0,
        disk_gb_used=0,
        hypervisor_version=8000003,
        cpu_info="{}",
        traits=frozenset({"CUSTOM_VSG_VCENTER_X"}),
    )
