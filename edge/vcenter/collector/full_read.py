"""Everything of a vCenter, read once: the structure, where each virtual machine is, then itself.

Where every host is managed, the virtual machines are read whole at once, and that shows where they
are. What the cache on disk has of one whose configuration is still the same is not read again: then
all that the watch would say of it is read instead of where it is.

The watch is created afterwards and compared with it (``change_follower``): created before, vCenter
would send everything twice, and the first only when it has computed all of it.
"""

import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from common.log_fields import fields
from common.references import Key, type_name_of
from edge.interfaces import CollectorUpdate
from edge.vcenter.client.answers import parse_objects
from edge.vcenter.client.property_collector import PropertyReader
from edge.vcenter.client.property_specs import PLACE_PATHS, STRUCTURE, VIRTUAL_MACHINE, spec_of
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.collector.configuration_cache import CachedConfiguration
from edge.vcenter.collector.inventory_cache import InventoryCache
from edge.vcenter.collector.machines import serialize_vcenter
from edge.vcenter.collector.object_reader import OBJECTS_AT_ONCE, ChangeLoader, ObjectReader
from edge.vcenter.collector.topology import Topology

log = logging.getLogger(__name__)

_STRUCTURE_PATHS: Final = {spec.type: spec.watched for spec in STRUCTURE}


class FullRead:
    """Reads everything into the cache. Its lock is never held while vCenter is asked."""

    def __init__(
        self,
        session: VCenterSession,
        cache: InventoryCache,
        reader: ObjectReader,
        cached: Mapping[Key, CachedConfiguration],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``cached`` are configurations from disk."""
        self._session = session
        self._cache = cache
        self._reader = reader
        self._loader = ChangeLoader(cache, reader)
        self._properties = PropertyReader(session)
        self._cached = cached
        self._monotonic = monotonic
        self.from_disk: list[Key] = []
        """Virtual machines whose configuration came from the cache on disk."""

    def updates(self) -> Iterator[CollectorUpdate]:
        """Yield all that is managed: the vCenter, structure, then virtual machines in batches.

        The last update is ``complete``. Raises ``VCenterError``.
        """
        started, objects = self._monotonic(), 0
        vcenter = CollectorUpdate([serialize_vcenter(self._session.vcenter())])
        for update in _mark_last(itertools.chain([vcenter], self._read())):
            if update.complete:
                # An answer without a session is empty; it must not pass for an empty inventory.
                self._session.verify_alive()
                self._log(objects + len(update.objects), self._monotonic() - started)
            objects += len(update.objects)
            yield update

    def _read(self) -> Iterator[CollectorUpdate]:
        for body in self._properties.read_all(_STRUCTURE_PATHS):
            self._apply_structure(body)
        with self._cache.lock:
            whole = not self._cached and self._cache.is_all_managed()
        if whole:
            yield from self._read_whole(self._properties.list_all(VIRTUAL_MACHINE.type))
            return
        paths = VIRTUAL_MACHINE.watched if self._cached else PLACE_PATHS
        for body in self._properties.read_all({VIRTUAL_MACHINE.type: paths}):
            self._apply_places(body)
        with self._cache.lock:
            changes = self._cache.collect_changes()
        yield from self._loader.load(changes)
        yield from self._loader.read_machines(changes.unread)

    def _read_whole(self, keys: list[Key]) -> Iterator[CollectorUpdate]:
        """Read virtual machines whose place is unknown, each batch after its new folders."""
        yield from self._report_changes()
        paths, waiting = VIRTUAL_MACHINE.all_paths, 0
        for found in self._reader.read(keys, paths, VIRTUAL_MACHINE.type):
            with self._cache.lock:
                self._cache.apply_read(found, paths)
            waiting += 1
            if waiting == OBJECTS_AT_ONCE:
                yield from self._report_changes()
                waiting = 0
        yield from self._report_changes()

    def _report_changes(self) -> Iterator[CollectorUpdate]:
        with self._cache.lock:
            changes = self._cache.collect_changes()
        return self._loader.load(changes)

    def _apply_structure(self, body: bytes) -> None:
        with self._cache.lock:
            for found in parse_objects(body):
                spec = spec_of(type_name_of(found.key))
                if spec is not None:
                    self._cache.apply_read(found, spec.watched)

    def _apply_places(self, body: bytes) -> None:
        with self._cache.lock:
            for found in parse_objects(body):
                cached = self._cached.get(found.key)
                if cached is None:
                    self._cache.apply_place(found)
                elif self._cache.apply_cached(found, cached):
                    self.from_disk.append(found.key)

    def _log(self, objects: int, seconds: float) -> None:
        _log_scope(self._cache.topology)
        facts = fields(
            vcenter=self._session.settings.host,
            objects=objects,
            from_disk=len(self.from_disk),
            seconds=round(seconds, 3),
        )
        log.info("inventory read", extra=facts)


def _mark_last(updates: Iterator[CollectorUpdate]) -> Iterator[CollectorUpdate]:
    """Yield updates of a full read, the last one marked as complete and all others as not."""
    held = next(updates, None)
    for update in updates:
        if held is not None:
            yield dataclasses.replace(held, complete=False, full_read=True)
        held = update
    if held is not None:
        yield dataclasses.replace(held, complete=True, full_read=True)


def _log_scope(topology: Topology) -> None:
    """Say in the log what is managed: a pattern that matches nothing is a common mistake."""
    clusters = topology.clusters()
    names = sorted(clusters[key] for key in topology.managed.clusters)
    level = logging.INFO if names else logging.WARNING
    log.log(
        level,
        "managed clusters" if names else "no cluster matches managed.clusters",
        extra=fields(cluster=",".join(names), count=len(clusters)),
    )
