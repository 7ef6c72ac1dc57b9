"""What the control plane holds about one cluster, scripted.

A fake because the tests that use it are about what the driver and Nova make of its answers; the
pipeline's own gives them in tests/end_to_end.
"""

from controlplane.domain.ports import ComputeCluster, MachineLocation, StoredVirtualMachine
from controlplane.store.errors import DatabaseUnavailableError
from tests.support.edge_side import VCENTER
from vsphere_gateway.v1 import compute_pb2, inventory_pb2

HOST = "dc0-c0-1a2b3c4d"
IMAGE = "3f5d3a52-7a3c-5c3e-9d39-000000000007"
NODE_UUID = "77777777-0000-5000-8000-000000000001"
CLUSTER = inventory_pb2.ObjectReference(type="ClusterComputeResource", value="domain-c1")
GIB = 1 << 30
MACHINE = inventory_pb2.ObjectReference(type="VirtualMachine", value="vm-1")


class ScriptedInventory:
    """A fake ``ComputeInventory`` of one cluster; ``power`` are its virtual machines."""

    def __init__(
        self, power: dict[str, inventory_pb2.PowerState.ValueType], compute_host: str = HOST
    ) -> None:
        self.power = power
        self.compute_host = compute_host
        self.any_image = False
        self.managed = True
        self.away = False
        self.template_vcenter = VCENTER
        self.questions = 0
        self.totals = compute_pb2.GetClusterResourcesResponse(
            compute_node_uuid=NODE_UUID,
            hypervisor_hostname=f"domain-c1.{VCENTER}",
            cpus=16,
            memory_mb=32768,
            disk_gb=1000,
            cpus_used=40,
            memory_mb_used=40960,
            disk_gb_used=100,
            largest_cpus=8,
            largest_memory_mb=16384,
            largest_disk_gb=500,
            traits=["CUSTOM_VSG_VCENTER_1"],
            hypervisor_version=8000003,
            cpu_info="{}",
            synchronised=True,
        )

    def _ask(self) -> None:
        self.questions += 1
        if self.away:
            raise DatabaseUnavailableError("the own database is away")

    def cluster(self, compute_host: str) -> ComputeCluster | None:
        assert compute_host == self.compute_host
        found = ComputeCluster(compute_host, "cluster-1", VCENTER, CLUSTER)
        return found if self.managed else None

    def subject(
        self, compute_host: str, server_uuid: str
    ) -> tuple[ComputeCluster | None, MachineLocation | None]:
        location = MachineLocation(VCENTER, server_uuid, MACHINE, CLUSTER)
        return self.cluster(compute_host), location if server_uuid in self.power else None

    def virtual_machine(self, server_uuid: str) -> StoredVirtualMachine | None:
        self._ask()
        if server_uuid not in self.power:
            return None
        machine = inventory_pb2.VirtualMachine(
            instance_uuid=server_uuid, name="web-1", power_state=self.power[server_uuid]
        )
        return StoredVirtualMachine(VCENTER, MACHINE, CLUSTER, machine)

    def instances(self, compute_host: str) -> list[compute_pb2.InstanceName]:
        self._ask()
        return [
            compute_pb2.InstanceName(instance_uuid=uuid, name="web-1", power_state=power)
            for uuid, power in self.power.items()
        ]

    def resources(self, compute_host: str) -> compute_pb2.GetClusterResourcesResponse | None:
        self._ask()
        return self.totals if self.managed else None

    def template(self, image_id: str) -> StoredVirtualMachine | None:
        self._ask()
        if image_id != IMAGE and not self.any_image:
            return None
        template = inventory_pb2.VirtualMachine(instance_uuid="template-uuid", name="debian")
        template.disks.add(capacity_bytes=10 * GIB)
        reference = inventory_pb2.ObjectReference(type="VirtualMachine", value="vm-9")
        return StoredVirtualMachine(
            self.template_vcenter, reference, inventory_pb2.ObjectReference(), template
        )
