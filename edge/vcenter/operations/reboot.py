"""Soft and hard reboot."""

import logging
from typing import Any, Final

from common.log_fields import fields
from edge.vcenter.client import faults
from edge.vcenter.operations.control import OperationControl, OperationOutcome
from edge.vcenter.operations.power import FORCED_SECONDS, ON, SUSPENDED, run_power_task
from edge.vcenter.operations.target import FoundMachine, OperationContext
from vsphere_gateway.v1 import operations_pb2

log = logging.getLogger(__name__)

_POWER_STATE: Final = "runtime.powerState"
_TOOLS: Final = "guest.toolsRunningStatus"
_GUEST: Final = "guest.guestState"
_GUEST_PATHS: Final = (_POWER_STATE, _TOOLS, _GUEST)


def reboot(
    context: OperationContext, operation: operations_pb2.Operation, control: OperationControl
) -> OperationOutcome:
    """Soft: RebootGuest, and a reset if the guest does not go down in time. Hard: a reset.

    A virtual machine that is not on is powered on; a hard reboot discards a suspended state. With
    no grace period a soft reboot is done as soon as VMware Tools have taken it on.
    """
    found = context.machines.target(operation)
    request = operation.reboot
    grace = request.guest_grace.ToTimedelta().total_seconds()
    if not (request.soft and _reboot_guest(context, found, grace, control)):
        _reset(context, found, request.soft, control)
    return context.machines.outcome(found, changed=True)


def _reset(
    context: OperationContext, found: FoundMachine, soft: bool, control: OperationControl
) -> None:
    state = found.machine.power_state
    if state == SUSPENDED and not soft:
        run_power_task(context, found.managed_object.PowerOffVM_Task, "poweredOff", control)
    if state != ON:
        run_power_task(context, found.managed_object.PowerOnVM_Task, "poweredOn", control)
        return
    try:
        context.tasks.run(found.managed_object.ResetVM_Task, control)
    except faults.InvalidPowerStateError as error:
        # The guest powered itself off between the look and the reset.
        if error.existing != "poweredOff":
            raise
        run_power_task(context, found.managed_object.PowerOnVM_Task, "poweredOn", control)


def _reboot_guest(
    context: OperationContext, found: FoundMachine, grace: float, control: OperationControl
) -> bool:
    """Ask the guest to reboot; False unless it went down within ``grace`` seconds."""
    if found.machine.power_state != ON or not found.machine.tools_running:
        return False
    control.check()
    machine = found.managed_object
    end = control.now() + min(grace, control.remaining() - FORCED_SECONDS)
    with context.watcher.watch(machine, _GUEST_PATHS) as watch, control.wakes(watch.changed):
        try:
            machine.RebootGuest()
        except (faults.ToolsUnavailableError, faults.InvalidPowerStateError) as error:
            refused = fields(object=machine._moId, error=error)
            log.info("guest cannot be asked to reboot", extra=refused)
            return False
        while grace > 0 and _guest_runs(watch.values()):
            control.check()
            if not watch.wait(max(0.0, end - control.now())):
                log.info("guest did not shut down in time", extra=fields(object=machine._moId))
                return False
    control.task_ended()
    return True


def _guest_runs(values: dict[str, Any]) -> bool:
    """Whether the guest operating system has not begun to go down."""
    return (
        values.get(_TOOLS) == "guestToolsRunning"
        and values.get(_GUEST) not in ("shuttingDown", "resetting", "notRunning")
        and values.get(_POWER_STATE) == "poweredOn"
    )
