"""The demo's vCenter: a simulator made to look like a small company's."""

import dataclasses
import shutil

from tools.servers.state import Port, folder
from tools.servers.vcsim import Vcsim

DATACENTER = "dc1"
CLUSTERS = {"DC0_C0": "production", "DC0_C1": "test"}
NETWORK = "app-net"
TEMPLATE = "ubuntu-24.04"


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine of the demo."""

    name: str
    cluster: str
    cpus: int
    memory_mb: int
    disk_gb: int
    address: str


MACHINES = (
    Machine("web-1", "production", 2, 2048, 10, "10.0.0.11"),
    Machine("web-2", "production", 2, 2048, 10, "10.0.0.12"),
    Machine("db-1", "production", 4, 4096, 40, "10.0.0.21"),
    Machine("build-1", "test", 2, 4096, 20, "10.0.0.31"),
    Machine("build-2", "test", 2, 4096, 20, "10.0.0.32"),
)


def simulator(place: str, port: Port) -> Vcsim:
    """Return the vCenter whose files are below .state/``place``, running or not."""
    return Vcsim(folder(place), port=port.number, dc=1, cluster=2, host=4, vm=0, ds=0, pg=1)


def start(place: str, port: Port) -> Vcsim:
    """Start a fresh vCenter with its inventory. Raises ``ServerError``."""
    vcenter = simulator(place, port)
    vcenter.start()
    _name_things(vcenter)
    _add_datastore(vcenter)
    for machine in MACHINES:
        _make(vcenter, machine)
    _make_template(vcenter)
    return vcenter


def _name_things(vcenter: Vcsim) -> None:
    vcenter.govc("object.rename", "/DC0", DATACENTER)
    for was, name in CLUSTERS.items():
        vcenter.govc("object.rename", f"/{DATACENTER}/host/{was}", name)
    vcenter.govc("object.rename", f"/{DATACENTER}/network/DC0_DVPG0", NETWORK)


def _add_datastore(vcenter: Vcsim) -> None:
    """Add the datastore of all hosts.

    The simulator makes a machine's UUIDs of its path: with a datastore of another name, another
    vCenter's machine of the same name has other ones.
    """
    place = vcenter.folder.parent.name
    shutil.rmtree(folder(f"{place}/datastore"))
    files = folder(f"{place}/datastore")
    hosts = vcenter.govc("find", "/", "-type", "h").split()
    vcenter.govc(
        "datastore.create",
        *("-type", "local", "-name", f"vmfs-{place}", "-path", str(files)),
        *hosts,
    )


def _create(vcenter: Vcsim, machine: Machine) -> None:
    vcenter.govc(
        "vm.create",
        *("-on=false", "-g", "ubuntu64Guest"),
        *("-c", str(machine.cpus), "-m", str(machine.memory_mb), "-disk", f"{machine.disk_gb}GB"),
        *("-net", NETWORK, "-cluster", machine.cluster),
        machine.name,
    )


def _make(vcenter: Vcsim, machine: Machine) -> None:
    _create(vcenter, machine)
    # The simulator has no guests: what VMware Tools would report comes from a customization.
    vcenter.govc(
        "vm.customize",
        *("-vm", machine.name, "-type", "Linux", "-name", machine.name, "-domain", "example.com"),
        *("-ip", machine.address, "-netmask", "255.255.255.0", "-gateway", "10.0.0.1"),
    )
    vcenter.govc("vm.power", "-on", machine.name)


def _make_template(vcenter: Vcsim) -> None:
    _create(vcenter, Machine(TEMPLATE, "production", 1, 1024, 8, ""))
    vcenter.govc("vm.markastemplate", TEMPLATE)
