"""Which disks live on when a machine is destroyed.

The devices are pyVmomi's own; raw device mappings are tried here only, because vcsim has none.
"""

from typing import Any

import pytest
from pyVmomi import vim

from edge.vcenter.operations.destroy import plan_destroy
from edge.vcenter.operations.errors import DiskInUseError

DISK = vim.vm.device.VirtualDisk
LAYOUT = vim.vm.FileLayoutEx


def flat(file_name: str, *parents: str, mode: str = "persistent") -> Any:
    parent = flat(parents[0], *parents[1:]) if parents else None
    return DISK.FlatVer2BackingInfo(fileName=file_name, diskMode=mode, parent=parent)


def disk(key: int, backing: Any, first_class: str = "") -> Any:
    made = DISK(key=key, backing=backing)
    if first_class:
        made.vDiskId = vim.vslm.ID(id=first_class)
    return made


def layout(files: dict[str, int], snapshots: tuple[str, ...] = ()) -> Any:
    """Lay out files by device key; ``snapshots`` are files that only a snapshot uses."""
    names = [*files, *snapshots]
    made = LAYOUT(
        file=[LAYOUT.FileInfo(key=key, name=name) for key, name in enumerate(names)],
        disk=[
            LAYOUT.DiskLayout(key=device, chain=[LAYOUT.DiskUnit(fileKey=[names.index(name)])])
            for name, device in files.items()
        ],
    )
    made.snapshot = [
        LAYOUT.SnapshotLayout(
            disk=[LAYOUT.DiskLayout(key=1, chain=[LAYOUT.DiskUnit(fileKey=[names.index(name)])])]
        )
        for name in snapshots
    ]
    return made


def values(*disks: Any, layout: Any = None, snapshot: Any = None) -> dict[str, Any]:
    found = {"config.hardware.device": [vim.vm.device.VirtualCdrom(key=9), *disks]}
    if layout is not None:
        found["layoutEx"] = layout
    if snapshot is not None:
        found["snapshot"] = snapshot
    return found


def test_a_raw_device_mapping_is_detached_and_its_mapping_file_kept() -> None:
    mapping = DISK.RawDiskMappingVer1BackingInfo(
        fileName="[ds] vm/vm_1.vmdk", compatibilityMode="physicalMode"
    )
    raw, own = disk(2, mapping), disk(1, flat("[ds] vm/vm.vmdk"))
    files = layout({"[ds] vm/vm.vmdk": 1, "[ds] vm/vm_1.vmdk": 2, "[ds] vm/vm_1-rdmp.vmdk": 2})
    plan = plan_destroy(values(own, raw, layout=files), keep=[])
    assert plan.kept == (raw,)
    assert plan.files == {"[ds] vm/vm.vmdk"}


def test_a_first_class_disk_is_detached() -> None:
    volume = disk(2, flat("[ds] fcd/1.vmdk"), first_class="1b0f")
    plan = plan_destroy(values(disk(1, flat("[ds] vm/vm.vmdk")), volume), keep=[])
    assert plan.kept == (volume,)
    assert plan.files == {"[ds] vm/vm.vmdk"}


def test_a_volume_is_known_by_any_file_of_its_chain() -> None:
    volume = disk(2, flat("[ds] volume/1-000001.vmdk", "[ds] volume/1.vmdk"))
    plan = plan_destroy(values(volume), keep=["[ds] volume/1.vmdk"])
    assert plan.kept == (volume,)
    assert plan.files == frozenset()


def test_the_parent_of_a_linked_clone_is_not_among_the_files_that_go() -> None:
    linked = disk(1, flat("[ds] clone/clone.vmdk", "[ds] base/base-000001.vmdk"))
    files = layout({"[ds] clone/clone.vmdk": 1, "[ds] base/base-000001.vmdk": 1})
    assert plan_destroy(values(linked, layout=files), keep=[]).files == {"[ds] clone/clone.vmdk"}


def test_own_snapshots_are_among_the_files_that_go() -> None:
    current = disk(1, flat("[ds] vm/vm-000002.vmdk", "[ds] vm/vm.vmdk"))
    files = layout(
        {"[ds] vm/vm-000002.vmdk": 1, "[ds] vm/vm.vmdk": 1}, snapshots=("[ds] vm/vm-000001.vmdk",)
    )
    plan = plan_destroy(values(current, layout=files, snapshot=object()), keep=[])
    assert plan.files == {
        "[ds] vm/vm.vmdk",
        "[ds] vm/vm-000001.vmdk",
        "[ds] vm/vm-000002.vmdk",
    }


@pytest.mark.parametrize(
    ("mode", "refused"),
    [("persistent", True), ("independent_persistent", False), ("independent_nonpersistent", False)],
)
def test_a_kept_disk_that_a_snapshot_includes_is_refused(mode: str, refused: bool) -> None:
    volume = disk(2, flat("[ds] volume/1.vmdk", mode=mode))
    found = values(volume, snapshot=object())
    if refused:
        with pytest.raises(DiskInUseError, match=r"volume/1\.vmdk"):
            plan_destroy(found, keep=["[ds] volume/1.vmdk"])
    else:
        assert plan_destroy(found, keep=["[ds] volume/1.vmdk"]).kept == (volume,)
