"""The tour of `make demo`: each promise of the product, shown on real parts."""

import json
from collections.abc import Callable

from tools.demo.shell import Shell, TourError
from tools.demo.vcenter import NETWORK, TEMPLATE

CLONE = "tour-clone"
NEWCOMER = "tour-newcomer"
STOPPED = "web-1"
CLUSTER = "production"
FLAVOR = "m1.small"
FIELDS = ("id", "name", "status", "OS-EXT-SRV-ATTR:host", "flavor", "image", "addresses")
"""What `server show` shows: of some 50 fields, those that come from vCenter."""
SERVERS = "-c Name -c Status -c Networks -c Flavor"
"""Columns of `server list` with room on a terminal."""


def take(shell: Shell) -> None:
    """Show everything. Raises ``TourError`` at the first promise that is not kept."""
    _clear(shell)
    for step in (_overview, _new_virtual_machine, _create, _stop, _start_in_vcenter, _destroy):
        step(shell)


def _clear(shell: Shell) -> None:
    """Delete what an earlier tour left, and put back what it changed."""
    for name in {CLONE, NEWCOMER} & shell.servers().keys():
        shell.read(f"openstack server delete --wait {name}")
    if _power(shell, STOPPED) != "poweredOn":
        shell.read(f"govc vm.power -on {STOPPED}")


def _status(shell: Shell, name: str) -> str:
    return shell.servers().get(name, "absent")


def _power(shell: Shell, name: str) -> str:
    found = json.loads(shell.read(f"govc vm.info -json {name}"))["virtualMachines"]
    return str(found[0]["runtime"]["powerState"]) if found else "absent"


def _overview(shell: Shell) -> None:
    shell.heading("Everything that runs in vCenter is in OpenStack")
    shell.show("govc find / -type m")
    shell.show(
        "openstack compute service list --service nova-compute -c Host -c Zone -c Status -c State"
    )
    shell.show("openstack hypervisor list -c 'Hypervisor Hostname' -c 'Hypervisor Type' -c State")
    shell.show(f"openstack server list {SERVERS}")
    shell.show("openstack image list")
    shell.show(f"openstack server show {STOPPED} {_chosen(*FIELDS)}")


def _new_virtual_machine(shell: Shell) -> None:
    shell.heading("A virtual machine made in vCenter appears by itself")
    shell.show(
        f"govc vm.create -on=true -c 2 -m 2048 -disk 10GB -net {NETWORK}"
        f" -cluster {CLUSTER} {NEWCOMER}"
    )
    shell.wait(f"{NEWCOMER} is ACTIVE in OpenStack", _is_status(shell, NEWCOMER, "ACTIVE"))
    shell.show(f"openstack server show {NEWCOMER} {_chosen(*FIELDS)}")


def _create(shell: Shell) -> None:
    shell.heading("openstack server create clones a template that was discovered")
    shell.show(
        "openstack --os-compute-api-version 2.79 server create --wait --nic none"
        f" --image {TEMPLATE} --flavor {FLAVOR} {CLONE} {_chosen('id', 'name', 'status', 'image')}"
    )
    shell.show(f"govc vm.info {CLONE}")


def _stop(shell: Shell) -> None:
    shell.heading("openstack server stop powers it off in vCenter")
    shell.show(f"openstack server stop {STOPPED}")
    shell.wait(
        f"{STOPPED} is poweredOff in vCenter", lambda: _power(shell, STOPPED) == "poweredOff"
    )
    shell.wait(f"{STOPPED} is SHUTOFF in OpenStack", _is_status(shell, STOPPED, "SHUTOFF"))
    shell.show(f"govc vm.info {STOPPED}")


def _start_in_vcenter(shell: Shell) -> None:
    shell.heading("Power it on in vCenter: OpenStack follows and does not fight it")
    shell.show(f"govc vm.power -on {STOPPED}")
    shell.wait(f"{STOPPED} is ACTIVE in OpenStack", _is_status(shell, STOPPED, "ACTIVE"))
    if _power(shell, STOPPED) != "poweredOn":
        raise TourError(f"{STOPPED} was powered on in vCenter and is not on any more")
    shell.say("   vCenter still says poweredOn")


def _destroy(shell: Shell) -> None:
    shell.heading("Destroy it in vCenter: it disappears from OpenStack")
    shell.show(f"govc vm.destroy {NEWCOMER}")
    shell.wait(f"{NEWCOMER} is gone from OpenStack", lambda: NEWCOMER not in shell.servers())
    shell.show(f"openstack server list {SERVERS}")


def _chosen(*fields: str) -> str:
    return " ".join(f"-c {field}" for field in fields)


def _is_status(shell: Shell, name: str, status: str) -> Callable[[], bool]:
    return lambda: _status(shell, name) == status
