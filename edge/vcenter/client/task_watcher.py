"""Waits for properties of a few objects, such as running tasks, in one thread.

One PropertyCollector of its own on the shared session, one filter per watched object, one
WaitForUpdatesEx for them all (vSphere Web Services API, PropertyCollector). All of it ends with the
login: then a follower of the next login takes the watches over.

No lock is held while vCenter is called: a call that vCenter leaves unanswered holds up nobody but
who has made it.
"""

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from pyVmomi import vmodl

from common.background import BackgroundThread, ThreadMonitor
from common.backoff import Backoff
from common.log_fields import fields
from common.references import moref_of
from edge.errors import EdgeError
from edge.vcenter.client import faults
from edge.vcenter.client.answers import updates_header
from edge.vcenter.client.properties import key_of_object, read_properties, wsdl_name
from edge.vcenter.client.property_collector import UpdateCollector, object_set, property_set
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.client.watch import Watch, as_vcenter_error

log = logging.getLogger(__name__)

WAIT_SECONDS: Final = 30
"""Longest time in one WaitForUpdatesEx."""
CLOSE_SECONDS: Final = 2.0
"""How long ``close`` waits for the thread, which vCenter may leave hanging."""
FILTER_DEADLINE_SECONDS: Final = 30.0

_LOST: Final = (faults.SessionExpiredError, faults.ManagedObjectNotFoundError)
_TRANSIENT: Final = (*_LOST, faults.VCenterUnreachableError, faults.UnexpectedAnswerError)
Lost = Callable[["_Follower", faults.VCenterError | EdgeError], None]


class PropertyWatcher:
    """Watches objects on a session, across logins. Any thread may call ``watch``."""

    def __init__(
        self,
        session: VCenterSession,
        monitor: ThreadMonitor,
        make_backoff: Callable[[], Backoff] = lambda: Backoff(1.0, 2.0, 10.0),
    ) -> None:
        """``make_backoff`` paces the attempts to reach a vCenter that does not answer."""
        self._session = session
        self._monitor = monitor
        self._make_backoff = make_backoff
        self._lock = threading.Lock()
        self._follower: _Follower | None = None
        self._is_closed = False

    def watch(self, target: Any, paths: Iterable[str]) -> Watch:
        """Begin to watch ``paths`` of pyVmomi's object ``target``; the values are known at once.

        Raises ``VCenterError``.
        """
        wanted = tuple(paths)
        read = functools.partial(read_properties, self._session, target, wanted)
        watch = Watch(target, wanted, read, self._end)
        try:
            self._add(watch)
            # A filter made while another thread waits may be reported late (by vcsim not before
            # something else changes): the first values are read, not awaited.
            watch.refresh()
        except faults.VCenterError:
            watch.ended = True
            self._end(watch)
            raise
        return watch

    def close(self) -> None:
        """Stop waiting. Watches that are left are not reported any more."""
        with self._lock:
            self._is_closed = True
            follower, self._follower = self._follower, None
        if follower is not None:
            follower.close(CLOSE_SECONDS)

    def _add(self, watch: Watch) -> None:
        generation = self._session.generation
        try:
            while not self._current().add(watch):
                continue
        except _LOST as error:
            # The session has expired, and the collector with it; or the collector alone is gone.
            if isinstance(error, faults.SessionExpiredError):
                self._session.renew(generation)
            while not self._current().add(watch):
                continue

    def _end(self, watch: Watch) -> None:
        with self._lock:
            follower = self._follower
        if follower is not None:
            follower.remove(watch)

    def _current(self) -> "_Follower":
        """The follower of the present login, a new one if need be.

        Several threads may make one at a time, so that none waits for another's call; the first
        one's is used. Raises ``VCenterError``.
        """
        while True:
            with self._lock:
                current = self._follower
                if self._is_closed:
                    raise faults.SessionExpiredError("nothing is watched any more: the edge stops")
            if current is not None and current.is_usable:
                return current
            made = _Follower(self._session, self._monitor, self._lost)
            if self._replace(current, made):
                return made
            made.close(0)

    def _replace(self, current: "_Follower | None", made: "_Follower") -> bool:
        """Let ``made`` take over; False when somebody was faster."""
        with self._lock:
            if self._follower is not current or self._is_closed:
                return False
            self._follower = made
            made.start(current.release() if current is not None else ())
        return True

    def _lost(self, follower: "_Follower", error: faults.VCenterError | EdgeError) -> None:
        """Go on with a new follower once vCenter answers. Runs in the lost one's own thread."""
        backoff = self._make_backoff()
        # A session that has expired is renewed at once, and only once.
        is_urgent = isinstance(error, _LOST)
        log.info("waiting for updates broke", extra=fields(error=error))
        while self._is_current(follower):
            if follower.release_if_idle() or not isinstance(error, _TRANSIENT):
                self._give_up(follower, error)
                return
            if not is_urgent:
                follower.pause(backoff.next_delay())
            is_urgent = False
            try:
                if isinstance(error, faults.SessionExpiredError):
                    self._session.renew(follower.generation)
                self._current()
            except (faults.VCenterError, EdgeError) as again:
                error = again

    def _is_current(self, follower: "_Follower") -> bool:
        with self._lock:
            return self._follower is follower

    def _give_up(self, follower: "_Follower", error: Exception) -> None:
        with self._lock:
            if self._follower is follower:
                self._follower = None
        for watch in follower.release():
            log.warning("watch given up", extra=fields(object=watch.target._moId, error=error))
            watch.report({}, as_vcenter_error(error))


class _Follower:
    """One PropertyCollector, its filters, and the thread that waits for what they report."""

    def __init__(self, session: VCenterSession, monitor: ThreadMonitor, lost: Lost) -> None:
        """Raises ``VCenterError``."""
        self._session = session
        self._lost = lost
        self._updates = UpdateCollector(session)
        self.generation = self._updates.generation
        self._condition = threading.Condition()
        self._filters: dict[str, Watch] = {}
        """By the filter's managed object identifier."""
        self._inherited: list[Watch] = []
        """Taken over from an earlier follower; the thread makes their filters."""
        self._ended: list[str] = []
        """Filters of watches that have ended; the thread destroys them."""
        self._version = ""
        self._is_broken = self._is_released = False
        self._thread = BackgroundThread("vcenter-watcher", self._step, monitor, wake=self._wake)

    @property
    def is_usable(self) -> bool:
        """Whether a watch can be added."""
        return self._updates.is_alive and not self._is_broken

    def start(self, inherited: Sequence[Watch]) -> None:
        """Begin to wait, with watches that had another follower."""
        self._inherited = list(inherited)
        self._thread.start()

    def add(self, watch: Watch) -> bool:
        """Make a watch's filter; False when another follower has taken over meanwhile.

        Raises ``VCenterError``.
        """
        key = self._updates.create_filter(_filter_of(watch), FILTER_DEADLINE_SECONDS)
        with self._condition:
            if not self._is_released:
                self._filters[moref_of(key)] = watch
                self._condition.notify_all()
            return not self._is_released

    def remove(self, watch: Watch) -> None:
        """Let the thread destroy a watch's filter."""
        with self._condition:
            ended = [moref for moref, other in self._filters.items() if other is watch]
            for moref in ended:
                del self._filters[moref]
            self._ended += ended
            self._condition.notify_all()

    def release(self) -> list[Watch]:
        """Give the watches away, and end."""
        with self._condition:
            watches = [*self._filters.values(), *self._inherited]
            self._filters, self._inherited, self._ended = {}, [], []
            self._is_released = True
        self._thread.stopping.set()
        self._wake()
        return [watch for watch in watches if not watch.ended]

    def release_if_idle(self) -> bool:
        """End if there is nothing to watch: the next watch makes a follower of its own."""
        with self._condition:
            watches = (*self._filters.values(), *self._inherited)
            self._is_released |= all(watch.ended for watch in watches)
            return self._is_released

    def pause(self, seconds: float) -> None:
        """Wait, but not after ``close`` or ``release``."""
        self._thread.stopping.wait(seconds)

    def close(self, timeout: float) -> None:
        """Free what vCenter holds and end the thread. Never raises."""
        self.release()
        self._updates.close()
        self._thread.stop(timeout)

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def _step(self) -> None:
        with self._condition:
            self._condition.wait_for(self._is_needed)
        if self._thread.stopping.is_set():
            return
        try:
            self._make_inherited_filters()
            self._destroy_ended_filters()
            self._wait_for_updates()
        except (faults.VCenterError, EdgeError) as error:
            self._is_broken = True
            self._lost(self, error)
            # In a login that goes on vCenter would keep the collector and its filters to the end.
            self._updates.close()

    def _is_needed(self) -> bool:
        wanted = self._filters or self._inherited or self._ended
        return bool(wanted) or self._thread.stopping.is_set()

    def _make_inherited_filters(self) -> None:
        while self._inherited:
            watch = self._inherited[0]
            try:
                if not watch.ended and not self.add(watch):
                    return
            except faults.ManagedObjectNotFoundError as error:
                if error.managed_object != key_of_object(watch.target):
                    raise
                watch.report({}, error)
            with self._condition:
                self._inherited = self._inherited[1:]

    def _destroy_ended_filters(self) -> None:
        with self._condition:
            ended, self._ended = self._ended, []
            ended += [moref for moref, watch in self._filters.items() if watch.ended]
            for moref in ended:
                self._filters.pop(moref, None)
        for moref in ended:
            self._updates.destroy_filter(f"PropertyFilter:{moref}")

    def _wait_for_updates(self) -> None:
        with self._condition:
            if not self._filters:
                # The next wait reports everything from the start.
                self._version = ""
                return
            version = self._version
        body = self._updates.wait(version, WAIT_SECONDS)
        if updates_header(body) is None:
            return
        answer = self._session.vsphere_object(body, vmodl.query.PropertyCollector.UpdateSet)
        with self._condition:
            if self._is_released:
                return
            for update in answer.filterSet or []:
                watch = self._filters.get(update.filter._moId)
                if watch is not None:
                    _report(watch, update)
            self._version = answer.version


def _filter_of(watch: Watch) -> str:
    key = key_of_object(watch.target)
    return property_set(wsdl_name(type(watch.target)), watch.paths) + object_set(key)


def _report(watch: Watch, update: Any) -> None:
    """Bring one filter's part of an answer into its watch.

    Raises ``SessionExpiredError`` when the answer shows that the session has expired.
    """
    for found in update.objectSet or []:
        if found.kind == "leave":
            where = faults.reference_text(found.obj)
            error = faults.ManagedObjectNotFoundError(f"vCenter has no object {where}", where)
            watch.report({}, error)
            continue
        values = {change.name: change.val for change in found.changeSet or []}
        watch.report(values, _error_in(found.missingSet))
    if error_of_object := _error_in(update.missingSet):
        watch.report({}, error_of_object)


def _error_in(missing: Any) -> faults.VCenterError | None:
    """Explain why something is missing from an answer."""
    errors = [faults.from_fault(missed.fault) for missed in missing or []]
    for error in errors:
        if isinstance(error, faults.SessionExpiredError):
            raise error
    return errors[0] if errors else None
