"""A vcsim, the edge's collector on it, and an administrator who changes things behind its back."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyVmomi import vim

from common.references import key_of
from edge.config import ManagedSettings, Secret, VCenterSettings
from edge.interfaces import Managed
from edge.vcenter.client.properties import read_properties
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.collector.collector import VCenterCollector
from tools.servers.vcsim import Vcsim
from vsphere_gateway.v1 import inventory_pb2, link_pb2

PATIENCE = 30.0


def vcenter_settings(simulator: Vcsim, folder: Path, **changes: Any) -> VCenterSettings:
    """Return the way to a vcsim, with its own authority trusted unless ``changes`` say else."""
    password = folder / "password"
    password.write_text(simulator.password + "\n")
    given: dict[str, Any] = {
        "host": simulator.host,
        "port": simulator.port,
        "username": simulator.username,
        "password": Secret(password),
        "ca_file": simulator.ca_file,
    }
    return VCenterSettings(**(given | changes))


class Follower:
    """Does what the inventory does with a collector: keeps what it reports, in a thread."""

    def __init__(self, collector: VCenterCollector) -> None:
        self.collector = collector
        self.objects: dict[str, inventory_pb2.InventoryObject] = {}
        self.removals: dict[str, link_pb2.RemovalReason.ValueType] = {}
        self.unreadable: dict[str, str] = {}
        self.updates = 0
        self.reported = 0
        """Objects in all updates since the full read."""
        self.full_read_ended = threading.Event()
        self.new_clusters_read = threading.Event()
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Follow, and return after the full read."""
        self._thread.start()
        self.wait(lambda: self.full_read_ended.is_set())

    def stop(self) -> None:
        """End the following."""
        self._stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the collector does not stop"

    def wait(self, condition: Callable[[], object], timeout: float = PATIENCE) -> None:
        """Wait until a condition on what was reported holds."""
        with self._changed:
            done = self._changed.wait_for(lambda: condition() or self.error, timeout)
        if self.error is not None and not condition():
            raise self.error
        assert done, "vCenter's change was not reported in time"

    def wait_for_end(self) -> Exception:
        """Wait until the collector gives up; return why."""
        self._thread.join(PATIENCE)
        assert self.error is not None
        return self.error

    def machine(self, name: str) -> inventory_pb2.VirtualMachine:
        """Return the virtual machine or template that was reported under a name."""
        return getattr(found := self.object(name), found.WhichOneof("body") or "")

    def object(self, name: str) -> inventory_pb2.InventoryObject:
        """Return the virtual machine or template that was reported under a name, as an object."""
        for each in self.objects.values():
            if name in (each.virtual_machine.name, each.template.name):
                return each
        raise KeyError(name)

    def has(self, name: str) -> bool:
        """Whether a virtual machine or template of a name was reported and not removed."""
        return name in {n for each in self.objects.values() for n in _machine_names(each)}

    def kinds(self) -> dict[str, int]:
        """Return the number of objects by kind."""
        found: dict[str, int] = {}
        for each in self.objects.values():
            kind = each.WhichOneof("body") or ""
            found[kind] = found.get(kind, 0) + 1
        return found

    def _run(self) -> None:
        try:
            for update in self.collector.updates(self._stop):
                with self._changed:
                    self._take(update)
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - reported to the test
            with self._changed:
                self.error = error
                self._changed.notify_all()

    def _take(self, update: Any) -> None:
        self.updates += 1
        if self.full_read_ended.is_set():
            self.reported += len(update.objects) + len(update.removals)
        for state in update.objects:
            key = key_of(state.reference)
            self.objects[key] = state
            self.removals.pop(key, None)
            self.unreadable.pop(key, None)
        for each in update.removals:
            self.objects.pop(key_of(each.reference), None)
            self.unreadable.pop(key_of(each.reference), None)
            self.removals[key_of(each.reference)] = each.reason
        for unread in update.unreadable:
            self.unreadable[key_of(unread.reference)] = unread.reason
        if update.full_read and update.complete:
            self.full_read_ended.set()
        if update.newly_managed and update.complete:
            self.new_clusters_read.set()


class VCenterSite:
    """One vcsim with an edge that reads it."""

    def __init__(self, simulator: Vcsim, folder: Path, managed: ManagedSettings) -> None:
        self.simulator = simulator
        self.managed = managed
        self.settings = vcenter_settings(simulator, folder)
        self.session = VCenterSession(self.settings)
        self.session.connect()
        self.administrator = VCenterSession(self.settings)
        self.administrator.connect()

    def close(self) -> None:
        """Log out."""
        self.session.close()
        self.administrator.close()

    def collector(self, managed: Managed | None = None, **options: Any) -> VCenterCollector:
        """Make a collector whose audit pass is frequent."""
        given = {"polling_seconds": 1.0} | options
        return VCenterCollector(self.session, managed or self.managed, **given)

    @contextmanager
    def following(self, **options: Any) -> Iterator[Follower]:
        """Follow what the collector tells, from after the full read on."""
        follower = Follower(self.collector(**options))
        follower.start()
        try:
            yield follower
        finally:
            follower.stop()

    def objects(self, kind: type) -> list[Any]:
        """Return the administrator's view of all objects of a kind."""
        content = self.administrator.content
        view: Any = content.viewManager.CreateContainerView(content.rootFolder, [kind], True)
        try:
            return list(view.view)
        finally:
            view.Destroy()

    def named(self, kind: type, name: str) -> Any:
        """Return the administrator's object of a kind and name."""
        objects = {each.name: each for each in self.objects(kind)}
        assert name in objects, f"no {name} among {sorted(objects)}"
        return objects[name]

    def machines(self) -> list[Any]:
        """Return the administrator's virtual machines."""
        return self.objects(vim.VirtualMachine)

    def machine(self, name: str) -> Any:
        """Return the administrator's virtual machine of a name."""
        return self.named(vim.VirtualMachine, name)

    def finish(self, task: Any) -> Any:
        """Wait for a task of the administrator's; return its result."""
        end = time.monotonic() + PATIENCE
        while (state := self._task(task, "info.state")) not in ("success", "error"):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert state == "success", self._task(task, "info.error")
        return self._task(task, "info.result")

    def reconfigure(self, machine: Any, **fields: Any) -> None:
        """ReconfigVM_Task."""
        self.finish(machine.ReconfigVM_Task(vim.vm.ConfigSpec(**fields)))

    def force(self, machine: Any, **paths: Any) -> None:
        """Force properties to values, as vcsim allows; ``__`` stands for the dot of a path."""
        options = [
            vim.option.OptionValue(key=f"SET.{path.replace('__', '.')}", value=value)
            for path, value in paths.items()
        ]
        self.reconfigure(machine, extraConfig=options)

    def create(self, name: str, beside: Any, **fields: Any) -> Any:
        """Make a virtual machine in the resource pool, on the datastore and folder of another."""
        datastore = beside.datastore[0].name
        spec = vim.vm.ConfigSpec(
            name=name,
            numCPUs=1,
            memoryMB=64,
            guestId="otherGuest",
            files=vim.vm.FileInfo(vmPathName=f"[{datastore}]"),
            **fields,
        )
        folder = fields.pop("folder", beside.parent)
        return self.finish(folder.CreateVM_Task(spec, beside.resourcePool))

    def end_sessions(self) -> None:
        """Let vCenter forget all sessions but the administrator's."""
        manager: Any = self.administrator.content.sessionManager
        mine = manager.currentSession.key
        others = [each.key for each in manager.sessionList if each.key != mine]
        manager.TerminateSession(others)

    def session_count(self) -> int:
        """Return the number of sessions that vCenter has."""
        manager: Any = self.administrator.content.sessionManager
        return len(manager.sessionList)

    def _task(self, task: Any, path: str) -> Any:
        return read_properties(self.administrator, task, [path]).get(path)


def _machine_names(state: inventory_pb2.InventoryObject) -> list[str]:
    return [name for name in (state.virtual_machine.name, state.template.name) if name]
