"""What vCenter says now about certain objects, apart from the following of changes.

The cache lends its structure and its rules, and is not changed.
"""

from collections.abc import Sequence

from common.references import VCENTER_KEY, Key, is_virtual_machine
from edge.interfaces import CollectorUpdate
from edge.vcenter.client.answers import ObjectProperties
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.collector.inventory_cache import InventoryCache, removal, unreadable
from edge.vcenter.collector.machines import Machine, serialize_vcenter
from edge.vcenter.collector.object_reader import ObjectReader, Presence, is_hidden
from edge.vcenter.collector.parser import (
    UnreadablePropertyError,
    apply_full_read,
    body_of,
    new_object,
)
from vsphere_gateway.v1 import link_pb2


class FreshState:
    """One answer about certain objects: each as an object, a removal or unreadable.

    All methods that read raise ``VCenterError``.
    """

    def __init__(
        self, session: VCenterSession, reader: ObjectReader, cache: InventoryCache
    ) -> None:
        self._session = session
        self._reader = reader
        self._cache = cache
        self._update = CollectorUpdate([])
        self._answered: set[Key] = set()

    def read(self, keys: Sequence[Key]) -> CollectorUpdate:
        """Read everything about these objects."""
        if VCENTER_KEY in keys:
            # It is there as long as it answers.
            self._answered.add(VCENTER_KEY)
            self._update.objects.append(serialize_vcenter(self._session.vcenter()))
        for found, spec in self._reader.read_whole(keys):
            # A repaired answer repeats some objects.
            if found.key not in self._answered:
                self._add(found, spec.all_paths)
        absent = [key for key in dict.fromkeys(keys) if key not in self._answered]
        for key, presence in self._reader.ask_presence(absent).items():
            self._add_absent(key, presence)
        return self._update

    def read_with_known_configuration(self, key: Key) -> CollectorUpdate:
        """Read a virtual machine without its configuration where that is known and the same.

        Anything else is read whole.
        """
        with self._cache.lock:
            known = self._cache.configuration(key)
        found = None if known is None else self._reader.read_watched(key)
        if known is not None and found is not None:
            machine = Machine()
            if machine.apply_cached(found, known, any_power=True):
                self._add_machine(key, machine)
                return self._update
        return self.read([key])

    def _add(self, found: ObjectProperties, asked: Sequence[str]) -> None:
        self._answered.add(found.key)
        if is_hidden(found):
            self._remove(found.key, link_pb2.REMOVAL_REASON_HIDDEN)
        elif is_virtual_machine(found.key):
            machine = Machine()
            machine.apply_read(found, asked)
            self._add_machine(found.key, machine)
        else:
            self._add_structure(found, asked)

    def _add_absent(self, key: Key, presence: Presence) -> None:
        if presence is Presence.PRESENT:
            reason = "vCenter shows the object but did not return it; it is asked for again later"
            self._update.unreadable.append(unreadable(key, reason))
        else:
            self._remove(key, presence.value)

    def _add_machine(self, key: Key, machine: Machine) -> None:
        with self._cache.lock:
            managed = self._cache.is_managed(machine)
            if managed is None:
                reason = "neither its resource pool nor its host is known"
                self._update.unreadable.append(unreadable(key, reason))
            elif not managed:
                self._remove(key, link_pb2.REMOVAL_REASON_UNMANAGED)
            elif machine.problem:
                self._update.unreadable.append(unreadable(key, machine.problem))
            else:
                self._update.objects.append(self._cache.serializer.virtual_machine(key, machine))

    def _add_structure(self, found: ObjectProperties, asked: Sequence[str]) -> None:
        state = new_object(found.key)
        try:
            apply_full_read(found.key, body_of(state), found.values, asked, found.missing)
        except UnreadablePropertyError as error:
            self._update.unreadable.append(unreadable(found.key, str(error)))
            return
        with self._cache.lock:
            if self._cache.is_reported(found.key):
                self._update.objects.append(state)
            else:
                self._remove(found.key, link_pb2.REMOVAL_REASON_UNMANAGED)

    def _remove(self, key: Key, reason: link_pb2.RemovalReason.ValueType) -> None:
        self._update.removals.append(removal(key, reason))
