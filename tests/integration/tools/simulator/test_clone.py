"""One call clones a template into a virtual machine that runs as it was asked for."""

import uuid
from typing import Any

import pytest
from pyVmomi import vim

from tests.integration.tools.simulator.vcenter_client import VCenterClient
from tools.servers.state import ServerError


@pytest.fixture(scope="module")
def template(vcenter: VCenterClient) -> Any:
    machine = vcenter.machine()
    machine.MarkAsTemplate()
    return machine


def clone_spec(template: Any, **fields: Any) -> Any:
    pool = template.runtime.host.parent.resourcePool
    return vim.vm.CloneSpec(location=vim.vm.RelocateSpec(pool=pool), **fields)


def linux(**identity: Any) -> Any:
    return vim.vm.customization.Specification(
        globalIPSettings=vim.vm.customization.GlobalIPSettings(),
        identity=vim.vm.customization.LinuxPrep(
            domain="example.org",
            hostName=vim.vm.customization.FixedName(name=identity["host_name"]),
        ),
        nicSettingMap=[
            vim.vm.customization.AdapterMapping(
                adapter=vim.vm.customization.IPSettings(
                    ip=vim.vm.customization.FixedIp(ipAddress=identity["address"])
                )
            )
        ],
    )


def test_one_call_makes_a_customized_machine_that_runs(
    vcenter: VCenterClient, template: Any
) -> None:
    identity = str(uuid.uuid4())
    option = vim.option.OptionValue(key="guestinfo.metadata", value="e30=")
    config = vim.vm.ConfigSpec(instanceUuid=identity, numCPUs=2, memoryMB=256, extraConfig=[option])
    spec = clone_spec(
        template,
        config=config,
        customization=linux(host_name="web-1", address="192.0.2.10"),
        powerOn=True,
    )
    machine = vcenter.finish(template.CloneVM_Task(template.parent, "web-1", spec))
    assert machine.config.instanceUuid == identity
    assert machine.config.hardware.numCPU == 2
    assert machine.config.hardware.memoryMB == 256
    assert "guestinfo.metadata" in {each.key for each in machine.config.extraConfig}
    assert machine.runtime.powerState == "poweredOn"
    assert machine.guest.hostName == "web-1"
    assert machine.guest.ipAddress == "192.0.2.10"
    assert not machine.config.template


def test_a_customization_that_does_not_fit_fails_and_leaves_the_machine(
    vcenter: VCenterClient, template: Any
) -> None:
    customization = linux(host_name="unfit", address="192.0.2.11")
    customization.nicSettingMap = []
    spec = clone_spec(template, customization=customization, powerOn=True)
    fault = vcenter.fault(template.CloneVM_Task(template.parent, "unfit", spec))
    assert isinstance(fault, vim.fault.NicSettingMismatch)
    assert vcenter.named(vim.VirtualMachine, "unfit").runtime.powerState == "poweredOff"


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("web/1", "web%2f1"),
        ("web\\2", "web%5c2"),
        ("100% web", "100%25 web"),
        ("web%2f3", "web%2f3"),
    ],
)
def test_a_name_may_have_any_character(
    vcenter: VCenterClient, template: Any, name: str, stored: str
) -> None:
    spec = clone_spec(template, powerOn=True)
    machine = vcenter.finish(template.CloneVM_Task(template.parent, name, spec))
    assert machine.name == machine.config.name == machine.summary.config.name == stored
    assert len(machine.config.hardware.device) == len(template.config.hardware.device)
    assert isinstance(
        vcenter.fault(template.CloneVM_Task(template.parent, name, spec)),
        vim.fault.DuplicateName,
    )
    vcenter.finish(machine.PowerOffVM_Task())
    vcenter.finish(machine.Destroy_Task())


def test_govc_clones_under_such_a_name(vcenter: VCenterClient, template: Any) -> None:
    simulator = vcenter.simulator
    place = ("-pool", "DC0_C0/Resources", "-ds", template.datastore[0].name)
    options = ("-vm", template.name, *place, "-on=false")
    simulator.govc("vm.clone", *options, "50%/half\\x")
    assert vcenter.named(vim.VirtualMachine, "50%25%2fhalf%5cx")
    with pytest.raises(ServerError, match="DuplicateName"):
        simulator.govc("vm.clone", *options, "50%/half\\x")


def test_a_machine_may_be_given_such_a_name_later(vcenter: VCenterClient) -> None:
    machine = vcenter.machine()
    vcenter.finish(machine.Rename_Task("a/b"))
    assert machine.name == "a%2fb"
    vcenter.finish(machine.ReconfigVM_Task(vim.vm.ConfigSpec(name="c/d")))
    assert machine.name == machine.config.name == "c%2fd"


def test_a_machine_is_made_once_under_such_a_name(vcenter: VCenterClient) -> None:
    beside = vcenter.machine()
    nic = vim.vm.device.VirtualDeviceSpec(
        operation="add",
        device=vim.vm.device.VirtualVmxnet3(
            key=-1,
            backing=vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network"),
        ),
    )
    files = vim.vm.FileInfo(vmPathName=f"[{beside.datastore[0].name}]")
    spec = vim.vm.ConfigSpec(
        name="e/f", guestId="otherGuest", files=files, deviceChange=[nic], numCPUs=1, memoryMB=64
    )
    machine = vcenter.finish(beside.parent.CreateVM_Task(spec, beside.resourcePool))
    cards = vim.vm.device.VirtualEthernetCard
    assert len([each for each in machine.config.hardware.device if isinstance(each, cards)]) == 1
