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
from dataclasses import dataclass
from math import inf

from common.references import machine_key
from controlplane.config.log import keyed
from controlplane.domain.ports import InventorySink
from controlplane.inventory.apply.retry_policy import AbandonedError, Patience
from controlplane.inventory.jobs import AT_ONCE, Jobs, Shared
from controlplane.inventory.model.state import VCenterState
from controlplane.inventory.periodic_tasks import Chores
from controlplane.inventory.stream import Feed
from vsphere_gateway.v1 import inventory_pb2, link_pb2

log = logging.getLogger(__name__)

CHANGES_SECONDS = 5.0
"""How long after a change others are expected to follow."""
FAILED_SECONDS = 5.0
"""Before something is done again that failed for no reason that was foreseen."""


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work, and the stream that waits for it."""

    action: Callable[[], None]
    feed: Feed | None = None


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
        self._changed_at = -inf
        self._jobs = Jobs(state, shared, self._patience, self._overtake)
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
                self.state.holdings.end_of_call()
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

    def _overtake(self) -> bool:
        """Apply changes that came during a long job; tell whether changes come at present."""
        while True:
            with self._condition:
                feed = self._feed
                change = None if feed is None else feed.lanes.take_change()
                job = self._result() or (feed and self._of_stream(feed, change))
            if not job:
                return self._clock() - self._changed_at < CHANGES_SECONDS
            self._persevere(job)

    def _patience(self, feed: Feed | None) -> Patience:
        unwanted = (lambda: feed.closed) if feed is not None else (lambda: False)
        return Patience(self.state.uuid, self._stop, unwanted)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            self._persevere(job)

    def _persevere(self, job: Job) -> None:
        while not self._do(job):
            log.warning("inventory work is tried again %s", keyed(vcenter=self.state.uuid))

    def _do(self, job: Job) -> bool:
        """Do one piece of work; returns False when it has to be done again.

        What a stream waits for is never given up while the stream lives: the edge would wait for
        an acknowledgement for ever.
        """
        try:
            job.action()
        except AbandonedError:
            log.info("work abandoned %s", keyed(vcenter=self.state.uuid))
        except Exception:  # the boundary of the thread: the next piece of work must be done
            log.exception("inventory work failed %s", keyed(vcenter=self.state.uuid))
            wanted = job.feed is not None and not job.feed.closed
            return not wanted or self._stop.wait(FAILED_SECONDS)
        return True

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
        if feed is None:
            return self._result() or self._again(None)
        return (
            self._result()
            or self._of_stream(feed, feed.lanes.take_first())
            or self._question(feed)
            or self._again(feed)
            or self._of_stream(feed, feed.lanes.take_later())
        )

    def _result(self) -> Job | None:
        """Return a state that came back with an operation, to be applied."""
        if not self._observed:
            return None
        self._changed_at = self._clock()
        one = self._observed.popleft()
        return Job(functools.partial(self._jobs.observed, self._epoch, one, self._feed))

    def _of_stream(self, feed: Feed, request: link_pb2.InventoryRequest | None) -> Job | None:
        if request is None:
            return None
        match request.WhichOneof("message"):
            case "batch":
                if request.batch.lane == link_pb2.LANE_CHANGES:
                    self._changed_at = self._clock()
                return Job(functools.partial(self._jobs.batch, feed, request.batch), feed)
            case "bucket_query":
                return Job(functools.partial(feed.contents, request.bucket_query), feed)
            case _:
                end = request.snapshot_end
                return Job(functools.partial(self._jobs.snapshot_end, feed, end), feed)

    def _question(self, feed: Feed) -> Job | None:
        """Return the question to the edge that has to be asked; not before our first answer."""
        if not self._confirm or not feed.answered:
            return None
        keys, self._confirm = sorted(self._confirm), set()
        return Job(functools.partial(feed.confirm, keys))

    def _again(self, feed: Feed | None) -> Job | None:
        """Return something that is due."""
        self._jobs.dirty.soon(self._revisit)
        self._revisit.clear()
        keys = self._jobs.dirty.take(AT_ONCE)
        if keys:
            return Job(functools.partial(self._jobs.revisit, keys, feed))
        uuids = self._jobs.ending.take(AT_ONCE)
        if uuids:
            return Job(functools.partial(self._jobs.end, uuids))
        chore = self._chores.take()
        return None if chore is None else Job(chore)
