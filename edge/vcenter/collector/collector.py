"""Reads vCenter's inventory once, then follows its changes: ``edge.interfaces.Collector``.

First everything is read; then the watch is created, and its first, narrow state compared with what
was read. Whatever has changed in between differs there, so nothing falls between the two.
"""

import contextlib
import functools
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Final

from common.references import Key, key_of
from edge.interfaces import CollectorUpdate, Managed
from edge.vcenter.client import faults
from edge.vcenter.client.property_collector import InventoryWatch
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.collector.attributes import AttributeReader
from edge.vcenter.collector.change_follower import ChangeFollower
from edge.vcenter.collector.configuration_cache import ConfigurationCache
from edge.vcenter.collector.fresh_state import FreshState
from edge.vcenter.collector.full_read import FullRead
from edge.vcenter.collector.inventory_cache import InventoryCache
from edge.vcenter.collector.machines import Appliances, Serializer
from edge.vcenter.collector.object_reader import ObjectReader
from edge.vcenter.collector.topology import Topology
from edge.vcenter.collector.update_source import UpdateSource
from vsphere_gateway.v1 import inventory_pb2

POLLING_SECONDS: Final = 60.0
"""Time between passes over what vCenter does not announce."""


class VCenterCollector:
    """The collector of one edge. ``confirm`` and ``look`` may be called by any thread."""

    def __init__(
        self,
        session: VCenterSession,
        managed: Managed,
        machine_uuid: str = "",
        configurations: ConfigurationCache | None = None,
        polling_seconds: float = POLLING_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``machine_uuid`` is the SMBIOS UUID of the machine that the edge runs on.

        Without ``configurations`` on disk everything comes from vCenter.
        """
        self._session = session
        self._managed = managed
        self._machine_uuid = machine_uuid
        self._configurations = configurations or ConfigurationCache(None)
        self._polling_seconds = polling_seconds
        self._monotonic = monotonic
        self._reader = ObjectReader(session)
        self._known: InventoryCache | None = None
        """The last cache that has the whole structure, for ``confirm``."""
        self._has_read = threading.Event()
        self._rescoped = threading.Event()

    def updates(self, stop: threading.Event) -> Generator[CollectorUpdate, None, None]:
        """Yield the full read's pages, then changes until ``stop`` is set.

        The session must be connected. Raises ``VCenterError`` or ``EdgeError`` when it is of no
        further use; after ``connect`` the next call begins with a full read again.
        """
        with contextlib.ExitStack() as stack:
            attributes = AttributeReader(self._session)
            stack.callback(attributes.close)
            cache = self._new_cache()
            cache.apply_attributes(attributes.read())
            from_disk = yield from self._read_everything(cache, stop)
            if stop.is_set():
                return
            watch = InventoryWatch(self._session)
            source = stack.enter_context(
                UpdateSource(watch, attributes, self._reader, self._polling_seconds)
            )
            save = functools.partial(self._save, cache)
            save()
            stack.callback(save)
            follower = ChangeFollower(cache, source, self._reader, self._rescoped, from_disk, save)
            while not stop.is_set():
                yield from follower.follow()

    def rescope(self) -> None:
        """Note that what is managed has changed; ``updates`` yields what follows from it."""
        self._rescoped.set()

    def read_once(self, stop: threading.Event) -> Iterator[CollectorUpdate]:
        """Yield the full read's pages and end; nothing more comes once ``stop`` is set.

        The session must be connected. Raises what ``updates`` raises.
        """
        with contextlib.closing(self.updates(stop)) as updates:
            for update in updates:
                yield update
                if update.full_read and update.complete:
                    return

    def wait_until_read(self, timeout: float) -> bool:
        """Wait for the first full read, after which ``confirm`` can answer; False if it is late."""
        return self._has_read.wait(timeout)

    def confirm(self, references: list[inventory_pb2.ObjectReference]) -> CollectorUpdate:
        """Ask vCenter afresh: each comes back as an object, a removal or unreadable.

        Raises ``VCenterError``; ``NotReadYetError`` before the first full read.
        """
        return self._fresh_state().read([key_of(reference) for reference in references])

    def look(self, reference: inventory_pb2.ObjectReference) -> CollectorUpdate:
        """Ask about one object as ``confirm`` does, but with less to read.

        What a virtual machine is doing and where comes from vCenter, its configuration from what
        is known if vCenter says that it is the same, and with it which devices are connected.
        Raises what ``confirm`` raises.
        """
        return self._fresh_state().read_with_known_configuration(key_of(reference))

    def clusters(self) -> dict[str, bool]:
        """The names of all clusters that were read, and whether each is managed."""
        if self._known is None:
            return {}
        with self._known.lock:
            topology = self._known.topology
            return {
                name: key in topology.managed.clusters for key, name in topology.clusters().items()
            }

    def _read_everything(
        self, cache: InventoryCache, stop: threading.Event
    ) -> Generator[CollectorUpdate, None, list[Key]]:
        """Yield the full read's pages; return the keys whose configuration came from disk."""
        stored = self._configurations.load(self._session.vcenter().instance_uuid)
        read = FullRead(self._session, cache, self._reader, stored, self._monotonic)
        for update in read.updates():
            if cache.is_scoped:
                self._known = cache
                self._has_read.set()
            yield update
            if stop.is_set():
                break
        return read.from_disk

    def _fresh_state(self) -> FreshState:
        if self._known is None:
            raise faults.NotReadYetError("vCenter's inventory has not been read yet")
        return FreshState(self._session, self._reader, self._known)

    def _save(self, cache: InventoryCache) -> None:
        with cache.lock:
            self._configurations.store(cache.cacheable())

    def _new_cache(self) -> InventoryCache:
        settings = self._session.settings
        appliances = Appliances(
            machine_uuid=self._machine_uuid,
            vcenter_hostname=settings.host,
            vcenter_addresses=_addresses(settings.host, settings.port),
        )
        topology = Topology(self._managed.manages_cluster)
        return InventoryCache(Serializer(topology, self._managed, appliances))


def _addresses(host: str, port: int) -> frozenset[str]:
    """vCenter's addresses, by which its own virtual machine is recognised."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    addresses = {str(each[4][0]).partition("%")[0] for each in found}
    return frozenset(each for each in addresses if not ipaddress.ip_address(each).is_loopback)
