"""A simulated vCenter with as many virtual machines as a test wants, and what it says of them."""

import dataclasses
import functools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyVmomi import vim

from edge.vcenter.client.properties import read_properties
from edge.vcenter.client.session import VCenterSession
from tests.support.edge_vcenter_site import vcenter_settings
from tests.support.waiting import eventually
from tools.servers import golang
from tools.servers.state import Port, folder
from tools.servers.vcsim import Vcsim

PLACE = "faults"
NETWORK = "DC0_DVPG0"
CLUSTERS = ("DC0_C0", "DC0_C1")
FIRST = "first"
"""The machine that all others are cloned from."""
BUILD_SECONDS = 90


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Seen:
    """What vCenter and OpenStack must agree on about one machine."""

    uuid: str
    name: str
    power: str
    """Nova's ``vm_state``."""
    cpus: int
    memory_mb: int
    cluster: str


POWER = {"poweredOn": "active", "poweredOff": "stopped", "suspended": "suspended"}


class VCenter:
    """One simulator of two clusters, and an administrator who is not the edge's user session."""

    def __init__(
        self,
        seed: int,
        *,
        place: str = "vcenter",
        port: Port = Port.FAULTS_VCENTER,
        **flags: str | int | float,
    ) -> None:
        """``flags`` are vcsim's.

        The folder is always the same, and so the vCenter's identity: what a run that was killed
        has left in OpenStack is put right by the next. The machines are new with each seed.
        """
        self._folder = folder(f"{PLACE}/{place}")
        self._port = port
        self.simulator = self._simulator(flags)
        self._seed = seed
        self.administrator: VCenterSession

    def start(self, files: Path, machines: int, in_first: int) -> None:
        """Start afresh, with so many virtual machines, so many of them in the first cluster."""
        self.simulator.stop()
        self.simulator.start()
        self.administrator = VCenterSession(vcenter_settings(self.simulator, files))
        self.administrator.connect()
        if machines:
            self._build(files, machines, in_first)

    def _simulator(self, flags: Mapping[str, str | int | float]) -> Vcsim:
        model = {"dc": 1, "cluster": len(CLUSTERS), "host": 3, "vm": 0, "ds": 0, "pg": 1}
        return Vcsim(
            self._folder,
            port=self._port.number,
            # A storm at hundreds of machines: see golang.py.
            program=golang.QUICK_VCSIM,
            **(model | flags),
        )

    def restore(self, **flags: str | int | float) -> None:
        """Start it again as a backup has it: the same vCenter, with another model."""
        self.simulator.stop()
        self.simulator = self._simulator(flags)
        self.restart()

    def restart(self) -> None:
        """Start it again after its end, with the machines that its flags name."""
        self.simulator.start()
        self.__dict__.pop("pools", None)
        self.administrator.connect()

    def _build(self, files: Path, machines: int, in_first: int) -> None:
        self.make_datastore(files)
        self.simulator.govc(
            "vm.create",
            *("-on=false", "-c", "1", "-m", "512", "-disk", "1GB", "-net", NETWORK),
            *("-cluster", CLUSTERS[0], FIRST),
        )
        first = self.machine(FIRST)
        for number in range(1, machines):
            self.clone(first, f"machine-{number}", CLUSTERS[number >= in_first])
        eventually(lambda: len(self.objects(vim.VirtualMachine)), machines, BUILD_SECONDS)

    def make_datastore(self, files: Path) -> None:
        """Give all hosts a datastore of this seed's own.

        The simulator makes a machine's UUIDs of its path, and so of the datastore's name.
        """
        hosts = self.simulator.govc("find", "/", "-type", "h").split()
        self.simulator.govc(
            "datastore.create",
            *("-type", "local", "-name", f"vmfs-{PLACE}-{self._seed}", "-path", str(files), *hosts),
        )

    def make(self, name: str, cluster: str, instance_uuid: str) -> Any:
        """Make a virtual machine that has an instance UUID from elsewhere, and return it."""
        content: Any = self.administrator.content
        pool = self.pools[cluster]
        spec = vim.vm.ConfigSpec(
            name=name, instanceUuid=instance_uuid, guestId="otherGuest", numCPUs=1, memoryMB=512,
            files=vim.vm.FileInfo(vmPathName=f"[{pool.owner.datastore[0].name}]"),
        )  # fmt: skip
        folder = content.searchIndex.FindByInventoryPath("/DC0/vm")
        self.finish(folder.CreateVM_Task(config=spec, pool=pool))
        return self.machine(name)

    def stop(self) -> None:
        """Log out and stop."""
        if self.simulator.running():
            self.administrator.close()
        self.simulator.stop()

    def clone(self, original: Any, name: str, cluster: str) -> Any:
        """Begin to clone; returns the task."""
        location = vim.vm.RelocateSpec(pool=self.pools[cluster])
        spec = vim.vm.CloneSpec(location=location, powerOn=False, template=False)
        return original.CloneVM_Task(original.parent, name, spec)

    @functools.cached_property
    def pools(self) -> dict[str, Any]:
        """The root resource pool of each cluster, by the cluster's name."""
        return {
            name: cluster.resourcePool
            for name, cluster in self.named(vim.ClusterComputeResource).items()
        }

    def machine(self, name: str) -> Any:
        """Return the virtual machine of a name."""
        return self.named(vim.VirtualMachine)[name]

    def machines_of(self, cluster: str) -> list[Any]:
        """Return the virtual machines of a cluster."""
        return list(self.pools[cluster].vm)

    def named(self, kind: type) -> dict[str, Any]:
        """Return all objects of a kind by name."""
        return {each.name: each for each in self.objects(kind)}

    def objects(self, kind: type) -> list[Any]:
        """Return all objects of a kind."""
        content: Any = self.administrator.content
        view = content.viewManager.CreateContainerView(content.rootFolder, [kind], True)
        try:
            return list(view.view)
        finally:
            view.Destroy()

    def morefs_of(self, cluster: str) -> list[str]:
        """Return the identifiers of the virtual machines of a cluster."""
        return [each._moId for each in self.machines_of(cluster)]

    def resize(self, machine: Any, cpus: int, memory_mb: int) -> Any:
        """Begin to change processors and memory; returns the task."""
        return machine.ReconfigVM_Task(vim.vm.ConfigSpec(numCPUs=cpus, memoryMB=memory_mb))

    def result(self, task: Any) -> Any:
        """Return what a task has made; None if it is not over."""
        return read_properties(self.administrator, task, ["info.result"]).get("info.result")

    def finish(self, *tasks: Any) -> None:
        """Wait until tasks are over; fail if one has failed."""
        for task in tasks:
            eventually(lambda task=task: self._state(task) in ("success", "error"), True)
            assert self._state(task) == "success", read_properties(
                self.administrator, task, ["info.error"]
            )

    def end_other_sessions(self) -> None:
        """Let vCenter forget all sessions but this administrator's."""
        manager: Any = self.administrator.content.sessionManager
        mine = manager.currentSession.key
        manager.TerminateSession([one.key for one in manager.sessionList if one.key != mine])
        # The simulator lets a wait that is under way go on until something changes.
        machine = self.objects(vim.VirtualMachine)[0]
        machine.ReconfigVM_Task(vim.vm.ConfigSpec(annotation=str(time.monotonic())))

    def sees(self) -> list[Seen]:
        """Return the truth, read by govc and so by no code of ours."""
        pools = {pool._moId: cluster for cluster, pool in self.pools.items()}
        paths = (
            *("name", "runtime.powerState", "config.instanceUuid", "resourcePool"),
            *("config.hardware.numCPU", "config.hardware.memoryMB"),
        )
        text = self.simulator.govc("collect", "-json", "-type", "m", "/", *paths)
        return sorted(_seen(one, pools) for one in _documents(text))

    def _state(self, task: Any) -> Any:
        return read_properties(self.administrator, task, ["info.state"]).get("info.state")


def _documents(text: str) -> list[Any]:
    """Return the JSON documents that govc prints, one after another."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        document, at = decoder.raw_decode(text, at)
        found.append(document)
        at += len(text[at:]) - len(text[at:].lstrip())
    return found


def _seen(document: Any, pools: dict[str, str]) -> Seen:
    changes: Sequence[Any] = document["changeSet"]
    values = {each["name"]: each["val"] for each in changes}
    return Seen(
        uuid=values["config.instanceUuid"],
        name=values["name"],
        power=POWER[values["runtime.powerState"]],
        cpus=values["config.hardware.numCPU"],
        memory_mb=values["config.hardware.memoryMB"],
        cluster=pools[values["resourcePool"]["value"]],
    )
