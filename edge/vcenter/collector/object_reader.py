"""Reads objects by reference: in batches, fetched ahead of use, and into the inventory cache.

``ask_presence`` is the proof of a deletion: nothing else is believed about an object that vCenter
does not mention.
"""

import collections
import concurrent.futures
import enum
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from common.references import Key, type_name_of
from edge.interfaces import CollectorUpdate
from edge.vcenter.client import faults
from edge.vcenter.client.answers import ObjectProperties, parse_objects
from edge.vcenter.client.property_collector import PropertyReader
from edge.vcenter.client.property_specs import VIRTUAL_MACHINE, TypeSpec, spec_of
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.collector.inventory_cache import ChangeSet, InventoryCache
from vsphere_gateway.v1 import link_pb2

OBJECTS_AT_ONCE: Final = 100
"""A virtual machine is some 6 to 15 KB of XML: some such pages are held, and the tree of one."""
_REPORTED_AT_ONCE: Final = 500
_REQUESTS_AT_ONCE: Final = 2
"""vCenter answers several requests at a time, and this process parses one at a time: with two
under way neither waits for the other."""
_FETCHED_AHEAD: Final = 3
"""Most answers that are held or under way besides the one that is parsed."""


class Presence(enum.Enum):
    """What vCenter says about one object when it is asked."""

    PRESENT = link_pb2.REMOVAL_REASON_UNSPECIFIED
    DELETED = link_pb2.REMOVAL_REASON_DELETED
    HIDDEN = link_pb2.REMOVAL_REASON_HIDDEN
    UNCONFIRMED = link_pb2.REMOVAL_REASON_UNCONFIRMED


class ObjectReader:
    """Reads objects in batches. Safe for threads; all methods raise ``VCenterError``."""

    def __init__(self, session: VCenterSession) -> None:
        self._session = session
        self._properties = PropertyReader(session)

    def read(
        self, keys: Sequence[Key], paths: Sequence[str], type_name: str
    ) -> Iterator[ObjectProperties]:
        """Yield what vCenter shows of objects of one type, fetched in batches ahead of use.

        Objects that the user may not see are left out.
        """
        fetches = [
            functools.partial(self.fetch, keys[at : at + OBJECTS_AT_ONCE], paths, type_name)
            for at in range(0, len(keys), OBJECTS_AT_ONCE)
        ]
        for body in fetch_ahead(fetches):
            yield from parse_objects(body)

    def fetch(self, keys: Sequence[Key], paths: Sequence[str], type_name: str) -> list[bytes]:
        """Fetch, all at once, the pages that ``read`` yields the objects of."""
        try:
            return list(self._properties.read(keys, paths, type_name))
        except faults.PermissionDeniedError:
            # One that the user may not see must not hide the others.
            if len(keys) == 1:
                return []
        half = len(keys) // 2
        return [
            *self.fetch(keys[:half], paths, type_name),
            *self.fetch(keys[half:], paths, type_name),
        ]

    def read_whole(self, keys: Iterable[Key]) -> Iterator[tuple[ObjectProperties, TypeSpec]]:
        """Yield all that is ever read about objects of any type.

        Objects of types that are not read, and those that the user may not see, are left out.
        """
        groups: dict[TypeSpec, list[Key]] = collections.defaultdict(list)
        for key in keys:
            spec = spec_of(type_name_of(key))
            if spec is not None:
                groups[spec].append(key)
        for spec, group in groups.items():
            for found in self.read(group, spec.all_paths, spec.type):
                yield found, spec

    def read_watched(self, key: Key) -> ObjectProperties | None:
        """Read what is watched of one object; None if vCenter does not show it."""
        spec = spec_of(type_name_of(key))
        if spec is None:
            return None
        found = next(iter(self.read([key], spec.watched, spec.type)), None)
        return None if found is None or is_hidden(found) else found

    def ask_presence(self, keys: Iterable[Key]) -> dict[Key, Presence]:
        """Ask about each object by itself.

        Raises ``SessionExpiredError`` rather than believing a session that has ended.
        """
        presence = {key: self._ask(key) for key in keys}
        if Presence.DELETED in presence.values():
            self._session.verify_alive()
        return presence

    def _ask(self, key: Key) -> Presence:
        try:
            for body in self._properties.read(
                [key], ["name"], type_name_of(key), report_missing=False
            ):
                for found in parse_objects(body):
                    if found.key == key:
                        return Presence.HIDDEN if is_hidden(found) else Presence.PRESENT
        except faults.ManagedObjectNotFoundError as error:
            return Presence.DELETED if error.managed_object == key else Presence.UNCONFIRMED
        except faults.PermissionDeniedError:
            return Presence.HIDDEN
        return Presence.UNCONFIRMED


class ChangeLoader:
    """Reads into the cache what a change set calls for, and yields what is to be reported.

    All methods raise ``VCenterError``.
    """

    def __init__(self, cache: InventoryCache, reader: ObjectReader) -> None:
        self._cache = cache
        self._reader = reader

    def load(self, changes: ChangeSet) -> Iterator[CollectorUpdate]:
        """Yield what is to be reported, structure first; ``changes.unread`` is not read."""
        yield changes.structure
        for at in range(0, len(changes.ready), _REPORTED_AT_ONCE):
            yield self._report(changes.ready[at : at + _REPORTED_AT_ONCE])
        if changes.details:
            yield from self.read_machines(changes.details, VIRTUAL_MACHINE.detail)

    def read_machines(
        self, keys: Sequence[Key], paths: Sequence[str] = VIRTUAL_MACHINE.all_paths
    ) -> Iterator[CollectorUpdate]:
        """Read virtual machines, and yield them in batches."""
        found = self._reader.read(keys, paths, VIRTUAL_MACHINE.type)
        yield from self.apply_machines(keys, found, paths)

    def apply_machines(
        self,
        keys: Sequence[Key],
        answered: Iterable[ObjectProperties],
        paths: Sequence[str] = VIRTUAL_MACHINE.all_paths,
    ) -> Iterator[CollectorUpdate]:
        """Apply what was ``answered`` to a read of virtual machines, and yield them in batches."""
        batch: list[Key] = []
        missing = dict.fromkeys(keys)
        for found in answered:
            with self._cache.lock:
                self._cache.apply_read(found, paths)
            missing.pop(found.key, None)
            batch.append(found.key)
            if len(batch) == OBJECTS_AT_ONCE:
                yield self._report(batch)
                batch = []
        with self._cache.lock:
            self._cache.mark_not_returned(missing)
        yield self._report([*batch, *missing])

    def _report(self, keys: Iterable[Key]) -> CollectorUpdate:
        with self._cache.lock:
            return self._cache.report_machines(keys)


def is_hidden(found: ObjectProperties) -> bool:
    """Whether vCenter returned an object only to say that its user may not see it."""
    return found.missing.get("name") == "NoPermission"


def fetch_ahead(fetches: Sequence[Callable[[], list[bytes]]]) -> Iterator[bytes]:
    """Yield the pages of all ``fetches``, in their order, a few of them fetched ahead.

    Raises what a fetch raises, in its turn. A request that is under way when the caller takes no
    more is not waited for.
    """
    if len(fetches) == 1:
        yield from fetches[0]()
        return
    pool = concurrent.futures.ThreadPoolExecutor(_REQUESTS_AT_ONCE, "vcenter-read")
    try:
        pending = iter(fetches)
        ahead = collections.deque(
            pool.submit(fetch) for fetch in itertools.islice(pending, _FETCHED_AHEAD)
        )
        while ahead:
            pages = ahead.popleft().result()
            ahead.extend(pool.submit(fetch) for fetch in itertools.islice(pending, 1))
            yield from pages
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
