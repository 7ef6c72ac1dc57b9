"""Which properties of vCenter are read, by type. Names are those of the vSphere Web Services API.

``watched`` is in the one filter that reports changes. ``detail`` is read besides, once, and again
when ``config.changeVersion`` says that the configuration changed: the devices of a virtual machine
are most of all bytes, and a filter that watches them costs vCenter far more than reading them when
they change. Every path is as narrow as the field that it fills.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Final

CHANGE_VERSION: Final = "config.changeVersion"


@dataclasses.dataclass(frozen=True, slots=True)
class TypeSpec:
    """The properties of one managed object type and its subtypes."""

    type: str
    """Type name in a PropertySpec; subtypes match too."""
    watched: tuple[str, ...]
    detail: tuple[str, ...] = ()
    subtypes: tuple[str, ...] = ()
    """Types of references that this spec covers besides ``type``."""

    @property
    def all_paths(self) -> tuple[str, ...]:
        """Everything that makes one inventory object."""
        return tuple(dict.fromkeys(self.watched + self.detail))


VIRTUAL_MACHINE: Final = TypeSpec(
    "VirtualMachine",
    watched=(
        "name",
        "parent",
        "resourcePool",
        "datastore",
        "customValue",
        "rootSnapshot",
        "runtime.host",
        "runtime.powerState",
        "runtime.connectionState",
        "runtime.bootTime",
        "config.template",
        CHANGE_VERSION,
        "guest.toolsRunningStatus",
        "guest.hostName",
        "guest.net",
    ),
    detail=(
        "config.instanceUuid",
        "config.uuid",
        "config.hardware.numCPU",
        "config.hardware.numCoresPerSocket",
        "config.hardware.memoryMB",
        "config.hardware.device",
        "config.guestId",
        "config.guestFullName",
        "config.version",
        "config.firmware",
        "config.annotation",
        "config.managedBy",
        "config.ftInfo.role",
        "config.createDate",
        "config.files.vmPathName",
        # Its addresses belong to the network adapters in config.hardware.device.
        "guest.net",
    ),
)

STRUCTURE: Final = (
    TypeSpec("Folder", ("name", "parent"), subtypes=("StoragePod",)),
    TypeSpec("Datacenter", ("name", "parent")),
    TypeSpec(
        "ClusterComputeResource",
        (
            "name",
            "parent",
            "host",
            "datastore",
            "network",
            # The same in two generations of the API; a simulator knows the newer alone.
            "configuration.drsConfig.enabled",
            "configuration.dasConfig.enabled",
            "configurationEx.drsConfig.enabled",
            "configurationEx.dasConfig.enabled",
        ),
    ),
    TypeSpec(
        "HostSystem",
        (
            "name",
            "parent",
            "hardware.systemInfo.uuid",
            "summary.hardware.cpuModel",
            "summary.hardware.numCpuThreads",
            "summary.hardware.numCpuCores",
            "summary.hardware.memorySize",
            "runtime.connectionState",
            "runtime.inMaintenanceMode",
            "runtime.powerState",
            "summary.config.product.version",
            "datastore",
        ),
    ),
    TypeSpec("ResourcePool", ("name", "parent", "owner"), subtypes=("VirtualApp",)),
    TypeSpec(
        "Datastore",
        (
            "name",
            "parent",
            "summary.type",
            "summary.capacity",
            "summary.freeSpace",
            "summary.accessible",
            "summary.maintenanceMode",
            "summary.multipleHostAccess",
        ),
    ),
    TypeSpec("Network", ("name", "parent"), subtypes=("OpaqueNetwork",)),
    TypeSpec(
        "DistributedVirtualPortgroup",
        (
            "name",
            "parent",
            "key",
            "config.distributedVirtualSwitch",
            "config.uplink",
            "config.defaultPortConfig",
        ),
    ),
    TypeSpec(
        "DistributedVirtualSwitch",
        ("name", "parent", "uuid"),
        subtypes=("VmwareDistributedVirtualSwitch",),
    ),
)

TYPE_SPECS: Final = (*STRUCTURE, VIRTUAL_MACHINE)

PLACE_PATHS: Final = ("parent", "resourcePool", "datastore", "runtime.host", "config.template")
"""What says of a virtual machine whether it is managed."""

POLLED_MACHINE_PATHS: Final = (
    "name",
    "parent",
    "resourcePool",
    "customValue",
    "runtime.host",
    "runtime.powerState",
    "config.template",
    CHANGE_VERSION,
)
"""What the polling pass compares of every virtual machine."""

_BY_TYPE: Final = {name: spec for spec in TYPE_SPECS for name in (spec.type, *spec.subtypes)}


def spec_of(type_name: str) -> TypeSpec | None:
    """The spec that covers a reference's type; None for a type that is not read."""
    return _BY_TYPE.get(type_name)


def view_types(wanted: Iterable[str]) -> Iterator[str]:
    """The types to name in CreateContainerView, where a port group is a Network."""
    for name in wanted:
        if name != "DistributedVirtualPortgroup":
            yield name
