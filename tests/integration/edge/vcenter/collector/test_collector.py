"""What is in vCenter, and what changes there, is what the collector reports."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from edge.config import ManagedSettings
from edge.interfaces import CollectorUpdate
from edge.managed import ManagedScope
from edge.vcenter.client import faults, tagging
from edge.vcenter.client.answers import ObjectProperties
from edge.vcenter.client.property_specs import VIRTUAL_MACHINE
from edge.vcenter.collector import change_follower, collector, update_source
from edge.vcenter.collector.object_reader import ObjectReader
from tests.support.edge_vcenter_site import Follower, VCenterSite
from tests.support.servers import StartVcsim
from tools.servers.vcsim import Vcsim
from vsphere_gateway.v1 import inventory_pb2, link_pb2

MANAGED = ManagedSettings(("DC0_C0",))
DELETED = link_pb2.REMOVAL_REASON_DELETED
UNMANAGED = link_pb2.REMOVAL_REASON_UNMANAGED
HIDDEN = link_pb2.REMOVAL_REASON_HIDDEN

OpenSite = Callable[..., VCenterSite]


@pytest.fixture
def open_site(vcsim: StartVcsim, tmp_path: Path) -> Iterator[OpenSite]:
    sites: list[VCenterSite] = []

    def open_one(managed: ManagedSettings = MANAGED, **flags: Any) -> VCenterSite:
        simulator: Vcsim = vcsim(**({"cluster": 2, "host": 2, "vm": 3} | flags))
        sites.append(VCenterSite(simulator, tmp_path, managed))
        return sites[-1]

    yield open_one
    for site in sites:
        site.close()


@pytest.fixture
def site(open_site: OpenSite) -> VCenterSite:
    return open_site()


def key(managed_object: Any) -> str:
    return f"{type(managed_object).__name__.rpartition('.')[2]}:{managed_object._moId}"


def reference(managed_object: Any) -> inventory_pb2.ObjectReference:
    kind, _, value = key(managed_object).partition(":")
    return inventory_pb2.ObjectReference(type=kind, value=value)


def name_of(follower: Follower, name: str) -> str:
    return next(k for k, each in follower.objects.items() if name in str(each))


# The full read


def test_everything_of_a_managed_cluster_is_read(site: VCenterSite) -> None:
    with site.following() as follower:
        kinds = follower.kinds()
    assert kinds == {
        "vcenter": 1,
        "datacenter": 1,
        # The root folder, and the datacenter's four.
        "folder": 5,
        "cluster": 1,
        "host": 2,
        "resource_pool": 1,
        "datastore": 1,
        "network": 3,
        "distributed_switch": 1,
        "virtual_machine": 3,
    }
    assert follower.unreadable == {}
    assert follower.removals == {}


def test_nothing_of_an_unlisted_cluster_leaves_the_site(open_site: OpenSite) -> None:
    site = open_site(standalone_host=1, pool=1)
    unmanaged = [
        key(each)
        for kind in (vim.HostSystem, vim.VirtualMachine, vim.ResourcePool)
        for each in site.objects(kind)
        if site.named(vim.ClusterComputeResource, "DC0_C0") != owner(each)
    ]
    assert len(unmanaged) > 10
    with site.following() as follower:
        reported = "".join(str(each) for each in follower.objects.values())
    for each in (*unmanaged, key(site.named(vim.ClusterComputeResource, "DC0_C1"))):
        assert each not in follower.objects
        assert f'"{each.partition(":")[2]}"' not in reported


def owner(managed_object: Any) -> Any:
    if isinstance(managed_object, vim.HostSystem):
        return managed_object.parent
    pool = managed_object
    return (pool.resourcePool if isinstance(pool, vim.VirtualMachine) else pool).owner


def test_datastore_that_no_managed_cluster_mounts_is_not_reported(site: VCenterSite) -> None:
    host = site.named(vim.HostSystem, "DC0_C1_H0")
    system = host.configManager.datastoreSystem
    system.CreateLocalDatastore("elsewhere", str(site.simulator.folder))
    with site.following() as follower:
        assert follower.kinds()["datastore"] == 1
        assert "elsewhere" not in str(follower.objects)


def test_clusters_are_listed_by_globs(open_site: OpenSite) -> None:
    site = open_site(ManagedSettings(("DC0_*",)))
    with site.following() as follower:
        assert follower.kinds()["cluster"] == 2
        assert follower.kinds()["virtual_machine"] == 6


def test_without_a_matching_cluster_only_the_vcenter_is_reported(
    open_site: OpenSite, caplog: pytest.LogCaptureFixture
) -> None:
    with open_site(ManagedSettings(("prod",))).following() as follower:
        assert follower.kinds() == {"vcenter": 1}
    assert "no cluster matches managed.clusters" in caplog.text


def test_second_full_read_reports_the_same(site: VCenterSite) -> None:
    with site.following() as first:
        pass
    with site.following() as second:
        pass
    assert first.objects == second.objects


def test_polling_pass_over_an_unchanged_inventory_reports_nothing(site: VCenterSite) -> None:
    with site.following(polling_seconds=0.1) as follower:
        time.sleep(2)
        assert follower.reported == 0


# Changes


def test_power_changes_are_reported(site: VCenterSite) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    with site.following(polling_seconds=60) as follower:
        site.finish(machine.PowerOffVM_Task())
        follower.wait(
            lambda: follower.machine("DC0_C0_RP0_VM0").power_state == inventory_pb2.POWER_STATE_OFF
        )
        site.finish(machine.PowerOnVM_Task())
        follower.wait(
            lambda: follower.machine("DC0_C0_RP0_VM0").power_state == inventory_pb2.POWER_STATE_ON
        )
        site.finish(machine.SuspendVM_Task())
        follower.wait(
            lambda: (
                follower.machine("DC0_C0_RP0_VM0").power_state
                == inventory_pb2.POWER_STATE_SUSPENDED
            )
        )


def test_network_adapters_that_power_connects_and_disconnects_are_reported(
    site: VCenterSite,
) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    with site.following(polling_seconds=60) as follower:

        def connected() -> bool:
            return follower.machine("DC0_C0_RP0_VM0").nics[0].connected

        assert connected()
        version = machine.config.changeVersion
        site.finish(machine.SuspendVM_Task())
        follower.wait(lambda: not connected())
        site.finish(machine.PowerOnVM_Task())
        follower.wait(connected)
        assert machine.config.changeVersion == version, "nothing announced that"


def test_new_virtual_machine_is_reported_whole(site: VCenterSite) -> None:
    with site.following(polling_seconds=60) as follower:
        site.create("web-1", beside=site.machine("DC0_C0_RP0_VM0"), annotation="first")
        follower.wait(lambda: follower.has("web-1"))
        machine = follower.machine("web-1")
    assert machine.memory_mb == 64
    assert machine.cpus == 1
    assert machine.instance_uuid
    assert machine.cluster == reference(site.named(vim.ClusterComputeResource, "DC0_C0"))


def test_virtual_machine_made_in_an_unlisted_cluster_is_not_reported(site: VCenterSite) -> None:
    with site.following() as follower:
        site.create("secret", beside=site.machine("DC0_C1_RP0_VM0"))
        site.create("public", beside=site.machine("DC0_C0_RP0_VM0"))
        follower.wait(lambda: follower.has("public"))
        time.sleep(2)
        assert not follower.has("secret")


def test_deleted_virtual_machine_is_a_confirmed_deletion(site: VCenterSite) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    with site.following(polling_seconds=60) as follower:
        site.finish(machine.PowerOffVM_Task())
        site.finish(machine.Destroy_Task())
        follower.wait(lambda: follower.removals.get(key(machine)) == DELETED)
        assert not follower.has("DC0_C0_RP0_VM0")


def test_rename_is_reported_with_its_escapes_undone(site: VCenterSite) -> None:
    with site.following(polling_seconds=60) as follower:
        site.finish(site.machine("DC0_C0_RP0_VM0").Rename_Task("a%2fb 100%25"))
        follower.wait(lambda: follower.has("a/b 100%"))


def test_reconfiguration_is_reported(site: VCenterSite) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    with site.following(polling_seconds=60) as follower:
        site.reconfigure(machine, numCPUs=3, memoryMB=96, annotation="bigger")
        follower.wait(lambda: follower.machine("DC0_C0_RP0_VM0").memory_mb == 96)
        reported = follower.machine("DC0_C0_RP0_VM0")
        assert (reported.cpus, reported.annotation) == (3, "bigger")
        assert reported.disks
        assert reported.power_state == inventory_pb2.POWER_STATE_ON


def test_added_and_removed_devices_are_reported(site: VCenterSite) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    disk = vim.vm.device.VirtualDisk(
        key=-1,
        capacityInKB=2 << 20,
        controllerKey=next(
            each.key
            for each in machine.config.hardware.device
            if isinstance(each, vim.vm.device.ParaVirtualSCSIController)
        ),
        unitNumber=3,
        backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
            fileName="", diskMode="persistent", thinProvisioned=True
        ),
    )
    nic = vim.vm.device.VirtualVmxnet3(
        key=-2,
        backing=vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(
            deviceName="VM Network", network=site.named(vim.Network, "VM Network")
        ),
    )
    with site.following(polling_seconds=60) as follower:
        change(site, machine, disk, "add", "create")
        change(site, machine, nic, "add")
        follower.wait(
            lambda: (
                len(follower.machine("DC0_C0_RP0_VM0").disks) == 2
                and len(follower.machine("DC0_C0_RP0_VM0").nics) == 2
            )
        )
        reported = follower.machine("DC0_C0_RP0_VM0")
        assert reported.disks[1].capacity_bytes == 2 << 30
        nic_reported = next(each for each in reported.nics if each.model == "VirtualVmxnet3")
        assert nic_reported.network == reference(site.named(vim.Network, "VM Network"))
        added = next(
            each
            for each in machine.config.hardware.device
            if isinstance(each, vim.vm.device.VirtualVmxnet3)
        )
        change(site, machine, added, "remove")
        follower.wait(lambda: len(follower.machine("DC0_C0_RP0_VM0").nics) == 1)


def change(site: VCenterSite, machine: Any, device: Any, operation: str, file: str = "") -> None:
    spec = vim.vm.device.VirtualDeviceSpec(device=device, operation=operation)
    if file:
        spec.fileOperation = file
    site.reconfigure(machine, deviceChange=[spec])


def test_snapshots_are_reported(site: VCenterSite) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    with site.following(polling_seconds=60) as follower:
        site.finish(machine.CreateSnapshot_Task("before", "", False, False))
        follower.wait(lambda: follower.machine("DC0_C0_RP0_VM0").has_snapshot)


def test_addresses_of_the_guest_are_reported(site: VCenterSite) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    with site.following() as follower:
        site.finish(machine.PowerOffVM_Task())
        customization = vim.vm.customization.Specification(
            identity=vim.vm.customization.LinuxPrep(
                hostName=vim.vm.customization.FixedName(name="guest"), domain="example.com"
            ),
            globalIPSettings=vim.vm.customization.GlobalIPSettings(),
            nicSettingMap=[
                vim.vm.customization.AdapterMapping(
                    adapter=vim.vm.customization.IPSettings(
                        ip=vim.vm.customization.FixedIp(ipAddress="192.0.2.7"),
                        subnetMask="255.255.255.0",
                    )
                )
            ],
        )
        site.finish(machine.CustomizeVM_Task(customization))
        site.finish(machine.PowerOnVM_Task())
        follower.wait(
            lambda: list(follower.machine("DC0_C0_RP0_VM0").nics[0].ip_addresses) == ["192.0.2.7"]
        )


def test_vmotion_changes_the_host_alone(site: VCenterSite) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    other = next(
        host
        for host in site.named(vim.ClusterComputeResource, "DC0_C0").host
        if host != machine.runtime.host
    )
    with site.following(polling_seconds=60) as follower:
        before = follower.machine("DC0_C0_RP0_VM0")
        site.finish(machine.RelocateVM_Task(vim.vm.RelocateSpec(host=other)))
        follower.wait(lambda: follower.machine("DC0_C0_RP0_VM0").host == reference(other))
        after = follower.machine("DC0_C0_RP0_VM0")
        before.ClearField("host")
        after.ClearField("host")
        assert before == after


def test_move_to_an_unlisted_cluster_ends_management_and_back_begins_it(
    site: VCenterSite,
) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    here = site.named(vim.ClusterComputeResource, "DC0_C0")
    there = site.named(vim.ClusterComputeResource, "DC0_C1")
    with site.following() as follower:
        before = follower.object("DC0_C0_RP0_VM0")
        move(site, machine, there)
        follower.wait(lambda: follower.removals.get(key(machine)) == UNMANAGED)
        site.reconfigure(machine, memoryMB=128)
        move(site, machine, here)
        follower.wait(lambda: follower.has("DC0_C0_RP0_VM0"))
        after = follower.object("DC0_C0_RP0_VM0")
        assert after.virtual_machine.memory_mb == 128
        assert after.virtual_machine.disks == before.virtual_machine.disks


def move(site: VCenterSite, machine: Any, cluster: Any) -> None:
    spec = vim.vm.RelocateSpec(host=cluster.host[0], pool=cluster.resourcePool)
    site.finish(machine.RelocateVM_Task(spec))


def test_move_between_managed_clusters_changes_the_cluster(open_site: OpenSite) -> None:
    site = open_site(ManagedSettings(("*",)))
    machine = site.machine("DC0_C0_RP0_VM0")
    there = site.named(vim.ClusterComputeResource, "DC0_C1")
    with site.following() as follower:
        move(site, machine, there)
        follower.wait(lambda: follower.machine("DC0_C0_RP0_VM0").cluster == reference(there))
        assert follower.removals == {}


def test_renamed_cluster_comes_under_management_with_all_that_it_has(
    open_site: OpenSite,
) -> None:
    site = open_site(ManagedSettings(("DC0_C0", "prod-*")))
    cluster = site.named(vim.ClusterComputeResource, "DC0_C1")
    with site.following() as follower:
        site.finish(cluster.Rename_Task("prod-2"))
        follower.wait(lambda: follower.kinds().get("virtual_machine") == 6)
        follower.wait(lambda: follower.kinds()["host"] == 4)
        assert follower.machine("DC0_C1_RP0_VM2").cluster == reference(cluster)


def test_cluster_that_the_site_adds_is_read_without_a_new_login_and_taken_away_again(
    open_site: OpenSite,
) -> None:
    site = open_site()
    scope = ManagedScope(MANAGED)
    sessions = site.session_count()
    with site.following(managed=scope) as follower:
        scope.replace(ManagedSettings(("DC0_C0", "DC0_C1")))
        follower.collector.rescope()
        follower.wait(lambda: follower.new_clusters_read.is_set())
        assert follower.kinds()["virtual_machine"] == 6
        assert follower.kinds()["host"] == 4
        assert site.session_count() == sessions
        scope.replace(MANAGED)
        follower.collector.rescope()
        follower.wait(lambda: follower.kinds()["virtual_machine"] == 3)
        assert set(follower.removals.values()) == {UNMANAGED}


class NewCluster:
    """A cluster that the site adds to its list when the collector follows the other one."""

    def __init__(self, site: VCenterSite, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(change_follower, "_READ_AT_ONCE", 10)
        monkeypatch.setattr(update_source, "_BETWEEN_POLLS_SECONDS", 0.1)
        self.announced = _arrivals("UpdatesPage", monkeypatch)
        self.fetched = _arrivals("MachinesPage", monkeypatch)
        self.polled = _arrivals("PollingEnd", monkeypatch)
        self.sources: list[update_source.UpdateSource] = []
        make_source = update_source.UpdateSource

        def keep_source(*given: Any) -> update_source.UpdateSource:
            self.sources.append(make_source(*given))
            return self.sources[-1]

        monkeypatch.setattr(collector, "UpdateSource", keep_source)
        self.site = site
        self.stopped = site.machine("DC0_C1_RP0_VM1")
        site.finish(self.stopped.PowerOffVM_Task())
        self._attributes: Any = site.administrator.content.customFieldsManager
        self._owner = self._attributes.AddCustomFieldDef("owner", vim.VirtualMachine).key
        self.root_pool = self.stopped.resourcePool
        self._pool = self.root_pool.CreateResourcePool(
            "pool",
            vim.ResourceConfigSpec(
                cpuAllocation=self.root_pool.config.cpuAllocation,
                memoryAllocation=self.root_pool.config.memoryAllocation,
            ),
        )
        self._pool.MoveIntoResourcePool([self.stopped])
        self._scope = ManagedScope(MANAGED)
        self._following = site.collector(managed=self._scope, polling_seconds=3600.0)
        self.updates = self._following.updates(threading.Event())
        self.updates_until(lambda update: update.full_read and update.complete)
        self.site.finish(site.machine("DC0_C0_RP0_VM1").PowerOffVM_Task())
        # So the watch has reported its first state.
        self.updates_until(lambda update: "DC0_C0_RP0_VM1" in _machines(update))

    def add(self) -> None:
        self._scope.replace(ManagedSettings(("*",)))
        self._following.rescope()

    def updates_until(self, wanted: Callable[[CollectorUpdate], bool]) -> list[CollectorUpdate]:
        reported = []
        for update in self.updates:
            reported.append(update)
            if wanted(update):
                break
        return reported

    def change(self, task: Any) -> None:
        """Finish a task of the administrator's, and wait until the source has its update."""
        self.announced.clear()
        self.site.finish(task)
        assert self.announced.wait(30)

    def create(self, name: str, beside: Any) -> None:
        """Make a virtual machine and wait likewise."""
        self.announced.clear()
        self.site.create(name, beside)
        assert self.announced.wait(30)

    def change_unannounced(self) -> None:
        """Set a custom attribute of the stopped machine: the simulator does not announce it."""
        self._attributes.SetField(self.stopped, self._owner, "alice")

    def move_unannounced(self) -> None:
        """Destroy the stopped machine's pool: its move to the root pool is not announced."""
        self.site.finish(self._pool.Destroy_Task())

    def poll(self) -> None:
        """Wait until the source has all of a polling pass."""
        self.polled.clear()
        self.sources[-1].poll_soon()
        assert self.polled.wait(30)


def _arrivals(page: str, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what is set whenever the source has such an answer, taken by nobody yet."""
    arrived, made = threading.Event(), getattr(update_source, page)

    def arrive(*given: Any) -> Any:
        arrived.set()
        return made(*given)

    monkeypatch.setattr(update_source, page, arrive)
    return arrived


def _machines(update: CollectorUpdate) -> dict[str, inventory_pb2.VirtualMachine]:
    return {each.virtual_machine.name: each.virtual_machine for each in update.objects}


def _shows_new_cluster(update: CollectorUpdate) -> bool:
    return "DC0_C1" in [each.cluster.name for each in update.objects]


def _is_last_of_new_clusters(update: CollectorUpdate) -> bool:
    return update.newly_managed and update.complete


@pytest.fixture
def new_cluster(open_site: OpenSite, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewCluster]:
    found = NewCluster(open_site(vm=30), monkeypatch)
    found.add()
    yield found
    found.updates.close()


def test_change_overtakes_the_read_of_a_cluster_that_came_under_management(
    new_cluster: NewCluster,
) -> None:
    new_cluster.updates_until(lambda update: "DC0_C1_RP0_VM0" in _machines(update))
    new_cluster.change(new_cluster.site.machine("DC0_C0_RP0_VM2").PowerOffVM_Task())
    reported = new_cluster.updates_until(lambda update: "DC0_C0_RP0_VM2" in _machines(update))
    assert not reported[-1].newly_managed
    assert len(reported) == 1, "the change is reported next"
    assert new_cluster.updates_until(_is_last_of_new_clusters)[-1].newly_managed


def test_new_cluster_is_announced_before_any_part_of_it_is_reported(
    new_cluster: NewCluster,
) -> None:
    before = new_cluster.updates_until(lambda update: update.newly_managed)
    assert not before[-1].complete
    assert not any(map(_shows_new_cluster, before))
    reported = new_cluster.updates_until(_is_last_of_new_clusters)
    assert any(map(_shows_new_cluster, reported))
    names = {name for update in reported for name in _machines(update)}
    assert {f"DC0_C1_RP0_VM{number}" for number in range(30)} <= names
    assert not any(update.complete for update in reported[:-1] if update.newly_managed)


def test_machine_that_changed_since_it_was_fetched_is_reported_as_it_is_now(
    new_cluster: NewCluster,
) -> None:
    new_cluster.updates_until(_shows_new_cluster)
    assert new_cluster.fetched.wait(30)
    new_cluster.change(new_cluster.site.machine("DC0_C1_RP0_VM0").PowerOffVM_Task())
    states = [
        _machines(update)["DC0_C1_RP0_VM0"].power_state
        for update in new_cluster.updates_until(_is_last_of_new_clusters)
        if "DC0_C1_RP0_VM0" in _machines(update)
    ]
    assert states
    assert states[-1] == inventory_pb2.POWER_STATE_OFF


def test_machine_that_a_polling_pass_has_read_since_it_was_fetched_is_reported_as_it_is_now(
    new_cluster: NewCluster,
) -> None:
    new_cluster.updates_until(_shows_new_cluster)
    assert new_cluster.fetched.wait(30)
    new_cluster.move_unannounced()
    new_cluster.poll()
    pools = [
        _machines(update)["DC0_C1_RP0_VM1"].resource_pool
        for update in new_cluster.updates_until(_is_last_of_new_clusters)
        if "DC0_C1_RP0_VM1" in _machines(update)
    ]
    assert pools
    assert pools[-1] == reference(new_cluster.root_pool)


def test_machine_that_was_deleted_since_it_was_fetched_is_not_reported(
    new_cluster: NewCluster,
) -> None:
    new_cluster.updates_until(_shows_new_cluster)
    assert new_cluster.fetched.wait(30)
    machine = new_cluster.site.machine("DC0_C1_RP0_VM0")
    new_cluster.site.finish(machine.PowerOffVM_Task())
    new_cluster.change(machine.Destroy_Task())
    reported = new_cluster.updates_until(_is_last_of_new_clusters)
    new_cluster.change(new_cluster.site.machine("DC0_C0_RP0_VM2").PowerOffVM_Task())
    reported += new_cluster.updates_until(lambda update: "DC0_C0_RP0_VM2" in _machines(update))
    names = [name for update in reported for name in _machines(update)]
    assert "DC0_C1_RP0_VM1" in names
    assert "DC0_C1_RP0_VM0" not in names


def test_change_overtakes_a_polling_pass(new_cluster: NewCluster) -> None:
    new_cluster.updates_until(_is_last_of_new_clusters)
    new_cluster.change_unannounced()
    new_cluster.poll()
    new_cluster.change(new_cluster.site.machine("DC0_C0_RP0_VM2").PowerOffVM_Task())
    reported = new_cluster.updates_until(lambda update: "DC0_C0_RP0_VM2" in _machines(update))
    assert not any("DC0_C1_RP0_VM1" in _machines(update) for update in reported)
    last = new_cluster.updates_until(lambda update: "DC0_C1_RP0_VM1" in _machines(update))[-1]
    assert _machines(last)["DC0_C1_RP0_VM1"].custom_attributes


def test_machine_made_while_a_polling_pass_reads_is_not_forgotten(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cluster that is not managed: it was never reported, so nobody asks vCenter for it."""
    cluster = NewCluster(open_site(), monkeypatch)
    cluster.poll()
    cluster.create("made-meanwhile", cluster.stopped)
    # Told when the news has been taken in, and before the end of the pass is.
    cluster.change(cluster.site.machine("DC0_C0_RP0_VM2").PowerOffVM_Task())
    cluster.updates_until(lambda update: "DC0_C0_RP0_VM2" in _machines(update))
    cluster.add()
    reported = cluster.updates_until(_is_last_of_new_clusters)
    cluster.updates.close()
    assert "made-meanwhile" in {name for update in reported for name in _machines(update)}


def test_polling_pass_lets_an_operation_look_at_its_machine_between_two_objects(
    site: VCenterSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    enough = threading.Event()
    parse = change_follower.parse_objects
    with site.following() as follower:

        def parse_watched(body: bytes) -> Iterator[ObjectProperties]:
            for found in parse(body):
                held.append(follower.collector._known.lock.locked())
                yield found
            enough.set()

        monkeypatch.setattr(change_follower, "parse_objects", parse_watched)
        assert enough.wait(30)
    assert held
    assert not any(held)


def test_renamed_cluster_leaves_management_without_any_deletion(site: VCenterSite) -> None:
    cluster = site.named(vim.ClusterComputeResource, "DC0_C0")
    with site.following() as follower:
        reported = set(follower.objects)
        site.finish(cluster.Rename_Task("private"))
        follower.wait(lambda: follower.kinds() == {"vcenter": 1})
        assert set(follower.removals) == reported - {"ServiceInstance:ServiceInstance"}
        assert set(follower.removals.values()) == {UNMANAGED}


def test_template_and_back_keeps_the_reference(site: VCenterSite) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    site.finish(machine.PowerOffVM_Task())
    with site.following() as follower:
        machine.MarkAsTemplate()
        follower.wait(lambda: follower.object("DC0_C0_RP0_VM0").WhichOneof("body") == "template")
        template = follower.objects[key(machine)].template
        assert not template.HasField("resource_pool")
        assert template.cluster == reference(site.named(vim.ClusterComputeResource, "DC0_C0"))
        machine.MarkAsVirtualMachine(site.machine("DC0_C0_RP0_VM1").resourcePool)
        follower.wait(
            lambda: follower.object("DC0_C0_RP0_VM0").WhichOneof("body") == "virtual_machine"
        )
        assert follower.removals == {}


def test_template_belongs_to_whoever_mounts_its_datastore(site: VCenterSite) -> None:
    """Its host is one that this edge does not manage, and is not reported."""
    machine = site.machine("DC0_C1_RP0_VM0")
    site.finish(machine.PowerOffVM_Task())
    machine.MarkAsTemplate()
    with site.following() as follower:
        template = follower.machine("DC0_C1_RP0_VM0")
        assert not template.HasField("host")
        assert not template.HasField("cluster")
        assert len(template.datastores) == 1


def test_move_to_another_folder_reports_the_folder_too(site: VCenterSite) -> None:
    datacenter = site.objects(vim.Datacenter)[0]
    folder = datacenter.vmFolder.CreateFolder("tenant-a").CreateFolder("web")
    with site.following() as follower:
        assert key(folder) not in follower.objects
        site.finish(folder.MoveIntoFolder_Task([site.machine("DC0_C0_RP0_VM0")]))
        follower.wait(lambda: follower.machine("DC0_C0_RP0_VM0").folder == reference(folder))
        assert follower.objects[key(folder)].folder.name == "web"
        assert key(folder.parent) in follower.objects


def test_custom_attributes_and_tags_are_reported(site: VCenterSite) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    with site.following() as follower:
        manager = site.administrator.content.customFieldsManager
        field = manager.AddCustomFieldDef("owner", vim.VirtualMachine)
        manager.SetField(machine, field.key, "alice")
        site.simulator.govc("tags.category.create", "stage")
        site.simulator.govc("tags.create", "-c", "stage", "test")
        site.simulator.govc("tags.attach", "test", "/DC0/vm/DC0_C0_RP0_VM0")
        follower.wait(lambda: list(follower.machine("DC0_C0_RP0_VM0").tags) == ["stage:test"])
        follower.wait(
            lambda: (
                [
                    (each.name, each.value)
                    for each in follower.machine("DC0_C0_RP0_VM0").custom_attributes
                ]
                == [("owner", "alice")]
            )
        )
        site.simulator.govc("tags.detach", "test", "/DC0/vm/DC0_C0_RP0_VM0")
        follower.wait(lambda: not follower.machine("DC0_C0_RP0_VM0").tags)
    with site.following() as again:
        assert again.machine("DC0_C0_RP0_VM0").custom_attributes


def test_new_host_and_maintenance_mode_are_reported(site: VCenterSite) -> None:
    cluster = site.named(vim.ClusterComputeResource, "DC0_C0")
    with site.following() as follower:
        spec = vim.host.ConnectSpec(hostName="new-host", userName="root", password="x", force=True)
        site.finish(cluster.AddHost_Task(spec, True))
        follower.wait(lambda: follower.kinds()["host"] == 3)
        follower.wait(lambda: len(follower.objects[key(cluster)].cluster.hosts) == 3)
        host = site.named(vim.HostSystem, "new-host")
        site.finish(host.EnterMaintenanceMode_Task(0))
        follower.wait(lambda: follower.objects[key(host)].host.in_maintenance_mode)


def test_new_port_group_is_reported_and_a_removed_one_is_deleted(site: VCenterSite) -> None:
    switch = site.objects(vim.DistributedVirtualSwitch)[0]
    with site.following() as follower:
        spec = vim.dvs.DistributedVirtualPortgroup.ConfigSpec(
            name="vlan-12",
            type="earlyBinding",
            numPorts=8,
            defaultPortConfig=vim.dvs.VmwareDistributedVirtualSwitch.VmwarePortConfigPolicy(
                vlan=vim.dvs.VmwareDistributedVirtualSwitch.VlanIdSpec(vlanId=12)
            ),
        )
        site.finish(switch.AddDVPortgroup_Task([spec]))
        made = site.named(vim.dvs.DistributedVirtualPortgroup, "vlan-12")
        follower.wait(lambda: key(made) in follower.objects)
        reported = follower.objects[key(made)].network
        assert (reported.vlan_id, reported.distributed_switch) == (12, reference(switch))
        site.finish(made.Destroy_Task())
        follower.wait(lambda: follower.removals.get(key(made)) == DELETED)


def test_many_changes_at_once_are_all_reported(open_site: OpenSite) -> None:
    site = open_site(vm=40)
    machines = [each for each in site.objects(vim.VirtualMachine) if "_C0_" in each.name]
    with site.following() as follower:
        tasks = [each.PowerOffVM_Task() for each in machines]
        for task in tasks:
            site.finish(task)
        for task in [each.Destroy_Task() for each in machines[:20]]:
            site.finish(task)
        made = [site.create(f"new-{n}", beside=machines[30]) for n in range(10)]
        follower.wait(
            lambda: (
                len([r for r in follower.removals.values() if r == DELETED]) == 20
                and all(key(each) in follower.objects for each in made)
                and all(
                    follower.objects[key(each)].virtual_machine.power_state
                    == inventory_pb2.POWER_STATE_OFF
                    for each in machines[20:]
                )
            ),
        )


# What is protected


def test_names_and_folders_that_the_site_lists_are_protected(open_site: OpenSite) -> None:
    site = open_site(
        dataclasses.replace(
            MANAGED, read_only_names=("*_VM1",), read_only_folders=("/DC0/vm/appliances",)
        )
    )
    folder = site.objects(vim.Datacenter)[0].vmFolder.CreateFolder("appliances")
    with site.following() as follower:
        assert follower.machine("DC0_C0_RP0_VM1").protected_by_site
        assert not follower.machine("DC0_C0_RP0_VM0").protected_by_site
        site.finish(folder.MoveIntoFolder_Task([site.machine("DC0_C0_RP0_VM0")]))
        follower.wait(lambda: follower.machine("DC0_C0_RP0_VM0").protected_by_site)
        site.finish(folder.Rename_Task("tenants"))
        follower.wait(lambda: not follower.machine("DC0_C0_RP0_VM0").protected_by_site)


def test_the_edges_own_machine_is_protected(site: VCenterSite) -> None:
    own = site.machine("DC0_C0_RP0_VM2").config.uuid
    with site.following(machine_uuid=own.upper()) as follower:
        protected = {
            each.virtual_machine.name
            for each in follower.objects.values()
            if each.virtual_machine.protected_by_site
        }
    assert protected == {"DC0_C0_RP0_VM2"}


# What must not be believed, and what goes wrong


def test_expired_session_ends_the_following_and_deletes_nothing(site: VCenterSite) -> None:
    with site.following(polling_seconds=60) as follower:
        site.end_sessions()
        site.finish(site.machine("DC0_C0_RP0_VM0").PowerOffVM_Task())
        error = follower.wait_for_end()
    assert isinstance(error, faults.SessionExpiredError)
    assert follower.removals == {}
    site.session.connect()
    with site.following() as again:
        assert again.machine("DC0_C0_RP0_VM0").power_state == inventory_pb2.POWER_STATE_OFF


def test_what_changes_after_it_was_read_and_before_it_is_watched_is_reported(
    site: VCenterSite,
) -> None:
    collector = site.collector(polling_seconds=3600.0)
    updates = collector.updates(threading.Event())
    read = [next(updates)]
    while not read[-1].complete:
        read.append(next(updates))
    off, deleted, resized = (site.machine(f"DC0_C0_RP0_VM{number}") for number in range(3))
    site.finish(off.PowerOffVM_Task())
    site.reconfigure(resized, numCPUs=7)
    site.finish(deleted.PowerOffVM_Task())
    gone = key(deleted)
    made = site.create("made-meanwhile", beside=off)
    site.finish(deleted.Destroy_Task())
    reported, removals = {}, {}
    while not ({key(off), key(resized), key(made)} <= reported.keys() and removals):
        update = next(updates)
        reported |= {
            f"{each.reference.type}:{each.reference.value}": each for each in update.objects
        }
        removals |= {each.reference.value: each.reason for each in update.removals}
    updates.close()
    assert reported[key(off)].virtual_machine.power_state == inventory_pb2.POWER_STATE_OFF
    assert reported[key(resized)].virtual_machine.cpus == 7
    assert reported[key(made)].virtual_machine.name == "made-meanwhile"
    assert removals == {gone.partition(":")[2]: DELETED}


def test_session_that_expires_during_the_full_read_completes_nothing(site: VCenterSite) -> None:
    collector = site.collector()
    stop = threading.Event()
    updates = collector.updates(stop)
    first = next(updates)
    assert not first.complete
    site.end_sessions()
    rest = []
    with pytest.raises(faults.SessionExpiredError):
        rest.extend(updates)
    assert not any(update.complete or update.removals for update in rest)


def test_hidden_object_is_kept(site: VCenterSite) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    with site.following(polling_seconds=60) as follower:
        site.simulator.inject_fault("NoPermission", "RetrievePropertiesEx", max_count=2)
        answer = follower.collector.confirm([reference(machine)])
    assert [each.reason for each in answer.removals] == [HIDDEN]


def test_confirm_answers_each_reference_once(site: VCenterSite) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    deleted = site.machine("DC0_C0_RP0_VM1")
    with site.following(polling_seconds=60) as follower:
        site.finish(deleted.PowerOffVM_Task())
        site.finish(deleted.Destroy_Task())
        asked = [
            reference(machine),
            reference(deleted),
            reference(site.machine("DC0_C1_RP0_VM0")),
            reference(site.named(vim.ClusterComputeResource, "DC0_C0")),
            reference(site.named(vim.HostSystem, "DC0_C1_H0")),
            inventory_pb2.ObjectReference(type="ServiceInstance", value="ServiceInstance"),
        ]
        answer = follower.collector.confirm(asked)
        reported = follower.objects[key(machine)]
    assert {each.reference.value: each.reason for each in answer.removals} == {
        deleted._moId: DELETED,
        asked[2].value: UNMANAGED,
        asked[4].value: UNMANAGED,
    }
    assert [each.WhichOneof("body") for each in answer.objects] == [
        "vcenter",
        "virtual_machine",
        "cluster",
    ]
    assert answer.objects[1] == reported
    assert answer.unreadable == []


def test_confirm_from_an_expired_session_deletes_nothing(site: VCenterSite) -> None:
    gone = inventory_pb2.ObjectReference(type="VirtualMachine", value="vm-4711")
    collector = site.collector()
    next(updates := collector.updates(threading.Event()))
    site.end_sessions()
    with pytest.raises(faults.VCenterError):
        collector.confirm([gone])
    updates.close()


@pytest.fixture
def paths_read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The properties that each later read of objects asked for."""
    asked: list[tuple[str, ...]] = []
    plain = ObjectReader.read

    def read(reader: ObjectReader, keys: Any, paths: tuple[str, ...], type_name: str) -> Any:
        asked.append(tuple(paths))
        return plain(reader, keys, paths, type_name)

    monkeypatch.setattr(ObjectReader, "read", read)
    return asked


def test_a_look_sees_the_power_of_now_and_reads_no_configuration_again(
    site: VCenterSite, paths_read: list[tuple[str, ...]]
) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    with site.following() as follower:
        reported = follower.objects[key(machine)].virtual_machine
    site.finish(machine.PowerOffVM_Task())  # nobody follows: only vCenter knows
    paths_read.clear()
    (seen,) = follower.collector.look(reference(machine)).objects
    assert paths_read == [VIRTUAL_MACHINE.watched]
    assert (reported.power_state, seen.virtual_machine.power_state) == (
        inventory_pb2.POWER_STATE_ON,
        inventory_pb2.POWER_STATE_OFF,
    )
    assert seen.virtual_machine.disks == reported.disks
    assert seen.virtual_machine.cluster == reported.cluster


def test_a_look_reads_a_configuration_that_has_changed(
    site: VCenterSite, paths_read: list[tuple[str, ...]]
) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    with site.following() as follower:
        reported = follower.objects[key(machine)].virtual_machine
    site.reconfigure(machine, instanceUuid="11111111-2222-4333-8444-555555555555")
    paths_read.clear()
    answer = follower.collector.look(reference(machine))
    assert paths_read == [VIRTUAL_MACHINE.watched, VIRTUAL_MACHINE.all_paths]
    assert answer == follower.collector.confirm([reference(machine)])
    assert answer.objects[0].virtual_machine.instance_uuid != reported.instance_uuid


def test_a_look_at_what_is_not_followed_asks_for_all(site: VCenterSite) -> None:
    unmanaged = site.machine("DC0_C1_RP0_VM0")
    cluster = site.named(vim.ClusterComputeResource, "DC0_C0")
    deleted = site.machine("DC0_C0_RP0_VM1")
    with site.following() as follower:
        collector = follower.collector
    site.finish(deleted.PowerOffVM_Task())
    site.finish(deleted.Destroy_Task())
    for one in (unmanaged, cluster, deleted):
        assert collector.look(reference(one)) == collector.confirm([reference(one)])
    assert [each.reason for each in collector.look(reference(deleted)).removals] == [DELETED]


def test_a_look_at_a_machine_that_has_left_its_cluster_is_no_look_at_a_managed_one(
    site: VCenterSite,
) -> None:
    machine = site.machine("DC0_C0_RP0_VM0")
    with site.following() as follower:
        collector = follower.collector
    elsewhere = site.named(vim.ClusterComputeResource, "DC0_C1")
    where = vim.vm.RelocateSpec(pool=elsewhere.resourcePool, host=elsewhere.host[0])
    site.finish(machine.RelocateVM_Task(where))
    assert [each.reason for each in collector.look(reference(machine)).removals] == [UNMANAGED]


def test_nothing_can_be_confirmed_before_the_first_read(site: VCenterSite) -> None:
    with pytest.raises(faults.NotReadYetError):
        site.collector().confirm([])


def test_failing_tagging_service_does_not_stop_inventory(
    site: VCenterSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = dataclasses.replace(tagging._REST, session="/rest/com/vmware/no-such")
    monkeypatch.setattr(tagging, "_REST", nowhere)
    with site.following() as follower:
        assert follower.kinds()["virtual_machine"] == 3
        site.finish(site.machine("DC0_C0_RP0_VM0").PowerOffVM_Task())
        follower.wait(
            lambda: follower.machine("DC0_C0_RP0_VM0").power_state == inventory_pb2.POWER_STATE_OFF
        )
    assert sum("cannot be read" in each.message for each in caplog.records) == 1


def test_nothing_is_left_in_vcenter(site: VCenterSite) -> None:
    sessions = site.session_count()
    with site.following():
        pass
    assert site.session_count() == sessions
    site.session.close()
    assert site.session_count() == sessions - 1


def test_stopped_vcenter_ends_the_following(site: VCenterSite) -> None:
    with site.following(polling_seconds=60) as follower:
        site.simulator.stop()
        assert isinstance(follower.wait_for_end(), faults.VCenterUnreachableError)
    assert follower.removals == {}
