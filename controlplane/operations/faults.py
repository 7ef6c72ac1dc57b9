"""Makes results of operations that the edge cannot report, and reads the faults in results."""

from google.rpc import code_pb2, status_pb2

from vsphere_gateway.v1 import operations_pb2

CODES = {
    operations_pb2.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND: code_pb2.NOT_FOUND,
    operations_pb2.FAULT_REASON_TIMEOUT: code_pb2.DEADLINE_EXCEEDED,
    operations_pb2.FAULT_REASON_EDGE_OFFLINE: code_pb2.UNAVAILABLE,
    operations_pb2.FAULT_REASON_OUTCOME_UNKNOWN: code_pb2.UNKNOWN,
    operations_pb2.FAULT_REASON_NOT_RECORDED: code_pb2.FAILED_PRECONDITION,
    operations_pb2.FAULT_REASON_CONTROL_PLANE_UNAVAILABLE: code_pb2.UNAVAILABLE,
    operations_pb2.FAULT_REASON_CLUSTER_NOT_MANAGED: code_pb2.FAILED_PRECONDITION,
}


def failure(
    operation: operations_pb2.Operation,
    reason: operations_pb2.FaultReason.ValueType,
    message: str,
    advice: str = "",
) -> operations_pb2.OperationResult:
    """The result of an operation that failed on this side of the link."""
    status = status_pb2.Status(code=CODES.get(reason, code_pb2.INTERNAL), message=message)
    status.details.add().Pack(operations_pb2.OperationFault(reason=reason, advice=advice))
    return operations_pb2.OperationResult(
        operation_id=operation.operation_id,
        idempotency_key=operation.idempotency_key,
        status=status,
    )


def success(
    operation: operations_pb2.Operation, observed: operations_pb2.OperationResult
) -> operations_pb2.OperationResult:
    """The result of an operation whose effect was found in place."""
    result = operations_pb2.OperationResult(
        operation_id=operation.operation_id, idempotency_key=operation.idempotency_key
    )
    if observed.HasField("virtual_machine"):
        result.virtual_machine.CopyFrom(observed.virtual_machine)
    result.status.code = code_pb2.OK
    return result


def fault_of(result: operations_pb2.OperationResult) -> operations_pb2.OperationFault | None:
    """Read the fault of a failed operation; None when it succeeded."""
    if result.status.code == code_pb2.OK:
        return None
    fault = operations_pb2.OperationFault()
    for detail in result.status.details:
        if detail.Unpack(fault):
            break
    return fault


def edge_offline(
    operation: operations_pb2.Operation, who: str, *, deferred: bool = False
) -> operations_pb2.OperationResult:
    """Make the result when no edge is connected; ``who`` says which and since when."""
    advice = (
        "the delete is carried out when the edge is back, unless the server is used before then"
        if deferred
        else "see `vsg-controlplane edges`; try again when the edge is back"
    )
    return failure(
        operation,
        operations_pb2.FAULT_REASON_EDGE_OFFLINE,
        who,
        advice,
    )


def not_recorded(operation: operations_pb2.Operation) -> operations_pb2.OperationResult:
    """Make the result of a destroy that nobody asked for."""
    return failure(
        operation,
        operations_pb2.FAULT_REASON_NOT_RECORDED,
        "nobody asked for the deletion of this server, and no operation recorded here made its "
        "virtual machine: it is kept",
        "delete the server with `openstack server delete`, or the virtual machine in vCenter",
    )


def no_ledger(operation: operations_pb2.Operation, error: str) -> operations_pb2.OperationResult:
    """Make the result of an operation that could not be recorded, and so was not begun."""
    return failure(
        operation,
        operations_pb2.FAULT_REASON_CONTROL_PLANE_UNAVAILABLE,
        f"the control plane cannot record the operation, so it was not begun: {error}",
        "see the control plane's log; try again when its database is back",
    )


def stopping(operation: operations_pb2.Operation) -> operations_pb2.OperationResult:
    """Make the result when the control plane stops while the operation is under way."""
    return failure(
        operation,
        operations_pb2.FAULT_REASON_CONTROL_PLANE_UNAVAILABLE,
        "the control plane is stopping; what has begun continues and is settled when it is back",
        "ask again under the same key",
    )


def timed_out(
    operation: operations_pb2.Operation, edge: str, *, online: bool
) -> operations_pb2.OperationResult:
    """Make the result when the deadline has passed."""
    action = operation.WhichOneof("action")
    if online:
        reason = operations_pb2.FAULT_REASON_TIMEOUT
        message = f"{action} did not end in time"
    else:
        reason = operations_pb2.FAULT_REASON_OUTCOME_UNKNOWN
        message = (
            f"the link to edge {edge or 'of this vCenter'} broke while {action} was under way, and "
            "did not come back in time"
        )
    advice = "see the virtual machine's recent tasks in vCenter, and `vsg-controlplane operations`"
    return failure(operation, reason, message, advice)
