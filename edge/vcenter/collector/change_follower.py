"""Follows vCenter's changes, in one session, after a full read of its inventory.

Each step goes one way: an answer of vCenter is applied to the cache, the cache says what has
changed, what is missing for that is read, and what has to be reported is yielded.
"""

import collections
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from common.references import Key
from edge.interfaces import CollectorUpdate
from edge.vcenter.client.answers import ObjectProperties, parse_objects, parse_updates
from edge.vcenter.collector.inventory_cache import InventoryCache, removal
from edge.vcenter.collector.object_reader import (
    OBJECTS_AT_ONCE,
    ChangeLoader,
    ObjectReader,
    Presence,
)
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
"""With each polling pass: all of 10,000 virtual machines take two hours."""


class ChangeFollower:
    """Applies what the source delivers to the cache, and yields what is to be reported.

    Runs in one thread. The cache's lock is held while it changes, never while vCenter is asked.
    """

    def __init__(
        self,
        cache: InventoryCache,
        source: UpdateSource,
        reader: ObjectReader,
        rescoped: threading.Event,
        recheck: Iterable[Key],
        save: Callable[[], None],
    ) -> None:
        """The cache has what a full read has shown, before the source began.

        ``rescoped`` is set by whoever has changed the site's list of what is managed. ``recheck``
        are virtual machines whose configuration the full read has taken from disk: they are read
        again little by little. ``save`` is called when configurations are to be written to disk.
        """
        self._cache = cache
        self._source = source
        self._reader = reader
        self._loader = ChangeLoader(cache, reader)
        self._rescoped = rescoped
        self._recheck = collections.deque(recheck)
        self._save = save
        self._initial: set[Key] | None = set()
        """What the watch has shown of its initial state; None when that is complete."""
        self._polled: set[Key] = set()
        """Objects that the polling pass under way, or an update since the last one, has shown."""
        self._departed: set[Key] = set()
        """Objects that vCenter said have left, or did not mention."""
        self._suspects: set[Key] = set()
        """Objects that have changed without an announcement."""
        self._unread: dict[Key, None] = {}
        """Virtual machines that came under management and are to be requested."""
        self._requested: dict[Key, bool] = {}
        """Those that were requested, and whether they have changed since."""
        self._requests = 0
        self._reads_new_clusters = False

    def follow(self) -> Iterator[CollectorUpdate]:
        """Wait a moment for the source, and yield what follows from its answer."""
        item = self._source.next(_STOP_CHECK_SECONDS)
        rescoped = self._rescope()
        match item:
            case UpdatesPage():
                self._apply_updates(item)
                if item.truncated:
                    return
            case PollingPage():
                self._compare(item)
                return
            case PollingEnd():
                self._end_polling(item)
            case MachinesPage():
                yield from self._report_requested(item)
        if rescoped or isinstance(item, UpdatesPage | PollingEnd):
            yield from self._report_changes()

    def _rescope(self) -> bool:
        """Whether the site has changed its list since the last step; applies it."""
        if not self._rescoped.is_set():
            return False
        self._rescoped.clear()
        with self._cache.lock:
            self._cache.rescope()
        return True

    # What the source delivers.

    def _apply_updates(self, page: UpdatesPage) -> None:
        with self._cache.lock:
            for found in parse_updates(page.body):
                self._apply_update(found)
            if self._initial is not None and not page.truncated:
                # What was deleted after it was read and before the watch was there.
                self._departed |= self._cache.keys() - self._initial
                self._initial = None

    def _apply_update(self, found: ObjectProperties) -> None:
        self._mark_changed(found.key)
        if found.kind == "leave":
            self._departed.add(found.key)
            return
        # It may be younger than what the polling pass under way shows.
        self._polled.add(found.key)
        if self._initial is not None:
            self._initial.add(found.key)
        elif found.kind == "enter" and self._cache.knows(found.key):
            # A watch that starts over may have lost who left; vcsim's does.
            self._source.poll_soon()
        self._departed.discard(found.key)
        if self._cache.has_problem(found.key):
            self._suspects.add(found.key)
        self._cache.apply_update(found)

    def _compare(self, page: PollingPage) -> None:
        for found in parse_objects(page.body):
            self._polled.add(found.key)
            # For one at a time: an operation looks at its machine and must not wait for the page.
            with self._cache.lock:
                differs = self._cache.differs(found)
            if differs:
                self._suspects.add(found.key)

    def _end_polling(self, end: PollingEnd) -> None:
        with self._cache.lock:
            self._departed |= self._cache.keys() - self._polled
            self._cache.apply_attributes(end.attributes)
        self._polled = set()
        for _ in range(min(_RECHECKED_AT_ONCE, len(self._recheck))):
            key = self._recheck.popleft()
            if self._cache.is_reported(key):
                self._suspects.add(key)
        self._save()

    # What follows from it.

    def _report_changes(self) -> Iterator[CollectorUpdate]:
        """Ask vCenter what must be asked, and yield what is to be reported."""
        departed = self._confirm_departed()
        self._read_suspects()
        with self._cache.lock:
            changes = self._cache.collect_changes()
        if changes.has_new_clusters:
            # Before their structure, so that nobody takes a part of them for all.
            self._reads_new_clusters = True
            yield CollectorUpdate([], complete=False, newly_managed=True)
        self._unread.update((key, None) for key in changes.unread if key not in self._requested)
        self._request_unread()
        for update in itertools.chain([departed], self._loader.load(changes)):
            if update.objects or update.removals or update.unreadable:
                yield update
        yield from self._end_new_clusters()

    def _confirm_departed(self) -> CollectorUpdate:
        """Find out what became of what left; what was never reported needs no asking."""
        update = CollectorUpdate([])
        departed, self._departed = self._departed, set()
        reported = sorted(key for key in departed if self._cache.is_reported(key))
        presence = self._reader.ask_presence(reported)
        with self._cache.lock:
            for key in departed:
                if presence.get(key) is Presence.PRESENT:
                    self._suspects.add(key)
                    continue
                self._cache.remove(key)
                self._mark_changed(key)
                if key in presence:
                    update.removals.append(removal(key, presence[key].value))
        return update

    def _read_suspects(self) -> None:
        suspects, self._suspects = self._suspects, set()
        for key in suspects:
            self._mark_changed(key)
        for found, spec in self._reader.read_whole(sorted(suspects)):
            with self._cache.lock:
                self._cache.apply_read(found, spec.all_paths)

    # What came under management, in small parts, so that changes of others overtake it.

    def _request_unread(self) -> None:
        while self._unread and self._requests < _READS_AHEAD:
            keys = list(itertools.islice(self._unread, _READ_AT_ONCE))
            for key in keys:
                del self._unread[key]
                self._requested[key] = False
            self._requests += 1
            self._source.request_machines(keys)

    def _report_requested(self, page: MachinesPage) -> Iterator[CollectorUpdate]:
        """Yield a part of what came under management; read again what has changed meanwhile."""
        changed = {key for key in page.keys if self._requested.pop(key)}
        self._requests -= 1
        self._request_unread()
        current = [key for key in page.keys if key not in changed]
        answered = itertools.chain.from_iterable(map(parse_objects, page.bodies))
        updates = self._loader.apply_machines(
            current, (found for found in answered if found.key not in changed)
        )
        if changed:
            updates = itertools.chain(updates, self._loader.read_machines(sorted(changed)))
        for update in updates:
            yield dataclasses.replace(
                update, newly_managed=self._reads_new_clusters, complete=False
            )
        yield from self._end_new_clusters()

    def _mark_changed(self, key: Key) -> None:
        """What was requested of an object is no longer current."""
        if key in self._requested:
            self._requested[key] = True

    def _end_new_clusters(self) -> Iterator[CollectorUpdate]:
        """Say so when everything of the clusters that came under management is reported."""
        if self._reads_new_clusters and not self._requested:
            self._reads_new_clusters = False
            yield CollectorUpdate([], newly_managed=True)
