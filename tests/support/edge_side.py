"""The far side of the ledger, faked: an edge with its vCenter, whose link and process can break.

Faked because the faults cannot be timed on real parts: a link that breaks between acceptance and
result, an edge that forgets, a vCenter that goes on alone. The real edge and the real link are
tested in tests/integration and tests/end_to_end.
"""

import threading
from collections.abc import Callable, Sequence

from google.rpc import code_pb2, status_pb2

from controlplane.domain.errors import EdgeOfflineError
from vsphere_gateway.v1 import inventory_pb2, operations_pb2

VCENTER = "6f6d8f53-0000-4000-8000-000000000001"
ON = inventory_pb2.POWER_STATE_ON
OFF = inventory_pb2.POWER_STATE_OFF
SUSPENDED = inventory_pb2.POWER_STATE_SUSPENDED
POWER_AFTER = {"power_on": ON, "power_off": OFF, "suspend": SUSPENDED, "reboot": ON}


class SteppedClock:
    """A fake clock that stands still until it is told to go on."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        condition.wait(min(timeout, 0.01))

    def advance(self, seconds: float) -> None:
        self.now += seconds


class RecordingPipeline:
    """A fake inventory pipeline: notes what the ledger says about virtual machines."""

    def __init__(self) -> None:
        self.seen: list[inventory_pb2.InventoryObject] = []
        self.reasserted: list[str] = []

    def observed(self, vcenter_uuid: str, state: inventory_pb2.InventoryObject) -> None:
        assert vcenter_uuid == VCENTER
        self.seen.append(state)

    def reassert(self, instance_uuids: Sequence[str]) -> None:
        self.reasserted.extend(instance_uuids)

    def open(self, *_: object) -> None:
        raise AssertionError("the ledger opens no inventory stream")


class ScriptedEdge:
    """A fake edge with its vCenter. Operations whose action is in ``hold`` wait for the test."""

    def __init__(self) -> None:
        self.events: object = None
        self.online_now = True
        self.expected_seconds = 0.0
        self.refused = threading.Event()
        """Set when an operation found the link broken."""
        self.hold: set[str] = set()
        self.faults: dict[str, operations_pb2.FaultReason.ValueType] = {}
        self.power: dict[str, inventory_pb2.PowerState.ValueType] = {}
        self.received: list[operations_pb2.Operation] = []
        self.cancelled: list[str] = []
        self.executed: list[str] = []
        self._arrived = threading.Condition()
        self._running: dict[str, operations_pb2.Operation] = {}
        self._unacknowledged: dict[str, operations_pb2.OperationResult] = {}
        self._by_key: dict[str, operations_pb2.OperationResult] = {}

    # EdgeDispatcher

    def send(self, vcenter_uuid: str, operation: operations_pb2.Operation) -> str:
        if not self.online_now:
            self.refused.set()
            raise EdgeOfflineError(vcenter_uuid, "edge-1", "2026-01-01T00:00:00Z")
        copy = operations_pb2.Operation()
        copy.CopyFrom(operation)
        with self._arrived:
            self.received.append(copy)
            self._running[copy.operation_id] = copy
            self._arrived.notify_all()
        if copy.WhichOneof("action") not in self.hold:
            threading.Thread(target=self.run, args=(copy,), daemon=True).start()
        return "edge-1"

    def cancel(self, vcenter_uuid: str, operation_id: str, reason: str) -> None:
        self.cancelled.append(operation_id)

    def online(self, vcenter_uuid: str) -> bool:
        return self.online_now

    def expected(self, vcenter_uuid: str) -> float:
        return self.expected_seconds

    # What the test does to it

    def await_arrival(self, action: str, count: int = 1) -> operations_pb2.Operation:
        """Wait until the edge has received so many operations of a kind; return the last."""

        def found() -> list[operations_pb2.Operation]:
            return [one for one in self.received if one.WhichOneof("action") == action]

        with self._arrived:
            assert self._arrived.wait_for(lambda: len(found()) >= count, 10)
            return found()[-1]

    def accept(self, operation: operations_pb2.Operation) -> None:
        self.events.accepted(
            "edge-1", operations_pb2.OperationAccepted(operation_id=operation.operation_id)
        )

    def run(self, operation: operations_pb2.Operation) -> None:
        """Execute an operation and report it, if the link lives."""
        if self.online_now:
            self.accept(operation)
        self.execute(operation)
        if self.online_now:
            self.report(operation.operation_id)

    def execute(self, operation: operations_pb2.Operation) -> None:
        """Let vCenter do it; a known key does nothing and has the first result."""
        result = self._by_key.get(operation.idempotency_key)
        if result is None:
            result = self._do(operation)
            self._by_key[operation.idempotency_key] = result
        self._running.pop(operation.operation_id, None)
        self._unacknowledged[operation.operation_id] = result

    def report(self, operation_id: str) -> None:
        self.events.completed("edge-1", self._unacknowledged[operation_id])()
        self._unacknowledged.pop(operation_id, None)

    def break_link(self) -> None:
        self.online_now = False

    def lose(self, operation: operations_pb2.Operation) -> None:
        """The operation never reached the edge."""
        self._running.pop(operation.operation_id, None)

    def restart(self) -> None:
        """The process forgets all; what vCenter does goes on."""
        self._running.clear()
        self._unacknowledged.clear()
        self._by_key.clear()

    def reconnect(self, name: str = "edge-1") -> None:
        """Dial again: name what is unsettled, then replay what is not acknowledged."""
        self.online_now = True
        ids = [*self._running, *self._unacknowledged]
        progress = [operations_pb2.OperationProgress(operation_id=one) for one in ids]
        self.events.edge_connected(name, VCENTER, progress)
        for operation_id in list(self._unacknowledged):
            self.report(operation_id)

    # Its vCenter

    def _do(self, operation: operations_pb2.Operation) -> operations_pb2.OperationResult:
        action = operation.WhichOneof("action")
        result = operations_pb2.OperationResult(
            operation_id=operation.operation_id, idempotency_key=operation.idempotency_key
        )
        if action in self.faults:
            return _faulty(result, self.faults[action])
        if action == "clone_virtual_machine":
            uuid = operation.clone_virtual_machine.instance_uuid
            self.power[uuid] = ON if operation.clone_virtual_machine.power_on else OFF
        else:
            uuid = operation.target.instance_uuid
        if uuid not in self.power:
            return _faulty(result, operations_pb2.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND)
        self.executed.append(action)
        if action == "destroy":
            del self.power[uuid]
            return result
        self.power[uuid] = POWER_AFTER.get(action, self.power[uuid])
        result.virtual_machine.CopyFrom(_machine(uuid, self.power[uuid]))
        if action == "get_diagnostics":
            result.diagnostics.power_state = self.power[uuid]
        return result


def _machine(uuid: str, power: inventory_pb2.PowerState.ValueType) -> inventory_pb2.InventoryObject:
    machine = inventory_pb2.VirtualMachine(instance_uuid=uuid, name="web-1", power_state=power)
    reference = inventory_pb2.ObjectReference(type="VirtualMachine", value="vm-1")
    return inventory_pb2.InventoryObject(reference=reference, virtual_machine=machine)


def _faulty(
    result: operations_pb2.OperationResult, reason: operations_pb2.FaultReason.ValueType
) -> operations_pb2.OperationResult:
    name = operations_pb2.FaultReason.Name(reason)
    result.status.CopyFrom(status_pb2.Status(code=code_pb2.INTERNAL, message=f"{name} happened"))
    result.status.details.add().Pack(
        operations_pb2.OperationFault(reason=reason, advice="see vCenter")
    )
    return result


def in_thread(work: Callable[[], object]) -> Callable[[], object]:
    """Run something in a thread; the function returned waits for it and gives its result."""
    outcome: list[object] = []
    thread = threading.Thread(target=lambda: outcome.append(work()), daemon=True)
    thread.start()

    def wait() -> object:
        thread.join(20)
        assert outcome, "still running"
        return outcome[0]

    return wait
