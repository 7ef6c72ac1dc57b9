"""One full read of vCenter's inventory and the following of its changes, in one session."""

import dataclasses
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from edge.interfaces import CollectorUpdate
from edge.log import CLUSTER, COUNT, fields
from edge.vcenter.answers import parse_objects, parse_updates
from edge.vcenter.attributes import Attributes
from edge.vcenter.feed import AuditEnd, AuditPage, Feed, UpdatesPage
from edge.vcenter.object_reader import OBJECTS_AT_ONCE, ObjectReader, Presence
from edge.vcenter.picture import Picture, removal
from edge.vcenter.property_specs import VIRTUAL_MACHINE
from edge.vcenter.references import Key

log = logging.getLogger(__name__)

_OBJECTS_PER_UPDATE: Final = 500
_STOP_CHECK_SECONDS: Final = 0.5


class Collection:
    """Brings what the feed tells into the picture, and yields what the picture says to tell.

    Runs in one thread. ``lock`` is held while the picture changes, never while vCenter is asked.
    """

    def __init__(
        self, picture: Picture, feed: Feed, reader: ObjectReader, lock: threading.Lock
    ) -> None:
        self._picture = picture
        self._feed = feed
        self._reader = reader
        self._lock = lock
        self._departed: set[Key] = set()
        """Objects that vCenter said have left, or did not mention."""
        self._suspects: set[Key] = set()
        """Objects that have changed without an announcement."""
        self._audited: set[Key] = set()
        """Objects that the audit pass under way has shown."""

    def take_everything(self, stop: threading.Event) -> bool:
        """Take in the watch's first state; False when ``stop`` was set before its end."""
        while not stop.is_set():
            item = self._feed.next(_STOP_CHECK_SECONDS)
            if isinstance(item, UpdatesPage):
                self._take_updates(item)
                if not item.truncated:
                    # Left while the first state was told, and never reported: nothing to tell.
                    self._departed.clear()
                    return True
        return False

    def take_attributes(self, attributes: Attributes) -> None:
        """Take in names of custom attributes and tags; who carries them is presented again."""
        presenter = self._picture.presenter
        with self._lock:
            if attributes.names != presenter.attribute_names:
                self._picture.touch_all()
            if attributes.tags != presenter.tags:
                self._picture.touch(
                    key
                    for key in {*attributes.tags, *presenter.tags}
                    if attributes.tags.get(key) != presenter.tags.get(key)
                )
            presenter.attribute_names, presenter.tags = attributes.names, attributes.tags

    def follow(self) -> Iterator[CollectorUpdate]:
        """Wait a moment for news, and yield what follows from it."""
        item = self._feed.next(_STOP_CHECK_SECONDS)
        if isinstance(item, UpdatesPage):
            self._take_updates(item)
            if item.truncated:
                return
        elif isinstance(item, AuditPage):
            self._take_audit(item)
            return
        elif isinstance(item, AuditEnd):
            self._end_audit(item)
        else:
            return
        yield from mark_last(update for update in self.settle() if not _is_empty(update))

    def settle(self) -> Iterator[CollectorUpdate]:
        """Ask vCenter what must be asked, and yield what is to be told."""
        yield self._settle_departed()
        self._read_suspects()
        with self._lock:
            plan = self._picture.plan()
        yield plan.structure
        yield from self._present_all(plan.ready)
        yield from self._read_and_present(plan.details, VIRTUAL_MACHINE.detail)
        yield from self._read_and_present(plan.unread, VIRTUAL_MACHINE.all_paths)

    def log_scope(self) -> None:
        """Say in the log what is managed: a pattern that matches nothing is a common mistake."""
        topology = self._picture.topology
        clusters = topology.clusters()
        names = sorted(clusters[key] for key in topology.managed.clusters)
        level = logging.INFO if names else logging.WARNING
        log.log(
            level,
            "managed clusters" if names else "no cluster matches managed.clusters",
            extra=fields({CLUSTER: ",".join(names), COUNT: len(clusters)}),
        )

    def _take_updates(self, page: UpdatesPage) -> None:
        with self._lock:
            for found in parse_updates(page.body):
                if found.kind == "leave":
                    self._departed.add(found.key)
                    continue
                if found.kind == "enter" and self._picture.knows(found.key):
                    # A watch that starts over may have lost who left; vcsim's does.
                    self._feed.audit_soon()
                self._departed.discard(found.key)
                if self._picture.has_problem(found.key):
                    self._suspects.add(found.key)
                self._picture.announce(found)

    def _take_audit(self, page: AuditPage) -> None:
        with self._lock:
            for found in parse_objects(page.body):
                self._audited.add(found.key)
                if self._picture.differs(found):
                    self._suspects.add(found.key)

    def _end_audit(self, end: AuditEnd) -> None:
        with self._lock:
            unseen = self._picture.keys() - self._audited - {self._feed.root_folder}
        self._audited = set()
        self._departed |= unseen
        self.take_attributes(end.attributes)

    def _settle_departed(self) -> CollectorUpdate:
        """Find out what became of what left; what was never told needs no asking."""
        update = CollectorUpdate([])
        departed, self._departed = self._departed, set()
        told = sorted(key for key in departed if self._picture.is_reported(key))
        presence = self._reader.ask_presence(told)
        with self._lock:
            for key in departed:
                if presence.get(key) is Presence.THERE:
                    self._suspects.add(key)
                    continue
                self._picture.forget(key)
                if key in presence:
                    update.removals.append(removal(key, presence[key].value))
        return update

    def _read_suspects(self) -> None:
        suspects, self._suspects = self._suspects, set()
        for found, spec in self._reader.read_whole(sorted(suspects)):
            with self._lock:
                self._picture.read(found, spec.all_paths)

    def _present_all(self, keys: Sequence[Key]) -> Iterator[CollectorUpdate]:
        for at in range(0, len(keys), _OBJECTS_PER_UPDATE):
            yield self._present(keys[at : at + _OBJECTS_PER_UPDATE])

    def _read_and_present(
        self, keys: Sequence[Key], paths: Sequence[str]
    ) -> Iterator[CollectorUpdate]:
        waiting: list[Key] = []
        for found in self._reader.read(keys, paths, VIRTUAL_MACHINE.type):
            with self._lock:
                self._picture.read(found, paths)
            waiting.append(found.key)
            if len(waiting) == OBJECTS_AT_ONCE:
                yield self._present(waiting)
                waiting = []
        yield self._present(waiting)

    def _present(self, keys: Iterable[Key]) -> CollectorUpdate:
        with self._lock:
            return self._picture.present(keys)


def mark_last(
    updates: Iterator[CollectorUpdate], *, full_read: bool = False
) -> Iterator[CollectorUpdate]:
    """Yield updates, the last one marked as complete and all others as not."""
    held = next(updates, None)
    for update in updates:
        if held is not None:
            yield dataclasses.replace(held, complete=False, full_read=full_read)
        held = update
    if held is not None:
        yield dataclasses.replace(held, complete=True, full_read=full_read)


def _is_empty(update: CollectorUpdate) -> bool:
    return not (update.objects or update.removals or update.unreadable)
