"""Finds the virtual machine that an operation is about, and makes sure that it may be touched.

The state comes from the collector, so that the site's rules are applied by the same code that
decides what is reported, and an operation's result looks as inventory does.
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

from common.log_fields import fields
from edge.interfaces import CollectorUpdate, Managed
from edge.vcenter.client import faults
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.client.task_watcher import PropertyWatcher
from edge.vcenter.operations.control import OperationOutcome, Reference
from edge.vcenter.operations.errors import (
    AmbiguousIdentityError,
    RefusedBySiteError,
    TemplateNotFoundError,
    VirtualMachineNotFoundError,
)
from edge.vcenter.operations.tasks import TaskRunner
from vsphere_gateway.v1 import inventory_pb2, link_pb2, operations_pb2

log = logging.getLogger(__name__)

ReadState = Callable[[Reference], CollectorUpdate]
"""``VCenterCollector.look``."""


@dataclasses.dataclass(frozen=True, slots=True)
class FoundMachine:
    """A virtual machine or template that was proven to be the right one."""

    managed_object: Any
    """pyVmomi's vim.VirtualMachine."""
    state: inventory_pb2.InventoryObject
    """As the collector reports it, read just now."""

    @property
    def machine(self) -> inventory_pb2.VirtualMachine:
        """The properties, whether it is a virtual machine or a template."""
        return self.state.template if self.is_template else self.state.virtual_machine

    @property
    def is_template(self) -> bool:
        """It is a template at present."""
        return self.state.WhichOneof("body") == "template"


class MachineLookup:
    """Finds virtual machines and templates by instance UUID, with a reference as a hint.

    Every method that reads raises ``VCenterError``, and ``RefusedBySiteError`` for what is in no
    managed cluster.
    """

    def __init__(self, session: VCenterSession, read_state: ReadState) -> None:
        self._session = session
        self._read_state = read_state

    def target(self, operation: operations_pb2.Operation) -> FoundMachine:
        """Find the virtual machine that an operation acts upon.

        Raises ``VirtualMachineNotFoundError``, ``AmbiguousIdentityError`` and
        ``RefusedBySiteError`` (it is protected, or a template).
        """
        found = self.subject(operation)
        _refuse_untouchable(found)
        return found

    def subject(self, operation: operations_pb2.Operation) -> FoundMachine:
        """Find the virtual machine that an operation only looks at; it may be read only.

        Raises ``VirtualMachineNotFoundError`` and ``AmbiguousIdentityError``.
        """
        target = operation.target
        found = self._find(target.instance_uuid, target.reference)
        if found is None:
            raise VirtualMachineNotFoundError(
                f"vCenter has no virtual machine with the instance UUID {target.instance_uuid}"
            )
        return found

    def template(self, instance_uuid: str, hint: Reference) -> FoundMachine:
        """Find a template. Raises ``TemplateNotFoundError`` and ``AmbiguousIdentityError``."""
        found = self._find(instance_uuid, hint)
        if found is None:
            raise TemplateNotFoundError(
                f"vCenter has no template with the instance UUID {instance_uuid}"
            )
        if not found.is_template:
            raise TemplateNotFoundError(
                f"{found.machine.name} ({found.state.reference.value}) is no longer a template"
            )
        return found

    def existing(self, instance_uuid: str) -> FoundMachine | None:
        """Find a virtual machine to act upon, if there is one. Raises what ``target`` raises."""
        found = self._find(instance_uuid, Reference())
        if found is not None:
            _refuse_untouchable(found)
        return found

    def at(self, reference: Reference) -> FoundMachine:
        """Read what a reference known to be right stands for.

        Raises ``VirtualMachineNotFoundError``.
        """
        found = self._found(reference)
        if found is None:
            raise VirtualMachineNotFoundError(f"{reference.value} was deleted meanwhile")
        return found

    def outcome(self, found: FoundMachine, *, changed: bool) -> OperationOutcome:
        """Report a virtual machine as it is now, at the end of an operation on it.

        Without a change that is how it was found; else it is read again. Raises
        ``VirtualMachineNotFoundError``.
        """
        return OperationOutcome((self.at(found.state.reference) if changed else found).state)

    def require_managed(self, cluster: Reference) -> None:
        """Raise ``RefusedBySiteError`` unless the edge's configuration manages the cluster."""
        if self._state(cluster) is None:
            raise RefusedBySiteError(f"vCenter no longer has the cluster {cluster.value}")

    def _state(self, reference: Reference) -> inventory_pb2.InventoryObject | None:
        """Read the present state of one object; None when it is gone."""
        update = self._read(reference)
        for state in update.objects:
            return state
        for unreadable in update.unreadable:
            raise faults.UnexpectedAnswerError(
                f"{unreadable.reference.value} cannot be read: {unreadable.reason}"
            )
        _explain(update.removals[0])
        return None

    def _read(self, reference: Reference) -> CollectorUpdate:
        generation = self._session.generation
        try:
            return self._read_state(reference)
        except faults.SessionExpiredError:
            self._session.renew(generation)
            return self._read_state(reference)

    def _find(self, instance_uuid: str, hint: Reference) -> FoundMachine | None:
        refusal: RefusedBySiteError | None = None
        if hint.value:
            try:
                found = self._found(hint)
                if found is not None and _same_uuid(found.machine.instance_uuid, instance_uuid):
                    return found
            except RefusedBySiteError as error:
                refusal = error
            searched = fields(object=hint.value, instance=instance_uuid)
            log.info("virtual machine is not at its last reference, searching", extra=searched)
        reference = self._search(instance_uuid)
        if refusal is not None and (reference is None or reference == hint):
            raise refusal
        found = self._found(reference) if reference is not None else None
        if found is not None and not _same_uuid(found.machine.instance_uuid, instance_uuid):
            return None
        return found

    def _search(self, instance_uuid: str) -> Reference | None:
        """Ask SearchIndex.FindAllByUuid, over all datacenters."""
        index: Any = self._session.content.searchIndex
        machines = index.FindAllByUuid(
            datacenter=None, uuid=instance_uuid, vmSearch=True, instanceUuid=True
        )
        if len(machines) > 1:
            names = ", ".join(sorted(each._moId for each in machines))
            raise AmbiguousIdentityError(
                f"{len(machines)} virtual machines have the instance UUID {instance_uuid}: {names}"
            )
        return Reference(type="VirtualMachine", value=machines[0]._moId) if machines else None

    def _found(self, reference: Reference) -> FoundMachine | None:
        state = self._state(reference)
        if state is None:
            return None
        return FoundMachine(self._session.managed_object(state.reference), state)


@dataclasses.dataclass(frozen=True, slots=True)
class OperationContext:
    """What every kind of operation works with; shared by all that run."""

    session: VCenterSession
    watcher: PropertyWatcher
    tasks: TaskRunner
    machines: MachineLookup
    managed: Managed
    clock: Callable[[], float] = time.monotonic
    """The clock of deadlines, in seconds."""
    network_counters: dict[int, str] = dataclasses.field(default_factory=dict)
    """Names of the performance counters that diagnostics ask for, filled at first use."""


def _explain(removal: link_pb2.ObjectRemoval) -> None:
    """Raise why vCenter does not show an object, unless it was deleted."""
    where = f"{removal.reference.type}:{removal.reference.value}"
    if removal.reason == link_pb2.REMOVAL_REASON_DELETED:
        return
    if removal.reason == link_pb2.REMOVAL_REASON_UNMANAGED:
        raise RefusedBySiteError(f"{where} is in no cluster that this edge's configuration manages")
    if removal.reason == link_pb2.REMOVAL_REASON_HIDDEN:
        raise faults.PermissionDeniedError(
            f"vCenter does not show {where} to the edge's user", "System.View", where
        )
    raise faults.VCenterUnreachableError(f"vCenter does not say what became of {where}")


def _same_uuid(one: str, other: str) -> bool:
    return bool(one) and one.lower() == other.lower()


def _refuse_untouchable(found: FoundMachine) -> None:
    machine = found.machine
    where = f"{machine.name} ({found.state.reference.value})"
    if found.is_template:
        raise RefusedBySiteError(f"{where} is a template; the edge acts on virtual machines only")
    if machine.protected_by_site:
        raise RefusedBySiteError(
            f"{where} is read only at this site: it is the edge's or vCenter's own machine, or"
            " managed.read_only_names or managed.read_only_folders of edge.toml lists it"
        )
    if machine.HasField("managed_by"):
        raise RefusedBySiteError(
            f"{where} belongs to the vCenter extension {machine.managed_by.extension_key}"
        )
    if machine.placeholder or machine.fault_tolerance_role > 1:
        raise RefusedBySiteError(
            f"{where} is a placeholder or a secondary of Fault Tolerance, not a machine of its own"
        )
