"""Reads objects by reference, and finds out about those that vCenter does not return.

Only the answer ManagedObjectNotFound about that very reference, in a session that is alive
afterwards, counts as a deletion. Everything else keeps the object.
"""

import enum
import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from common.references import Key, type_name_of
from edge.vcenter.client import faults
from edge.vcenter.client.answers import ObjectProperties, parse_objects
from edge.vcenter.client.property_collector import PropertyReader
from edge.vcenter.client.property_specs import TypeSpec, spec_of
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.collector.fetching import fetch_ahead
from vsphere_gateway.v1 import link_pb2

OBJECTS_AT_ONCE: Final = 100
"""A virtual machine is some 6 to 15 KB of XML: some such pages are held, and the tree of one."""


class Presence(enum.Enum):
    """What vCenter says about one object when it is asked."""

    THERE = link_pb2.REMOVAL_REASON_UNSPECIFIED
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

        Objects that the user may not see are passed over.
        """
        fetches = [
            functools.partial(self.fetch, keys[at : at + OBJECTS_AT_ONCE], paths, type_name)
            for at in range(0, len(keys), OBJECTS_AT_ONCE)
        ]
        for body in fetch_ahead(fetches):
            yield from parse_objects(body)

    def fetch(self, keys: Sequence[Key], paths: Sequence[str], type_name: str) -> list[bytes]:
        """Return the pages that ``read`` yields the objects of; all at once."""
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

        Objects of types that are not read, and those that the user may not see, are passed over.
        """
        groups: dict[TypeSpec, list[Key]] = defaultdict(list)
        for key in keys:
            spec = spec_of(type_name_of(key))
            if spec is not None:
                groups[spec].append(key)
        for spec, group in groups.items():
            for found in self.read(group, spec.all_paths, spec.type):
                yield found, spec

    def read_watched(self, key: Key) -> ObjectProperties | None:
        """Return what is watched of one object; None if vCenter does not show it."""
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
                        return Presence.HIDDEN if is_hidden(found) else Presence.THERE
        except faults.ManagedObjectNotFoundError as error:
            return Presence.DELETED if error.managed_object == key else Presence.UNCONFIRMED
        except faults.PermissionDeniedError:
            return Presence.HIDDEN
        return Presence.UNCONFIRMED


def is_hidden(found: ObjectProperties) -> bool:
    """Tell whether vCenter returned an object only to say that its user may not see it."""
    return found.missing.get("name") == "NoPermission"
