"""Reads vCenter's inventory once, then follows its changes: ``edge.interfaces.Collector``.

First everything is read; then the watch is made, and its first, narrow state compared with what was
read. Whatever has changed in between differs there, so nothing falls between the two.
"""

import contextlib
import dataclasses
import functools
import ipaddress
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Final

from common.references import VCENTER_KEY, Key, key_of
from edge.interfaces import CollectorUpdate, Managed
from edge.log import CLUSTER, COUNT, OBJECTS, RECALLED, SECONDS, VCENTER, fields
from edge.vcenter.client import faults
from edge.vcenter.client.property_collector import PropertyReader, PropertyWatch
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.collector.attributes import AttributeReader, Attributes
from edge.vcenter.collector.change_follower import ChangeFollower
from edge.vcenter.collector.change_loader import ChangeLoader
from edge.vcenter.collector.configuration_cache import ConfigurationCache
from edge.vcenter.collector.fresh_state import FreshStates
from edge.vcenter.collector.full_read import FullRead
from edge.vcenter.collector.inventory_cache import InventoryCache
from edge.vcenter.collector.object_reader import ObjectReader
from edge.vcenter.collector.serializer import Appliances, Serializer, present_vcenter
from edge.vcenter.collector.topology import Topology
from edge.vcenter.collector.update_source import UpdateSource
from vsphere_gateway.v1 import inventory_pb2

log = logging.getLogger(__name__)

POLLING_SECONDS: Final = 60.0
"""Time between passes over what vCenter does not announce."""


class VCenterCollector:
    """The collector of one edge. ``confirm`` may be called by any thread."""

    def __init__(
        self,
        session: VCenterSession,
        managed: Managed,
        machine_uuid: str = "",
        cache: ConfigurationCache | None = None,
        polling_seconds: float = POLLING_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``machine_uuid`` is the SMBIOS UUID of the machine that the edge runs on.

        Without a ``cache`` everything comes from vCenter.
        """
        self._session = session
        self._managed = managed
        self._machine_uuid = machine_uuid
        self._cache = cache or ConfigurationCache(None)
        self._polling_seconds = polling_seconds
        self._monotonic = monotonic
        self._reader = ObjectReader(session)
        self._lock = threading.Lock()
        self._known: InventoryCache | None = None
        """The last picture that shows the whole structure, for ``confirm``."""
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
            picture = self._new_picture()
            reads = ChangeLoader(picture, self._reader, self._lock)
            recalled = yield from self._read_everything(picture, reads, attributes.read(), stop)
            if stop.is_set():
                return
            watch = PropertyWatch(self._session)
            feed = stack.enter_context(
                UpdateSource(watch, attributes, reads.fetch_whole, self._polling_seconds)
            )
            keep = functools.partial(self._keep, picture)
            keep()
            stack.callback(keep)
            collection = ChangeFollower(
                picture, feed, self._reader, reads, self._rescoped, recalled, keep, self._lock
            )
            while not stop.is_set():
                yield from collection.follow()

    def rescope(self) -> None:
        """Take note that what is managed has changed; ``updates`` tells what follows from it."""
        self._rescoped.set()

    def read_once(self, stop: threading.Event) -> Iterator[CollectorUpdate]:
        """Yield the full read's pages and end; nothing more comes once ``stop`` is set.

        The session must be connected. Raises like ``updates``.
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
        picture = self._known
        if picture is None:
            raise faults.NotReadYetError("vCenter's inventory has not been read yet")
        states = FreshStates(picture, self._lock)
        keys = [key_of(reference) for reference in references]
        if VCENTER_KEY in keys:
            states.take_vcenter(VCENTER_KEY, present_vcenter(self._session.vcenter()))
        for found, spec in self._reader.read_whole(keys):
            states.take(found, spec.all_paths)
        absent = [key for key in dict.fromkeys(keys) if key not in states.taken]
        for key, presence in self._reader.ask_presence(absent).items():
            states.take_absence(key, presence)
        return states.update

    def look(self, reference: inventory_pb2.ObjectReference) -> CollectorUpdate:
        """Ask about one object as ``confirm`` does, but with less to read.

        What a virtual machine is doing and where comes from vCenter, its configuration from what
        is known if vCenter says that it is the same; and then also which devices are connected.
        Raises as ``confirm``.
        """
        picture, key = self._known, key_of(reference)
        if picture is not None:
            with self._lock:
                known = picture.machines.configuration(key)
            found = None if known is None else self._reader.read_watched(key)
            states = FreshStates(picture, self._lock)
            if known is not None and found is not None and states.take_watched(found, known):
                return states.update
        return self.confirm([reference])

    def clusters(self) -> dict[str, bool]:
        """Return the names of all clusters that were read, and whether each is managed."""
        if self._known is None:
            return {}
        with self._lock:
            topology = self._known.topology
            return {
                name: key in topology.managed.clusters for key, name in topology.clusters().items()
            }

    def _read_everything(
        self,
        picture: InventoryCache,
        reads: ChangeLoader,
        attributes: Attributes,
        stop: threading.Event,
    ) -> Generator[CollectorUpdate, None, list[Key]]:
        """Yield the full read's pages; return what of it came from the cache."""
        started, objects = self._monotonic(), 0
        cached = self._cache.load(self._session.vcenter().instance_uuid)
        read = FullRead(picture, PropertyReader(self._session), reads, cached, self._lock)
        picture.presenter.attribute_names = attributes.names
        picture.presenter.tags = attributes.tags
        vcenter = CollectorUpdate([present_vcenter(self._session.vcenter())])
        for update in _pages_of_full_read(itertools.chain([vcenter], read.updates())):
            if update.complete:
                # An answer without a session is empty; it must not pass for an empty inventory.
                self._session.verify_alive()
            if picture.is_planned:
                self._known = picture
                self._has_read.set()
            objects += len(update.objects)
            yield update
            if stop.is_set():
                return read.recalled
        _log_scope(picture.topology)
        facts = {
            VCENTER: self._session.settings.host,
            OBJECTS: objects,
            RECALLED: len(read.recalled),
            SECONDS: round(self._monotonic() - started, 3),
        }
        log.info("inventory read", extra=fields(facts))
        return read.recalled

    def _keep(self, picture: InventoryCache) -> None:
        with self._lock:
            self._cache.store(picture.machines.cacheable())

    def _new_picture(self) -> InventoryCache:
        settings = self._session.settings
        appliances = Appliances(
            machine_uuid=self._machine_uuid,
            vcenter_hostname=settings.host,
            vcenter_addresses=_addresses(settings.host, settings.port),
        )
        topology = Topology(self._managed.manages_cluster)
        return InventoryCache(Serializer(topology, self._managed, appliances))


def _pages_of_full_read(updates: Iterator[CollectorUpdate]) -> Iterator[CollectorUpdate]:
    """Yield updates, the last one marked as complete and all others as not."""
    held = next(updates, None)
    for update in updates:
        if held is not None:
            yield dataclasses.replace(held, complete=False, full_read=True)
        held = update
    if held is not None:
        yield dataclasses.replace(held, complete=True, full_read=True)


def _addresses(host: str, port: int) -> frozenset[str]:
    """Return vCenter's addresses, by which its own virtual machine is recognised."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    addresses = {str(each[4][0]).partition("%")[0] for each in found}
    return frozenset(each for each in addresses if not ipaddress.ip_address(each).is_loopback)


def _log_scope(topology: Topology) -> None:
    """Say in the log what is managed: a pattern that matches nothing is a common mistake."""
    clusters = topology.clusters()
    names = sorted(clusters[key] for key in topology.managed.clusters)
    level = logging.INFO if names else logging.WARNING
    log.log(
        level,
        "managed clusters" if names else "no cluster matches managed.clusters",
        extra=fields({CLUSTER: ",".join(names), COUNT: len(clusters)}),
    )
