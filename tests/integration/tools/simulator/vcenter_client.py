"""A client of the simulated vCenter: pyVmomi alone, no code of the product."""

import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim, vmodl

from tools.servers.vcsim import Vcsim

PATIENCE = 30.0
Collector = vmodl.query.PropertyCollector


class VCenterClient:
    """A session in a simulated vCenter, and virtual machines of it that no test has used."""

    def __init__(self, simulator: Vcsim) -> None:
        self.simulator = simulator
        self._connection: Any = SmartConnect(
            host=simulator.host,
            port=simulator.port,
            user=simulator.username,
            pwd=simulator.password,
            sslContext=ssl.create_default_context(cafile=simulator.ca_file),
        )
        # The first content is of an older API version than the session.
        self.content: Any = self._connection.RetrieveContent()
        machines = self.objects(vim.VirtualMachine)
        self._unused = [each for each in machines if each.name.startswith("DC0_C0_")]

    def close(self) -> None:
        """Log out."""
        Disconnect(self._connection)

    def objects(self, kind: type) -> list[Any]:
        """All objects of a kind."""
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [kind], True)
        try:
            return list(view.view)
        finally:
            view.Destroy()

    def named(self, kind: type, name: str) -> Any:
        """The object of a kind and a name."""
        return {each.name: each for each in self.objects(kind)}[name]

    def cluster(self, number: int = 0) -> Any:
        """One of the clusters."""
        return self.named(vim.ClusterComputeResource, f"DC0_C{number}")

    def machine(self, *, on: bool = False) -> Any:
        """An unused virtual machine of the first cluster, powered off unless ``on`` is set."""
        machine = self._unused.pop()
        if not on:
            self.finish(machine.PowerOffVM_Task())
        return machine

    def value(self, obj: Any, path: str) -> Any:
        """A property, read alone: pyVmomi cannot read the whole TaskInfo of every kind of task."""
        spec = Collector.FilterSpec(
            objectSet=[Collector.ObjectSpec(obj=obj)],
            propSet=[Collector.PropertySpec(type=type(obj), pathSet=[path])],
        )
        found = self.content.propertyCollector.RetrieveContents([spec])[0].propSet
        return found[0].val if found else None

    def finish(self, task: Any) -> Any:
        """The result of a task that succeeds."""
        assert self._wait(task) == "success", self.value(task, "info.error")
        return self.value(task, "info.result")

    def fault(self, task: Any) -> Any:
        """The fault of a task that fails."""
        assert self._wait(task) == "error"
        return self.value(task, "info.error")

    def _wait(self, task: Any) -> str:
        end = time.monotonic() + PATIENCE
        while (state := self.value(task, "info.state")) not in ("success", "error"):
            assert time.monotonic() < end, f"{task} does not end"
            time.sleep(0.01)
        return str(state)

    def file_exists(self, name: str) -> bool:
        """Whether a datastore has a file, given as ``[datastore] path``."""
        name, _, path = name.removeprefix("[").partition("] ")
        folder, _, file = path.rpartition("/")
        browser = self.named(vim.Datastore, name).browser
        spec = vim.host.DatastoreBrowser.SearchSpec(matchPattern=[file])
        task = browser.SearchDatastore_Task(f"[{name}] {folder}", spec)
        return self._wait(task) == "success" and bool(self.value(task, "info.result").file)

    def watch(self, obj: Any, paths: Sequence[str]) -> "Watch":
        """Watch properties of an object from now on."""
        return Watch(self.content.propertyCollector.CreatePropertyCollector(), obj, paths)


class Watch:
    """What a PropertyCollector reports about one object."""

    def __init__(self, collector: Any, obj: Any, paths: Sequence[str]) -> None:
        spec = Collector.FilterSpec(
            objectSet=[Collector.ObjectSpec(obj=obj)],
            propSet=[Collector.PropertySpec(type=type(obj), pathSet=list(paths))],
        )
        self._collector = collector
        collector.CreateFilter(spec, partialUpdates=False)
        self.values: dict[str, Any] = {}
        self._version = ""
        self._update()

    def until(self, condition: Callable[[dict[str, Any]], object]) -> None:
        """Wait for updates until the reported values fulfil a condition."""
        end = time.monotonic() + PATIENCE
        while not condition(self.values):
            assert time.monotonic() < end, f"not reported: {self.values}"
            self._update()

    def _update(self) -> None:
        options = Collector.WaitOptions(maxWaitSeconds=1)
        update = self._collector.WaitForUpdatesEx(self._version, options)
        if update is None:
            return
        self._version = update.version
        for of_filter in update.filterSet:
            for of_object in of_filter.objectSet:
                for change in of_object.changeSet:
                    self.values[change.name] = change.val
