"""One thread per vCenter: takes the next thing to do, does it, and never stops for one object.

The order: states that came back with operations and changes first, then servers that are due to be
looked at again, then snapshot batches; changes also go between the units of what takes long.
Nothing is polled: without work the thread waits for some, or until something is due.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from common.background import BackgroundThread, ThreadMonitor
from common.log_fields import fields
from common.references import machine_key
from controlplane.domain.ports import InventorySink
from controlplane.inventory.apply.pipeline import AbandonedError, RetryPolicy
from controlplane.inventory.jobs import AT_ONCE, Jobs, Shared, Steps
from controlplane.inventory.model.replica_digest import ReplicaDigest
from controlplane.inventory.model.state import VCenterState
from controlplane.inventory.periodic_tasks import PeriodicTasks
from controlplane.inventory.stream import VCenterStream
from controlplane.store.errors import DatabaseUnavailableError
from vsphere_gateway.v1 import inventory_pb2, link_pb2

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Job:
    """One piece of work, and the stream that waits for it."""

    begin: Callable[[], Steps | None]
    """Does it, or begins to. Called again when it failed."""
    stream: VCenterStream | None = None
    gives_way: bool = True
    """Changes may be applied between its units."""
    _steps: Iterator[None] | None = field(default=None, init=False)

    def advance(self) -> bool:
        """Do one unit; returns whether the job is done."""
        if self._steps is None:
            self._steps = self.begin()
        try:
            return self._steps is None or next(self._steps, _DONE) is _DONE
        except Exception:
            self.restart()
            raise

    def restart(self) -> None:
        """Begin anew with the next unit."""
        self._steps = None

    def is_wanted(self) -> bool:
        """Whether a stream waits for it: that one would wait for an acknowledgement for ever."""
        return self.stream is not None and not self.stream.closed


_DONE = object()


class VCenterWorker:
    """Everything that is done for one vCenter, by one thread for the life of the process."""

    def __init__(
        self, state: VCenterState, shared: Shared, monitor: ThreadMonitor, *, loaded: bool
    ) -> None:
        """``loaded`` says that ``state`` is what is stored; else the thread reads it first."""
        self._shared = shared
        self._clock = shared.clock.monotonic
        self._condition = threading.Condition()
        self._stream: VCenterStream | None = None
        self._epoch = 0
        self._observed: deque[inventory_pb2.InventoryObject] = deque()
        self._confirm: set[str] = set()
        self._revisit: set[str] = set()
        self._under_way: list[Job] = []
        """The last one goes on; those before it gave way to changes."""
        self._wanted_load = 0 if loaded else 1
        self._loaded = 0
        """Less than what is wanted: another process has written since this one has read."""
        self._diverged = False
        """Memory may not be what is stored, because something unexpected happened."""
        self._thread = BackgroundThread(
            f"inventory-{state.uuid[:8]}", self._step, monitor, wake=self._wake
        )
        self._take(state)

    def start(self) -> None:
        """Begin, with what an earlier process left open."""
        self._thread.start()

    def begin_to_stop(self) -> None:
        """Have the thread end after the unit under way, and wait for nothing."""
        self._thread.stop(0.0)

    def stop(self, timeout: float) -> None:
        """End after the unit under way; ``timeout`` is in seconds."""
        if not self._thread.stop(timeout):
            facts = fields(vcenter=self.state.uuid, seconds=timeout)
            log.warning("inventory worker is still in a unit", extra=facts)

    @property
    def has_ended(self) -> bool:
        """Whether its thread writes nothing of this vCenter from now on."""
        return not self._thread.alive

    def reload(self) -> None:
        """Have what is stored read again: another process has written it."""
        with self._condition:
            self._wanted_load += 1
            self._condition.notify_all()

    def wait_loaded(self, timeout: float) -> None:
        """Wait until what is stored is in memory. Raises ``DatabaseUnavailableError``."""
        with self._condition:
            if not self._condition.wait_for(self._is_current, timeout):
                raise DatabaseUnavailableError(
                    f"what is stored of vCenter {self.state.uuid} is not read yet, the unit before "
                    "it or the database takes too long: dial again"
                )

    def attach(
        self, edge_name: str, opened: link_pb2.InventoryOpen, sink: InventorySink
    ) -> VCenterStream:
        """Begin a stream; one that is still open is replaced."""
        stream = VCenterStream(
            edge_name, opened, sink, self._replica, self._receive, detach=self._detach
        )
        with self._condition:
            self._drop_stream()
            self._stream, self._epoch = stream, opened.epoch
        return stream

    def observe(self, one: inventory_pb2.InventoryObject) -> None:
        """Take a state that came back with an operation."""
        with self._condition:
            self._observed.append(one)
            self._condition.notify_all()

    def revisit(self, morefs: Iterable[str]) -> None:
        """Look at virtual machines again, soon."""
        with self._condition:
            self._revisit.update(machine_key(moref) for moref in morefs)
            self._condition.notify_all()

    def confirm(self, morefs: Iterable[str]) -> None:
        """Have the edge ask vCenter about virtual machines."""
        with self._condition:
            self._confirm.update(machine_key(moref) for moref in morefs)
            self._condition.notify_all()

    def _replica(self) -> ReplicaDigest:
        return self.state.replica

    def _receive(self, stream: VCenterStream, request: link_pb2.InventoryRequest) -> None:
        with self._condition:
            stream.lanes.put(request)
            stream.answered = True
            self._condition.notify_all()

    def _detach(self, stream: VCenterStream) -> None:
        with self._condition:
            if self._stream is stream:
                self._drop_stream()

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._stream.closed = True
            self._stream = None
            self.state.replica.end_of_call()

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def _take(self, state: VCenterState) -> None:
        """Begin to work on a state that was just read."""
        self.state = state
        self._jobs = Jobs(state, self._shared, self._retrying)
        self._tasks = PeriodicTasks(self._jobs, lambda: self._stream)
        self._jobs.resume()

    def _retrying(self, stream: VCenterStream | None) -> RetryPolicy:
        unwanted = (lambda: stream.closed) if stream is not None else (lambda: False)
        return RetryPolicy(self.state.uuid, self._thread.stopping, unwanted)

    def _step(self) -> None:
        """Do one unit of work, after waiting for some."""
        job: Job | None = None
        try:
            if self._diverged or not self._is_current():
                self._load()
            job = self._next()
            done = job is None or job.advance()
        except AbandonedError:
            log.info("inventory work abandoned", extra=fields(vcenter=self.state.uuid))
            done = True
        except Exception:
            self._diverged = True
            if job is not None and not job.is_wanted():
                self._under_way.remove(job)
            raise
        if done and job is not None:
            self._under_way.remove(job)

    def _is_current(self) -> bool:
        return self._loaded == self._wanted_load

    def _load(self) -> None:
        """Read what is stored into memory.

        Where another process has written it, a stream that was open is its past. After a failure
        the stream goes on: what waits for its acknowledgement is applied once more, and a new pass
        makes true what may have been left half done.
        """
        wanted = self._wanted_load
        superseded = wanted != self._loaded
        state = self._retrying(None).run(lambda: self._shared.load(self.state.uuid))
        if not superseded:
            for managed in state.clusters.values():
                managed.touched = True
        with self._condition:
            if superseded:
                self._drop_stream()
                self._under_way.clear()
            for job in self._under_way:
                job.restart()
            self._take(state)
            self._loaded, self._diverged = wanted, False
            self._condition.notify_all()
            stream = self._stream
        if stream is not None and stream.answered:
            stream.request_pass()

    def _next(self) -> Job | None:
        """Choose what to do; None after a wait for something to do."""
        with self._condition:
            if self._thread.stopping.is_set() or not self._is_current():
                return None
            job = self._choose()
            if job is None:
                due = self._due()
                self._condition.wait(None if due == inf else max(0.0, due - self._clock()))
            elif job not in self._under_way:
                self._under_way.append(job)
            return job

    def _due(self) -> float:
        dirty, ending = self._jobs.to_revisit.next_due(), self._jobs.to_end.next_due()
        return min(dirty or inf, ending or inf, self._tasks.next_due())

    def _choose(self) -> Job | None:
        current, stream = self._under_way[-1] if self._under_way else None, self._stream
        if current is not None:
            return (self._change(stream) if current.gives_way else None) or current
        if stream is None:
            return self._result(stream) or self._due_job(stream)
        return (
            self._result(stream)
            or self._request(stream, stream.lanes.take_first())
            or self._question(stream)
            or self._due_job(stream)
            or self._request(stream, stream.lanes.take_later())
        )

    def _change(self, stream: VCenterStream | None) -> Job | None:
        """What goes between the units of a job that takes long."""
        result = self._result(stream)
        if result is not None or stream is None:
            return result
        return self._request(stream, stream.lanes.take_change())

    def _result(self, stream: VCenterStream | None) -> Job | None:
        """Apply a state that came back with an operation."""
        if not self._observed:
            return None
        one, epoch = self._observed.popleft(), self._epoch
        return Job(lambda: self._jobs.observed(epoch, one, stream), gives_way=False)

    def _request(
        self, stream: VCenterStream, request: link_pb2.InventoryRequest | None
    ) -> Job | None:
        """Do what the edge asks for."""
        if request is None:
            return None
        match request.WhichOneof("message"):
            case "batch":
                batch, is_change = request.batch, request.batch.lane == link_pb2.LANE_CHANGES
                return Job(lambda: self._jobs.batch(stream, batch), stream, not is_change)
            case "bucket_query":
                query = request.bucket_query
                return Job(lambda: stream.send_contents(query), stream, gives_way=False)
            case _:
                end = request.snapshot_end
                return Job(lambda: self._jobs.snapshot_end(stream, end), stream)

    def _question(self, stream: VCenterStream) -> Job | None:
        """Ask the edge what has to be asked; not before our first answer."""
        if not self._confirm or not stream.answered:
            return None
        keys, self._confirm = sorted(self._confirm), set()
        return Job(lambda: stream.request_confirmation(keys))

    def _due_job(self, stream: VCenterStream | None) -> Job | None:
        """Do something that is due."""
        self._jobs.to_revisit.schedule(self._revisit)
        self._revisit.clear()
        keys = self._jobs.to_revisit.take(AT_ONCE)
        if keys:
            return Job(lambda: self._jobs.revisit(keys, stream))
        uuids = self._jobs.to_end.take(AT_ONCE)
        if uuids:
            return Job(lambda: self._jobs.end(uuids))
        task = self._tasks.take()
        return None if task is None else Job(task)
