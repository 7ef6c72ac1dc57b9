"""How datacenters, folders, clusters, hosts, pools, datastores and networks belong together.

The whole structure of vCenter is kept here; ``managed`` says which part of it may leave the site.
Virtual machines are not kept here.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from common.references import Key, key_of
from edge.vcenter.client.answers import ObjectProperties
from edge.vcenter.collector.parser import (
    UnreadablePropertyError,
    apply_full_read,
    apply_properties,
    body_of,
    new_object,
)
from vsphere_gateway.v1 import inventory_pb2

_CLUSTER: Final = "ClusterComputeResource:"


@dataclasses.dataclass(slots=True)
class ManagedPart:
    """Keys of what belongs to the clusters that the site's configuration lists."""

    clusters: set[Key] = dataclasses.field(default_factory=set)
    hosts: set[Key] = dataclasses.field(default_factory=set)
    resource_pools: set[Key] = dataclasses.field(default_factory=set)
    datastores: set[Key] = dataclasses.field(default_factory=set)
    """Mounted by a managed cluster."""
    networks: set[Key] = dataclasses.field(default_factory=set)
    """Reached by a managed cluster."""
    switches: set[Key] = dataclasses.field(default_factory=set)
    portgroups: dict[str, Key] = dataclasses.field(default_factory=dict)
    """Keys of managed distributed port groups by what a virtual NIC calls them."""

    def keys(self) -> Iterator[Key]:
        """Everything managed, without the folders above it."""
        for part in (
            self.clusters,
            self.hosts,
            self.resource_pools,
            self.datastores,
            self.networks,
            self.switches,
        ):
            yield from part


class Topology:
    """The structure of one vCenter's inventory, managed or not."""

    def __init__(self, manages_cluster: Callable[[str], bool]) -> None:
        """``manages_cluster`` says whether the site's configuration lists a cluster's name."""
        self._manages_cluster = manages_cluster
        self._objects: dict[Key, inventory_pb2.InventoryObject] = {}
        self._problems: dict[Key, str] = {}
        self.managed = ManagedPart()

    def get(self, key: Key) -> inventory_pb2.InventoryObject | None:
        """An object as vCenter last showed it; the caller must not change it."""
        return self._objects.get(key)

    def keys(self) -> Iterable[Key]:
        """The keys of everything, managed or not."""
        return self._objects.keys()

    def problem(self, key: Key) -> str:
        """Why an object cannot be read, for a person; empty when it can."""
        return self._problems.get(key, "")

    def clusters(self) -> dict[Key, str]:
        """The names of all clusters, managed or not."""
        return {
            key: state.cluster.name
            for key, state in self._objects.items()
            if key.startswith(_CLUSTER)
        }

    def apply(self, found: ObjectProperties, asked: Sequence[str] | None = None) -> bool:
        """Apply what the watch, or a read of the paths ``asked``, says of an object.

        Whether that changes what belongs to what. A problem stays until a read shows that it is
        gone.
        """
        before = self._objects.get(found.key)
        state = new_object(found.key)
        if before is not None:
            state.CopyFrom(before)
        try:
            if asked is None:
                apply_properties(found.key, body_of(state), found.values)
            else:
                apply_full_read(found.key, body_of(state), found.values, asked, found.missing)
                self._problems.pop(found.key, None)
        except UnreadablePropertyError as error:
            self._problems[found.key] = str(error)
        self._objects[found.key] = state
        return before is None or _relations(before) != _relations(state)

    def differs(self, found: ObjectProperties, asked: Sequence[str]) -> bool:
        """Whether what a read of ``asked`` returned differs from what is remembered."""
        known = self._objects.get(found.key)
        if known is None:
            return True
        state = inventory_pb2.InventoryObject()
        state.CopyFrom(known)
        try:
            apply_full_read(found.key, body_of(state), found.values, asked, found.missing)
        except UnreadablePropertyError:
            return True
        return bool(state != known)

    def remove(self, key: Key) -> bool:
        """Forget an object; whether it was known."""
        self._problems.pop(key, None)
        return self._objects.pop(key, None) is not None

    def refresh(self) -> None:
        """Compute anew what is managed, after relations changed."""
        managed = ManagedPart()
        for key, state in self._objects.items():
            if key.startswith(_CLUSTER) and self._manages_cluster(state.cluster.name):
                managed.clusters.add(key)
                managed.datastores.update(self._known(state.cluster.datastores))
                managed.networks.update(self._known(state.cluster.networks))
        for key, state in self._objects.items():
            kind = state.WhichOneof("body")
            if kind == "host" and key_of(state.host.cluster) in managed.clusters:
                managed.hosts.add(key)
            elif kind == "resource_pool" and key_of(state.resource_pool.cluster) in (
                managed.clusters
            ):
                managed.resource_pools.add(key)
        for key in managed.networks:
            network = self._objects[key].network
            managed.switches.update(self._known([network.distributed_switch]))
            if network.portgroup_key:
                managed.portgroups[network.portgroup_key] = key
        self.managed = managed

    @property
    def is_all_managed(self) -> bool:
        """Every host belongs to a managed cluster, as of the last ``refresh``."""
        return all(
            key in self.managed.hosts
            for key, state in self._objects.items()
            if state.HasField("host")
        )

    def owner_of(self, pool: Key, host: Key) -> Key:
        """The compute resource of a virtual machine's resource pool, else of its host.

        It may be a stand-alone host's own, which is no cluster. Empty when neither is known (yet).
        """
        pool_state = self._objects.get(pool)
        if pool_state is not None and pool_state.resource_pool.HasField("cluster"):
            return key_of(pool_state.resource_pool.cluster)
        host_state = self._objects.get(host)
        return key_of(host_state.host.cluster) if host_state is not None else ""

    def ancestors(self, keys: Iterable[Key]) -> set[Key]:
        """The folders and datacenters above ``keys``, folders among them included."""
        found: set[Key] = set()
        for start in keys:
            key = start if _is_folder(self._objects.get(start)) else self._parent(start)
            while key and key not in found and key in self._objects:
                if _is_folder(self._objects[key]):
                    found.add(key)
                key = self._parent(key)
        return found

    def folder_path(self, key: Key) -> str:
        """The inventory path of a folder, for example ``/dc1/vm/appliances``.

        Without the root folder's name, as in the vSphere client and in govc.
        """
        names: list[str] = []
        seen: set[Key] = set()
        state = self._objects.get(key)
        while state is not None and key not in seen:
            seen.add(key)
            parent = self._parent(key)
            if parent:
                names.append(_name(state))
            key, state = parent, self._objects.get(parent)
        return "/" + "/".join(reversed(names))

    def _parent(self, key: Key) -> Key:
        state = self._objects.get(key)
        if state is None:
            return ""
        body = getattr(state, state.WhichOneof("body") or "folder")
        return key_of(body.cluster if state.HasField("host") else body.parent)

    def _known(self, references: Iterable[inventory_pb2.ObjectReference]) -> Iterator[Key]:
        for reference in references:
            key = key_of(reference)
            if key in self._objects:
                yield key


def _is_folder(state: inventory_pb2.InventoryObject | None) -> bool:
    return state is not None and state.WhichOneof("body") in ("folder", "datacenter")


def _name(state: inventory_pb2.InventoryObject) -> str:
    return str(getattr(state, state.WhichOneof("body") or "folder").name)


def _relations(state: inventory_pb2.InventoryObject) -> bytes:
    """What decides about belonging: names, and references to other objects."""
    relations = inventory_pb2.InventoryObject(reference=state.reference)
    kind = state.WhichOneof("body") or "folder"
    source, target = getattr(state, kind), getattr(relations, kind)
    for field, value in source.ListFields():
        if field.name in ("name", "portgroup_key"):
            setattr(target, field.name, value)
        elif field.message_type is not None:
            if isinstance(value, inventory_pb2.ObjectReference):
                getattr(target, field.name).CopyFrom(value)
            else:
                getattr(target, field.name).extend(value)
    return relations.SerializeToString(deterministic=True)
