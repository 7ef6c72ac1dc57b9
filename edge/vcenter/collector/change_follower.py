"""The following of vCenter's changes, in one session, after a full read of its inventory."""

import collections
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from common.references import Key
from edge.interfaces import CollectorUpdate
from edge.vcenter.client.answers import ObjectProperties, parse_objects, parse_updates
from edge.vcenter.collector.attributes import Attributes
from edge.vcenter.collector.change_loader import ChangeLoader, is_empty
from edge.vcenter.collector.inventory_cache import InventoryCache, removal
from edge.vcenter.collector.object_reader import OBJECTS_AT_ONCE, ObjectReader, Presence
from edge.vcenter.collector.update_source import (
    MachinesPage,
    PollingEnd,
    PollingPage,
    UpdateSource,
    UpdatesPage,
)

_STOP_CHECK_SECONDS: Final = 0.5
_READ_AT_ONCE: Final = OBJECTS_AT_ONCE // 4
"""Of a new cluster: a change of another one waits while so many are parsed."""
_READS_AHEAD: Final = 2
_RECHECKED_AT_ONCE: Final = OBJECTS_AT_ONCE
"""With each audit pass: 10,000 virtual machines take two hours, and nobody notices."""


class ChangeFollower:
    """Brings what the feed tells into the picture, and yields what the picture says to tell.

    Runs in one thread. ``lock`` is held while the picture changes, never while vCenter is asked.
    """

    def __init__(
        self,
        picture: InventoryCache,
        feed: UpdateSource,
        reader: ObjectReader,
        reads: ChangeLoader,
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
        """Virtual machines that came under management and are to be read."""
        self._reading: dict[Key, bool] = {}
        """Those that the feed reads, and whether something has happened to them since."""
        self._pages_asked = 0
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
        """Objects that the audit pass under way has shown, or news since the last one ended."""

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
        rescoped = self._take_scope()
        if isinstance(item, UpdatesPage):
            self._take_updates(item)
            if item.truncated:
                return
        elif isinstance(item, PollingPage):
            self._take_audit(item)
            return
        elif isinstance(item, PollingEnd):
            self._end_audit(item)
        elif isinstance(item, MachinesPage):
            yield from self._take_machines(item)
        if rescoped or isinstance(item, UpdatesPage | PollingEnd):
            yield from self._settle()

    def _take_scope(self) -> bool:
        """Tell whether the site has changed its list since, after taking it in."""
        if not self._rescoped.is_set():
            return False
        self._rescoped.clear()
        with self._lock:
            self._picture.rescope()
        return True

    def _settle(self) -> Iterator[CollectorUpdate]:
        """Ask vCenter what must be asked, and yield what is to be told."""
        departed = self._settle_departed()
        self._read_suspects()
        with self._lock:
            plan = self._picture.plan()
        if plan.has_new_clusters:
            # Before their structure: nobody takes a part of them for all.
            self._reads_new_clusters = True
            yield CollectorUpdate([], complete=False, newly_managed=True)
        self._unread.update((key, None) for key in plan.unread if key not in self._reading)
        self._ask_for_machines()
        updates = itertools.chain([departed], self._reads.carry_out(plan))
        yield from (update for update in updates if not is_empty(update))
        yield from self._end_new_clusters()

    def _ask_for_machines(self) -> None:
        """Have the next parts of what came under management fetched."""
        while self._unread and self._pages_asked < _READS_AHEAD:
            keys = list(itertools.islice(self._unread, _READ_AT_ONCE))
            for key in keys:
                del self._unread[key]
                self._reading[key] = False
            self._pages_asked += 1
            self._feed.read(keys)

    def _take_machines(self, page: MachinesPage) -> Iterator[CollectorUpdate]:
        """Tell a part of what came under management.

        What has changed since it was asked for is read again, when nothing can come between.
        """
        overtaken = {key: self._reading.pop(key) for key in page.keys}
        self._pages_asked -= 1
        self._ask_for_machines()
        again = [key for key in page.keys if overtaken[key]]
        updates = itertools.chain(
            self._reads.take_whole([key for key in page.keys if not overtaken[key]], page.bodies),
            self._reads.read_whole(again) if again else (),
        )
        for update in updates:
            yield dataclasses.replace(
                update, newly_managed=self._reads_new_clusters, complete=False
            )
        yield from self._end_new_clusters()

    def _end_new_clusters(self) -> Iterator[CollectorUpdate]:
        """Say so when all of the clusters that came under management is told."""
        if self._reads_new_clusters and not self._reading:
            self._reads_new_clusters = False
            yield CollectorUpdate([], newly_managed=True)

    def _take_updates(self, page: UpdatesPage) -> None:
        with self._lock:
            for found in parse_updates(page.body):
                self._take_update(found)
            if self._first_state is not None and not page.truncated:
                # What was deleted after it was read and before the watch was there.
                self._departed |= self._picture.keys() - self._first_state
                self._first_state = None

    def _take_update(self, found: ObjectProperties) -> None:
        self._overtake(found.key)
        if found.kind == "leave":
            self._departed.add(found.key)
            return
        # It may be younger than what the audit pass under way shows.
        self._audited.add(found.key)
        if self._first_state is not None:
            self._first_state.add(found.key)
        elif found.kind == "enter" and self._picture.knows(found.key):
            # A watch that starts over may have lost who left; vcsim's does.
            self._feed.poll_soon()
        self._departed.discard(found.key)
        if self._picture.has_problem(found.key):
            self._suspects.add(found.key)
        self._picture.announce(found)

    def _overtake(self, key: Key) -> None:
        if key in self._reading:
            self._reading[key] = True

    def _take_audit(self, page: PollingPage) -> None:
        for found in parse_objects(page.body):
            self._audited.add(found.key)
            # For one at a time: an operation looks at its machine and must not wait for the page.
            with self._lock:
                differs = self._picture.differs(found)
            if differs:
                self._suspects.add(found.key)

    def _end_audit(self, end: PollingEnd) -> None:
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
                self._overtake(key)
                if key in presence:
                    update.removals.append(removal(key, presence[key].value))
        return update

    def _read_suspects(self) -> None:
        suspects, self._suspects = self._suspects, set()
        for key in suspects:
            self._overtake(key)
        for found, spec in self._reader.read_whole(sorted(suspects)):
            with self._lock:
                self._picture.read(found, spec.all_paths)
