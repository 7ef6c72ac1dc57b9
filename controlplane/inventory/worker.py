"""One thread per vCenter: takes the next thing to do, does it, and never stops for one object.

The order: states that came back with operations and changes first, then servers that are due to be
looked at again, then snapshot batches. Nothing is polled: without work the thread waits for some,
or for the earliest moment at which something is due.
"""

import functools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from math import inf

from controlplane.interfaces import InventorySink
from controlplane.inventory.chores import Chores
from controlplane.inventory.feed import Feed
from controlplane.inventory.jobs import REVISITED_AT_ONCE, Jobs, Shared
from controlplane.inventory.patience import AbandonedError, Patience
from controlplane.inventory.references import machine_key
from controlplane.inventory.state import VCenterState
from controlplane.log import keyed
from vsphere_gateway.v1 import inventory_pb2, link_pb2

log = logging.getLogger(__name__)

Job = Callable[[], None]


class Worker:
    """Everything that is done for one vCenter."""

    def __init__(self, state: VCenterState, shared: Shared) -> None:
        """``start`` starts the thread."""
        self.state = state
        self._clock = shared.clock.monotonic
        self._condition = threading.Condition()
        self._stop = threading.Event()
        self._feed: Feed | None = None
        self._epoch = 0
        self._observed: deque[inventory_pb2.InventoryObject] = deque()
        self._confirm: set[str] = set()
        self._revisit: set[str] = set()
        self._jobs = Jobs(state, shared, self._patience)
        self._chores = Chores(self._jobs, lambda: self._feed)
        self._thread = threading.Thread(
            target=self._run, name=f"inventory-{state.uuid[:8]}", daemon=True
        )

    def start(self) -> None:
        """Start, with what an earlier process left open."""
        self._jobs.resume()
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Finish the unit under way and end the thread; ``timeout`` is in seconds."""
        with self._condition:
            self._stop.set()
            self._condition.notify()
        self._thread.join(timeout)

    def attach(self, edge_name: str, opened: link_pb2.InventoryOpen, sink: InventorySink) -> Feed:
        """Begin a stream; one that is still open is replaced."""
        feed = Feed(
            edge_name, opened, sink, self.state.holdings, self._receive, detach=self._detach
        )
        with self._condition:
            if self._feed is not None:
                self._feed.closed = True
            self._feed, self._epoch = feed, opened.epoch
        return feed

    def observe(self, one: inventory_pb2.InventoryObject) -> None:
        """Take a state that came back with an operation."""
        with self._condition:
            self._observed.append(one)
            self._condition.notify()

    def revisit(self, morefs: Iterable[str]) -> None:
        """Look at virtual machines again, soon."""
        with self._condition:
            self._revisit.update(machine_key(moref) for moref in morefs)
            self._condition.notify()

    def confirm(self, morefs: Iterable[str]) -> None:
        """Have the edge ask vCenter about virtual machines."""
        with self._condition:
            self._confirm.update(machine_key(moref) for moref in morefs)
            self._condition.notify()

    def _receive(self, feed: Feed, request: link_pb2.InventoryRequest) -> None:
        with self._condition:
            feed.lanes.put(request)
            feed.answered = True
            self._condition.notify()

    def _detach(self, feed: Feed) -> None:
        with self._condition:
            if self._feed is feed:
                self._feed = None
                self.state.holdings.end_of_call()

    def _patience(self, feed: Feed | None) -> Patience:
        unwanted = (lambda: feed.closed) if feed is not None else (lambda: False)
        return Patience(self.state.uuid, self._stop, unwanted)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except AbandonedError:
                log.info("work abandoned %s", keyed(vcenter=self.state.uuid))
            except Exception:  # the boundary of the thread: the next piece of work must be done
                log.exception("inventory work failed %s", keyed(vcenter=self.state.uuid))

    def _next(self) -> Job | None:
        """Wait for the next thing to do; None when it is time to stop."""
        with self._condition:
            while not self._stop.is_set():
                job = self._choose()
                if job is not None:
                    return job
                due = self._due()
                self._condition.wait(None if due == inf else max(0.0, due - self._clock()))
            return None

    def _due(self) -> float:
        dirty, ending = self._jobs.dirty.next_due(), self._jobs.ending.next_due()
        return min(dirty or inf, ending or inf, self._chores.next_due())

    def _choose(self) -> Job | None:
        feed = self._feed
        if self._observed:
            return functools.partial(
                self._jobs.observed, self._epoch, self._observed.popleft(), feed
            )
        if feed is not None:
            job = self._of_stream(feed, feed.lanes.take_first())
            if job is not None:
                return job
            if self._confirm and feed.answered:
                keys, self._confirm = sorted(self._confirm), set()
                return functools.partial(feed.confirm, keys)
        return self._again(feed) or (
            None if feed is None else self._of_stream(feed, feed.lanes.take_later())
        )

    def _of_stream(self, feed: Feed, request: link_pb2.InventoryRequest | None) -> Job | None:
        if request is None:
            return None
        match request.WhichOneof("message"):
            case "batch":
                return functools.partial(self._jobs.batch, feed, request.batch)
            case "bucket_query":
                return functools.partial(feed.contents, request.bucket_query)
            case _:
                return functools.partial(self._jobs.snapshot_end, feed, request.snapshot_end)

    def _again(self, feed: Feed | None) -> Job | None:
        """Return something that is due."""
        self._jobs.dirty.soon(self._revisit)
        self._revisit.clear()
        keys = self._jobs.dirty.take(REVISITED_AT_ONCE)
        if keys:
            return functools.partial(self._jobs.revisit, keys, feed)
        uuids = self._jobs.ending.take(REVISITED_AT_ONCE)
        if uuids:
            return functools.partial(self._jobs.end, uuids)
        return self._chores.take()
