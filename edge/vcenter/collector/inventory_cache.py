"""What is known of one vCenter's inventory, what of it is managed, and what is to be reported.

Takes what vCenter announces or answers, in any order. It asks vCenter nothing: ``collect_changes``
says what has to be read, and ``change_follower`` has that done.
"""

import collections
import dataclasses
import threading
from collections.abc import Iterable, Iterator, Sequence

from common.references import Key, is_virtual_machine, reference_of, type_name_of
from edge.interfaces import CollectorUpdate
from edge.vcenter.client.answers import ObjectProperties
from edge.vcenter.client.property_specs import POLLED_MACHINE_PATHS, spec_of
from edge.vcenter.collector.attributes import Attributes
from edge.vcenter.collector.configuration_cache import CachedConfiguration
from edge.vcenter.collector.machines import NOT_RETURNED, Machine, Serializer
from vsphere_gateway.v1 import inventory_pb2, link_pb2


@dataclasses.dataclass(slots=True)
class ChangeSet:
    """What follows from all that was applied since the last one."""

    structure: CollectorUpdate
    """What is not a virtual machine; reported before those."""
    ready: list[Key] = dataclasses.field(default_factory=list)
    """Virtual machines that can be reported, or withdrawn, without reading."""
    details: list[Key] = dataclasses.field(default_factory=list)
    """Virtual machines whose configuration has to be read. Those that are ready too are reported
    before, so that nobody waits for their power state."""
    unread: list[Key] = dataclasses.field(default_factory=list)
    """Virtual machines of which everything has to be read."""
    has_new_clusters: bool = False
    """Clusters have come under management since the first change set."""


class InventoryCache:
    """The inventory of one vCenter.

    Not safe for threads by itself: hold ``lock`` for each call, and never while vCenter is asked.
    """

    def __init__(self, serializer: Serializer) -> None:
        self.lock = threading.Lock()
        self.serializer = serializer
        self.topology = serializer.topology
        self.is_scoped = False
        """What is managed has been found out; before that, everything would look unmanaged."""
        self._machines: dict[Key, Machine] = {}
        self._changed: set[Key] = set()
        """Virtual machines to look at for the next change set."""
        self._structure_changed = True
        self._relations_changed = True
        self._has_new_clusters = False
        self._structure_reported: dict[Key, int] = {}
        """Hashes of what was last reported."""
        self._folders: collections.Counter[Key] = collections.Counter()
        """How many managed virtual machines are in each folder."""
        self._read_only_edition = serializer.managed.read_only_edition

    # What vCenter says.

    def apply_update(self, found: ObjectProperties) -> None:
        """Apply what the watch says of an object that entered or changed."""
        key = found.key
        if not is_virtual_machine(key):
            if spec_of(type_name_of(key)) is not None:
                self._apply_structure(found)
            return
        machine = self._machines.get(key)
        if machine is None:
            self._machines[key] = Machine.first_seen(found)
            self._changed.add(key)
        elif machine.apply_update(found):
            self._changed.add(key)

    def apply_place(self, found: ObjectProperties) -> None:
        """Apply where a virtual machine is: the next change set says whether it is to be read."""
        self._machine(found.key).apply_place(found.values)

    def apply_cached(self, found: ObjectProperties, cached: CachedConfiguration) -> bool:
        """Apply what is watched of a virtual machine, and the rest from the cache on disk.

        False if it has changed since: the next change set says whether it is to be read.
        """
        return self._machine(found.key).apply_cached(found, cached)

    def apply_read(self, found: ObjectProperties, asked: Sequence[str]) -> None:
        """Apply what a read of the paths ``asked`` returned."""
        if is_virtual_machine(found.key):
            self._machine(found.key).apply_read(found, asked)
        else:
            self._apply_structure(found, asked)

    def mark_not_returned(self, keys: Iterable[Key]) -> None:
        """Note virtual machines that vCenter left out of its answer.

        They are deleted, as the watch will say, or hidden: then the polling pass asks again.
        """
        for key in keys:
            machine = self._machines.get(key)
            if machine is not None and not machine.problem:
                machine.problem = NOT_RETURNED

    def apply_attributes(self, attributes: Attributes) -> None:
        """Apply names of custom attributes and tags; whoever carries them is reported again."""
        serializer = self.serializer
        if attributes.names != serializer.attribute_names:
            self._change_all_managed()
        if attributes.tags != serializer.tags:
            self._changed.update(
                key
                for key in {*attributes.tags, *serializer.tags}
                if attributes.tags.get(key) != serializer.tags.get(key)
            )
        serializer.attribute_names, serializer.tags = attributes.names, attributes.tags

    def remove(self, key: Key) -> None:
        """Forget an object that vCenter no longer shows."""
        self._changed.discard(key)
        self._structure_reported.pop(key, None)
        machine = self._machines.pop(key, None)
        if machine is not None:
            self._count_in(machine, "")
        elif self.topology.remove(key):
            self._relations_changed = self._structure_changed = True

    def rescope(self) -> None:
        """Compute anew what is managed: the site has changed its list."""
        self._relations_changed = self._structure_changed = True
        edition = self.serializer.managed.read_only_edition
        if edition != self._read_only_edition:
            self._read_only_edition = edition
            self._change_all_managed()

    # What is known.

    def differs(self, found: ObjectProperties) -> bool:
        """Whether what the polling pass read differs from what is known."""
        if is_virtual_machine(found.key):
            machine = self._machines.get(found.key)
            return machine is None or machine.differs(found, POLLED_MACHINE_PATHS)
        spec = spec_of(type_name_of(found.key))
        return self.topology.differs(found, spec.watched if spec else ())

    def knows(self, key: Key) -> bool:
        """Whether vCenter has shown an object."""
        return key in self._machines or self.topology.get(key) is not None

    def keys(self) -> set[Key]:
        """The keys of all objects that vCenter has shown."""
        return {*self._machines, *self.topology.keys()}

    def is_reported(self, key: Key) -> bool:
        """Whether the object, or a problem with it, was reported."""
        machine = self._machines.get(key)
        if machine is not None:
            return bool(machine.reported or machine.reported_problem)
        return key in self._structure_reported or bool(self.topology.problem(key))

    def has_problem(self, key: Key) -> bool:
        """Whether an object could not be read: then a change of it calls for a new read."""
        machine = self._machines.get(key)
        return bool(machine.problem if machine is not None else self.topology.problem(key))

    def is_all_managed(self) -> bool:
        """Whether every host that vCenter has shown belongs to a managed cluster."""
        self._refresh()
        return self.topology.is_all_managed

    def is_managed(self, machine: Machine) -> bool | None:
        """Whether a virtual machine is managed; None while that cannot be known."""
        managed = self.topology.managed
        if machine.is_template:
            return any(key in managed.datastores for key in machine.datastores)
        owner = self.topology.owner_of(machine.pool, machine.host)
        return owner in managed.clusters if owner else None

    def configuration(self, key: Key) -> CachedConfiguration | None:
        """The configuration of a managed virtual machine; None unless known and complete."""
        machine = self._machines.get(key)
        return machine.configuration() if machine is not None else None

    def cacheable(self) -> Iterator[tuple[Key, CachedConfiguration]]:
        """Configurations that are known and complete, with which devices are connected."""
        for key, machine in self._machines.items():
            known = None if machine.devices_outdated else machine.configuration()
            if known is not None:
                yield key, known

    # What is to be reported.

    def collect_changes(self) -> ChangeSet:
        """Decide what belongs to management now, and what follows from it."""
        if self._relations_changed:
            self._refresh()
        changes = ChangeSet(CollectorUpdate([]), has_new_clusters=self._has_new_clusters)
        self._has_new_clusters = False
        for key in sorted(self._changed):
            machine = self._machines.get(key)
            if machine is not None:
                self._classify(machine)
                self._count_folder(machine)
                _assign(changes, key, machine)
        self._changed.clear()
        self._report_structure(changes.structure)
        self.is_scoped = True
        return changes

    def report_machines(self, keys: Iterable[Key]) -> CollectorUpdate:
        """Report of these virtual machines what differs from what was last reported."""
        update = CollectorUpdate([])
        for key in keys:
            self._changed.discard(key)
            machine = self._machines.get(key)
            if machine is not None:
                self._count_folder(machine)
                self._report_machine(update, key, machine)
        return update

    def _machine(self, key: Key) -> Machine:
        """A virtual machine that is about to change."""
        self._changed.add(key)
        return self._machines.setdefault(key, Machine())

    def _apply_structure(self, found: ObjectProperties, asked: Sequence[str] | None = None) -> None:
        self._relations_changed |= self.topology.apply(found, asked)
        self._structure_changed = True

    def _change_all_managed(self) -> None:
        self._changed.update(key for key, machine in self._machines.items() if machine.managed)

    def _refresh(self) -> None:
        """Compute what is managed, and find the virtual machines that this concerns."""
        self._relations_changed = False
        before = self.topology.managed
        self.topology.refresh()
        after = self.topology.managed
        self._has_new_clusters |= self.is_scoped and bool(after.clusters - before.clusters)
        # Rules about folders and networks by name may now say something else about any of them.
        everything = bool(self.serializer.managed.read_only_folders) or (
            before.portgroups != after.portgroups
        )
        for key, machine in self._machines.items():
            owner = self.topology.owner_of(machine.pool, machine.host)
            if (
                everything
                or machine.is_template
                or owner != machine.cluster
                or (owner in after.clusters) != machine.managed
            ):
                self._changed.add(key)

    def _classify(self, machine: Machine) -> None:
        machine.cluster = self.topology.owner_of(machine.pool, machine.host)
        managed = self.is_managed(machine)
        if managed is not None:
            machine.managed = managed

    def _count_folder(self, machine: Machine) -> None:
        """Have the next change set report the folder of a managed virtual machine."""
        self._count_in(machine, machine.folder if machine.managed else "")

    def _count_in(self, machine: Machine, folder: Key) -> None:
        """Count a virtual machine in this folder and in no other; the empty key is none."""
        before, machine.counted_in = machine.counted_in, folder
        if folder == before:
            return
        if before:
            self._folders[before] -= 1
            if not self._folders[before]:
                del self._folders[before]
                self._structure_changed = True
        if folder:
            self._structure_changed |= folder not in self._folders
            self._folders[folder] += 1

    def _report_machine(self, update: CollectorUpdate, key: Key, machine: Machine) -> None:
        if not machine.managed:
            if self.is_reported(key):
                update.removals.append(removal(key, link_pb2.REMOVAL_REASON_UNMANAGED))
            machine.forget_state()
        elif machine.problem:
            if machine.problem != machine.reported_problem:
                machine.reported_problem = machine.problem
                update.unreadable.append(unreadable(key, machine.problem))
        elif machine.detailed:
            state = self.serializer.virtual_machine(key, machine)
            digest = _hash(state)
            if digest != machine.reported or machine.reported_problem:
                machine.reported, machine.reported_problem = digest, ""
                update.objects.append(state)

    def _report_structure(self, update: CollectorUpdate) -> None:
        if not self._structure_changed:
            return
        self._structure_changed = False
        managed = set(self.topology.managed.keys())
        wanted = managed | self.topology.ancestors(managed | self._folders.keys())
        for key in sorted(wanted):
            problem, state = self.topology.problem(key), self.topology.get(key)
            if problem:
                update.unreadable.append(unreadable(key, problem))
            elif state is not None:
                digest = _hash(state)
                if digest != self._structure_reported.get(key):
                    self._structure_reported[key] = digest
                    update.objects.append(state)
        for key in sorted(self._structure_reported.keys() - wanted):
            # What vCenter no longer shows is removed when vCenter has said what became of it.
            if self.topology.get(key) is not None:
                del self._structure_reported[key]
                update.removals.append(removal(key, link_pb2.REMOVAL_REASON_UNMANAGED))


def removal(key: Key, reason: link_pb2.RemovalReason.ValueType) -> link_pb2.ObjectRemoval:
    """Build a removal."""
    return link_pb2.ObjectRemoval(reference=reference_of(key), reason=reason)


def unreadable(key: Key, reason: str) -> link_pb2.UnreadableObject:
    """Build the note about an object that cannot be read."""
    return link_pb2.UnreadableObject(reference=reference_of(key), reason=reason)


def _assign(changes: ChangeSet, key: Key, machine: Machine) -> None:
    if not machine.managed or machine.detailed:
        changes.ready.append(key)
        if machine.managed and machine.devices_outdated:
            changes.details.append(key)
    elif not machine.state:
        changes.unread.append(key)
    elif machine.change_version:
        changes.details.append(key)


def _hash(state: inventory_pb2.InventoryObject) -> int:
    return hash(state.SerializeToString(deterministic=True)) or 1
