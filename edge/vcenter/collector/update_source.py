"""The threads that wait for vCenter, so that one answer is parsed while the next is fetched."""

import dataclasses
import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias

from common.references import Key
from edge.vcenter.client.answers import updates_header
from edge.vcenter.client.property_collector import InventoryWatch
from edge.vcenter.client.property_specs import POLLED_MACHINE_PATHS, STRUCTURE, VIRTUAL_MACHINE
from edge.vcenter.collector.attributes import AttributeReader, Attributes
from edge.vcenter.collector.object_reader import ObjectReader

WAIT_SECONDS: Final = 30
"""Longest time in one WaitForUpdatesEx."""
_PAGES_AHEAD: Final = 2
_CLOSE_SECONDS: Final = 2.0
"""How long leaving waits for the threads, which vCenter may leave hanging."""
_BETWEEN_POLLS_SECONDS: Final = 5.0
"""Least pause before a polling pass that is wanted soon."""
_POLLED_AT_ONCE: Final = 250
"""Objects in a page of the polling pass: an update waits while one is compared."""


@dataclasses.dataclass(frozen=True, slots=True)
class UpdatesPage:
    """An answer of WaitForUpdatesEx."""

    body: bytes
    truncated: bool
    """More of the same set follow at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class PollingPage:
    """A part of what the polling pass read."""

    body: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class PollingEnd:
    """The polling pass has read everything."""

    attributes: Attributes


@dataclasses.dataclass(frozen=True, slots=True)
class MachinesPage:
    """What was asked for with ``request_machines``."""

    keys: Sequence[Key]
    bodies: Sequence[bytes]


Item: TypeAlias = UpdatesPage | PollingPage | PollingEnd | MachinesPage

_UPDATES: Final = 0
_POLLING: Final = 1
_MACHINES: Final = 2
"""Lanes: each waits while there is something in one before it."""


class UpdateSource:
    """What vCenter announces, what a pass every ``polling_seconds`` reads, and what is requested.

    A context manager, to which the watch belongs.
    """

    def __init__(
        self,
        watch: InventoryWatch,
        attributes: AttributeReader,
        reader: ObjectReader,
        polling_seconds: float,
    ) -> None:
        self._watch = watch
        self._attributes = attributes
        self._reader = reader
        self._polling_seconds = polling_seconds
        self._items: queue.PriorityQueue[tuple[int, int, Item | Exception]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._room = {
            lane: threading.Semaphore(_PAGES_AHEAD) for lane in (_UPDATES, _POLLING, _MACHINES)
        }
        self._requested: queue.SimpleQueue[Sequence[Key]] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._poll_wanted = threading.Event()
        loops = {
            "vcenter-updates": self._wait_for_updates,
            "vcenter-polling": self._poll,
            "vcenter-machines": self._fetch_machines,
        }
        self._threads = [
            threading.Thread(target=self._run, args=(loop,), name=name, daemon=True)
            for name, loop in loops.items()
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
        self._closed.set()
        self._poll_wanted.set()
        self._requested.put(())
        # A logout while a wait is under way can lock up vcsim.
        self._watch.close()
        for thread in self._threads:
            thread.join(_CLOSE_SECONDS)

    def next(self, timeout: float) -> Item | None:
        """Take what came next, None after ``timeout`` seconds; updates before anything else.

        Raises whatever ended a thread: nothing more comes then, and all is to be read again.
        """
        try:
            lane, _, item = self._items.get(timeout=timeout)
        except queue.Empty:
            return None
        self._room[lane].release()
        if isinstance(item, Exception):
            raise item
        return item

    def request_machines(self, keys: Sequence[Key]) -> None:
        """Have virtual machines read, at least one: a ``MachinesPage`` comes when they are."""
        self._requested.put(keys)

    def poll_soon(self) -> None:
        """Begin the next polling pass within seconds."""
        self._poll_wanted.set()

    def _run(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except Exception as error:  # noqa: BLE001 - the thread's boundary: ``next`` raises it
            self._deliver(error)

    def _wait_for_updates(self) -> None:
        version = ""
        while not self._closed.is_set():
            body = self._watch.wait(version, WAIT_SECONDS)
            header = updates_header(body)
            if header is not None:
                version = header.version
                self._deliver(UpdatesPage(body, header.truncated))

    def _poll(self) -> None:
        paths = {spec.type: spec.watched for spec in STRUCTURE}
        paths[VIRTUAL_MACHINE.type] = POLLED_MACHINE_PATHS
        while True:
            self._closed.wait(min(_BETWEEN_POLLS_SECONDS, self._polling_seconds))
            self._poll_wanted.wait(max(0.0, self._polling_seconds - _BETWEEN_POLLS_SECONDS))
            if self._closed.is_set():
                return
            self._poll_wanted.clear()
            for body in self._watch.read_all(paths, _POLLED_AT_ONCE):
                self._deliver(PollingPage(body), _POLLING)
            self._deliver(PollingEnd(self._attributes.read()), _POLLING)

    def _fetch_machines(self) -> None:
        while keys := self._requested.get():
            bodies = self._reader.fetch(keys, VIRTUAL_MACHINE.all_paths, VIRTUAL_MACHINE.type)
            self._deliver(MachinesPage(keys, bodies), _MACHINES)

    def _deliver(self, item: Item | Exception, lane: int = _UPDATES) -> None:
        while not self._closed.is_set():
            if self._room[lane].acquire(timeout=1.0):
                self._items.put((lane, next(self._order), item))
                return
