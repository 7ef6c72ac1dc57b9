"""What every kind of operation works with."""

import dataclasses
import time
from collections.abc import Callable

from edge.interfaces import Managed
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.client.task_watcher import PropertyWatcher
from edge.vcenter.operations.target import FoundMachine, MachineLookup
from edge.vcenter.operations.tasks import TaskRunner
from vsphere_gateway.v1 import operations_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class OperationContext:
    """The vCenter side of operations, shared by all that run."""

    session: VCenterSession
    watcher: PropertyWatcher
    tasks: TaskRunner
    lookup: MachineLookup
    managed: Managed
    clock: Callable[[], float] = time.monotonic
    """The clock of deadlines, in seconds."""
    network_counters: dict[int, str] = dataclasses.field(default_factory=dict)
    """Names of the performance counters that diagnostics ask for, filled at first use."""

    def target(self, operation: operations_pb2.Operation) -> FoundMachine:
        """Return the virtual machine that an operation acts upon; raises as ``MachineLookup``."""
        target = operation.target
        return self.lookup.virtual_machine(target.instance_uuid, target.reference)

    def subject(self, operation: operations_pb2.Operation) -> FoundMachine:
        """Return the virtual machine that is only looked at; it may be read only."""
        target = operation.target
        return self.lookup.any_machine(target.instance_uuid, target.reference)
