"""The answer to a question about certain objects, apart from the following of changes."""

import threading
from collections.abc import Sequence

from common.references import Key, is_virtual_machine
from edge.interfaces import CollectorUpdate
from edge.vcenter.client.answers import ObjectProperties
from edge.vcenter.collector.configuration_cache import CachedConfiguration
from edge.vcenter.collector.inventory_cache import InventoryCache, removal, unreadable
from edge.vcenter.collector.machines import Machine, MachineRegister
from edge.vcenter.collector.object_reader import Presence, is_hidden
from edge.vcenter.collector.parser import (
    UnreadablePropertyError,
    apply_full_read,
    body_of,
    new_object,
)
from vsphere_gateway.v1 import inventory_pb2, link_pb2


class FreshStates:
    """Gathers what vCenter says when it is asked. The picture lends its structure, unchanged."""

    def __init__(self, picture: InventoryCache, lock: threading.Lock) -> None:
        self._picture = picture
        self._lock = lock
        self.update = CollectorUpdate([])
        self.taken: set[Key] = set()

    def take_vcenter(self, key: Key, vcenter: inventory_pb2.InventoryObject) -> None:
        """Take the vCenter itself, which is there as long as it answers."""
        self._taken(key)
        self.update.objects.append(vcenter)

    def take(self, found: ObjectProperties, asked: Sequence[str]) -> None:
        """Take what a read of the paths ``asked`` returned of one object."""
        if not self._taken(found.key):
            return
        if is_hidden(found):
            self._remove(found.key, link_pb2.REMOVAL_REASON_HIDDEN)
        elif is_virtual_machine(found.key):
            self._take_machine(found, asked)
        else:
            self._take_structure(found, asked)

    def take_absence(self, key: Key, presence: Presence) -> None:
        """Take why vCenter returned nothing of an object."""
        self._taken(key)
        if presence is Presence.THERE:
            reason = "vCenter shows the object but did not return it; it is asked for again later"
            self.update.unreadable.append(unreadable(key, reason))
        else:
            self._remove(key, presence.value)

    def take_watched(self, found: ObjectProperties, known: CachedConfiguration) -> bool:
        """Take what is watched of a virtual machine; the rest is as ``known``.

        False, and nothing is taken, if its configuration has changed since.
        """
        machine = MachineRegister().renew(found, known)
        if machine is None:
            return False
        self._taken(found.key)
        self._add_machine(found.key, machine)
        return True

    def _take_machine(self, found: ObjectProperties, asked: Sequence[str]) -> None:
        self._add_machine(found.key, MachineRegister().read(found, asked))

    def _add_machine(self, key: Key, machine: Machine) -> None:
        with self._lock:
            managed = self._picture.is_managed(machine)
            if managed is None:
                reason = "neither its resource pool nor its host is known"
                self.update.unreadable.append(unreadable(key, reason))
            elif not managed:
                self._remove(key, link_pb2.REMOVAL_REASON_UNMANAGED)
            elif machine.problem:
                self.update.unreadable.append(unreadable(key, machine.problem))
            else:
                self.update.objects.append(
                    self._picture.presenter.virtual_machine(
                        key, machine.machine(), is_template=machine.is_template
                    )
                )

    def _take_structure(self, found: ObjectProperties, asked: Sequence[str]) -> None:
        state = new_object(found.key)
        try:
            apply_full_read(found.key, body_of(state), found.values, asked, found.missing)
        except UnreadablePropertyError as error:
            self.update.unreadable.append(unreadable(found.key, str(error)))
            return
        with self._lock:
            if self._picture.is_reported(found.key):
                self.update.objects.append(state)
            else:
                self._remove(found.key, link_pb2.REMOVAL_REASON_UNMANAGED)

    def _remove(self, key: Key, reason: link_pb2.RemovalReason.ValueType) -> None:
        self.update.removals.append(removal(key, reason))

    def _taken(self, key: Key) -> bool:
        """Note an object; tell whether it is the first time (a repaired answer repeats some)."""
        first = key not in self.taken
        self.taken.add(key)
        return first
