"""Which function runs an operation: by the field of the ``Operation`` message that is set."""

from collections.abc import Callable, Mapping
from typing import Final

from common.background import ThreadMonitor
from edge.interfaces import Managed
from edge.vcenter.client import faults
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.client.task_watcher import PropertyWatcher
from edge.vcenter.collector.collector import VCenterCollector
from edge.vcenter.operations.clone import clone
from edge.vcenter.operations.control import OperationControl, OperationOutcome
from edge.vcenter.operations.destroy import destroy
from edge.vcenter.operations.diagnostics import get_diagnostics
from edge.vcenter.operations.errors import UnknownOperationError
from edge.vcenter.operations.power import get_state, power_off, power_on, suspend
from edge.vcenter.operations.reboot import reboot
from edge.vcenter.operations.target import MachineLookup, OperationContext
from edge.vcenter.operations.tasks import TaskRunner
from vsphere_gateway.v1 import operations_pb2

Action = Callable[[OperationContext, operations_pb2.Operation, OperationControl], OperationOutcome]

ACTIONS: Final[Mapping[str, Action]] = {
    "clone_virtual_machine": clone,
    "power_on": power_on,
    "power_off": power_off,
    "reboot": reboot,
    "suspend": suspend,
    "destroy": destroy,
    "get_state": get_state,
    "get_diagnostics": get_diagnostics,
}


READS: Final = frozenset({"get_state", "get_diagnostics"})
"""Those that change nothing; they never wait."""
ALIVE_SECONDS: Final = 2.0
"""How often an operation that waits for the inventory makes sure that vCenter answers."""


class VCenterOperations:
    """Runs operations on one vCenter. Safe for many threads."""

    def __init__(
        self,
        session: VCenterSession,
        collector: VCenterCollector,
        managed: Managed,
        monitor: ThreadMonitor,
    ) -> None:
        """``collector`` reads on the same session; it decides what is managed and what is not."""
        self._session = session
        self._collector = collector
        self._watcher = PropertyWatcher(session, monitor)
        self._context = OperationContext(
            session=session,
            watcher=self._watcher,
            tasks=TaskRunner(session, self._watcher),
            machines=MachineLookup(session, collector.look),
            managed=managed,
        )

    def run(
        self, operation: operations_pb2.Operation, control: OperationControl
    ) -> OperationOutcome:
        """Run one operation to its end.

        Soon after a start, the edge does not yet know what is managed: then what changes something
        waits for that. Raises ``OperationError`` (``UnknownOperationError`` for an action that a
        newer control plane sent) and ``VCenterError``.
        """
        name = operation.WhichOneof("action") or ""
        action = ACTIONS.get(name)
        if action is None:
            raise UnknownOperationError("this edge does not know the operation; update the edge")
        try:
            return action(self._context, operation, control)
        except faults.NotReadYetError:
            # Raised by the first look at the virtual machine, before anything was begun.
            if name in READS or not self._wait_until_read(control):
                raise
            return action(self._context, operation, control)

    def _wait_until_read(self, control: OperationControl) -> bool:
        """Wait for the inventory, for as long as vCenter answers; False if it was not read in time.

        Raises ``VCenterError`` when vCenter does not answer.
        """
        while self._session.is_logged_in and control.remaining():
            self._session.verify_alive()
            if self._collector.wait_until_read(min(ALIVE_SECONDS, control.remaining())):
                return True
        return False

    def close(self) -> None:
        """Stop waiting for tasks."""
        self._watcher.close()
