"""Between a running operation and whoever runs it: deadline, cancellation, progress, outcome."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge.vcenter.operations.errors import DeadlinePassedError, OperationCancelledError
from vsphere_gateway.v1 import inventory_pb2, operations_pb2

Reference = inventory_pb2.ObjectReference
ProgressListener = Callable[[int, Reference | None], None]


@dataclasses.dataclass(frozen=True, slots=True)
class OperationOutcome:
    """What a successful operation leaves behind."""

    virtual_machine: inventory_pb2.InventoryObject | None = None
    """As the collector reports it; None when the virtual machine is gone."""
    diagnostics: operations_pb2.VirtualMachineDiagnostics | None = None


class OperationControl:
    """Deadline, cancellation and progress of one operation. Any thread may use it."""

    def __init__(
        self,
        deadline: float,
        on_progress: ProgressListener = lambda percent, task: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``deadline`` is a time of ``clock``, in seconds."""
        self._deadline = deadline
        self._on_progress = on_progress
        self._clock = clock
        self._lock = threading.Lock()
        self._listeners: set[threading.Event] = set()
        self._cancelled: str | None = None
        self._task: Reference | None = None
        self.task_ended_at: float | None = None
        """When the last vCenter task ended, by ``clock``."""

    def remaining(self) -> float:
        """Seconds until the deadline, not below 0."""
        return max(0.0, self._deadline - self._clock())

    def now(self) -> float:
        """The time by the clock of the deadline."""
        return self._clock()

    def cancel(self, reason: str) -> None:
        """Ask the operation to stop; wakes what waits."""
        with self._lock:
            self._cancelled = reason or "no reason given"
            listeners = list(self._listeners)
        for event in listeners:
            event.set()

    @property
    def cancelled(self) -> bool:
        """The caller does not want it any more."""
        return self._cancelled is not None

    def check(self) -> None:
        """Raise ``OperationCancelledError`` or ``DeadlinePassedError`` if one applies.

        Called before every step that changes something.
        """
        if self._cancelled is not None:
            raise OperationCancelledError(f"the operation was cancelled: {self._cancelled}")
        if not self.remaining():
            raise DeadlinePassedError("the deadline passed before the operation was done")

    @contextmanager
    def wakes(self, event: threading.Event) -> Iterator[None]:
        """Set ``event`` when the operation is cancelled while the block runs."""
        with self._lock:
            self._listeners.add(event)
            if self._cancelled is not None:
                event.set()
        try:
            yield
        finally:
            with self._lock:
                self._listeners.discard(event)

    def task_began(self, task: Reference) -> None:
        """Remember the task, so that a lost session does not lose it."""
        self._task = task
        self._on_progress(0, task)

    def task_progress(self, percent: int) -> None:
        """Pass on how far the task is, in percent."""
        self._on_progress(percent, self._task)

    def task_ended(self) -> None:
        """The task ended, well or not."""
        self._task = None
        self.task_ended_at = self._clock()
