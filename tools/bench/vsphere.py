"""An administrator at the simulated vCenter, who changes things and is told at once."""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from tools.servers.vcsim import Vcsim

DATACENTER = "DC0"
TOLD_SECONDS = 30


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

    def create(self, name: str, beside: Any) -> Any:
        """Begin to make a virtual machine in the pool and folder of another; returns the task."""
        specification = vim.vm.ConfigSpec(
            name=name,
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
        """Wait for a task's end on the PropertyCollector."""
        WaitForTask(task, si=self._session)

    def seconds_until_told(self, machine: Any, state: str, begin: Any) -> float:
        """Begin a power change; return the seconds until a bare WaitForUpdatesEx tells it.

        The filter is on that one virtual machine and one property: the least that vCenter can do.
        """
        collector: Any = self._content.propertyCollector.CreatePropertyCollector()
        try:
            query: Any = vmodl.query.PropertyCollector
            collector.CreateFilter(
                query.FilterSpec(
                    objectSet=[query.ObjectSpec(obj=machine)],
                    propSet=[
                        query.PropertySpec(type=vim.VirtualMachine, pathSet=["runtime.powerState"])
                    ],
                ),
                False,
            )
            options = query.WaitOptions(maxWaitSeconds=TOLD_SECONDS)
            answer = collector.WaitForUpdatesEx("", options)
            started = time.monotonic()
            begin(machine)
            while True:
                answer = collector.WaitForUpdatesEx(answer.version, options)
                if state in str(answer.filterSet):
                    return time.monotonic() - started
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
