"""A site for tests of operations: a vcsim, an edge's session and executor, and an administrator.

The administrator is a session of its own, by which tests look at vCenter and change it behind the
edge's back.
"""

import itertools
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from pyVmomi import vim

from common.background import ThreadMonitor
from edge.config import ManagedSettings, Secret, VCenterSettings
from edge.control_messages import ControlMessages
from edge.operations.executor import OperationExecutor
from edge.vcenter.client.faults import VCenterError
from edge.vcenter.client.properties import read_properties
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.collector.collector import VCenterCollector
from edge.vcenter.operations.control import OperationControl, OperationOutcome
from edge.vcenter.operations.dispatch import VCenterOperations
from tests.support.control_call import welcomed_call
from tests.support.scripted_operations import NumberedStates
from tools.servers.state import ServerError
from tools.servers.vcsim import Vcsim
from vsphere_gateway.v1 import inventory_pb2, link_pb2, operations_pb2

PATIENCE = 30.0
DISK = vim.vm.device.VirtualDisk
_counter = itertools.count(1)


class OperationsSite:
    """One vcsim with an edge's operations on it."""

    def __init__(self, simulator: Vcsim, folder: Path, managed: ManagedSettings) -> None:
        self.simulator = simulator
        self.managed = managed
        self.settings = vcenter_settings(simulator, folder)
        self.session = VCenterSession(self.settings)
        self.session.connect()
        self.administrator = VCenterSession(self.settings)
        self.administrator.connect()
        self._collector = VCenterCollector(self.session, managed)
        self._stop = threading.Event()
        self._following = threading.Thread(target=self._follow)
        self._following.start()
        self.operations = VCenterOperations(self.session, self._collector, managed, ThreadMonitor())
        messages = ControlMessages()
        self.sent = welcomed_call(messages)
        self.executor = OperationExecutor(
            self.operations, NumberedStates(), messages, ThreadMonitor()
        )
        self.executor.lease_changed(link_pb2.Lease(held=True, fencing_epoch=1, holder="edge-1"))
        self._unused = [each for each in self.machines() if each.name.startswith("DC0_C0_")]

    def close(self) -> None:
        """Log out."""
        self.simulator.clear_faults()
        self.executor.close(PATIENCE)
        self.operations.close()
        self._stop.set()
        if self.simulator.running():
            # A change ends the collector's wait, and with that its thread.
            self.reconfigure(self.machines()[0], annotation="closing time")
        self._following.join(PATIENCE)
        self.session.close()
        self.administrator.close()

    def _follow(self) -> None:
        """Keep the collector going, as the edge's supervisor does."""
        while not self._stop.is_set():
            try:
                self.session.connect()
                for _ in self._collector.updates(self._stop):
                    continue
            except VCenterError:
                self._stop.wait(0.2)

    def objects(self, kind: type) -> list[Any]:
        """Return the administrator's view of all objects of a kind."""
        content = self.administrator.content
        view: Any = content.viewManager.CreateContainerView(content.rootFolder, [kind], True)
        try:
            return list(view.view)
        finally:
            view.Destroy()

    def machines(self) -> list[Any]:
        """Return all virtual machines and templates."""
        return self.objects(vim.VirtualMachine)

    def cluster(self, name: str = "DC0_C0") -> Any:
        """Return a cluster by its name."""
        return next(each for each in self.objects(vim.ClusterComputeResource) if each.name == name)

    def machine(self) -> Any:
        """Return a virtual machine of the managed cluster, powered on, that no test has used."""
        return self._unused.pop()

    def unmanaged_machine(self) -> Any:
        """Return a virtual machine of a cluster that is not managed."""
        return next(each for each in self.machines() if each.name.startswith("DC0_C1_"))

    def template(self) -> Any:
        """Make a template of an unused virtual machine."""
        machine = self.machine()
        self.finish(machine.PowerOffVM_Task())
        machine.MarkAsTemplate()
        return machine

    def by_uuid(self, instance_uuid: str) -> list[Any]:
        """Return the virtual machines that have an instance UUID."""
        index: Any = self.administrator.content.searchIndex
        return list(index.FindAllByUuid(None, instance_uuid, True, True))

    def by_name(self, name: str) -> list[Any]:
        """Return the virtual machines of a name."""
        return [each for each in self.machines() if each.name == name]

    def finish(self, task: Any) -> Any:
        """Wait for a task of the administrator's; return its result."""
        end = time.monotonic() + PATIENCE
        # TaskInfo as a whole cannot be read of every kind of task.
        while (state := self.task_property(task, "info.state")) not in ("success", "error"):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert state == "success", self.task_property(task, "info.error")
        return self.task_property(task, "info.result")

    def task_property(self, task: Any, path: str) -> Any:
        """Return one property of a task as the administrator sees it."""
        return read_properties(self.administrator, task, [path]).get(path)

    def reconfigure(self, machine: Any, **fields: Any) -> None:
        """ReconfigVM_Task."""
        self.finish(machine.ReconfigVM_Task(vim.vm.ConfigSpec(**fields)))

    def set_property(self, machine: Any, path: str, value: Any) -> None:
        """Force a property to a value, as vcsim allows."""
        option = vim.option.OptionValue(key=f"SET.{path}", value=value)
        self.reconfigure(machine, extraConfig=[option])

    def add_disk(self, machine: Any, backing: Any, unit: int, **fields: Any) -> Any:
        """Attach a disk; return the device."""
        first = disks(machine)[0]
        device = DISK(
            key=-1,
            controllerKey=first.controllerKey,
            unitNumber=unit,
            capacityInKB=1024,
            backing=backing,
            **fields,
        )
        operation = None if backing.fileName else "create"
        change = vim.vm.device.VirtualDeviceSpec(
            operation="add", fileOperation=operation, device=device
        )
        self.reconfigure(machine, deviceChange=[change])
        return next(each for each in disks(machine) if each.unitNumber == unit)

    def file_exists(self, name: str) -> bool:
        """Tell whether a datastore has a file, given as ``[datastore] path``."""
        datastore, _, path = name.removeprefix("[").partition("] ")
        try:
            listed = self.simulator.govc("datastore.ls", "-ds", datastore, path)
        except ServerError as error:
            if "was not found" in str(error) or "FileNotFound" in str(error):
                return False
            raise
        return bool(listed)

    def operation(
        self, machine: Any = None, seconds: float = PATIENCE, **fields: Any
    ) -> operations_pb2.Operation:
        """Make an operation on a machine in the managed cluster."""
        number = next(_counter)
        made = operations_pb2.Operation(
            operation_id=f"operation-{number}",
            idempotency_key=f"key-{number}",
            request_id=f"req-{number}",
            fencing_epoch=1,
            cluster=reference(self.cluster()),
        )
        made.deadline.FromNanoseconds(int((time.time() + seconds) * 1e9))
        if machine is not None:
            made.target.instance_uuid = machine.config.instanceUuid
            made.target.reference.CopyFrom(reference(machine))
        made.MergeFrom(operations_pb2.Operation(**fields))
        return made

    def run(self, operation: operations_pb2.Operation, seconds: float = PATIENCE) -> Any:
        """Run an operation without the executor; raises its error."""
        control = OperationControl(time.monotonic() + seconds)
        outcome: OperationOutcome = self.operations.run(operation, control)
        return outcome

    def execute(self, operation: operations_pb2.Operation) -> operations_pb2.OperationResult:
        """Run an operation through the executor."""
        self.executor.submit(operation)
        return self.result_of(operation)

    def result_of(self, operation: operations_pb2.Operation) -> operations_pb2.OperationResult:
        """Wait for the result of an operation given to the executor."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            message = self.sent.next_message(0.1)
            if message and message.operation_result.operation_id == operation.operation_id:
                self.executor.acknowledged(operation.operation_id)
                return message.operation_result
        raise AssertionError(f"no result of {operation}")

    def clone_of(self, template: Any, name: str, **fields: Any) -> operations_pb2.Operation:
        """Make the operation that clones a template."""
        clone = operations_pb2.CloneVirtualMachine(
            template=reference(template),
            template_instance_uuid=template.config.instanceUuid,
            name=name,
            **{"instance_uuid": str(uuid.uuid4()), **fields},
        )
        return self.operation(clone_virtual_machine=clone)


def vcenter_settings(simulator: Vcsim, folder: Path) -> VCenterSettings:
    """Return the edge's settings for a simulator."""
    password_file = folder / "password"
    password_file.write_text(simulator.password)
    return VCenterSettings(
        host=simulator.host,
        port=simulator.port,
        username=simulator.username,
        password=Secret(password_file),
        ca_file=simulator.ca_file,
    )


def reference(managed_object: Any) -> inventory_pb2.ObjectReference:
    """Return the reference of pyVmomi's object."""
    kind = type(managed_object).__name__.rpartition(".")[2]
    return inventory_pb2.ObjectReference(type=kind, value=managed_object._moId)


def disks(machine: Any) -> list[Any]:
    """Return a machine's disks, pyVmomi's devices."""
    return [each for each in machine.config.hardware.device if isinstance(each, DISK)]


def fault_of(result: operations_pb2.OperationResult) -> operations_pb2.OperationFault:
    """Return what went wrong."""
    fault = operations_pb2.OperationFault()
    assert result.status.details, result
    assert result.status.details[0].Unpack(fault)
    return fault
