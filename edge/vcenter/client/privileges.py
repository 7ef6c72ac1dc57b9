"""The privileges that the edge's vCenter user needs, and which of them are missing.

Names are vSphere's own (vSphere Security, "Defined Privileges"). A role with all of them, granted
on the vCenter itself and propagating, is the simplest way; granted further down it must cover the
clusters, their datacenter's folders, and the datastores and networks that they use.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pyVmomi import vim

from edge.config import ManagedSettings
from edge.vcenter.client.faults import reference_text
from edge.vcenter.client.properties import Step, read_related
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.client.values import decode_name

READ: Final = ("System.View", "System.Read")
"""On everything: discovery, and following changes."""
ON_MACHINES: Final = (
    "VirtualMachine.Interact.PowerOn",
    "VirtualMachine.Interact.PowerOff",
    "VirtualMachine.Interact.Reset",
    "VirtualMachine.Interact.Suspend",
    "VirtualMachine.Inventory.CreateFromExisting",
    "VirtualMachine.Inventory.Delete",
    "VirtualMachine.Provisioning.DeployTemplate",
    "VirtualMachine.Config.CPUCount",
    "VirtualMachine.Config.Memory",
    "VirtualMachine.Config.Settings",
    "VirtualMachine.Config.Annotation",
    "VirtualMachine.Config.DiskExtend",
    "VirtualMachine.Config.AddRemoveDevice",
    "VirtualMachine.Config.RemoveDisk",
    "VirtualMachine.Config.EditDevice",
)
"""On the folders that hold virtual machines and templates."""
ON_CLUSTERS: Final = ("Resource.AssignVMToPool",)
"""On the managed clusters."""
ON_DATASTORES: Final = ("Datastore.AllocateSpace",)
"""On the datastores that managed clusters mount."""
ON_NETWORKS: Final = ("Network.Assign",)
"""On the networks that managed clusters reach."""

ALL_PRIVILEGES: Final = (*READ, *ON_MACHINES, *ON_CLUSTERS, *ON_DATASTORES, *ON_NETWORKS)


@dataclasses.dataclass(frozen=True, slots=True)
class MissingPrivileges:
    """What the user may not do with one object."""

    managed_object: str
    """``type:value``."""
    name: str
    """The object's name."""
    privileges: tuple[str, ...]
    """For example ``VirtualMachine.Interact.PowerOn``."""


def missing_privileges(
    session: VCenterSession, managed: ManagedSettings
) -> list[MissingPrivileges]:
    """Ask vCenter which privileges the user lacks, by object; an empty list if none.

    Raises ``VCenterError`` when vCenter does not say (``PermissionDeniedError`` when the user may
    not even ask).
    """
    content: Any = session.content
    key = content.sessionManager.currentSession.key
    missing = []
    for names, privileges in _needs(session, managed):
        granted = content.authorizationManager.HasPrivilegeOnEntities(
            list(names), key, list(privileges)
        )
        for each in granted or ():
            lacking = tuple(p.privId for p in each.privAvailability or () if not p.isGranted)
            if lacking:
                name = names.get(each.entity, "")
                missing.append(MissingPrivileges(reference_text(each.entity), name, lacking))
    return missing


def _needs(
    session: VCenterSession, managed: ManagedSettings
) -> Iterator[tuple[dict[Any, str], Sequence[str]]]:
    """Objects with their names, and the privileges that are needed on each of them."""
    root: Any = session.content.rootFolder
    yield _names(session, [root]), READ
    clusters = _managed_clusters(session, root, managed)
    if not clusters:
        return
    yield {each: _name(values) for each, values in clusters.items()}, ON_CLUSTERS
    folders = _machine_folders(session, list(clusters))
    if folders:
        yield folders, ON_MACHINES
    for path, privileges in (("datastore", ON_DATASTORES), ("network", ON_NETWORKS)):
        related = {each for values in clusters.values() for each in values.get(path) or ()}
        if related:
            yield _names(session, list(related)), privileges


def _managed_clusters(
    session: VCenterSession, root: Any, managed: ManagedSettings
) -> dict[Any, dict[str, Any]]:
    into_folders = Step(vim.Folder, "childEntity", repeated=True)
    steps = (
        Step(
            vim.Folder,
            "childEntity",
            then=(Step(vim.Datacenter, "hostFolder", then=(into_folders,)),),
            repeated=True,
        ),
    )
    wanted: dict[type, Sequence[str]] = {
        vim.ClusterComputeResource: ("name", "datastore", "network")
    }
    found = read_related(session, [root], wanted, steps)
    return {
        each: values
        for each, values in found.items()
        if isinstance(each, vim.ClusterComputeResource) and managed.manages_cluster(_name(values))
    }


def _machine_folders(session: VCenterSession, clusters: list[Any]) -> dict[Any, str]:
    """The folders for virtual machines of the clusters' datacenters, with their names."""
    upwards = Step(vim.ManagedEntity, "parent", repeated=True)
    found = read_related(session, clusters, {vim.Datacenter: ("name", "vmFolder")}, (upwards,))
    return {
        values["vmFolder"]: f"{_name(values)}/vm"
        for values in found.values()
        if "vmFolder" in values
    }


def _names(session: VCenterSession, objects: list[Any]) -> dict[Any, str]:
    found = read_related(session, objects, {vim.ManagedEntity: ("name",)})
    return {each: _name(values) for each, values in found.items()}


def _name(values: dict[str, Any]) -> str:
    return decode_name(str(values.get("name", "")))
