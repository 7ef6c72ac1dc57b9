"""The threads that wait for vCenter, so that one answer is parsed while the next is fetched."""

import dataclasses
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias

from common.references import Key
from edge.errors import EdgeError
from edge.vcenter.client import faults
from edge.vcenter.client.answers import updates_header
from edge.vcenter.client.property_collector import PropertyWatch
from edge.vcenter.client.property_specs import POLLED_MACHINE_PATHS, STRUCTURE, VIRTUAL_MACHINE
from edge.vcenter.collector.attributes import AttributeReader, Attributes

log = logging.getLogger(__name__)

WAIT_SECONDS: Final = 30
"""Longest time in one WaitForUpdatesEx."""
_PAGES_AHEAD: Final = 2
_CLOSE_SECONDS: Final = 2.0
"""How long leaving waits for the threads, which vCenter may leave hanging."""
_BETWEEN_AUDITS_SECONDS: Final = 5.0
"""Least pause before an audit pass that is wanted soon."""


@dataclasses.dataclass(frozen=True, slots=True)
class UpdatesPage:
    """An answer of WaitForUpdatesEx."""

    body: bytes
    truncated: bool
    """More of the same set follow at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class PollingPage:
    """A part of what the audit pass read."""

    body: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class PollingEnd:
    """The audit pass has read everything."""

    attributes: Attributes


@dataclasses.dataclass(frozen=True, slots=True)
class MachinesPage:
    """What was asked for with ``read``."""

    keys: Sequence[Key]
    bodies: Sequence[bytes]


Item: TypeAlias = UpdatesPage | PollingPage | PollingEnd | MachinesPage

_AUDITED_AT_ONCE: Final = 250
"""Objects in a page of the audit pass: news waits while one is compared."""
_NEWS: Final = 0
_AUDITS: Final = 1
_READS: Final = 2
"""Lanes: each waits while there is something in one before it."""


class UpdateSource:
    """What vCenter announces, what a pass every ``polling_seconds`` reads, and what is asked for.

    A context manager, to which the watch belongs.
    """

    def __init__(
        self,
        watch: PropertyWatch,
        attributes: AttributeReader,
        fetch: Callable[[Sequence[Key]], list[bytes]],
        polling_seconds: float,
    ) -> None:
        """``fetch`` reads virtual machines and is called by a thread of the feed's own."""
        self._watch = watch
        self._attributes = attributes
        self._fetch = fetch
        self._polling_seconds = polling_seconds
        self._items: queue.PriorityQueue[tuple[int, int, Item | Exception]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._room = {lane: threading.Semaphore(_PAGES_AHEAD) for lane in (_NEWS, _AUDITS, _READS)}
        self._asked: queue.SimpleQueue[Sequence[Key]] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._audit_wanted = threading.Event()
        works = {
            "vcenter-updates": self._wait,
            "vcenter-audit": self._audit,
            "vcenter-machines": self._read,
        }
        self._threads = [
            threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
            for name, work in works.items()
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._audit_wanted.set()
        self._asked.put(())
        # A logout while a wait is under way can lock up vcsim for good.
        self._watch.close()
        for thread in self._threads:
            thread.join(_CLOSE_SECONDS)

    def next(self, timeout: float) -> Item | None:
        """Return what came next, None after ``timeout`` seconds; news before anything else.

        Raises what ended a thread: ``VCenterError`` or ``EdgeError``.
        """
        try:
            lane, _, item = self._items.get(timeout=timeout)
        except queue.Empty:
            return None
        self._room[lane].release()
        if isinstance(item, Exception):
            raise item
        return item

    def read(self, keys: Sequence[Key]) -> None:
        """Have virtual machines read, at least one: a ``MachinesPage`` comes when they are."""
        self._asked.put(keys)

    def poll_soon(self) -> None:
        """Begin the next audit pass within seconds."""
        self._audit_wanted.set()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (faults.VCenterError, EdgeError) as error:
            self._put(error)
        except Exception as error:
            # The thread's boundary: a defect must end the collector, not leave it waiting for ever.
            log.exception("reading vCenter failed")
            self._put(faults.UnexpectedAnswerError(f"defect while reading vCenter: {error!r}"))

    def _wait(self) -> None:
        version = ""
        while not self._ended.is_set():
            body = self._watch.wait(version, WAIT_SECONDS)
            header = updates_header(body)
            if header is not None:
                version = header.version
                self._put(UpdatesPage(body, header.truncated))

    def _audit(self) -> None:
        paths = {spec.type: spec.watched for spec in STRUCTURE}
        paths[VIRTUAL_MACHINE.type] = POLLED_MACHINE_PATHS
        while True:
            self._ended.wait(min(_BETWEEN_AUDITS_SECONDS, self._polling_seconds))
            self._audit_wanted.wait(max(0.0, self._polling_seconds - _BETWEEN_AUDITS_SECONDS))
            if self._ended.is_set():
                return
            self._audit_wanted.clear()
            for body in self._watch.read_all(paths, _AUDITED_AT_ONCE):
                self._put(PollingPage(body), _AUDITS)
            self._put(PollingEnd(self._attributes.read()), _AUDITS)

    def _read(self) -> None:
        while keys := self._asked.get():
            self._put(MachinesPage(keys, self._fetch(keys)), _READS)

    def _put(self, item: Item | Exception, lane: int = _NEWS) -> None:
        while not self._ended.is_set():
            if self._room[lane].acquire(timeout=1.0):
                self._items.put((lane, next(self._order), item))
                return
