"""Carries out what the picture plans: reads what must be read, and yields what is to be told."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from common.references import Key
from edge.interfaces import CollectorUpdate
from edge.vcenter.client.answers import ObjectProperties, parse_objects
from edge.vcenter.client.property_specs import VIRTUAL_MACHINE
from edge.vcenter.collector.inventory_cache import ChangeSet, InventoryCache
from edge.vcenter.collector.object_reader import OBJECTS_AT_ONCE, ObjectReader

_OBJECTS_PER_UPDATE: Final = 500


class ChangeLoader:
    """``lock`` is held while the picture changes, never while vCenter is asked."""

    def __init__(self, picture: InventoryCache, reader: ObjectReader, lock: threading.Lock) -> None:
        self._picture = picture
        self._reader = reader
        self._lock = lock

    def carry_out(self, plan: ChangeSet) -> Iterator[CollectorUpdate]:
        """Yield what is to be told, all but what is ``unread``: structure first.

        Raises ``VCenterError``.
        """
        yield plan.structure
        for at in range(0, len(plan.ready), _OBJECTS_PER_UPDATE):
            yield self._present(plan.ready[at : at + _OBJECTS_PER_UPDATE])
        yield from self._read_and_present(plan.details, VIRTUAL_MACHINE.detail)

    def read_whole(self, keys: Sequence[Key]) -> Iterator[CollectorUpdate]:
        """Read everything of virtual machines, and yield it in batches. Raises likewise."""
        yield from self._read_and_present(keys, VIRTUAL_MACHINE.all_paths)

    def fetch_whole(self, keys: Sequence[Key]) -> list[bytes]:
        """Return what ``take_whole`` takes, from any thread. Raises likewise."""
        return self._reader.fetch(keys, VIRTUAL_MACHINE.all_paths, VIRTUAL_MACHINE.type)

    def take_whole(self, keys: Sequence[Key], bodies: Iterable[bytes]) -> Iterator[CollectorUpdate]:
        """Yield what is to be told of these virtual machines, of all that was fetched.

        Raises likewise.
        """
        wanted = frozenset(keys)
        found = (each for body in bodies for each in parse_objects(body) if each.key in wanted)
        yield from self._take_and_present(keys, found, VIRTUAL_MACHINE.all_paths)

    def read_unplaced(self, keys: Sequence[Key]) -> Iterator[CollectorUpdate]:
        """Read everything of virtual machines of which nobody knows yet where they are.

        What is managed is yielded in batches, each after the structure that it makes needed.
        Raises likewise.
        """
        yield from self._carry_out_present()
        paths, waiting = VIRTUAL_MACHINE.all_paths, 0
        for found in self._reader.read(keys, paths, VIRTUAL_MACHINE.type):
            with self._lock:
                self._picture.read(found, paths)
            waiting += 1
            if waiting == OBJECTS_AT_ONCE:
                yield from self._carry_out_present()
                waiting = 0
        yield from self._carry_out_present()

    def _carry_out_present(self) -> Iterator[CollectorUpdate]:
        with self._lock:
            plan = self._picture.plan()
        return self.carry_out(plan)

    def _read_and_present(
        self, keys: Sequence[Key], paths: Sequence[str]
    ) -> Iterator[CollectorUpdate]:
        found = self._reader.read(keys, paths, VIRTUAL_MACHINE.type)
        yield from self._take_and_present(keys, found, paths)

    def _take_and_present(
        self, keys: Sequence[Key], found: Iterable[ObjectProperties], paths: Sequence[str]
    ) -> Iterator[CollectorUpdate]:
        waiting: list[Key] = []
        unseen = dict.fromkeys(keys)
        for each in found:
            with self._lock:
                self._picture.read(each, paths)
            unseen.pop(each.key, None)
            waiting.append(each.key)
            if len(waiting) == OBJECTS_AT_ONCE:
                yield self._present(waiting)
                waiting = []
        with self._lock:
            self._picture.not_returned(unseen)
        yield self._present([*waiting, *unseen])

    def _present(self, keys: Iterable[Key]) -> CollectorUpdate:
        with self._lock:
            return self._picture.present(keys)


def is_empty(update: CollectorUpdate) -> bool:
    """Tell whether there is nothing to tell."""
    return not (update.objects or update.removals or update.unreadable)
