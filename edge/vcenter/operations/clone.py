"""Clones a template: CloneVM_Task with the new hardware, then power on. All of it, or nothing."""

import logging
from typing import Any, Final

from pyVmomi import vim

from edge.log import ERROR, INSTANCE_UUID, NAME, OBJECT, fields
from edge.vcenter.client import faults
from edge.vcenter.client.properties import read_properties
from edge.vcenter.operations.context import OperationContext
from edge.vcenter.operations.control import OperationControl, OperationOutcome, Reference
from edge.vcenter.operations.errors import (
    DiskTooSmallError,
    OperationError,
    OutcomeUnknownError,
    RefusedBySiteError,
    VirtualMachineNotFoundError,
)
from edge.vcenter.operations.placement import Need, choose_place
from edge.vcenter.operations.power import OFF, state_after, switch_off, switch_on
from edge.vcenter.operations.target import FoundMachine
from vsphere_gateway.v1 import inventory_pb2, operations_pb2

LOG = logging.getLogger("edge.vcenter.operations.clone")

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
    wish = operation.clone_virtual_machine
    control.check()
    made = context.lookup.existing(wish.instance_uuid)
    if made is not None:
        _finish(context, made, wish, control)
        return state_after(context, made)
    made = _clone(context, operation, control)
    try:
        _finish(context, made, wish, control)
        return state_after(context, made)
    except OutcomeUnknownError:
        raise
    except (faults.VCenterError, OperationError):
        _clean_up(context, made)
        raise


def _clone(
    context: OperationContext, operation: operations_pb2.Operation, control: OperationControl
) -> FoundMachine:
    wish = operation.clone_virtual_machine
    context.lookup.require_managed(operation.cluster)
    _refuse_name_of_the_site(context, wish.name)
    template = context.lookup.template(wish.template_instance_uuid, wish.template)
    _refuse_shrinking(template, wish)
    values = read_properties(context.session, template.managed_object, [_DEVICES, _COMMITTED])
    cluster = context.session.managed_object(operation.cluster)
    need = _need(template, wish, values.get(_COMMITTED) or 0)
    place = choose_place(context.session, cluster, need)
    spec = vim.vm.CloneSpec(
        location=vim.vm.RelocateSpec(
            pool=place.resource_pool, datastore=place.datastore, host=place.host
        ),
        config=vim.vm.ConfigSpec(
            **_hardware_changes(template.machine, wish),
            deviceChange=_nic_removals(wish, values.get(_DEVICES) or []),
        ),
        powerOn=False,
        template=False,
    )
    task = _run(context, template.managed_object, place.folder, spec, wish, control)
    made = context.tasks.result(task)
    return context.lookup.found(Reference(type="VirtualMachine", value=made._moId))


def _run(
    context: OperationContext,
    template: Any,
    folder: Any,
    spec: Any,
    wish: operations_pb2.CloneVirtualMachine,
    control: OperationControl,
) -> Any:
    """CloneVM_Task under the name asked for, or a unique one when that is taken."""
    name, unique = clone_names(wish.name, wish.instance_uuid)
    try:
        return context.tasks.run(lambda: template.CloneVM_Task(folder, name, spec), control)
    except faults.DuplicateNameError:
        LOG.info("name is taken", extra=fields({NAME: name, INSTANCE_UUID: wish.instance_uuid}))
        return context.tasks.run(lambda: template.CloneVM_Task(folder, unique, spec), control)


def clone_names(name: str, instance_uuid: str) -> tuple[str, str]:
    """Return the name to try first, and the unique one, as CloneVM_Task wants them.

    The characters ``%``, ``/`` and ``\\`` are escaped (vSphere API, VirtualMachine.CloneVM_Task).
    """
    suffix = f"-{instance_uuid[:8]}"
    return _escaped(name[:NAME_LENGTH]), _escaped(name[: NAME_LENGTH - len(suffix)] + suffix)


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2f").replace("\\", "%5c")


def _refuse_name_of_the_site(context: OperationContext, name: str) -> None:
    """Refuse a virtual machine that nobody could touch afterwards."""
    if context.managed.name_is_read_only(name):
        raise RefusedBySiteError(
            f"the site keeps the name {name} for itself (managed.read_only_names of edge.toml)"
        )


def _refuse_shrinking(template: FoundMachine, wish: operations_pb2.CloneVirtualMachine) -> None:
    disks = template.machine.disks
    if not wish.root_disk_gb or not disks:
        return
    if wish.root_disk_gb * _GIB < disks[0].capacity_bytes:
        raise DiskTooSmallError(
            f"the root disk asked for has {wish.root_disk_gb} GiB, less than"
            f" {disks[0].capacity_bytes / _GIB:.1f} GiB of {disks[0].label} of template"
            f" {template.machine.name}; a disk never shrinks"
        )


def _need(
    template: FoundMachine, wish: operations_pb2.CloneVirtualMachine, committed_bytes: int
) -> Need:
    """Thick disks need their capacity, thin ones what they hold; a running machine its swap."""
    disks = template.machine.disks
    thick = [disk for disk in disks if disk.disk_type != "thin"]
    room = max(committed_bytes, sum(disk.capacity_bytes for disk in thick))
    if disks and disks[0].disk_type != "thin":
        room += max(0, wish.root_disk_gb * _GIB - disks[0].capacity_bytes)
    if wish.power_on:
        room += wish.memory_mb * _MIB
    preferred = disks[0].datastore.value if disks else ""
    return Need(room_bytes=room, patterns=list(wish.datastore_patterns), preferred=preferred)


def _hardware_changes(
    source: inventory_pb2.VirtualMachine, wish: operations_pb2.CloneVirtualMachine
) -> dict[str, Any]:
    """Return the fields of ConfigSpec in which ``source`` is not what is asked for."""
    changes: dict[str, Any] = {}
    if source.instance_uuid.lower() != wish.instance_uuid.lower():
        changes["instanceUuid"] = wish.instance_uuid
    if wish.cpus and wish.cpus != source.cpus:
        changes["numCPUs"] = wish.cpus
        if wish.cpus % (source.cores_per_socket or 1):
            changes["numCoresPerSocket"] = 1
    if wish.memory_mb and wish.memory_mb != source.memory_mb:
        changes["memoryMB"] = wish.memory_mb
    if wish.annotation and wish.annotation != source.annotation:
        changes["annotation"] = wish.annotation
    return changes


def _nic_removals(wish: operations_pb2.CloneVirtualMachine, devices: list[Any]) -> list[Any]:
    if not wish.remove_nics:
        return []
    return [
        vim.vm.device.VirtualDeviceSpec(operation="remove", device=device)
        for device in devices
        if isinstance(device, vim.vm.device.VirtualEthernetCard)
    ]


def _growth(
    source: inventory_pb2.VirtualMachine,
    wish: operations_pb2.CloneVirtualMachine,
    devices: list[Any],
) -> list[Any]:
    """Return the change that grows the first disk, if it is too small."""
    capacity = wish.root_disk_gb * _GIB
    if not source.disks or source.disks[0].capacity_bytes >= capacity:
        return []
    root = next(device for device in devices if device.key == source.disks[0].key)
    root.capacityInBytes, root.capacityInKB = capacity, capacity >> 10
    return [vim.vm.device.VirtualDeviceSpec(operation="edit", device=root)]


def _finish(
    context: OperationContext,
    made: FoundMachine,
    wish: operations_pb2.CloneVirtualMachine,
    control: OperationControl,
) -> None:
    """Grow the disk, reconfigure what the clone did not take over, and power on."""
    if made.machine.power_state == OFF:
        values = read_properties(context.session, made.managed_object, [_DEVICES])
        devices = values.get(_DEVICES) or []
        changes = _hardware_changes(made.machine, wish)
        device_changes = [*_growth(made.machine, wish, devices), *_nic_removals(wish, devices)]
        if changes or device_changes:
            spec = vim.vm.ConfigSpec(**changes, deviceChange=device_changes)
            context.tasks.run(lambda: made.managed_object.ReconfigVM_Task(spec), control)
    if wish.power_on:
        switch_on(context, made, control)


def _clean_up(context: OperationContext, made: FoundMachine) -> None:
    """Remove a clone that could not be finished."""
    reference = made.state.reference
    control = OperationControl(context.clock() + CLEAN_UP_SECONDS, clock=context.clock)
    try:
        present = context.lookup.found(reference)
        switch_off(context, present, 0, control)
        context.tasks.run(made.managed_object.Destroy_Task, control)
    except (VirtualMachineNotFoundError, faults.ManagedObjectNotFoundError):
        return
    except (faults.VCenterError, OperationError) as error:
        LOG.error(
            "failed clone is left behind, delete it in vCenter",
            extra=fields({OBJECT: reference.value, NAME: made.machine.name, ERROR: error}),
        )
    else:
        LOG.info("failed clone removed", extra=fields({OBJECT: reference.value}))
