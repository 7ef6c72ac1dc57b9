"""Everything of a vCenter, read once: the structure, where each virtual machine is, then itself.

Where every host is managed nobody need ask where the virtual machines are: they are read whole at
once, and that shows it. What the cache has of one whose configuration is still the same is not read
again: then all that the watch would tell of it is read instead of where it is.

The watch is made afterwards and compared with it (``collection``): made before, vCenter would tell
everything twice, and the first objects would be told only when it has computed all of them.
"""

import threading
from collections.abc import Iterator, Mapping
from typing import Final

from common.references import Key, type_name_of
from edge.interfaces import CollectorUpdate
from edge.vcenter.client.answers import parse_objects
from edge.vcenter.client.property_collector import PropertyReader
from edge.vcenter.client.property_specs import PLACE_PATHS, STRUCTURE, VIRTUAL_MACHINE, spec_of
from edge.vcenter.collector.change_loader import ChangeLoader
from edge.vcenter.collector.configuration_cache import CachedConfiguration
from edge.vcenter.collector.inventory_cache import InventoryCache

_STRUCTURE_PATHS: Final = {spec.type: spec.watched for spec in STRUCTURE}


class FullRead:
    """``lock`` is held while the picture changes, never while vCenter is asked."""

    def __init__(
        self,
        picture: InventoryCache,
        properties: PropertyReader,
        reads: ChangeLoader,
        cached: Mapping[Key, CachedConfiguration],
        lock: threading.Lock,
    ) -> None:
        self._picture = picture
        self._properties = properties
        self._reads = reads
        self._cached = cached
        self._lock = lock
        self.recalled: list[Key] = []
        """Virtual machines whose configuration came from the cache."""

    def updates(self) -> Iterator[CollectorUpdate]:
        """Yield all that is managed: structure first, then virtual machines in batches.

        Raises ``VCenterError``.
        """
        for body in self._properties.read_all(_STRUCTURE_PATHS):
            self._take_structure(body)
        with self._lock:
            whole = not self._cached and self._picture.is_all_managed()
        if whole:
            machines = self._properties.list_all(VIRTUAL_MACHINE.type)
            yield from self._reads.read_unplaced(machines)
        else:
            yield from self._read_placed()

    def _read_placed(self) -> Iterator[CollectorUpdate]:
        paths = VIRTUAL_MACHINE.watched if self._cached else PLACE_PATHS
        for body in self._properties.read_all({VIRTUAL_MACHINE.type: paths}):
            self._take_places(body)
        with self._lock:
            plan = self._picture.plan()
        yield from self._reads.carry_out(plan)
        yield from self._reads.read_whole(plan.unread)

    def _take_structure(self, body: bytes) -> None:
        with self._lock:
            for found in parse_objects(body):
                spec = spec_of(type_name_of(found.key))
                if spec is not None:
                    self._picture.read(found, spec.watched)

    def _take_places(self, body: bytes) -> None:
        with self._lock:
            for found in parse_objects(body):
                cached = self._cached.get(found.key)
                if cached is None:
                    self._picture.place(found)
                elif self._picture.recall(found, cached):
                    self.recalled.append(found.key)
