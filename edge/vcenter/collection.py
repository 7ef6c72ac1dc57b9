"""The following of vCenter's changes, in one session, after a full read of its inventory."""

import collections
import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from edge.interfaces import CollectorUpdate
from edge.vcenter.answers import ObjectProperties, parse_objects, parse_updates
from edge.vcenter.attributes import Attributes
from edge.vcenter.feed import AuditEnd, AuditPage, Feed, UpdatesPage
from edge.vcenter.object_reader import OBJECTS_AT_ONCE, ObjectReader, Presence
from edge.vcenter.picture import Picture, removal
from edge.vcenter.planned_reads import PlannedReads, is_empty
from edge.vcenter.references import Key

_STOP_CHECK_SECONDS: Final = 0.5
_READ_AT_ONCE: Final = OBJECTS_AT_ONCE // 4
"""Of a new cluster, between two looks at the watch: so long a change of another one waits."""
_RECHECKED_AT_ONCE: Final = OBJECTS_AT_ONCE
"""With each audit pass: 10,000 virtual machines take two hours, and nobody notices."""


class Collection:
    """Brings what the feed tells into the picture, and yields what the picture says to tell.

    Runs in one thread. ``lock`` is held while the picture changes, never while vCenter is asked.
    """

    def __init__(
        self,
        picture: Picture,
        feed: Feed,
        reader: ObjectReader,
        reads: PlannedReads,
        rescoped: threading.Event,
        recalled: Iterable[Key],
        keep: Callable[[], None],
        lock: threading.Lock,
    ) -> None:
        """The picture shows what a full read has shown, before the feed began.

        ``rescoped`` is set by whoever has changed the site's list of what is managed. ``recalled``
        are virtual machines whose configuration the full read has taken from the cache: they are
        read again little by little. ``keep`` is called when the cache is to be written.
        """
        self._picture = picture
        self._feed = feed
        self._reader = reader
        self._reads = reads
        self._rescoped = rescoped
        self._unread: dict[Key, None] = {}
        """Virtual machines that came under management and are read while nothing else happens."""
        self._reads_new_clusters = False
        self._lock = lock
        self._first_state: set[Key] | None = set()
        """What the watch has shown of its first state; None when that is complete."""
        self._departed: set[Key] = set()
        """Objects that vCenter said have left, or did not mention."""
        self._suspects: set[Key] = set()
        """Objects that have changed without an announcement."""
        self._recalled = collections.deque(recalled)
        self._keep = keep
        self._audited: set[Key] = set()
        """Objects that the audit pass under way has shown."""

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
        """Wait a moment for news, and yield what follows from it; else go on reading."""
        item = self._feed.next(0.0 if self._has_reads_left else _STOP_CHECK_SECONDS)
        if self._rescoped.is_set():
            self._rescoped.clear()
            with self._lock:
                self._picture.rescope()
        elif item is None:
            yield from self._read_some()
            return
        if isinstance(item, UpdatesPage):
            self._take_updates(item)
            if item.truncated:
                return
        elif isinstance(item, AuditPage):
            self._take_audit(item)
            return
        elif isinstance(item, AuditEnd):
            self._end_audit(item)
        yield from mark_last(update for update in self._settle() if not is_empty(update))

    def _settle(self) -> Iterator[CollectorUpdate]:
        """Ask vCenter what must be asked, and yield what is to be told."""
        yield self._settle_departed()
        self._read_suspects()
        with self._lock:
            plan = self._picture.plan()
        self._unread.update(dict.fromkeys(plan.unread))
        self._reads_new_clusters |= plan.has_new_clusters
        yield from self._reads.carry_out(plan)

    @property
    def _has_reads_left(self) -> bool:
        return bool(self._unread or self._reads_new_clusters)

    def _read_some(self) -> Iterator[CollectorUpdate]:
        """Read a part of what came under management: whatever changes meanwhile overtakes it."""
        if not self._has_reads_left:
            return
        keys = list(self._unread)[:_READ_AT_ONCE]
        new_clusters = self._reads_new_clusters
        for key in keys:
            del self._unread[key]
        self._reads_new_clusters = new_clusters and bool(self._unread)
        last = new_clusters and not self._unread
        for update in mark_last(self._reads.read_whole(keys)):
            complete = update.complete and (last or not new_clusters)
            yield dataclasses.replace(update, newly_managed=new_clusters, complete=complete)

    def _take_updates(self, page: UpdatesPage) -> None:
        with self._lock:
            for found in parse_updates(page.body):
                self._take_update(found)
            if self._first_state is not None and not page.truncated:
                # What was deleted after it was read and before the watch was there.
                self._departed |= self._picture.keys() - self._first_state
                self._first_state = None

    def _take_update(self, found: ObjectProperties) -> None:
        if found.kind == "leave":
            self._departed.add(found.key)
            return
        if self._first_state is not None:
            self._first_state.add(found.key)
        elif found.kind == "enter" and self._picture.knows(found.key):
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
            unseen = self._picture.keys() - self._audited
        self._audited = set()
        self._departed |= unseen
        self.take_attributes(end.attributes)
        for _ in range(min(_RECHECKED_AT_ONCE, len(self._recalled))):
            key = self._recalled.popleft()
            if self._picture.is_reported(key):
                self._suspects.add(key)
        self._keep()

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
