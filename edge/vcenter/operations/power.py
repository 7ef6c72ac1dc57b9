"""Power operations. Each is idempotent: a virtual machine that is there already is left alone."""

import logging
from typing import Any, Final

from common.log_fields import fields
from edge.vcenter.client import faults
from edge.vcenter.operations.control import OperationControl, OperationOutcome
from edge.vcenter.operations.errors import WrongPowerStateError
from edge.vcenter.operations.target import FoundMachine, OperationContext
from vsphere_gateway.v1 import inventory_pb2, operations_pb2

log = logging.getLogger(__name__)

ON = inventory_pb2.POWER_STATE_ON
OFF = inventory_pb2.POWER_STATE_OFF
SUSPENDED = inventory_pb2.POWER_STATE_SUSPENDED
FORCED_SECONDS: Final = 10.0
"""What a guest's grace leaves of the time until the deadline, for doing it by force."""
_POWER_STATE: Final = "runtime.powerState"


def power_on(
    context: OperationContext, operation: operations_pb2.Operation, control: OperationControl
) -> OperationOutcome:
    """PowerOnVM_Task, which also resumes a suspended virtual machine."""
    found = context.machines.target(operation)
    changed = switch_on(context, found, control)
    return context.machines.outcome(found, changed=changed)


def power_off(
    context: OperationContext, operation: operations_pb2.Operation, control: OperationControl
) -> OperationOutcome:
    """ShutdownGuest with a grace period, then PowerOffVM_Task. Returns when it is off."""
    found = context.machines.target(operation)
    grace = operation.power_off.guest_grace.ToTimedelta().total_seconds()
    changed = switch_off(context, found, grace, control)
    return context.machines.outcome(found, changed=changed)


def suspend(
    context: OperationContext, operation: operations_pb2.Operation, control: OperationControl
) -> OperationOutcome:
    """SuspendVM_Task."""
    found = context.machines.target(operation)
    state = found.machine.power_state
    if state == OFF:
        raise WrongPowerStateError(
            f"{found.machine.name} is powered off; only a running virtual machine can be suspended"
        )
    if state != SUSPENDED:
        run_power_task(context, found.managed_object.SuspendVM_Task, "suspended", control)
    return context.machines.outcome(found, changed=state != SUSPENDED)


def get_state(
    context: OperationContext, operation: operations_pb2.Operation, control: OperationControl
) -> OperationOutcome:
    """Read the state that vCenter reports now."""
    control.check()
    return context.machines.outcome(context.machines.subject(operation), changed=False)


def switch_on(context: OperationContext, found: FoundMachine, control: OperationControl) -> bool:
    """Power on; False if it was on already.

    Raises ``VCenterError`` and what ``TaskRunner.run`` raises.
    """
    if found.machine.power_state == ON:
        return False
    run_power_task(context, found.managed_object.PowerOnVM_Task, "poweredOn", control)
    return True


def switch_off(
    context: OperationContext, found: FoundMachine, grace: float, control: OperationControl
) -> bool:
    """Power off, by the guest within ``grace`` seconds, else at once; False if it was off already.

    Raises what ``switch_on`` raises.
    """
    machine = found.machine
    if machine.power_state == OFF:
        return False
    guest_can = machine.power_state == ON and machine.tools_running
    if not (grace > 0 and guest_can and _shut_down_guest(context, found, grace, control)):
        run_power_task(context, found.managed_object.PowerOffVM_Task, "poweredOff", control)
    return True


def run_power_task(
    context: OperationContext, start: Any, wanted: str, control: OperationControl
) -> None:
    """Run a task that leads to a power state; that somebody else was faster is no error."""
    try:
        context.tasks.run(start, control)
    except faults.InvalidPowerStateError as error:
        if error.existing != wanted:
            raise


def _shut_down_guest(
    context: OperationContext, found: FoundMachine, grace: float, control: OperationControl
) -> bool:
    """Ask the guest to shut down; False unless it did within ``grace`` seconds."""
    control.check()
    machine = found.managed_object
    end = control.now() + min(grace, control.remaining() - FORCED_SECONDS)
    with context.watcher.watch(machine, [_POWER_STATE]) as watch, control.wakes(watch.changed):
        try:
            machine.ShutdownGuest()
        except (faults.ToolsUnavailableError, faults.InvalidPowerStateError) as error:
            refused = fields(object=machine._moId, error=error)
            log.info("guest cannot be asked to shut down", extra=refused)
            return False
        while watch.values().get(_POWER_STATE) != "poweredOff":
            control.check()
            if not watch.wait(max(0.0, end - control.now())):
                log.info("guest did not shut down in time", extra=fields(object=machine._moId))
                return False
    control.task_ended()
    return True
