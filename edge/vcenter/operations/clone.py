"""Clones a template: CloneVM_Task with the new hardware, then power on. All of it, or nothing."""

import logging
from typing import Any, Final

from pyVmomi import vim

from common.log_fields import fields
from edge.vcenter.client import faults
from edge.vcenter.client.properties import read_properties
from edge.vcenter.operations.control import OperationControl, OperationOutcome, Reference
from edge.vcenter.operations.errors import (
    DiskTooSmallError,
    OperationError,
    OutcomeUnknownError,
    RefusedBySiteError,
    VirtualMachineNotFoundError,
)
from edge.vcenter.operations.placement import Need, choose_place
from edge.vcenter.operations.power import OFF, switch_off, switch_on
from edge.vcenter.operations.target import FoundMachine, OperationContext
from vsphere_gateway.v1 import inventory_pb2, operations_pb2

log = logging.getLogger(__name__)

CLEAN_UP_SECONDS: Final = 120.0
"""Time for removing what a failed clone left, after the operation itself was given up."""
NAME_LENGTH: Final = 80
"""vCenter's longest name of a virtual machine, in characters."""
_DEVICES: Final = "config.hardware.device"
_COMMITTED: Final = "summary.storage.committed"
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30


def clone(
    context: OperationContext, operation: operations_pb2.Operation, control: OperationControl
) -> OperationOutcome:
    """Clone a template into a managed cluster and bring the clone into the state asked for.

    A virtual machine that has the instance UUID already comes from an earlier try: it is finished
    and returned. What fails after CloneVM_Task removes the clone that was just made.
    """
    request = operation.clone_virtual_machine
    control.check()
    made = context.machines.existing(request.instance_uuid)
    if made is not None:
        return _finish(context, made, request, control)
    made = _clone(context, operation, control)
    try:
        return _finish(context, made, request, control)
    except OutcomeUnknownError:
        raise
    except (faults.VCenterError, OperationError):
        _clean_up(context, made)
        raise


def _clone(
    context: OperationContext, operation: operations_pb2.Operation, control: OperationControl
) -> FoundMachine:
    request = operation.clone_virtual_machine
    context.machines.require_managed(operation.cluster)
    _refuse_name_of_the_site(context, request.name)
    template = context.machines.template(request.template_instance_uuid, request.template)
    _refuse_shrinking(template, request)
    values = read_properties(context.session, template.managed_object, [_DEVICES, _COMMITTED])
    cluster = context.session.managed_object(operation.cluster)
    need = _need(template, request, values.get(_COMMITTED) or 0)
    place = choose_place(context.session, cluster, need)
    spec = vim.vm.CloneSpec(
        location=vim.vm.RelocateSpec(
            pool=place.resource_pool, datastore=place.datastore, host=place.host
        ),
        config=vim.vm.ConfigSpec(
            **_hardware_changes(template.machine, request),
            deviceChange=_nic_removals(request, values.get(_DEVICES) or []),
        ),
        powerOn=False,
        template=False,
    )
    task = _run(context, template.managed_object, place.folder, spec, request, control)
    made = context.tasks.result(task)
    return context.machines.at(Reference(type="VirtualMachine", value=made._moId))


def _run(
    context: OperationContext,
    template: Any,
    folder: Any,
    spec: Any,
    request: operations_pb2.CloneVirtualMachine,
    control: OperationControl,
) -> Any:
    """CloneVM_Task under the name asked for, or a unique one when that is taken."""
    name, unique = clone_names(request.name, request.instance_uuid)
    try:
        return context.tasks.run(lambda: template.CloneVM_Task(folder, name, spec), control)
    except faults.DuplicateNameError:
        log.info("name is taken", extra=fields(name=name, instance=request.instance_uuid))
        return context.tasks.run(lambda: template.CloneVM_Task(folder, unique, spec), control)


def clone_names(name: str, instance_uuid: str) -> tuple[str, str]:
    """The name to try first, and a unique one, in the form that CloneVM_Task expects.

    The characters ``%``, ``/`` and ``\\`` are escaped (vSphere API, VirtualMachine.CloneVM_Task).
    """
    suffix = f"-{instance_uuid[:8]}"
    return _escaped(name[:NAME_LENGTH]), _escaped(name[: NAME_LENGTH - len(suffix)] + suffix)


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2f").replace("\\", "%5c")


def _refuse_name_of_the_site(context: OperationContext, name: str) -> None:
    """Refuse a name by which the site would make the new virtual machine read only."""
    if context.managed.name_is_read_only(name):
        raise RefusedBySiteError(
            f"managed.read_only_names of edge.toml makes a virtual machine named {name} read only"
        )


def _refuse_shrinking(template: FoundMachine, request: operations_pb2.CloneVirtualMachine) -> None:
    disks = template.machine.disks
    if not request.root_disk_gb or not disks:
        return
    if request.root_disk_gb * _GIB < disks[0].capacity_bytes:
        raise DiskTooSmallError(
            f"the root disk asked for has {request.root_disk_gb} GiB, less than"
            f" {disks[0].capacity_bytes / _GIB:.1f} GiB of {disks[0].label} of template"
            f" {template.machine.name}; a disk never shrinks"
        )


def _need(
    template: FoundMachine, request: operations_pb2.CloneVirtualMachine, committed_bytes: int
) -> Need:
    """Thick disks need their capacity, thin ones what they hold; a running machine its swap."""
    disks = template.machine.disks
    thick = [disk for disk in disks if disk.disk_type != "thin"]
    room = max(committed_bytes, sum(disk.capacity_bytes for disk in thick))
    if disks and disks[0].disk_type != "thin":
        room += max(0, request.root_disk_gb * _GIB - disks[0].capacity_bytes)
    if request.power_on:
        room += request.memory_mb * _MIB
    preferred = disks[0].datastore.value if disks else ""
    return Need(room_bytes=room, patterns=list(request.datastore_patterns), preferred=preferred)


def _hardware_changes(
    source: inventory_pb2.VirtualMachine, request: operations_pb2.CloneVirtualMachine
) -> dict[str, Any]:
    """The fields of ConfigSpec in which ``source`` differs from what is asked for."""
    changes: dict[str, Any] = {}
    if source.instance_uuid.lower() != request.instance_uuid.lower():
        changes["instanceUuid"] = request.instance_uuid
    if request.cpus and request.cpus != source.cpus:
        changes["numCPUs"] = request.cpus
        if request.cpus % (source.cores_per_socket or 1):
            changes["numCoresPerSocket"] = 1
    if request.memory_mb and request.memory_mb != source.memory_mb:
        changes["memoryMB"] = request.memory_mb
    if request.annotation and request.annotation != source.annotation:
        changes["annotation"] = request.annotation
    return changes


def _nic_removals(request: operations_pb2.CloneVirtualMachine, devices: list[Any]) -> list[Any]:
    if not request.remove_nics:
        return []
    return [
        vim.vm.device.VirtualDeviceSpec(operation="remove", device=device)
        for device in devices
        if isinstance(device, vim.vm.device.VirtualEthernetCard)
    ]


def _growth(
    source: inventory_pb2.VirtualMachine,
    request: operations_pb2.CloneVirtualMachine,
    devices: list[Any],
) -> list[Any]:
    """The change that grows the first disk; none if it is large enough."""
    capacity = request.root_disk_gb * _GIB
    if not source.disks or source.disks[0].capacity_bytes >= capacity:
        return []
    root = next(device for device in devices if device.key == source.disks[0].key)
    root.capacityInBytes, root.capacityInKB = capacity, capacity >> 10
    return [vim.vm.device.VirtualDeviceSpec(operation="edit", device=root)]


def _finish(
    context: OperationContext,
    made: FoundMachine,
    request: operations_pb2.CloneVirtualMachine,
    control: OperationControl,
) -> OperationOutcome:
    """Grow the disk, reconfigure what the clone did not take over, and power on."""
    changed = made.machine.power_state == OFF and _reconfigure(context, made, request, control)
    if request.power_on:
        changed |= switch_on(context, made, control)
    return context.machines.outcome(made, changed=changed)


def _reconfigure(
    context: OperationContext,
    made: FoundMachine,
    request: operations_pb2.CloneVirtualMachine,
    control: OperationControl,
) -> bool:
    """Give the clone the hardware that it lacks; False if it lacks none."""
    values = read_properties(context.session, made.managed_object, [_DEVICES])
    devices = values.get(_DEVICES) or []
    changes = _hardware_changes(made.machine, request)
    device_changes = [*_growth(made.machine, request, devices), *_nic_removals(request, devices)]
    if not changes and not device_changes:
        return False
    spec = vim.vm.ConfigSpec(**changes, deviceChange=device_changes)
    context.tasks.run(lambda: made.managed_object.ReconfigVM_Task(spec), control)
    return True


def _clean_up(context: OperationContext, made: FoundMachine) -> None:
    """Remove a clone that could not be finished."""
    reference = made.state.reference
    control = OperationControl(context.clock() + CLEAN_UP_SECONDS, clock=context.clock)
    try:
        present = context.machines.at(reference)
        switch_off(context, present, 0, control)
        context.tasks.run(made.managed_object.Destroy_Task, control)
    except (VirtualMachineNotFoundError, faults.ManagedObjectNotFoundError):
        return
    except (faults.VCenterError, OperationError) as error:
        log.error(
            "failed clone is left behind, delete it in vCenter",
            extra=fields(object=reference.value, name=made.machine.name, error=error),
        )
    else:
        log.info("failed clone removed", extra=fields(object=reference.value))
