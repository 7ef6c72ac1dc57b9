"""Maps faults of operations to Nova's exceptions; nothing else does."""

from collections.abc import Callable
from dataclasses import dataclass

from nova import exception

from vsphere_gateway.v1 import operations_pb2 as pb


class BridgeUnavailable(exception.HypervisorUnavailable):
    """The control plane does not answer on its socket."""

    msg_fmt = "The vSphere Gateway control plane does not answer: %(reason)s"


@dataclass(frozen=True, slots=True)
class Failure:
    """An operation that failed."""

    action: str
    """For example `power_off`."""
    instance_uuid: str
    reason: pb.FaultReason.ValueType
    message: str
    """What happened, and what to do next."""


def failure_of(action: str, instance_uuid: str, result: pb.OperationResult) -> Failure | None:
    """Read why an operation failed; None when it did not."""
    if not result.status.code:
        return None
    fault = pb.OperationFault()
    for detail in result.status.details:
        if detail.Unpack(fault):
            break
    text = f"{action.replace('_', ' ')} failed: {result.status.message or 'no reason was given'}"
    message = f"{text}; {fault.advice}" if fault.advice else text
    return Failure(action, instance_uuid, fault.reason, message)


def exception_for(failure: Failure) -> Exception:
    """Choose the exception for a failure.

    A VM that did not power off raises InstancePowerOffFailure, the only error of a delete after
    which Nova keeps the ports (nova/compute/manager.py:_shutdown_instance).
    """
    if failure.reason == pb.FAULT_REASON_VIRTUAL_MACHINE_NOT_FOUND:
        return _not_found(failure)
    if failure.action in ("power_off", "destroy"):
        return _power_off_failure(failure)
    return _EXCEPTIONS.get(failure.reason, _general)(failure)


def _not_found(failure: Failure) -> Exception:
    return exception.InstanceNotFound(instance_id=failure.instance_uuid)  # type: ignore[no-any-return]


def _power_off_failure(failure: Failure) -> Exception:
    return exception.InstancePowerOffFailure(reason=failure.message)  # type: ignore[no-any-return]


def _invalid_state(failure: Failure) -> Exception:
    return exception.InstanceInvalidState(  # type: ignore[no-any-return]
        f"Instance {failure.instance_uuid}: {failure.message}",
        attr="power_state",
        instance_uuid=failure.instance_uuid,
        state="as vCenter has it",
        method=failure.action,
    )


def _not_ready(failure: Failure) -> Exception:
    if failure.action == "get_diagnostics":
        # The one that the API answers with a conflict and this text
        # (nova/api/openstack/compute/server_diagnostics.py).
        return exception.InstanceNotReady(failure.message)  # type: ignore[no-any-return]
    if failure.action == "clone_virtual_machine":
        return _no_resources(failure)
    return exception.HypervisorUnavailable(failure.message)  # type: ignore[no-any-return]


def _no_resources(failure: Failure) -> Exception:
    """Nova tries the next host."""
    return exception.ComputeResourcesUnavailable(reason=failure.message)  # type: ignore[no-any-return]


def _template_gone(failure: Failure) -> Exception:
    return exception.ImageUnacceptable(image_id="of the template", reason=failure.message)  # type: ignore[no-any-return]


def _unimplemented(failure: Failure) -> Exception:
    return NotImplementedError(failure.message)


def _general(failure: Failure) -> Exception:
    return exception.NovaException(failure.message)  # type: ignore[no-any-return]


_EXCEPTIONS: dict[pb.FaultReason.ValueType, Callable[[Failure], Exception]] = {
    pb.FAULT_REASON_INVALID_POWER_STATE: _invalid_state,
    pb.FAULT_REASON_CONCURRENT_ACCESS: _invalid_state,
    pb.FAULT_REASON_EDGE_OFFLINE: _not_ready,
    pb.FAULT_REASON_VCENTER_UNAVAILABLE: _not_ready,
    pb.FAULT_REASON_CONTROL_PLANE_UNAVAILABLE: _not_ready,
    pb.FAULT_REASON_CLUSTER_NOT_MANAGED: _not_ready,
    pb.FAULT_REASON_LEASE_LOST: _not_ready,
    pb.FAULT_REASON_NO_SPACE: _no_resources,
    pb.FAULT_REASON_NO_RESOURCES: _no_resources,
    pb.FAULT_REASON_TEMPLATE_NOT_FOUND: _template_gone,
    pb.FAULT_REASON_UNIMPLEMENTED: _unimplemented,
}
