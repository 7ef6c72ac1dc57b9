"""Waits for properties of a few objects, such as running tasks, in one thread.

One PropertyCollector of its own on the shared session, one filter per watched object, one
WaitForUpdatesEx for them all (vSphere Web Services API, PropertyCollector). A filter dies with the
session that it was made in: then all are made again, and the watches go on.
"""

import functools
import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self

from pyVmomi import vmodl

from edge.errors import EdgeError
from edge.log import COUNT, ERROR, fields
from edge.vcenter.client import faults
from edge.vcenter.client.properties import read_properties
from edge.vcenter.client.session import VCenterSession

LOG = logging.getLogger("edge.vcenter.client.task_watcher")

WAIT_SECONDS: Final = 30
"""Longest time in one WaitForUpdatesEx; what vCenter has not reported by then is read again."""
CLOSE_SECONDS: Final = 2.0
"""How long ``close`` waits for the thread, which vCenter may leave hanging."""
RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 10.0)
"""Pauses between attempts to reach a vCenter that does not answer; the last one repeats."""

_QUERY = vmodl.query.PropertyCollector
_LOST = (faults.SessionExpiredError, faults.ManagedObjectNotFoundError)
_TRANSIENT = (*_LOST, faults.VCenterUnreachableError, faults.UnexpectedAnswerError)


class Watch:
    """The latest values of some properties of one object. A context manager: leaving ends it."""

    def __init__(self, target: Any, paths: tuple[str, ...], close: Callable[["Watch"], None]):
        self.target = target
        self.paths = paths
        self.changed = threading.Event()
        """Set when a value or the error changed, or by whoever wants ``wait`` to return."""
        self._close = close
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {}
        self._told = 0
        """Grows with everything that the watch tells."""
        self._error: faults.VCenterError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close(self)

    def values(self) -> dict[str, Any]:
        """Return what is known by path; a path without a value is left out.

        Raises the ``VCenterError`` that ended the watch, for example
        ``ManagedObjectNotFoundError`` when the object was deleted.
        """
        self.changed.clear()
        with self._lock:
            if self._error is not None:
                raise self._error
            return dict(self._values)

    def wait(self, timeout: float) -> bool:
        """Wait for a change since ``values`` was called; False after ``timeout`` seconds."""
        return self.changed.wait(timeout)

    def update(self, values: dict[str, Any], error: faults.VCenterError | None = None) -> None:
        """Take new values that the watch tells, or the error that ends it."""
        with self._lock:
            self._told += 1
            self._values.update(values)
            self._error = self._error or error
        self.changed.set()

    def refresh(self, read: Callable[[], dict[str, Any]]) -> None:
        """Take what ``read`` returns; what the watch tells meanwhile may be newer, and stays.

        Raises what ``read`` raises.
        """
        with self._lock:
            before = self._told
        values = read()
        with self._lock:
            overtaken = self._told != before
            self._values = values | self._values if overtaken else self._values | values
        self.changed.set()


class PropertyWatcher:
    """Watches objects on a session, across logins. Any thread may call ``watch``."""

    def __init__(self, session: VCenterSession) -> None:
        self._session = session
        self._condition = threading.Condition()
        self._collector: Any = None
        self._generation = 0
        self._filters: dict[Any, Watch] = {}
        self._ended: list[Any] = []
        self._version = ""
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, target: Any, paths: Iterable[str]) -> Watch:
        """Begin to watch ``paths`` of pyVmomi's object ``target``; the values are known at once.

        Raises ``VCenterError``.
        """
        watch = Watch(target, tuple(paths), self._end)
        try:
            self._add(watch)
        except _LOST:
            # The session had expired, and with it the collector; the call has renewed it.
            self._add(watch)
        try:
            # A filter made while another thread waits may be reported late (by vcsim not before
            # something else changes): the first values are read, not awaited.
            watch.refresh(lambda: read_properties(self._session, target, watch.paths))
        except faults.VCenterError:
            self._end(watch)
            raise
        return watch

    def close(self) -> None:
        """Stop waiting. Watches that are left never change again."""
        self._stopped.set()
        with self._condition:
            thread, collector, self._collector = self._thread, self._collector, None
            self._condition.notify_all()
        if collector is not None and self._session.is_logged_in:
            try:
                collector.DestroyPropertyCollector()
            except faults.VCenterError as error:
                LOG.debug("property collector not destroyed", extra=fields({ERROR: error}))
        if thread is not None:
            thread.join(CLOSE_SECONDS)

    def _add(self, watch: Watch) -> None:
        added = False
        while not added:
            with self._condition:
                if self._collector is None or self._generation != self._session.generation:
                    self._start_anew()
                collector = self._collector
            made = _make_filter(collector, watch)
            with self._condition:
                added = collector is self._collector
                if added:
                    self._filters[made] = watch
                    self._condition.notify_all()

    def _end(self, watch: Watch) -> None:
        with self._condition:
            ended = [made for made, other in self._filters.items() if other is watch]
            for made in ended:
                del self._filters[made]
            self._ended += ended
            self._condition.notify_all()

    def _start_anew(self) -> None:
        """Make the collector, every filter again, and a thread that waits on it.

        Called with the condition held. An older thread may still hang in a wait that vCenter has
        forgotten; it ends when that returns.
        """
        generation = self._session.generation
        collector = self._session.content.propertyCollector.CreatePropertyCollector()
        self._filters = _make_filters(collector, self._filters.values())
        self._collector, self._generation = collector, generation
        self._ended, self._version = [], ""
        self._thread = threading.Thread(
            target=self._run, args=[collector], name="vcenter-watcher", daemon=True
        )
        self._thread.start()

    def _run(self, collector: Any) -> None:
        try:
            while self._wait_until_needed(collector):
                self._destroy_ended_filters()
                self._wait_for_updates(collector)
        except _TRANSIENT as error:
            if self._is_current(collector):
                broken = fields({ERROR: error, COUNT: len(self._filters)})
                LOG.info("waiting for updates broke", extra=broken)
                self._recover(collector, error)
        except Exception as error:  # the boundary of the thread: nobody may wait for it in vain
            if self._is_current(collector):
                if not isinstance(error, (faults.VCenterError, EdgeError)):
                    LOG.exception("waiting for updates failed")
                self._fail_all(error)

    def _is_current(self, collector: Any) -> bool:
        return collector is self._collector and not self._stopped.is_set()

    def _wait_until_needed(self, collector: Any) -> bool:
        with self._condition:
            while self._is_current(collector) and not (self._filters or self._ended):
                self._condition.wait()
            return self._is_current(collector)

    def _wait_for_updates(self, collector: Any) -> None:
        with self._condition:
            if not self._filters:
                # The next wait tells everything from the start.
                self._version = ""
                return
            version = self._version
        options = _QUERY.WaitOptions(maxWaitSeconds=WAIT_SECONDS)
        answer = collector.WaitForUpdatesEx(version, options)
        if answer is None:
            self._read_again()
            return
        with self._condition:
            if not self._is_current(collector):
                return
            self._version = answer.version
            for update in answer.filterSet or []:
                watch = self._filters.get(update.filter)
                if watch is not None:
                    _apply(watch, update)

    def _destroy_ended_filters(self) -> None:
        with self._condition:
            ended, self._ended = self._ended, []
        for made in ended:
            made.DestroyPropertyFilter()

    def _recover(self, collector: Any, error: Exception) -> None:
        """Go on with a new collector once vCenter answers, and read what was missed."""
        failures = 0
        while self._is_current(collector):
            try:
                if isinstance(error, faults.SessionExpiredError):
                    self._session.renew(self._generation)
                with self._condition:
                    if self._is_current(collector):
                        self._start_anew()
                self._read_again()
            except _TRANSIENT as again:
                error = again
                self._stopped.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
            except (faults.VCenterError, EdgeError) as fatal:
                self._fail_all(fatal)
                return

    def _read_again(self) -> None:
        with self._condition:
            watches = list(self._filters.values())
        for watch in watches:
            read = functools.partial(read_properties, self._session, watch.target, watch.paths)
            try:
                watch.refresh(read)
            except faults.ManagedObjectNotFoundError as error:
                watch.update({}, error)
                self._end(watch)

    def _fail_all(self, error: Exception) -> None:
        with self._condition:
            watches, self._filters = list(self._filters.values()), {}
            self._collector, self._ended = None, []
        LOG.warning("watches given up", extra=fields({ERROR: error, COUNT: len(watches)}))
        given_up = error if isinstance(error, faults.VCenterError) else _unusable(error)
        for watch in watches:
            watch.update({}, given_up)


def _unusable(error: Exception) -> faults.VCenterError:
    return faults.SessionExpiredError(f"vCenter's session cannot be renewed: {error}")


def _make_filter(collector: Any, watch: Watch) -> Any:
    spec = _QUERY.FilterSpec(
        objectSet=[_QUERY.ObjectSpec(obj=watch.target)],
        propSet=[_QUERY.PropertySpec(type=type(watch.target), pathSet=list(watch.paths))],
    )
    return collector.CreateFilter(spec, partialUpdates=False)


def _make_filters(collector: Any, watches: Iterable[Watch]) -> dict[Any, Watch]:
    """Make filters on a collector just made; a watch whose object is gone ends with that."""
    filters = {}
    for watch in watches:
        try:
            filters[_make_filter(collector, watch)] = watch
        except faults.ManagedObjectNotFoundError as error:
            watch.update({}, error)
    return filters


def _apply(watch: Watch, update: Any) -> None:
    """Bring one filter's part of an answer into its watch.

    Raises ``SessionExpiredError`` when the answer shows that the session has expired.
    """
    for found in update.objectSet or []:
        if found.kind == "leave":
            where = faults.reference_text(found.obj)
            error = faults.ManagedObjectNotFoundError(f"vCenter has no object {where}", where)
            watch.update({}, error)
            continue
        values = {change.name: change.val for change in found.changeSet or []}
        watch.update(values, _error_in(found.missingSet))
    if error_of_object := _error_in(update.missingSet):
        watch.update({}, error_of_object)


def _error_in(missing: Any) -> faults.VCenterError | None:
    """Return why something is missing from an answer."""
    errors = [faults.from_fault(missed.fault) for missed in missing or []]
    for error in errors:
        if isinstance(error, faults.SessionExpiredError):
            raise error
    return errors[0] if errors else None
