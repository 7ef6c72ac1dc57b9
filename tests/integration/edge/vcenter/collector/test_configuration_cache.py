"""A restarted edge reads what has changed, reports what is true, and trusts no cache for long."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from edge.config import ManagedSettings
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.collector.configuration_cache import ConfigurationCache
from tests.support.edge_vcenter_site import Follower, VCenterSite
from tests.support.servers import StartVcsim
from vsphere_gateway.v1 import inventory_pb2

EVERYTHING = ManagedSettings(("*",))
ONE_CLUSTER = ManagedSettings(("DC0_C0",))
NAMES = tuple(f"DC0_C0_RP0_VM{number}" for number in range(4))


@pytest.fixture
def site(vcsim: StartVcsim, tmp_path: Path) -> Iterator[VCenterSite]:
    site = VCenterSite(vcsim(cluster=2, host=2, vm=4), tmp_path, EVERYTHING)
    yield site
    site.close()


@pytest.fixture
def requests(site: VCenterSite, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the edge asks vCenter."""
    sent: list[str] = []
    soap = VCenterSession.soap

    def recording(self: VCenterSession, body: bytes, *given: Any) -> bytes:
        if self is site.session:
            sent.append(body.decode())
        return soap(self, body, *given)

    monkeypatch.setattr(VCenterSession, "soap", recording)
    return sent


def devices_read_of(requests: list[str], machine: Any) -> bool:
    """Tell whether the devices of a virtual machine were asked for."""
    mine = f">{machine._moId}<"
    return any("config.hardware.device" in each and mine in each for each in requests)


def run_once(site: VCenterSite, tmp_path: Path, **options: Any) -> Follower:
    """Let an edge that keeps configurations start, read everything, and stop."""
    cache = ConfigurationCache(tmp_path / "cache")
    with site.following(configurations=cache, polling_seconds=60, **options) as follower:
        pass
    return follower


def truth(site: VCenterSite, **options: Any) -> dict[str, inventory_pb2.InventoryObject]:
    """Return what an edge that keeps nothing reports."""
    with site.following(polling_seconds=60, **options) as follower:
        pass
    return follower.objects


def test_restart_reads_the_devices_of_nothing_that_is_unchanged(
    site: VCenterSite, tmp_path: Path, requests: list[str]
) -> None:
    first = run_once(site, tmp_path)
    assert all(devices_read_of(requests, site.machine(name)) for name in NAMES)
    requests.clear()
    second = run_once(site, tmp_path)
    assert not any("config.hardware.device" in each for each in requests)
    assert second.objects == first.objects
    assert len(second.machine(NAMES[0]).disks) == 1


def _reconfigure(site: VCenterSite, machine: Any) -> None:
    site.reconfigure(machine, numCPUs=7)


def _power_off(site: VCenterSite, machine: Any) -> None:
    site.finish(machine.PowerOffVM_Task())


def _rename(site: VCenterSite, machine: Any) -> None:
    site.finish(machine.Rename_Task("renamed"))


def _template(site: VCenterSite, machine: Any) -> None:
    _power_off(site, machine)
    machine.MarkAsTemplate()


def _remove_disk(site: VCenterSite, machine: Any) -> None:
    disk = next(
        each
        for each in machine.config.hardware.device
        if isinstance(each, vim.vm.device.VirtualDisk)
    )
    change = vim.vm.device.VirtualDeviceSpec(operation="remove", device=disk)
    site.reconfigure(machine, deviceChange=[change])


def _destroy(site: VCenterSite, machine: Any) -> None:
    _power_off(site, machine)
    site.finish(machine.Destroy_Task())


def _attribute(site: VCenterSite, machine: Any) -> None:
    manager: Any = site.administrator.content.customFieldsManager
    field = manager.AddFieldDefinition("owner", vim.VirtualMachine)
    manager.SetField(machine, field.key, "finance")


@pytest.mark.parametrize(
    "change",
    [_reconfigure, _power_off, _rename, _template, _remove_disk, _destroy, _attribute],
)
def test_what_changed_while_the_edge_was_away_is_reported_after_its_restart(
    site: VCenterSite, tmp_path: Path, change: Callable[[VCenterSite, Any], None]
) -> None:
    before = run_once(site, tmp_path).objects
    change(site, site.machine(NAMES[1]))
    after = run_once(site, tmp_path).objects
    assert after == truth(site)
    assert after != before


def test_machine_made_while_the_edge_was_away_is_read(site: VCenterSite, tmp_path: Path) -> None:
    run_once(site, tmp_path)
    site.create("made-meanwhile", beside=site.machine(NAMES[0]))
    after = run_once(site, tmp_path)
    assert after.machine("made-meanwhile").memory_mb == 64
    assert after.objects == truth(site)


def test_cluster_that_left_management_is_kept_no_longer(site: VCenterSite, tmp_path: Path) -> None:
    run_once(site, tmp_path)
    fewer = run_once(site, tmp_path, managed=ONE_CLUSTER)
    assert fewer.objects == truth(site, managed=ONE_CLUSTER)
    assert set(kept(tmp_path)) == {key for key in fewer.objects if key.startswith("Virtual")}


def test_a_wrong_configuration_in_the_cache_heals_by_itself(
    site: VCenterSite, tmp_path: Path
) -> None:
    run_once(site, tmp_path)
    alter(tmp_path, cpus=99)
    cache = ConfigurationCache(tmp_path / "cache")
    with site.following(configurations=cache, polling_seconds=0.2) as follower:
        follower.wait(lambda: all(follower.machine(name).cpus == 1 for name in NAMES))
    assert run_once(site, tmp_path).machine(NAMES[0]).cpus == 1


def test_vcenter_of_another_identity_gets_nothing_of_the_first_ones(
    site: VCenterSite, tmp_path: Path, vcsim: StartVcsim
) -> None:
    run_once(site, tmp_path)
    kept_files = list((tmp_path / "cache").iterdir())
    (tmp_path / "two").mkdir()
    other = VCenterSite(vcsim(cluster=1, host=1, vm=1), tmp_path / "two", EVERYTHING)
    reported = run_once(other, tmp_path).objects
    assert reported == truth(other)
    assert not any(file.exists() for file in kept_files)
    other.close()


def test_where_all_is_managed_folders_are_reported_before_what_is_in_them(
    site: VCenterSite,
) -> None:
    folder = site.objects(vim.Datacenter)[0].vmFolder.CreateFolder("finance")
    site.finish(folder.MoveIntoFolder_Task([site.machine(NAMES[2])]))
    with site.following(polling_seconds=60) as follower:
        order = list(follower.objects)
    machine = follower.object(NAMES[2])
    above = machine.virtual_machine.folder
    assert follower.objects[f"Folder:{above.value}"].folder.name == "finance"
    assert order.index(f"Folder:{above.value}") < order.index(
        f"VirtualMachine:{machine.reference.value}"
    )


def database(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "cache").glob("*.sqlite")
    return file


def kept(tmp_path: Path) -> list[str]:
    with sqlite3.connect(database(tmp_path)) as connection:
        return [key for (key,) in connection.execute("SELECT key FROM machine")]


def alter(tmp_path: Path, cpus: int) -> None:
    with sqlite3.connect(database(tmp_path)) as connection:
        for key, state in connection.execute("SELECT key, state FROM machine").fetchall():
            machine = inventory_pb2.VirtualMachine.FromString(state)
            machine.cpus = cpus
            connection.execute(
                "UPDATE machine SET state = ? WHERE key = ?", (machine.SerializeToString(), key)
            )
