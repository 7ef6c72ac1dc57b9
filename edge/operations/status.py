"""Translates an operation's error into the status that is sent to the control plane."""

import dataclasses
from typing import Final

from google.rpc import code_pb2, status_pb2

from edge.errors import EdgeError
from edge.vcenter.client import faults
from edge.vcenter.operations import errors as operation_errors
from vsphere_gateway.v1 import operations_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    kind: type[Exception]
    reason: "operations_pb2.FaultReason.ValueType"
    code: int
    advice: str


_TASKS: Final = "see the virtual machine's recent tasks and events in vCenter"
_CHECK: Final = "run `vsg-edge check` on the edge"

# The first match wins: the more specific stands first.
_ROWS: Final = (
    _Row(
        operation_errors.VirtualMachineNotFoundError,
        operations_pb2.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND,
        code_pb2.NOT_FOUND,
        "it was deleted in vCenter, or moved to another vCenter",
    ),
    _Row(
        operation_errors.TemplateNotFoundError,
        operations_pb2.FAULT_REASON_TEMPLATE_NOT_FOUND,
        code_pb2.NOT_FOUND,
        "choose another image; this one's template was deleted or converted in vCenter",
    ),
    _Row(
        operation_errors.AmbiguousIdentityError,
        operations_pb2.FAULT_REASON_UNSPECIFIED,
        code_pb2.FAILED_PRECONDITION,
        "give all but one of them another instance UUID, or remove them from the inventory",
    ),
    _Row(
        operation_errors.RefusedBySiteError,
        operations_pb2.FAULT_REASON_REFUSED_BY_SITE,
        code_pb2.PERMISSION_DENIED,
        "ask the site's administrator; [managed] of the edge's edge.toml decides",
    ),
    _Row(
        operation_errors.WrongPowerStateError,
        operations_pb2.FAULT_REASON_INVALID_POWER_STATE,
        code_pb2.FAILED_PRECONDITION,
        "bring the server into a power state that allows it, then try again",
    ),
    _Row(
        operation_errors.DiskInUseError,
        operations_pb2.FAULT_REASON_DISK_IN_USE,
        code_pb2.FAILED_PRECONDITION,
        "remove what uses the disks first, for example the linked clones or the snapshots",
    ),
    _Row(
        operation_errors.DiskTooSmallError,
        operations_pb2.FAULT_REASON_UNSPECIFIED,
        code_pb2.INVALID_ARGUMENT,
        "choose a flavor with a root disk at least as large as the image's min_disk",
    ),
    _Row(
        operation_errors.NoDatastoreError,
        operations_pb2.FAULT_REASON_NO_SPACE,
        code_pb2.RESOURCE_EXHAUSTED,
        "free or add room on a datastore of the cluster",
    ),
    _Row(
        operation_errors.NoHostError,
        operations_pb2.FAULT_REASON_NO_RESOURCES,
        code_pb2.RESOURCE_EXHAUSTED,
        "bring a host of the cluster out of maintenance, or connect it again",
    ),
    _Row(
        operation_errors.DeadlinePassedError,
        operations_pb2.FAULT_REASON_TIMEOUT,
        code_pb2.DEADLINE_EXCEEDED,
        f"{_TASKS}; a question that vCenter wants answered blocks a task",
    ),
    _Row(
        operation_errors.OperationCancelledError,
        operations_pb2.FAULT_REASON_CANCELLED,
        code_pb2.CANCELLED,
        "",
    ),
    _Row(
        operation_errors.OutcomeUnknownError,
        operations_pb2.FAULT_REASON_OUTCOME_UNKNOWN,
        code_pb2.UNKNOWN,
        _TASKS,
    ),
    _Row(
        operation_errors.UnknownOperationError,
        operations_pb2.FAULT_REASON_UNIMPLEMENTED,
        code_pb2.UNIMPLEMENTED,
        "update the edge",
    ),
    _Row(
        operation_errors.LeaseLostError,
        operations_pb2.FAULT_REASON_LEASE_LOST,
        code_pb2.ABORTED,
        "try again; another edge serves this vCenter now",
    ),
    _Row(
        operation_errors.NotTakenOnError,
        operations_pb2.FAULT_REASON_EDGE_OFFLINE,
        code_pb2.UNAVAILABLE,
        "try again in a moment",
    ),
    _Row(
        faults.PermissionDeniedError,
        operations_pb2.FAULT_REASON_NO_PERMISSION,
        code_pb2.PERMISSION_DENIED,
        f"grant the edge's vCenter user the privilege; {_CHECK}, which names all that are missing",
    ),
    _Row(
        faults.ManagedObjectNotFoundError,
        operations_pb2.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND,
        code_pb2.NOT_FOUND,
        "it was deleted in vCenter meanwhile",
    ),
    _Row(
        faults.InvalidPowerStateError,
        operations_pb2.FAULT_REASON_INVALID_POWER_STATE,
        code_pb2.FAILED_PRECONDITION,
        "bring the server into a power state that allows it, then try again",
    ),
    _Row(
        faults.ToolsUnavailableError,
        operations_pb2.FAULT_REASON_TOOLS_UNAVAILABLE,
        code_pb2.FAILED_PRECONDITION,
        "start VMware Tools in the guest, or use the hard variant",
    ),
    _Row(
        faults.ConcurrentAccessError,
        operations_pb2.FAULT_REASON_CONCURRENT_ACCESS,
        code_pb2.ABORTED,
        "wait for the other task in vCenter, then try again",
    ),
    _Row(
        faults.NoSpaceError,
        operations_pb2.FAULT_REASON_NO_SPACE,
        code_pb2.RESOURCE_EXHAUSTED,
        "free or add room on a datastore of the cluster",
    ),
    _Row(
        faults.NoResourcesError,
        operations_pb2.FAULT_REASON_NO_RESOURCES,
        code_pb2.RESOURCE_EXHAUSTED,
        "free CPU and memory in the cluster, or look at its admission control",
    ),
    _Row(
        faults.TaskCancelledError,
        operations_pb2.FAULT_REASON_CANCELLED,
        code_pb2.CANCELLED,
        "somebody cancelled the task in vCenter",
    ),
    _Row(
        faults.SessionExpiredError,
        operations_pb2.FAULT_REASON_VCENTER_UNAVAILABLE,
        code_pb2.UNAVAILABLE,
        _CHECK,
    ),
    _Row(
        faults.VCenterUnreachableError,
        operations_pb2.FAULT_REASON_VCENTER_UNAVAILABLE,
        code_pb2.UNAVAILABLE,
        f"make vCenter reachable from the edge; {_CHECK}",
    ),
    _Row(
        faults.NotReadYetError,
        operations_pb2.FAULT_REASON_VCENTER_UNAVAILABLE,
        code_pb2.UNAVAILABLE,
        "try again in a moment; the edge has just started",
    ),
    _Row(
        faults.LoginRefusedError,
        operations_pb2.FAULT_REASON_VCENTER_UNAVAILABLE,
        code_pb2.UNAVAILABLE,
        "correct the edge's vCenter user name or password",
    ),
    _Row(
        faults.CertificateNotTrustedError,
        operations_pb2.FAULT_REASON_VCENTER_UNAVAILABLE,
        code_pb2.UNAVAILABLE,
        _CHECK,
    ),
    _Row(
        faults.UnexpectedAnswerError,
        operations_pb2.FAULT_REASON_VCENTER_UNAVAILABLE,
        code_pb2.UNAVAILABLE,
        _CHECK,
    ),
    _Row(
        EdgeError,
        operations_pb2.FAULT_REASON_VCENTER_UNAVAILABLE,
        code_pb2.UNAVAILABLE,
        _CHECK,
    ),
    _Row(
        faults.VCenterError,
        operations_pb2.FAULT_REASON_TASK_FAILED,
        code_pb2.INTERNAL,
        _TASKS,
    ),
)
_BUG: Final = _Row(
    Exception,
    operations_pb2.FAULT_REASON_UNSPECIFIED,
    code_pb2.INTERNAL,
    "this is a bug in the edge: report it with the edge's log",
)


def status_of(error: Exception) -> status_pb2.Status:
    """The status of a failed operation, with an ``OperationFault`` in its details."""
    row = _row(error)
    status = status_pb2.Status(code=row.code, message=str(error) or type(error).__name__)
    vsphere_fault = error.vsphere_fault if isinstance(error, faults.VCenterError) else ""
    status.details.add().Pack(
        operations_pb2.OperationFault(
            reason=row.reason, vsphere_fault=vsphere_fault, advice=row.advice
        )
    )
    return status


def is_expected(error: Exception) -> bool:
    """Whether an error is one of vCenter's or of an operation's, and not a bug."""
    return _row(error) is not _BUG


def _row(error: Exception) -> _Row:
    return next((row for row in _ROWS if isinstance(error, row.kind)), _BUG)


def reason_name(status: status_pb2.Status) -> str:
    """The fault's reason without its prefix, for logs; ``OK`` if there is none."""
    fault = operations_pb2.OperationFault()
    for detail in status.details:
        if detail.Unpack(fault):
            name = operations_pb2.FaultReason.Name(fault.reason)
            return name.removeprefix("FAULT_REASON_")
    return "OK"
