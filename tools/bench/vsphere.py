"""An administrator at the simulated vCenter, who changes things and is told at once."""

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl

from tools.servers.state import ServerError
from tools.servers.vcsim import Vcsim

DATACENTER = "DC0"
TOLD_SECONDS = 30
ENDED = ("success", "error")


class Administrator:
    """One session; pyVmomi, as an administrator's own scripts have it."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._content: Any = session.RetrieveContent()

    def machine(self, name: str) -> Any:
        """Return a virtual machine by its name."""
        return self._content.searchIndex.FindByInventoryPath(f"{DATACENTER}/vm/{name}")

    def machines(self, cluster: str) -> list[Any]:
        """Return the virtual machines of a cluster."""
        found = self._content.searchIndex.FindByInventoryPath(f"{DATACENTER}/host/{cluster}")
        return list(found.resourcePool.vm)

    def power_off(self, machine: Any) -> Any:
        """Begin to power off; returns the task."""
        return machine.PowerOffVM_Task()

    def power_on(self, machine: Any) -> Any:
        """Begin to power on; returns the task."""
        return machine.PowerOnVM_Task()

    def create(self, name: str, instance_uuid: str, beside: Any) -> Any:
        """Begin to make a virtual machine in the pool and folder of another; returns the task."""
        specification = vim.vm.ConfigSpec(
            name=name,
            instanceUuid=instance_uuid,
            numCPUs=1,
            memoryMB=64,
            guestId="otherGuest",
            files=vim.vm.FileInfo(vmPathName=f"[{beside.datastore[0].name}]"),
        )
        return beside.parent.CreateVM_Task(specification, beside.resourcePool)

    def resize(self, machine: Any, processors: int) -> Any:
        """Begin to change a virtual machine's processors; returns the task."""
        return machine.ReconfigVM_Task(vim.vm.ConfigSpec(numCPUs=processors))

    def finish(self, task: Any) -> None:
        """Wait for a task's end on the PropertyCollector.

        Not by pyVim's ``WaitForTask``, which cannot read what the simulator says of running tasks.
        """
        with self._watching(task, vim.Task, "info.state") as told:
            while told() not in ENDED:
                continue

    def seconds_until_told(self, machine: Any, state: str, begin: Any) -> float:
        """Begin a power change; return the seconds until a bare WaitForUpdatesEx tells it.

        The filter is on that one virtual machine and one property: the least that vCenter can do.
        """
        with self._watching(machine, vim.VirtualMachine, "runtime.powerState") as told:
            told()
            started = time.monotonic()
            begin(machine)
            while told() != state:
                continue
            return time.monotonic() - started

    @contextmanager
    def _watching(self, target: Any, kind: type, path: str) -> Iterator[Callable[[], str]]:
        """Give a function that waits for news of one property, at first for its present value."""
        collector: Any = self._content.propertyCollector.CreatePropertyCollector()
        query: Any = vmodl.query.PropertyCollector
        options = query.WaitOptions(maxWaitSeconds=TOLD_SECONDS)
        version = ""

        def told() -> str:
            nonlocal version
            answer = collector.WaitForUpdatesEx(version, options)
            if answer is None:
                raise ServerError(f"vCenter tells nothing of {target} in {TOLD_SECONDS} s")
            version = answer.version
            (change,) = answer.filterSet[0].objectSet[0].changeSet[-1:]
            return str(change.val)

        try:
            collector.CreateFilter(
                query.FilterSpec(
                    objectSet=[query.ObjectSpec(obj=target)],
                    propSet=[query.PropertySpec(type=kind, pathSet=[path])],
                ),
                False,
            )
            yield told
        finally:
            collector.DestroyPropertyCollector()


@contextmanager
def administrator(vcenter: Vcsim) -> Iterator[Administrator]:
    """Log in, and out again."""
    session = SmartConnect(
        host=vcenter.host,
        port=vcenter.port,
        user=vcenter.username,
        pwd=vcenter.password,
        sslContext=ssl.create_default_context(cafile=str(vcenter.ca_file)),
    )
    try:
        yield Administrator(session)
    finally:
        Disconnect(session)
