"""Watchers see an object become a template or move, and every list of references follows."""

from typing import Any

import pytest
from pyVmomi import vim, vmodl

from tests.integration.tools.simulator.vcenter_client import VCenterClient


def test_a_watcher_sees_a_template_marked_and_unmarked(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    pool = machine.resourcePool
    watch = vcenter.watch(machine, ["config.template", "resourcePool"])
    machine.MarkAsTemplate()
    watch.until(lambda seen: seen["config.template"] and seen["resourcePool"] is None)
    assert machine not in pool.vm
    machine.MarkAsVirtualMachine(pool)
    watch.until(lambda seen: not seen["config.template"] and seen["resourcePool"] == pool)
    assert machine in pool.vm


def test_a_template_that_becomes_a_machine_elsewhere_leaves_its_host(
    vcenter: VCenterClient,
) -> None:
    machine = vcenter.machine()
    before = machine.runtime.host
    machine.MarkAsTemplate()
    there = vcenter.cluster(1)
    machine.MarkAsVirtualMachine(there.resourcePool, there.host[0])
    assert machine.runtime.host == there.host[0]
    assert machine in there.host[0].vm
    assert machine not in before.vm


def test_a_former_template_that_is_destroyed_leaves_no_reference(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    root, host, datastore = machine.resourcePool, machine.runtime.host, machine.datastore[0]
    pool = root.CreateResourcePool("came-back-to", _shares())
    machine.MarkAsTemplate()
    machine.MarkAsVirtualMachine(pool)
    vcenter.finish(machine.Destroy_Task())
    for owner in (root, pool, host, datastore):
        assert machine not in owner.vm


def test_a_watcher_sees_a_move_to_another_folder(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    parent = machine.parent
    folder = parent.CreateFolder("moved-to")
    watch = vcenter.watch(machine, ["parent"])
    watch_old = vcenter.watch(parent, ["childEntity"])
    watch_new = vcenter.watch(folder, ["childEntity"])
    vcenter.finish(folder.MoveIntoFolder_Task([machine]))
    watch.until(lambda seen: seen["parent"] == folder)
    watch_old.until(lambda seen: machine not in seen["childEntity"])
    watch_new.until(lambda seen: seen["childEntity"] == [machine])


def test_a_watcher_sees_a_move_to_another_pool(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    root = machine.resourcePool
    pool = root.CreateResourcePool("moved-to", _shares())
    watch = vcenter.watch(machine, ["resourcePool"])
    watch_pool = vcenter.watch(pool, ["vm"])
    pool.MoveIntoResourcePool([machine])
    watch.until(lambda seen: seen["resourcePool"] == pool)
    watch_pool.until(lambda seen: seen["vm"] == [machine])
    assert machine not in root.vm


def test_a_pool_is_moved_into_another(vcenter: VCenterClient) -> None:
    root = vcenter.cluster().resourcePool
    outer = root.CreateResourcePool("outer", _shares())
    inner = root.CreateResourcePool("inner", _shares())
    watch = vcenter.watch(inner, ["parent"])
    outer.MoveIntoResourcePool([inner])
    watch.until(lambda seen: seen["parent"] == outer)
    assert list(outer.resourcePool) == [inner]
    assert inner not in root.resourcePool


def test_a_pool_refuses_a_machine_of_another_cluster(vcenter: VCenterClient) -> None:
    with pytest.raises(vmodl.fault.InvalidArgument):
        vcenter.cluster(1).resourcePool.MoveIntoResourcePool([vcenter.machine()])


def test_a_watcher_sees_a_host_move_to_another_cluster(vcenter: VCenterClient) -> None:
    here, there = vcenter.cluster(0), vcenter.cluster(1)
    machine = vcenter.machine()
    host = machine.runtime.host
    machines = set(host.vm)
    assert len(machines) > 2
    watch = vcenter.watch(host, ["parent"])
    watch_machine = vcenter.watch(machine, ["resourcePool"])
    watches = [vcenter.watch(cluster, ["host"]) for cluster in (here, there)]
    vcenter.finish(host.EnterMaintenanceMode_Task(0))
    vcenter.finish(there.MoveInto_Task([host]))
    watch.until(lambda seen: seen["parent"] == there)
    watch_machine.until(lambda seen: seen["resourcePool"] == there.resourcePool)
    watches[0].until(lambda seen: host not in seen["host"])
    watches[1].until(lambda seen: host in seen["host"])
    assert set(host.vm) == machines
    assert machines <= {*there.resourcePool.vm}
    assert not machines & {*here.resourcePool.vm}
    assert machine.environmentBrowser == there.environmentBrowser


def _shares() -> Any:
    share = vim.SharesInfo(level="normal", shares=0)
    allocation = vim.ResourceAllocationInfo(
        reservation=0, limit=-1, expandableReservation=True, shares=share
    )
    return vim.ResourceConfigSpec(cpuAllocation=allocation, memoryAllocation=allocation)
