"""How an operation is settled whose result was lost with a link or a process. Pure.

The edge has come back and names neither the operation nor its result: either it never got it, or it
got it in an earlier life. docs/concepts/sync-protocol.md, "Operations".
"""

from enum import Enum

from controlplane.operations import faults
from controlplane.operations.pending import PendingOperation
from controlplane.store.own.operations import OperationState
from vsphere_gateway.v1 import inventory_pb2, operations_pb2

REPEATABLE = frozenset(
    {"power_on", "power_off", "suspend", "destroy", "get_state", "get_diagnostics"}
)
"""Actions that are done at once when their effect is in place already."""


class SettlementStep(Enum):
    """What to do about a lost operation."""

    SEND_AGAIN = "send again"
    CHECK = "check"
    """Ask vCenter and decide."""
    CHECK_THEN_SEND = "check, then send again"
    """Ask vCenter; send it again when its effect is not there."""
    CHECK_THEN_WAIT = "check, then wait"
    """Ask vCenter; when its effect is not there yet, ask again at the deadline."""


def step(pending: PendingOperation, now: float, edge: str) -> SettlementStep:
    """Choose what to do now that ``edge`` is there.

    A reboot that may have begun is never sent again, and neither is a clone: the first may still
    run in vCenter. What has an owner no longer is never sent again either, because Nova told
    somebody that it failed; but the clone of a failed build still has to go.
    """
    if pending.cleanup:
        return SettlementStep.SEND_AGAIN
    if now >= pending.deadline or pending.state is OperationState.UNKNOWN:
        return SettlementStep.CHECK
    if pending.action in REPEATABLE:
        return SettlementStep.SEND_AGAIN
    # Another edge cannot know what the first one took on just before its link broke.
    begun = pending.state is OperationState.ACCEPTED or pending.edge not in ("", edge)
    if pending.action == "clone_virtual_machine":
        return SettlementStep.CHECK_THEN_WAIT if begun else SettlementStep.CHECK_THEN_SEND
    return SettlementStep.CHECK if begun else SettlementStep.SEND_AGAIN


def target(operation: operations_pb2.Operation) -> operations_pb2.VirtualMachineTarget:
    """The virtual machine whose state tells what became of the operation."""
    if operation.HasField("clone_virtual_machine"):
        uuid = operation.clone_virtual_machine.instance_uuid
        return operations_pb2.VirtualMachineTarget(instance_uuid=uuid)
    return operation.target


def verdict(
    pending: PendingOperation, observed: operations_pb2.OperationResult
) -> operations_pb2.OperationResult | None:
    """Judge by the state that vCenter reports; None when that answer says nothing.

    ``observed`` is the result of `get_state` for ``target``.
    """
    fault = faults.fault_of(observed)
    gone = fault and fault.reason == operations_pb2.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND
    if fault and not gone:
        return None
    if _in_place(pending.operation, observed, gone=bool(gone)):
        return faults.success(pending.operation, observed)
    if gone and pending.action != "clone_virtual_machine":
        return _not_found(pending, observed)
    return faults.failure(
        pending.operation,
        operations_pb2.FAULT_REASON_OUTCOME_UNKNOWN,
        f"{pending.action} was under way when the link to the edge broke, and vCenter does not "
        "show its effect",
        "look at the virtual machine's recent tasks in vCenter, then try again",
    )


def _in_place(
    operation: operations_pb2.Operation, observed: operations_pb2.OperationResult, *, gone: bool
) -> bool:
    power = observed.virtual_machine.virtual_machine.power_state
    match operation.WhichOneof("action"):
        case "destroy":
            return gone
        case "clone_virtual_machine":
            wants_power = operation.clone_virtual_machine.power_on
            return not gone and (not wants_power or power == inventory_pb2.POWER_STATE_ON)
        case "power_on":
            return power == inventory_pb2.POWER_STATE_ON
        case "power_off":
            return power == inventory_pb2.POWER_STATE_OFF
        case "suspend":
            return power == inventory_pb2.POWER_STATE_SUSPENDED
        case _:
            return False


def _not_found(
    pending: PendingOperation, observed: operations_pb2.OperationResult
) -> operations_pb2.OperationResult:
    result = operations_pb2.OperationResult(status=observed.status)
    result.operation_id = pending.operation.operation_id
    result.idempotency_key = pending.operation.idempotency_key
    return result
