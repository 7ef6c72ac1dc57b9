"""Destroys a virtual machine: Power off, detach what must live on, Destroy_Task.

Refused when a disk that would go is used elsewhere. The folder of the files is never deleted:
Destroy_Task removes the virtual machine's own files and no others.
"""

import dataclasses
import logging
import posixpath
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from pyVmomi import vim

from common.log_fields import fields
from edge.vcenter.client import faults
from edge.vcenter.client.properties import read_properties
from edge.vcenter.operations.control import OperationControl, OperationOutcome
from edge.vcenter.operations.disk_users import users_of
from edge.vcenter.operations.errors import DiskInUseError, VirtualMachineNotFoundError
from edge.vcenter.operations.power import ON, switch_off
from edge.vcenter.operations.target import FoundMachine, OperationContext
from vsphere_gateway.v1 import operations_pb2

log = logging.getLogger(__name__)

_PATHS: Final = ("config.hardware.device", "layoutEx", "datastore", "snapshot")
_RAW: Final = (
    vim.vm.device.VirtualDisk.RawDiskMappingVer1BackingInfo,
    vim.vm.device.VirtualDisk.RawDiskVer2BackingInfo,
)


@dataclasses.dataclass(frozen=True, slots=True)
class DestroyPlan:
    """What happens to the disks."""

    kept: tuple[Any, ...]
    """pyVmomi's devices to detach with their files left alone."""
    files: frozenset[str]
    """Disk files that go with the virtual machine."""


def destroy(
    context: OperationContext, operation: operations_pb2.Operation, control: OperationControl
) -> OperationOutcome:
    """Power off and Destroy_Task. A virtual machine that is gone already is success.

    Raises ``DiskInUseError``, ``RefusedBySiteError``, ``VCenterError`` and what
    ``TaskRunner.run`` raises.
    """
    control.check()
    try:
        found = context.machines.target(operation)
        _destroy(context, found, operation.destroy.keep_disk_file_names, control)
    except (VirtualMachineNotFoundError, faults.ManagedObjectNotFoundError) as error:
        gone = fields(instance=operation.target.instance_uuid, error=error)
        log.info("virtual machine is gone already", extra=gone)
    return OperationOutcome()


def _destroy(
    context: OperationContext,
    found: FoundMachine,
    keep: Collection[str],
    control: OperationControl,
) -> None:
    machine = found.managed_object
    values = read_properties(context.session, machine, _PATHS)
    plan = plan_destroy(values, keep)
    users = users_of(context.session, plan.files, values.get("datastore") or [], machine)
    if users:
        raise DiskInUseError(f"{found.machine.name} is not deleted: {_described(users)}")
    if found.machine.power_state == ON:
        switch_off(context, found, 0, control)
    if plan.kept:
        _detach(context, machine, plan.kept, control)
    context.tasks.run(machine.Destroy_Task, control)


def plan_destroy(values: Mapping[str, Any], keep: Collection[str]) -> DestroyPlan:
    """Decide what becomes of the disks of a virtual machine.

    ``values`` are its properties by path; ``keep`` are file names of volumes. First Class Disks,
    raw device mappings and volumes are kept. Raises ``DiskInUseError`` when a kept disk is part of
    a snapshot, because Destroy_Task would delete its files with the snapshot.
    """
    devices = values.get("config.hardware.device") or []
    disks = [each for each in devices if isinstance(each, vim.vm.device.VirtualDisk)]
    kept = tuple(disk for disk in disks if _must_live_on(disk, keep))
    if values.get("snapshot") is not None:
        _refuse_snapshots_of(kept)
    kept_files = {name for disk in kept for name in chain(disk.backing)}
    doomed = [disk for disk in disks if disk not in kept]
    leaves = {name for disk in doomed for name in list(chain(disk.backing))[:1]}
    own_folders = {posixpath.dirname(name) for name in leaves}
    related = {name for disk in doomed for name in chain(disk.backing)}
    related |= _files_of_layout(values.get("layoutEx"), {disk.key for disk in kept})
    # A linked clone's parents lie in another virtual machine's folder, and stay there.
    files = leaves | {name for name in related if posixpath.dirname(name) in own_folders}
    return DestroyPlan(kept=kept, files=frozenset(files - kept_files))


def chain(backing: Any) -> Iterator[str]:
    """The file names of a disk's backing and its parents, the present one first."""
    while backing is not None:
        if name := getattr(backing, "fileName", None):
            yield name
        backing = getattr(backing, "parent", None)


def _files_of_layout(layout: Any, kept: Collection[int]) -> set[str]:
    """The files of present disks, and of snapshots', but for the device keys ``kept``.

    ``layout.file`` has more, which may be out of date.
    """
    if layout is None:
        return set()
    layouts = [*layout.disk, *(disk for snapshot in layout.snapshot for disk in snapshot.disk)]
    doomed = (disk for disk in layouts if disk.key not in kept)
    keys = {key for disk in doomed for unit in disk.chain for key in unit.fileKey}
    return {file.name for file in layout.file if file.key in keys}


def _must_live_on(disk: Any, keep: Collection[str]) -> bool:
    is_raw = isinstance(disk.backing, _RAW)
    is_volume = any(name in keep for name in chain(disk.backing))
    return is_raw or is_volume or disk.vDiskId is not None


def _refuse_snapshots_of(kept: Collection[Any]) -> None:
    frozen = [disk for disk in kept if not _is_independent(disk.backing)]
    if frozen:
        names = ", ".join(next(chain(disk.backing), f"device {disk.key}") for disk in frozen)
        raise DiskInUseError(
            f"a snapshot includes disks that must be kept ({names}); delete the virtual machine's"
            " snapshots in vCenter first, because deleting it now would delete those disks' files"
        )


def _is_independent(backing: Any) -> bool:
    return str(getattr(backing, "diskMode", "")).startswith("independent")


def _described(users: Mapping[str, str]) -> str:
    names = sorted(users)
    shown = ", ".join(f"{name} ({users[name]})" for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"its disks are used by {shown}{more}"


def _detach(
    context: OperationContext, machine: Any, disks: Collection[Any], control: OperationControl
) -> None:
    """Remove disks from the virtual machine without a file operation: their files stay."""
    changes = [vim.vm.device.VirtualDeviceSpec(operation="remove", device=disk) for disk in disks]
    spec = vim.vm.ConfigSpec(deviceChange=changes)
    kept = fields(object=machine._moId, count=len(changes))
    log.info("disks are detached and kept", extra=kept)
    context.tasks.run(lambda: machine.ReconfigVM_Task(spec), control)
