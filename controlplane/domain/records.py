"""What the pipeline hands to the writers, and what the writers hand back.

Values are final: names are cut and escaped, sizes are in the unit of the column. A writer turns a
record into rows and decides only what depends on the rows that are there already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any


class Policy(Enum):
    """What OpenStack may do with the adopted servers of a cluster."""

    MANAGED = "managed"
    """Everything that Nova's policy allows."""
    LOCKED = "locked"
    """Only an administrator acts (`locked_by=admin`)."""
    LISTED = "listed"
    """Read only (`locked_by=admin` and `disable_terminate`)."""


class Power(Enum):
    """A power state, with the numbers of nova/objects/fields.py:InstancePowerState."""

    UNKNOWN = 0
    RUNNING = 1
    SHUTDOWN = 4
    SUSPENDED = 7


class Origin(Enum):
    """Where a server came from first."""

    ADOPTED = "adopted"
    CREATED = "created"


@dataclass(frozen=True, slots=True)
class FlavorRecord:
    """A synthetic flavor that lives only inside the server; equal hardware, equal flavor."""

    id: int
    """`instances.instance_type_id`, above what `nova_api.flavors` counts to."""
    flavorid: str
    """UUIDv5 of the hardware."""
    name: str
    """For example `vsphere-2c-4096m-40g`."""
    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int


@dataclass(frozen=True, slots=True)
class DiskRecord:
    """One virtual disk, as a local block device."""

    uuid: str
    """UUIDv5 of instance and device key: marks the block device mapping as ours."""
    device_name: str
    """For example `/dev/sda`."""
    size_gb: int
    """Capacity in GiB, rounded up."""
    boot_index: int
    """0 for the first disk, else -1."""
    disk_bus: str
    """`scsi`, `ide`, `sata` or `nvme`."""


@dataclass(frozen=True, slots=True)
class NicRecord:
    """One virtual network adapter with its addresses."""

    network_uuid: str
    """UUIDv5 of vCenter and network."""
    network_label: str
    """The network's name, the key under `addresses`."""
    mac_address: str
    """Lower case."""
    model: str
    """As `hw_vif_model`, for example `VirtualVmxnet3`."""
    active: bool
    addresses: tuple[str, ...]
    """IPv4 and IPv6, sorted."""


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """One virtual machine as a Nova server."""

    uuid: str
    project_id: str
    """Used when the server is adopted, then the row's own stays."""
    user_id: str
    """As `project_id`."""
    compute_host: str
    node: str
    """`compute_nodes.hypervisor_hostname`."""
    compute_node_uuid: str
    """The compute node's UUID, which is the resource provider's."""
    display_name: str
    hostname: str
    """Written at adoption only."""
    power: Power
    flavor: FlavorRecord
    disks: tuple[DiskRecord, ...]
    nics: tuple[NicRecord, ...]
    metadata: Mapping[str, str]
    """`vsphere:*` only; keys that are missing here are removed, other keys are left alone."""
    image_id: str
    """The Glance image of the template that it came from, else the one that says that it is unknown
    (``mapping.unknown_image_id``). Adoption only."""
    image_properties: Mapping[str, str]
    """Becomes `image_*` system metadata. Adoption only."""
    created_at: datetime
    """UTC without zone or microseconds. Adoption only."""
    launched_at: datetime
    """As `created_at`."""
    os_type: str | None
    policy: Policy


@dataclass(frozen=True, slots=True)
class AllocationRecord:
    """What one server uses of one resource provider."""

    consumer_uuid: str
    provider_uuid: str
    project_id: str
    user_id: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    """0 is left out: placement refuses an amount of 0."""


@dataclass(frozen=True, slots=True)
class HostAllocations:
    """What placement should hold for all servers of one compute host."""

    records: Sequence[AllocationRecord]
    ended: frozenset[str]
    """UUIDs of servers that ended and should hold nothing."""


class ServerChange(Enum):
    """What a writer did to one server."""

    NONE = "none"
    """Every field was as it should be; nothing was written."""
    ADOPTED = "adopted"
    """New rows."""
    RESTORED = "restored"
    """A deleted row came back because the caller allowed it."""
    GONE = "gone"
    """The row is deleted and the caller did not allow to restore it; nothing was written."""
    UPDATED = "updated"
    """Fields of vCenter's were written."""
    DEFERRED = "deferred"
    """Something differs but is withheld while Nova works on the server (`task_state`), or while its
    `vm_state` is Nova's own (building, resized, rescued, ...). It stays dirty: apply it again."""
    REFUSED = "refused"
    """The database refused the rows of this server; the rest of the batch went through."""


@dataclass(frozen=True, slots=True)
class ServerOutcome:
    """What became of one server of a batch, and whose it is according to Nova."""

    uuid: str
    change: ServerChange
    reason: str = ""
    """For a person: why deferred or refused."""
    origin: Origin = Origin.ADOPTED
    project_id: str = ""
    """As the row has it now."""
    user_id: str = ""
    allocation: AllocationRecord | None = None
    """What placement should hold; None when that is Nova's business or has not changed."""
    announcement: "ServerAnnouncement | None" = None
    """What to say on the bus after the commit."""


class RemovalChange(Enum):
    """What became of a server that was to go."""

    DELETED = "deleted"
    """Its rows are as Nova's own delete leaves them."""
    UNMANAGED = "unmanaged"
    """As DELETED, announced as unmanagement."""
    ABSENT = "absent"
    """There is no such server, or it is deleted already."""
    REQUESTED = "requested"
    """It has ports or volumes: Nova's own delete was asked for and runs by itself."""
    DEFERRED = "deferred"
    """Nova works on it, or Nova's API could not be reached: try again."""


@dataclass(frozen=True, slots=True)
class RemovalOutcome:
    """What became of one server that was to go."""

    uuid: str
    change: RemovalChange
    reason: str = ""
    compute_node_uuid: str = ""
    """The resource provider that held its allocation; empty when placement has nothing to do."""
    announcement: "ServerAnnouncement | None" = None


class Announced(Enum):
    """Kinds of notification, with Nova's own event types where Nova has one."""

    CREATE = "instance.create.end"
    UPDATE = "instance.update"
    DELETE = "instance.delete.end"
    UNMANAGE = "instance.unmanage.end"


@dataclass(frozen=True, slots=True)
class ServerAnnouncement:
    """One notification to send after the commit; what it tells is read from the rows then."""

    kind: Announced
    uuid: str
    old_vm_state: str | None = None
    """UPDATE only: the state before, when it changed."""
    old_display_name: str | None = None
    """UPDATE only: the name before, when it changed."""


@dataclass(frozen=True, slots=True)
class NotificationData:
    """A server as its rows are when it is announced, the deleted ones included."""

    columns: Mapping[str, Any]
    """Of `instances`, all of them."""
    flavor: Mapping[str, Any]
    """Fields of the embedded flavor."""
    network_info: Sequence[Mapping[str, Any]]
    """Nova's VIFs."""
    metadata: Mapping[str, str]
    system_metadata: Mapping[str, str]
    tags: Sequence[str]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One template as a Glance image."""

    id: str
    name: str
    owner: str
    """Project id."""
    visibility: str
    """`public`, `community`, `shared` or `private`."""
    members: frozenset[str]
    """Projects that see a `shared` image, as accepted members."""
    size_bytes: int
    """Capacity of the first disk: Nova compares it with the flavor's root disk."""
    min_disk_gb: int
    min_ram_mb: int
    location: str
    """Where the bits are, `vsphere://<vCenter UUID>/folder/...`: a pointer, never opened."""
    properties: Mapping[str, str]
    """All are ours; properties of other names on the image are left alone."""
    created_at: datetime
    """UTC without zone or microseconds. Written once."""


class ImageChange(Enum):
    """What a writer did to one image."""

    NONE = "none"
    CREATED = "created"
    UPDATED = "updated"
    REMOVED = "removed"
    ABSENT = "absent"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """What became of one image of a batch."""

    id: str
    change: ImageChange
    reason: str = ""
    owner: str = ""
    """As Glance has it: OpenStack's, once the image is there."""
    visibility: str = ""
    """The same."""


@dataclass(frozen=True, slots=True)
class ComputeHostRecord:
    """One managed cluster as a Nova compute host with one node."""

    host: str
    """The frozen name of the compute host."""
    node: str
    """`<cluster moref>.<vCenter instance uuid>`."""
    node_uuid: str
    """UUID of the compute node and of its resource provider."""
    cpus: int
    memory_mb: int
    disk_gb: int
    largest_cpus: int
    """Most processors that one server may have: at least the largest adopted one's."""
    largest_memory_mb: int
    largest_disk_gb: int
    cpus_used: int
    """By adopted servers: the allocation ratio covers at least this."""
    memory_mb_used: int
    disk_gb_used: int
    hypervisor_version: int
    """For example 8000003."""
    cpu_info: str
    """JSON."""
    traits: frozenset[str] = field(default_factory=frozenset)
    """`CUSTOM_VSG_VCENTER_...` and what else the driver will report."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A compute service as its row says."""

    host: str
    disabled: bool
    disabled_reason: str
    by_operator: bool
    """Disabled by a person: the reason does not start with `AUTO:`. Never overridden."""


@dataclass(frozen=True, slots=True)
class ServerAction:
    """One of a server's actions, as Nova's API lists them."""

    name: str
    request_id: str


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What Nova says about a server that is to be deleted."""

    vm_state: str
    task_state: str | None
    service_up: bool
    """Its compute service; while it is down Nova's delete would remove rows only."""
    actions: Sequence[ServerAction]
    """Newest first."""
