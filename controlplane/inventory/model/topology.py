"""What virtual machines live in: clusters, hosts, folders, networks and datastores of a vCenter.

These objects are few and stay in memory; virtual machines are many and do not.
"""

import threading
from collections.abc import Iterable, Iterator
from typing import Any

from common.references import key_of
from controlplane.domain.references import BODY_BY_KIND, kind_of
from vsphere_gateway.v1 import inventory_pb2

_NAMED = frozenset(
    {
        inventory_pb2.OBJECT_KIND_DATACENTER,
        inventory_pb2.OBJECT_KIND_FOLDER,
        inventory_pb2.OBJECT_KIND_CLUSTER,
        inventory_pb2.OBJECT_KIND_HOST,
        inventory_pb2.OBJECT_KIND_NETWORK,
        inventory_pb2.OBJECT_KIND_DATASTORE,
        inventory_pb2.OBJECT_KIND_RESOURCE_POOL,
    }
)
"""Kinds whose name stands in the records of virtual machines."""
_VM_FOLDER = "vm"
_DEEPEST = 64


class Topology:
    """What one vCenter's virtual machines refer to. Implements ``mapping.Names``."""

    def __init__(self, vcenter_uuid: str) -> None:
        """Start empty."""
        self.vcenter_uuid = vcenter_uuid
        self.vcenter_name = ""
        self.vcenter = inventory_pb2.VCenter(instance_uuid=vcenter_uuid)
        self.lock = threading.RLock()
        self._bodies: dict[str, Any] = {}
        self._kinds: dict[str, int] = {}
        self._paths: dict[str, tuple[str, ...]] = {}
        self._folders: dict[str, str] = {}

    def learn(self, state: inventory_pb2.InventoryObject) -> bool:
        """Store an object; returns whether its name or parent is new, which others show."""
        key, kind = key_of(state.reference), kind_of(state)
        body = getattr(state, BODY_BY_KIND[kind])
        with self.lock:
            before = self._bodies.get(key)
            self._bodies[key], self._kinds[key] = body, kind
            if kind == inventory_pb2.OBJECT_KIND_VCENTER:
                self.vcenter, self.vcenter_name = body, body.full_name
            if kind not in _NAMED:
                return False
            changed = before is None or before.name != body.name or _parent(before) != _parent(body)
            if changed:
                self._forget_paths()
            return changed

    def forget(self, key: str) -> None:
        """Drop an object that is gone."""
        with self.lock:
            self._bodies.pop(key, None)
            self._kinds.pop(key, None)
            self._forget_paths()

    def get(self, key: str) -> Any | None:
        """The body of an object."""
        return self._bodies.get(key)

    def name(self, reference: inventory_pb2.ObjectReference) -> str:
        """The object's name, empty when it is not known."""
        body = self._bodies.get(key_of(reference))
        return "" if body is None else str(body.name)

    def folder_path(self, reference: inventory_pb2.ObjectReference) -> str:
        """The path below the datacenter's `vm` folder, datacenter first: `DC0/web`.

        Names in it are escaped as in vCenter's own paths, or else a folder named `shop/x` would be
        taken for one below the folder `shop`, and its machines for that one's project's.
        """
        key = key_of(reference)
        path = self._folders.get(key)
        if path is None:
            path = self._folders[key] = "/".join(self._path_names(key))
        return path

    def datacenter(self, reference: inventory_pb2.ObjectReference) -> str:
        """The name of the datacenter that holds an object, empty when not known."""
        for key in self.path_keys(key_of(reference)):
            if self._kinds[key] == inventory_pb2.OBJECT_KIND_DATACENTER:
                return str(self._bodies[key].name)
        return ""

    def path_keys(self, key: str) -> tuple[str, ...]:
        """The known keys from an object up to the root, the object first."""
        path = self._paths.get(key)
        if path is None:
            path = self._paths[key] = tuple(self._climb(key))
        return path

    def missing(self, machine: inventory_pb2.VirtualMachine) -> list[str]:
        """The keys that a virtual machine refers to and that were not reported yet."""
        wanted = [machine.cluster, machine.host, machine.folder]
        wanted += [nic.network for nic in machine.nics]
        keys = {key_of(reference) for reference in wanted} - {""}
        for key in self.path_keys(key_of(machine.folder)):
            keys.add(key_of(_parent(self._bodies[key]) or inventory_pb2.ObjectReference()))
        return sorted(key for key in keys - {""} if key not in self._bodies)

    def depends(self, machine: inventory_pb2.VirtualMachine, changed: set[str]) -> bool:
        """Whether a virtual machine's records show the name of one of some objects."""
        references = [machine.cluster, machine.host, machine.resource_pool]
        references += [nic.network for nic in machine.nics]
        references += list(machine.datastores)
        if any(key_of(reference) in changed for reference in references):
            return True
        anchors = (key_of(machine.folder), key_of(machine.cluster))
        return any(key in changed for anchor in anchors for key in self.path_keys(anchor))

    def _path_names(self, key: str) -> list[str]:
        names: list[str] = []
        for one in reversed(self.path_keys(key)):
            name = str(self._bodies[one].name)
            if self._kinds[one] == inventory_pb2.OBJECT_KIND_DATACENTER:
                names = [_in_path(name)]
            elif not (name == _VM_FOLDER and self._under_datacenter(one)):
                names.append(_in_path(name))
        return names

    def _forget_paths(self) -> None:
        self._paths.clear()
        self._folders.clear()

    def _climb(self, key: str) -> Iterator[str]:
        for _ in range(_DEEPEST):
            body = self._bodies.get(key)
            if body is None:
                return
            yield key
            parent = _parent(body)
            if parent is None:
                return
            key = key_of(parent)

    def _under_datacenter(self, key: str) -> bool:
        parent = _parent(self._bodies[key])
        kind = None if parent is None else self._kinds.get(key_of(parent))
        return kind == inventory_pb2.OBJECT_KIND_DATACENTER


class Waiting:
    """Virtual machines that came before what they refer to, and for whom they wait.

    Not thread-safe.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._wanted_by: dict[str, set[str]] = {}
        self._since: dict[str, float] = {}
        self._absent: set[str] = set()

    def want(self, key: str, missing: Iterable[str], now: float) -> None:
        """Note what an object waits for, since when."""
        self._since.setdefault(key, now)
        for one in missing:
            self._wanted_by.setdefault(one, set()).add(key)

    def worth_waiting(self, key: str, missing: Iterable[str], now: float, wait: float) -> bool:
        """Whether to go on waiting for what an object refers to and has not come.

        What was missing at the end of a complete pass is not shown to the edge's user at all.
        """
        return (
            any(one not in self._absent for one in missing)
            and now - self._since.get(key, now) < wait
        )

    def arrived(self, key: str) -> set[str]:
        """The objects that waited for one that has come."""
        self._absent.discard(key)
        return self._wanted_by.pop(key, set())

    def complete(self) -> None:
        """Note the end of a complete pass: what is still missing will not come by itself."""
        self._absent.update(self._wanted_by)

    def done(self, key: str) -> None:
        """An object waits no longer, though what it refers to may still be missing."""
        self._since.pop(key, None)


def _parent(body: Any) -> inventory_pb2.ObjectReference | None:
    if "parent" in body.DESCRIPTOR.fields_by_name and body.HasField("parent"):
        reference: inventory_pb2.ObjectReference = body.parent
        return reference
    return None


def _in_path(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2f").replace("\\", "%5c")
