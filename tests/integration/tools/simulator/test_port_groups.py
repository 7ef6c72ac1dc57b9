"""Reconfiguring a distributed port group changes what is given and nothing else."""

from typing import Any

import pytest
from pyVmomi import vim

from tests.integration.tools.simulator.vcenter_client import VCenterClient

Setting = vim.dvs.VmwareDistributedVirtualSwitch
GroupSpec = vim.dvs.DistributedVirtualPortgroup.ConfigSpec


@pytest.fixture
def group(vcenter: VCenterClient) -> Any:
    switch = vcenter.objects(vim.DistributedVirtualSwitch)[0]
    name = f"group-{len(switch.portgroup)}"
    policy = Setting.UplinkPortTeamingPolicy(policy=vim.StringPolicy(value="failover_explicit"))
    spec = GroupSpec(
        name=name,
        type="earlyBinding",
        numPorts=8,
        autoExpand=True,
        description="as made",
        defaultPortConfig=Setting.VmwarePortConfigPolicy(
            vlan=Setting.VlanIdSpec(vlanId=10), uplinkTeamingPolicy=policy
        ),
    )
    vcenter.finish(switch.AddDVPortgroup_Task([spec]))
    return vcenter.named(vim.dvs.DistributedVirtualPortgroup, name)


def test_what_is_not_given_stays(vcenter: VCenterClient, group: Any) -> None:
    vlan = Setting.VlanIdSpec(vlanId=20)
    port = Setting.VmwarePortConfigPolicy(vlan=vlan)
    watch = vcenter.watch(group, ["config.defaultPortConfig", "config.name"])
    vcenter.finish(group.ReconfigureDVPortgroup_Task(GroupSpec(defaultPortConfig=port)))
    watch.until(lambda seen: seen["config.defaultPortConfig"].vlan.vlanId == 20)
    config = group.config
    assert (config.name, config.type, config.numPorts, config.autoExpand) == (
        group.name,
        "earlyBinding",
        8,
        True,
    )
    assert config.description == "as made"
    teaming = config.defaultPortConfig.uplinkTeamingPolicy
    assert teaming.policy.value == "failover_explicit"


def test_a_new_name_is_the_port_groups_everywhere(vcenter: VCenterClient, group: Any) -> None:
    before = group.name
    watch = vcenter.watch(group, ["name", "config.name"])
    name = f"{before}-renamed"
    vcenter.finish(group.ReconfigureDVPortgroup_Task(GroupSpec(name=name)))
    watch.until(lambda seen: seen["name"] == seen["config.name"] == name)
    assert group.summary.name == name
    switch = group.config.distributedVirtualSwitch
    assert name in switch.summary.portgroupName
    assert before not in switch.summary.portgroupName


def test_a_version_that_another_has_changed_is_refused(vcenter: VCenterClient, group: Any) -> None:
    vcenter.finish(group.ReconfigureDVPortgroup_Task(GroupSpec(numPorts=16)))
    seen = group.config.configVersion
    spec = GroupSpec(configVersion=seen, numPorts=32)
    vcenter.finish(group.ReconfigureDVPortgroup_Task(spec))
    assert isinstance(
        vcenter.fault(group.ReconfigureDVPortgroup_Task(spec)), vim.fault.ConcurrentAccess
    )
    assert group.config.numPorts == 32
