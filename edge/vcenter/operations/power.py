"""Power operations. Each is idempotent: a virtual machine that is there already is left alone."""

import logging
from typing import Any, Final

from edge.log import ERROR, OBJECT, fields
from edge.vcenter.client import faults
from edge.vcenter.operations.context import OperationContext
from edge.vcenter.operations.control import OperationControl, OperationOutcome
from edge.vcenter.operations.errors import VirtualMachineNotFoundError, WrongPowerStateError
from edge.vcenter.operations.target import FoundMachine
from vsphere_gateway.v1 import inventory_pb2, operations_pb2

LOG = logging.getLogger("edge.vcenter.operations.power")

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
    found = context.target(operation)
    switch_on(context, found, control)
    return state_after(context, found)


def power_off(
    context: OperationContext, operation: operations_pb2.Operation, control: OperationControl
) -> OperationOutcome:
    """ShutdownGuest with a grace period, then PowerOffVM_Task. Returns when it is off."""
    found = context.target(operation)
    grace = operation.power_off.guest_grace.ToTimedelta().total_seconds()
    switch_off(context, found, grace, control)
    return state_after(context, found)


def suspend(
    context: OperationContext, operation: operations_pb2.Operation, control: OperationControl
) -> OperationOutcome:
    """SuspendVM_Task."""
    found = context.target(operation)
    state = found.machine.power_state
    if state == OFF:
        raise WrongPowerStateError(
            f"{found.machine.name} is powered off; only a running virtual machine can be suspended"
        )
    if state != SUSPENDED:
        run_power_task(context, found.managed_object.SuspendVM_Task, "suspended", control)
    return state_after(context, found)


def get_state(
    context: OperationContext, operation: operations_pb2.Operation, control: OperationControl
) -> OperationOutcome:
    """The state that vCenter reports now."""
    control.check()
    return OperationOutcome(context.subject(operation).state)


def switch_on(context: OperationContext, found: FoundMachine, control: OperationControl) -> None:
    """Power on, unless it is on. Raises ``VCenterError`` and what ``TaskRunner.run`` raises."""
    if found.machine.power_state != ON:
        run_power_task(context, found.managed_object.PowerOnVM_Task, "poweredOn", control)


def switch_off(
    context: OperationContext, found: FoundMachine, grace: float, control: OperationControl
) -> None:
    """Power off, unless it is off: by the guest within ``grace`` seconds, else at once."""
    machine = found.machine
    if machine.power_state == OFF:
        return
    guest_can = machine.power_state == ON and machine.tools_running
    if grace > 0 and guest_can and _shut_down_guest(context, found, grace, control):
        return
    run_power_task(context, found.managed_object.PowerOffVM_Task, "poweredOff", control)


def run_power_task(
    context: OperationContext, start: Any, wanted: str, control: OperationControl
) -> None:
    """Run a task that leads to a power state; someone else having been faster is no error."""
    try:
        context.tasks.run(start, control)
    except faults.InvalidPowerStateError as error:
        if error.existing != wanted:
            raise


def state_after(context: OperationContext, found: FoundMachine) -> OperationOutcome:
    """Read the virtual machine as it is now. Raises ``VirtualMachineNotFoundError``."""
    state = context.lookup.state(found.state.reference)
    if state is None:
        raise VirtualMachineNotFoundError(f"{found.machine.name} was deleted meanwhile")
    return OperationOutcome(state)


def _shut_down_guest(
    context: OperationContext, found: FoundMachine, grace: float, control: OperationControl
) -> bool:
    """Ask the guest to shut down; tell whether it did within ``grace`` seconds."""
    control.check()
    machine = found.managed_object
    end = control.now() + min(grace, control.remaining() - FORCED_SECONDS)
    with context.watcher.watch(machine, [_POWER_STATE]) as watch, control.wakes(watch.changed):
        try:
            machine.ShutdownGuest()
        except (faults.ToolsUnavailableError, faults.InvalidPowerStateError) as error:
            refused = fields({OBJECT: machine._moId, ERROR: error})
            LOG.info("guest cannot be asked to shut down", extra=refused)
            return False
        while watch.values().get(_POWER_STATE) != "poweredOff":
            control.check()
            if not watch.wait(max(0.0, end - control.now())):
                LOG.info("guest did not go down in time", extra=fields({OBJECT: machine._moId}))
                return False
    control.task_ended()
    return True
