"""Odd virtual machines: each is shown sensibly, or in quarantine with a reason.

All are made at once, then looked at as a user would. What moves to another vCenter is tested in
tests/integration/inventory, which can afford two of them.
"""

import contextlib
import ssl
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

from tests.support.demo_site import PLACE, DemoSite
from tests.support.waiting import eventually
from tools.demo import controlplane
from tools.demo.vcenter import DATACENTER, NETWORK
from tools.servers.vcsim import Vcsim

pytestmark = pytest.mark.cloud

SHOWN_SECONDS = 60
GIB_IN_KIB = 1 << 20
MANY_DISKS = 60
DISKS_PER_CONTROLLER = 15
SPECS = vim.vm.device.VirtualDeviceSpec

NAMES = {
    "duplicate": ("odd-twin", "odd-twin"),
    "its duplicate": ("odd-twin", "odd-twin"),
    "escapes of vCenter": ("odd%2fslash%5cback%25cent", "odd/slash\\back%cent"),
    "no escape of vCenter": ("odd%41%", "odd%41%"),
    "4-byte character": ("odd \U0001f680", "odd \\u{1F680}"),
    "right to left": ("خادم الويب", "خادم الويب"),
    "bidirectional override": ("odd\u202egnp", "odd\u202egnp"),
    "combining": ("Ame\u0301lie", "Ame\u0301lie"),
    "zero width": ("odd\u200bzero\ufeff", "odd\u200bzero\ufeff"),
    "tabulator": ("odd\ttab", "odd tab"),
    "control of a terminal": ("odd\x9b31m", "odd 31m"),
    "255 characters": ("n" * 255, "n" * 255),
    "255 4-byte characters": ("\U0001f680" * 255, "\\u{1F680}" * 28),
    "spaces around": ("  odd  ", "  odd  "),
    "quotes": ("odd'\"; DROP TABLE instances; --", "odd'\"; DROP TABLE instances; --"),
    "markup": ("<b>&amp;</b>", "<b>&amp;</b>"),
}
"""Name in vCenter and in OpenStack."""

STATES = ["disconnected", "orphaned", "inaccessible", "invalid"]


def end(task: Any) -> Any:
    """Wait for the end of a vCenter task and return its result; raises what it failed with."""
    eventually(lambda: task.info.state in ("success", "error"), True)
    if task.info.error is not None:
        raise task.info.error
    return task.info.result


class OddMachines:
    """Makes virtual machines that govc would not make, and knows their servers."""

    def __init__(self, simulator: Vcsim, site: DemoSite) -> None:
        context = ssl.create_default_context(cafile=str(simulator.ca_file))
        self._connection = SmartConnect(
            host=simulator.host,
            port=simulator.port,
            user=simulator.username,
            pwd=simulator.password,
            sslContext=context,
        )
        content = self._connection.RetrieveContent()
        find = content.searchIndex.FindByInventoryPath
        self._pool = find(f"/{DATACENTER}/host/test/Resources")
        (self._datastore,) = self._pool.owner.datastore
        networks = self._pool.owner.network
        self._portgroup = next(each for each in networks if each.name == NETWORK)
        root = find(f"/{DATACENTER}/vm")
        self._folders = [root.CreateFolder(name) for name in ("odd", "odd/other")]
        self.site = site
        self.made: dict[str, Any] = {}
        self.ids: dict[str, str] = {}

    def make(self, key: str, *changes: Any, instance_uuid: str = "", **extra: str) -> None:
        """Make a virtual machine; ``extra`` forces properties of the simulator's."""
        self.ids[key] = instance_uuid or str(uuid.uuid4())
        spec = vim.vm.ConfigSpec(
            name=f"odd-{len(self.made)}",
            instanceUuid=self.ids[key],
            guestId="otherGuest",
            numCPUs=1,
            memoryMB=256,
            files=vim.vm.FileInfo(vmPathName=f"[{self._datastore.name}]"),
            deviceChange=list(changes),
        )
        folder = self._folders[len(self.made) % 2]
        self.made[key] = end(folder.CreateVM_Task(config=spec, pool=self._pool))
        if extra:
            options = [
                vim.option.OptionValue(key=f"SET.{path}", value=value)
                for path, value in extra.items()
            ]
            end(self.made[key].ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=options)))

    def nic(self) -> Any:
        """A network adapter."""
        port = vim.dvs.PortConnection(
            portgroupKey=self._portgroup.key,
            switchUuid=self._portgroup.config.distributedVirtualSwitch.uuid,
        )
        backing = vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(port=port)
        return SPECS(operation="add", device=vim.vm.device.VirtualVmxnet3(key=-9, backing=backing))

    def disks(self, count: int) -> Iterator[Any]:
        """Disks of 1 GiB, and their controllers."""
        for number in range(count):
            bus, unit = divmod(number, DISKS_PER_CONTROLLER)
            if not unit:
                controller = vim.vm.device.ParaVirtualSCSIController(
                    key=-100 - bus, busNumber=bus, sharedBus="noSharing"
                )
                yield SPECS(operation="add", device=controller)
            backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
                fileName="", diskMode="persistent", thinProvisioned=True
            )
            disk = vim.vm.device.VirtualDisk(
                key=-1000 - number,
                backing=backing,
                controllerKey=-100 - bus,
                unitNumber=unit if unit < 7 else unit + 1,
                capacityInKB=GIB_IN_KIB,
            )
            yield SPECS(operation="add", fileOperation="create", device=disk)

    def server(self, key: str) -> Any:
        """Return the server of a machine, None if there is none."""
        return self.site.openstack.compute.find_server(self.ids[key], ignore_missing=True)

    def quarantine(self, key: str) -> dict[str, Any] | None:
        """Return what keeps a machine out, if something does."""
        reference = f"VirtualMachine:{self.made[key]._moId}"
        entries = controlplane.ask(PLACE, "quarantine")
        return next((one for one in entries if one["object"] == reference), None)

    def close(self) -> None:
        """Take all of them away."""
        for machine in self.made.values():
            end(machine.Destroy_Task())
        for folder in self._folders:
            end(folder.Destroy_Task())
        Disconnect(self._connection)


@contextlib.contextmanager
def unwatched(site: DemoSite) -> Iterator[None]:
    """The edge looks away: the simulator locks up when it makes many machines before its eyes.

    (Its ContainerView and its PropertyFilter take each other's locks in opposite order.)
    """
    site.deployment.edge.stop()
    yield
    site.deployment.edge.start()


@pytest.fixture(scope="module")
def odd(site: DemoSite) -> Iterator[OddMachines]:
    """Every odd machine."""
    machines = OddMachines(site.vcenter, site)
    try:
        with unwatched(site):
            for key, (name, _) in NAMES.items():
                machines.make(key)
                end(machines.made[key].Rename_Task(name))
            machines.make("bare")
            machines.make("with a NIC and no disk", machines.nic())
            machines.make("60 disks", *machines.disks(MANY_DISKS))
            for state in STATES:
                machines.make(state, **{"runtime.connectionState": state})
            machines.make("no instance UUID", **{"config.instanceUuid": ""})
            machines.make("no Tools", **{"guest.toolsStatus": "toolsNotInstalled"})
            machines.make("first of a UUID")
            machines.make("second of a UUID", instance_uuid=machines.ids["first of a UUID"])
        yield machines
    finally:
        with unwatched(site):
            machines.close()
    eventually(lambda: [key for key in machines.ids if machines.server(key)], [], 120)


@pytest.mark.parametrize("key", NAMES)
def test_name_is_shown(odd: OddMachines, key: str) -> None:
    eventually(lambda: odd.server(key) and odd.server(key).name, NAMES[key][1], SHOWN_SECONDS)
    listed = {one.id: one.name for one in odd.site.openstack.compute.servers()}
    assert listed[odd.ids[key]] == NAMES[key][1]


def test_machine_with_nothing_in_it_is_a_server(odd: OddMachines) -> None:
    eventually(lambda: odd.server("bare") is not None, True, SHOWN_SECONDS)
    server = odd.server("bare")
    assert (server.status, server.flavor["disk"], server.addresses) == ("SHUTOFF", 0, {})
    assert odd.server("with a NIC and no disk").flavor["disk"] == 0


def test_every_one_of_60_disks_counts(odd: OddMachines) -> None:
    eventually(lambda: odd.server("60 disks") is not None, True, SHOWN_SECONDS)
    flavor = odd.server("60 disks").flavor
    assert flavor["disk"] + flavor["ephemeral"] == MANY_DISKS
    summary = odd.server("60 disks").metadata["vsphere:disks"]
    assert summary.startswith("sda 1G [")
    attached = odd.site.openstack.compute.get(f"/servers/{odd.ids['60 disks']}").json()
    assert attached["server"]["os-extended-volumes:volumes_attached"] == []


@pytest.mark.parametrize("state", STATES)
def test_machine_that_vcenter_cannot_reach_is_shown_and_says_so(
    odd: OddMachines, state: str
) -> None:
    def shown() -> str | None:
        server = odd.server(state)
        return server.metadata.get("vsphere:connection_state") if server else None

    eventually(shown, state, SHOWN_SECONDS)


def test_machine_without_tools_is_a_server_without_addresses(odd: OddMachines) -> None:
    eventually(lambda: odd.server("no Tools") is not None, True, SHOWN_SECONDS)
    assert odd.server("no Tools").status == "SHUTOFF"
    assert odd.server("no Tools").addresses == {}


def test_machine_without_an_instance_uuid_is_in_quarantine_with_the_reason(
    odd: OddMachines,
) -> None:
    eventually(lambda: odd.quarantine("no instance UUID") is not None, True, SHOWN_SECONDS)
    entry = odd.quarantine("no instance UUID")
    assert entry is not None
    assert entry["reason"] == "NOT_READABLE_AT_SITE"
    assert "config.instanceUuid has no value" in entry["message"]


def test_second_machine_of_an_instance_uuid_becomes_a_server_of_its_own(odd: OddMachines) -> None:
    def servers() -> list[str]:
        morefs = {odd.made[one]._moId for one in ("first of a UUID", "second of a UUID")}
        rows = controlplane.ask(PLACE, "servers")
        return sorted(row["uuid"] for row in rows if row["moref"] in morefs)

    eventually(lambda: len(servers()), 2, SHOWN_SECONDS)
    assert odd.ids["first of a UUID"] in servers()
    (other,) = set(servers()) - {odd.ids["first of a UUID"]}
    assert uuid.UUID(other).version == 5
    assert odd.site.openstack.compute.get_server(other).status == "SHUTOFF"
    assert odd.quarantine("second of a UUID") is None


def test_folder_with_a_slash_in_its_name_is_one_step_of_its_path(odd: OddMachines) -> None:
    keys = ("duplicate", "its duplicate")
    eventually(lambda: all(odd.server(key) for key in keys), True, SHOWN_SECONDS)
    folders = [odd.server(key).metadata["vsphere:folder"] for key in keys]
    assert folders == [f"{DATACENTER}/odd", f"{DATACENTER}/odd%2fother"]


def test_cluster_that_is_renamed_keeps_its_compute_host_and_servers(odd: OddMachines) -> None:
    before = odd.server("bare")
    place = f"/{DATACENTER}/host"
    odd.site.vcenter.govc("object.rename", f"{place}/test", "renamed")
    try:
        eventually(lambda: odd.server("bare").metadata["vsphere:cluster"], "renamed", SHOWN_SECONDS)
        after = odd.server("bare")
        assert (after.id, after.compute_host) == (before.id, before.compute_host)
        assert "renamed" in {one["name"] for one in controlplane.ask(PLACE, "clusters")}
    finally:
        odd.site.vcenter.govc("object.rename", f"{place}/renamed", "test")
    eventually(lambda: odd.server("bare").metadata["vsphere:cluster"], "test", SHOWN_SECONDS)
