"""Results of operations: made here when the edge cannot make them, and read."""

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
    reason: operations_pb2.FaultReason,
    message: str,
    advice: str = "",
) -> operations_pb2.OperationResult:
    """Return the result of an operation that failed on this side of the link."""
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
    """Return the result of an operation whose effect was found in place."""
    result = operations_pb2.OperationResult(
        operation_id=operation.operation_id, idempotency_key=operation.idempotency_key
    )
    if observed.HasField("virtual_machine"):
        result.virtual_machine.CopyFrom(observed.virtual_machine)
    result.status.code = code_pb2.OK
    return result


def fault_of(result: operations_pb2.OperationResult) -> operations_pb2.OperationFault | None:
    """Return what went wrong; None when nothing did."""
    if result.status.code == code_pb2.OK:
        return None
    fault = operations_pb2.OperationFault()
    for detail in result.status.details:
        if detail.Unpack(fault):
            break
    return fault
