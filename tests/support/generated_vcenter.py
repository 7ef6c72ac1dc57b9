"""A vCenter's inventory as its edge would report it: generated, changed, and never run.

Stands for vCenter, collector and parser where a test is about what the control plane makes of
inventory. Everything is derived from the vCenter's UUID, so that two sites never share a UUID.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterator

from vsphere_gateway.v1 import inventory_pb2, link_pb2

GIB = 1024**3
Change = Callable[[inventory_pb2.InventoryObject], object]
Reference = inventory_pb2.ObjectReference


def key_of(reference: Reference) -> str:
    """Return the key of an object."""
    return f"{reference.type}:{reference.value}"


def digests_of(hashes: dict[str, bytes]) -> bytes:
    """Return bucketed digests, written from docs/concepts/sync-protocol.md and nothing else."""
    buckets = [0] * 256
    for key, content_hash in hashes.items():
        digest = hashlib.sha256(key.encode() + content_hash).digest()[:8]
        buckets[hashlib.sha256(key.encode()).digest()[0]] ^= int.from_bytes(digest, "big")
    return b"".join(value.to_bytes(8, "big") for value in buckets)


class GeneratedVCenter:
    """A fake vCenter: everything that an edge reports of it."""

    def __init__(
        self, *, clusters: int = 1, machines: int = 3, hosts: int = 2, vcenter: str = ""
    ) -> None:
        """``machines`` and ``hosts`` are those of each cluster."""
        self.vcenter_uuid = vcenter or str(uuid.uuid4())
        self.about = inventory_pb2.VCenter(
            instance_uuid=self.vcenter_uuid,
            full_name="VMware vCenter Server 8.0.3",
            version="8.0.3",
            build="24022515",
            api_version="8.0.3.0",
        )
        self.objects: dict[str, inventory_pb2.InventoryObject] = {}
        self.revision = 0
        self._surroundings()
        for number in range(1, clusters + 1):
            self.add_cluster(number, hosts)
        count = 0
        for number in range(1, clusters + 1):
            for _ in range(machines):
                count += 1
                self.add_machine(f"vm-{count}", cluster=f"domain-c{number}")

    def state(self, key: str) -> inventory_pb2.InventoryObject:
        """Return the present state of an object."""
        return self.objects[key]

    def machine(self, moref: str) -> inventory_pb2.VirtualMachine:
        """Return a virtual machine or template."""
        one = self.objects[f"VirtualMachine:{moref}"]
        return one.template if one.HasField("template") else one.virtual_machine

    def instance_uuid(self, moref: str) -> str:
        """Return the instance UUID that a virtual machine was made with."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.vcenter_uuid}:{moref}"))

    def change(self, key: str, change: Change) -> inventory_pb2.InventoryObject:
        """Change an object and return its new state."""
        one = inventory_pb2.InventoryObject()
        one.CopyFrom(self.objects[key])
        change(one)
        return self._put(one)

    def change_machine(
        self, moref: str, change: Callable[[inventory_pb2.VirtualMachine], object]
    ) -> inventory_pb2.InventoryObject:
        """Change a virtual machine and return its new state."""
        return self.change(f"VirtualMachine:{moref}", lambda one: change(one.virtual_machine))

    def convert(self, moref: str, *, template: bool) -> inventory_pb2.InventoryObject:
        """Make a template of a virtual machine, or the reverse."""
        machine = inventory_pb2.VirtualMachine()
        machine.CopyFrom(self.machine(moref))
        reference = Reference(type="VirtualMachine", value=moref)
        if template:
            machine.ClearField("resource_pool")
            return self._put(inventory_pb2.InventoryObject(reference=reference, template=machine))
        return self._put(
            inventory_pb2.InventoryObject(reference=reference, virtual_machine=machine)
        )

    def remove(
        self,
        key: str,
        reason: "link_pb2.RemovalReason.ValueType" = link_pb2.REMOVAL_REASON_DELETED,
    ) -> link_pb2.ObjectRemoval:
        """Take an object away and return the removal."""
        reference = self.objects.pop(key).reference
        self.revision += 1
        return link_pb2.ObjectRemoval(reference=reference, reason=reason, revision=self.revision)

    def restart(self) -> None:
        """Count revisions anew, as the next process of the edge does after its full read."""
        self.revision = 0
        for one in self.objects.values():
            self.revision += 1
            one.revision = self.revision

    def give_back(self, one: inventory_pb2.InventoryObject) -> inventory_pb2.InventoryObject:
        """Report an object again that was taken away."""
        copy = inventory_pb2.InventoryObject()
        copy.CopyFrom(one)
        return self._put(copy)

    def add_machine(
        self,
        moref: str,
        *,
        cluster: str = "domain-c1",
        instance_uuid: str | None = None,
        folder: str = "group-web",
    ) -> inventory_pb2.InventoryObject:
        """Create a running virtual machine with a disk and a network adapter."""
        number = cluster.removeprefix("domain-c")
        machine = inventory_pb2.VirtualMachine(
            name=f"server {moref}",
            instance_uuid=self.instance_uuid(moref) if instance_uuid is None else instance_uuid,
            bios_uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.vcenter_uuid}:{moref}")),
            cluster=Reference(type="ClusterComputeResource", value=cluster),
            host=Reference(type="HostSystem", value=f"host-{number}-1"),
            resource_pool=Reference(type="ResourcePool", value=f"resgroup-{number}"),
            folder=Reference(type="Folder", value=folder),
            power_state=inventory_pb2.POWER_STATE_ON,
            connection_state=inventory_pb2.CONNECTION_STATE_CONNECTED,
            cpus=2,
            cores_per_socket=1,
            memory_mb=4096,
            guest_id="ubuntu64Guest",
            guest_full_name="Ubuntu Linux (64-bit)",
            hardware_version="vmx-19",
            firmware="efi",
            vmx_path=f"[datastore1] {moref}/{moref}.vmx",
            tools_running=True,
            guest_hostname=moref,
            datastores=[Reference(type="Datastore", value="datastore-1")],
        )
        machine.created_at.FromSeconds(1_700_000_000)
        machine.booted_at.FromSeconds(1_700_000_100)
        machine.disks.append(_disk(moref))
        machine.nics.append(_nic(moref))
        reference = Reference(type="VirtualMachine", value=moref)
        return self._put(
            inventory_pb2.InventoryObject(reference=reference, virtual_machine=machine)
        )

    def add_folder(self, moref: str, name: str, parent: str) -> inventory_pb2.InventoryObject:
        """Create a folder in a folder."""
        reference = Reference(type="Folder", value=moref)
        folder = inventory_pb2.Folder(name=name, parent=Reference(type="Folder", value=parent))
        return self._put(inventory_pb2.InventoryObject(reference=reference, folder=folder))

    def hashes(self) -> dict[str, bytes]:
        """Return what an edge's snapshot has, by key."""
        return {key: one.content_hash for key, one in self.objects.items()}

    def machine_keys(self) -> list[str]:
        """Return the keys of all virtual machines and templates."""
        return [key for key in self.objects if key.startswith("VirtualMachine:")]

    def _put(self, one: inventory_pb2.InventoryObject) -> inventory_pb2.InventoryObject:
        one.ClearField("content_hash")
        one.ClearField("revision")
        content = one.SerializeToString(deterministic=True)
        one.content_hash = hashlib.sha256(content).digest()[:16]
        self.revision += 1
        one.revision = self.revision
        self.objects[key_of(one.reference)] = one
        return one

    def _surroundings(self) -> None:
        for one in self._fixed():
            self._put(one)

    def _fixed(self) -> Iterator[inventory_pb2.InventoryObject]:
        make = inventory_pb2.InventoryObject
        yield make(
            reference=Reference(type="ServiceInstance", value="ServiceInstance"),
            vcenter=self.about,
        )
        root = Reference(type="Folder", value="group-d1")
        datacenter = Reference(type="Datacenter", value="datacenter-1")
        folder = Reference(type="Folder", value="group-v1")
        web = Reference(type="Folder", value="group-web")
        yield make(reference=root, folder=inventory_pb2.Folder(name="Datacenters"))
        yield make(
            reference=datacenter, datacenter=inventory_pb2.Datacenter(name="DC0", parent=root)
        )
        yield make(reference=folder, folder=inventory_pb2.Folder(name="vm", parent=datacenter))
        yield make(reference=web, folder=inventory_pb2.Folder(name="web", parent=folder))
        yield make(
            reference=Reference(type="Datastore", value="datastore-1"),
            datastore=inventory_pb2.Datastore(
                name="datastore1",
                type="VMFS",
                capacity_bytes=10_000 * GIB,
                free_bytes=5_000 * GIB,
                accessible=True,
                shared=True,
            ),
        )
        yield make(
            reference=Reference(type="Network", value="network-1"),
            network=inventory_pb2.Network(name="VM Network", parent=datacenter),
        )

    def add_cluster(self, number: int, hosts: int) -> None:
        """Create a cluster with hosts that mount the datastore."""
        reference = Reference(type="ClusterComputeResource", value=f"domain-c{number}")
        members = [
            Reference(type="HostSystem", value=f"host-{number}-{index}")
            for index in range(1, hosts + 1)
        ]
        cluster = inventory_pb2.Cluster(
            name=f"Cluster {number}",
            parent=Reference(type="Datacenter", value="datacenter-1"),
            hosts=members,
            datastores=[Reference(type="Datastore", value="datastore-1")],
            networks=[Reference(type="Network", value="network-1")],
        )
        self._put(inventory_pb2.InventoryObject(reference=reference, cluster=cluster))
        for member in members:
            host = inventory_pb2.Host(
                name=f"esx-{member.value}.example.test",
                cluster=reference,
                hardware_uuid=str(
                    uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.vcenter_uuid}:{member.value}")
                ),
                cpu_model="Intel(R) Xeon(R) Gold 6342",
                cpu_threads=96,
                cpu_cores=48,
                memory_bytes=1024 * GIB,
                connection_state=inventory_pb2.CONNECTION_STATE_CONNECTED,
                esxi_version="8.0.3",
                powered_on=True,
            )
            self._put(inventory_pb2.InventoryObject(reference=member, host=host))
        pool = inventory_pb2.ResourcePool(name="Resources", parent=reference, cluster=reference)
        root = Reference(type="ResourcePool", value=f"resgroup-{number}")
        self._put(inventory_pb2.InventoryObject(reference=root, resource_pool=pool))


def _disk(moref: str) -> inventory_pb2.VirtualDisk:
    return inventory_pb2.VirtualDisk(
        key=2000,
        label="Hard disk 1",
        capacity_bytes=40 * GIB,
        adapter_type="paraVirtual",
        file_name=f"[datastore1] {moref}/{moref}.vmdk",
        disk_type="thin",
        datastore=Reference(type="Datastore", value="datastore-1"),
    )


def _nic(moref: str) -> inventory_pb2.VirtualNic:
    number = int(hashlib.sha256(moref.encode()).hexdigest()[:4], 16)
    return inventory_pb2.VirtualNic(
        key=4000,
        label="Network adapter 1",
        mac_address=f"00:50:56:00:{number >> 8:02x}:{number & 255:02x}",
        model="VirtualVmxnet3",
        network=Reference(type="Network", value="network-1"),
        connected=True,
        ip_addresses=[f"10.{number >> 8}.{number & 255}.10"],
    )
