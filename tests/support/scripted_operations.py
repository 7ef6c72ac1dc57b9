"""A stand-in for vCenter's side of the executor, for what a real one does not do on demand: take
exactly as long as a test wants. Everything about vCenter itself is tested on vcsim.
"""

import collections
import threading

from edge.vcenter.operations.control import OperationControl, OperationOutcome
from vsphere_gateway.v1 import inventory_pb2, operations_pb2

PATIENCE = 10.0


class ScriptedOperations:
    """Fake operations of vCenter: they wait to be released, and it notes which run when."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running = 0
        self.most_at_once = 0
        self.errors: dict[str, Exception] = {}
        self._held: collections.defaultdict[str, threading.Event] = collections.defaultdict(
            threading.Event
        )
        self._open = True
        self._changed = threading.Condition()

    def hold(self) -> None:
        """From now on operations wait until ``release``."""
        self._open = False

    def release(self, operation_id: str) -> None:
        """Let one operation end."""
        self._held[operation_id].set()

    def wait_for_start(self, operation_id: str) -> bool:
        """Wait until an operation has begun."""
        with self._changed:
            return self._changed.wait_for(lambda: operation_id in self.started, PATIENCE)

    def run(
        self, operation: operations_pb2.Operation, control: OperationControl
    ) -> OperationOutcome:
        """As ``edge.vcenter.operations.dispatch.VCenterOperations.run``."""
        with self._changed:
            self.started.append(operation.operation_id)
            self.running += 1
            self.most_at_once = max(self.most_at_once, self.running)
            self._changed.notify_all()
        try:
            self._work(operation, control)
        finally:
            with self._changed:
                self.running -= 1
        state = inventory_pb2.InventoryObject(
            virtual_machine=inventory_pb2.VirtualMachine(
                instance_uuid=operation.target.instance_uuid
            )
        )
        return OperationOutcome(state)

    def _work(self, operation: operations_pb2.Operation, control: OperationControl) -> None:
        event = self._held[operation.operation_id]
        if not self._open:
            with control.wakes(event):
                assert event.wait(PATIENCE)
            control.check()
        if operation.operation_id in self.errors:
            raise self.errors[operation.operation_id]


class NumberedStates:
    """A fake inventory: gives every observed state the next revision, as the inventory does."""

    def __init__(self) -> None:
        self.revision = 0

    def observed(self, state: inventory_pb2.InventoryObject) -> inventory_pb2.InventoryObject:
        """As ``edge.interfaces.ObservedStates.observed``."""
        self.revision += 1
        state.revision = self.revision
        return state
