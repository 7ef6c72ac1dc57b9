"""Where in a cluster a new virtual machine goes: resource pool, datastore, host and folder."""

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pyVmomi import vim

from edge.vcenter.client import faults
from edge.vcenter.client.properties import Step, read_related
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.operations.errors import NoDatastoreError, NoHostError

# The same in two generations of the API; a simulator knows the newer alone.
_DRS: Final = ("configuration.drsConfig.enabled", "configurationEx.drsConfig.enabled")
_PATHS: Final[dict[type, tuple[str, ...]]] = {
    vim.ClusterComputeResource: ("name", "resourcePool", *_DRS),
    vim.Datastore: (
        "name",
        "summary.accessible",
        "summary.freeSpace",
        "summary.maintenanceMode",
        "summary.multipleHostAccess",
    ),
    vim.HostSystem: (
        "datastore",
        "runtime.connectionState",
        "runtime.inMaintenanceMode",
        "summary.hardware.memorySize",
        "summary.quickStats.overallMemoryUsage",
    ),
    vim.Datacenter: ("vmFolder",),
}
_STEPS: Final = (
    Step(vim.ClusterComputeResource, "datastore"),
    Step(vim.ClusterComputeResource, "host"),
    Step(vim.ManagedEntity, "parent", repeated=True),
)
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30

Values = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Need:
    """What the new virtual machine needs of a datastore."""

    room_bytes: int
    """Room at least, in bytes."""
    patterns: Sequence[str] = ()
    """Names of datastores that may be used, as globs; empty allows all."""
    preferred: str = ""
    """Managed object identifier of the datastore to use if it is fit."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """pyVmomi's objects for a CloneSpec."""

    resource_pool: Any
    datastore: Any
    folder: Any
    host: Any | None
    """None leaves the choice to DRS."""


def choose_place(session: VCenterSession, cluster: Any, need: Need) -> Place:
    """Choose in one round trip.

    Raises ``NoDatastoreError``, ``NoHostError`` or ``VCenterError``.
    """
    found = read_related(session, [cluster], _PATHS, _STEPS)
    values = found.get(cluster, {})
    name = values.get("name", cluster._moId)
    hosts = {each: of for each, of in _of_kind(found, vim.HostSystem).items() if _is_usable(of)}
    if not hosts:
        raise NoHostError(f"no host of cluster {name} is connected and out of maintenance")
    datastore = choose_datastore(name, _of_kind(found, vim.Datastore), hosts, need)
    # CloneVM_Task picks a host by itself only where DRS is enabled (VirtualMachineRelocateSpec).
    by_drs = any(values.get(path) for path in _DRS)
    return Place(
        resource_pool=values["resourcePool"],
        datastore=datastore,
        folder=_machine_folder(found, name),
        host=None if by_drs else _least_loaded(hosts, datastore),
    )


def choose_datastore(
    cluster_name: str, datastores: Mapping[Any, Values], hosts: Mapping[Any, Values], need: Need
) -> Any:
    """Choose the preferred datastore if it is fit, else the one with most room; shared ones first.

    ``datastores`` and ``hosts`` are the cluster's, with their properties by path. Raises
    ``NoDatastoreError`` which says why each was passed over.
    """
    mounted = {datastore for of in hosts.values() for datastore in of.get("datastore") or []}
    passed_over = {
        each: _unfit(of, each in mounted, need) for each, of in sorted_by_name(datastores)
    }
    fit = [each for each, why in passed_over.items() if not why]
    if not fit:
        reasons = "; ".join(
            f"{datastores[each].get('name')}: {why}" for each, why in passed_over.items()
        )
        raise NoDatastoreError(
            f"no datastore of cluster {cluster_name} can take {need.room_bytes / _GIB:.1f} GiB"
            f" ({reasons or 'it mounts none'})"
        )
    return max(fit, key=lambda each: _preference(each, datastores[each], need))


def sorted_by_name(entities: Mapping[Any, Values]) -> list[tuple[Any, Values]]:
    """Sort objects with their properties by name."""
    return sorted(entities.items(), key=lambda item: str(item[1].get("name", "")))


def _unfit(values: Values, mounted: bool, need: Need) -> str:
    name = str(values.get("name", ""))
    if need.patterns and not any(fnmatch.fnmatchcase(name, each) for each in need.patterns):
        return "not among those allowed"
    if not mounted or not values.get("summary.accessible"):
        return "not accessible"
    if values.get("summary.maintenanceMode") not in (None, "normal"):
        return "in maintenance"
    free = values.get("summary.freeSpace") or 0
    return "" if free >= need.room_bytes else f"{free / _GIB:.1f} GiB free"


def _preference(datastore: Any, values: Values, need: Need) -> tuple[bool, bool, int]:
    return (
        datastore._moId == need.preferred,
        bool(values.get("summary.multipleHostAccess")),
        values.get("summary.freeSpace") or 0,
    )


def _is_usable(host: Values) -> bool:
    connected = host.get("runtime.connectionState") == "connected"
    return connected and not host.get("runtime.inMaintenanceMode")


def _least_loaded(hosts: Mapping[Any, Values], datastore: Any) -> Any:
    """The host with the most free memory that mounts the datastore."""
    mounting = [each for each, of in hosts.items() if datastore in (of.get("datastore") or [])]
    return max(mounting, key=lambda each: _free_memory(hosts[each]))


def _free_memory(host: Values) -> int:
    used = (host.get("summary.quickStats.overallMemoryUsage") or 0) * _MIB
    return int((host.get("summary.hardware.memorySize") or 0) - used)


def _machine_folder(found: Mapping[Any, Values], cluster_name: str) -> Any:
    for values in _of_kind(found, vim.Datacenter).values():
        return values["vmFolder"]
    raise faults.PermissionDeniedError(
        f"vCenter does not show the datacenter of cluster {cluster_name} to the edge's user",
        "System.View",
        "",
    )


def _of_kind(found: Mapping[Any, Values], kind: type) -> dict[Any, Values]:
    return {each: values for each, values in found.items() if isinstance(each, kind)}
