"""Finds the virtual machine that an operation means, and makes sure that it may be touched.

The state comes from the collector, so that the site's rules are applied by the same code that
decides what is reported, and an operation's result looks as inventory does.
"""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from edge.interfaces import CollectorUpdate
from edge.log import INSTANCE_UUID, OBJECT, fields
from edge.vcenter.client import faults
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.operations.errors import (
    AmbiguousIdentityError,
    RefusedBySiteError,
    TemplateNotFoundError,
    VirtualMachineNotFoundError,
)
from vsphere_gateway.v1 import inventory_pb2, link_pb2

LOG = logging.getLogger("edge.vcenter.operations.target")

Reference = inventory_pb2.ObjectReference
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
    """Finds virtual machines and templates by instance UUID, with a reference as a hint."""

    def __init__(self, session: VCenterSession, read_state: ReadState) -> None:
        self._session = session
        self._read_state = read_state

    def virtual_machine(self, instance_uuid: str, hint: Reference) -> FoundMachine:
        """Return the virtual machine, ready to be acted upon.

        Raises ``VirtualMachineNotFoundError``, ``AmbiguousIdentityError``, ``RefusedBySiteError``
        (it is protected, a template, or in no managed cluster) or ``VCenterError``.
        """
        found = self.any_machine(instance_uuid, hint)
        _refuse_untouchable(found)
        return found

    def any_machine(self, instance_uuid: str, hint: Reference) -> FoundMachine:
        """Return the virtual machine to look at it, even where it may not be touched."""
        found = self._find(instance_uuid, hint)
        if found is None:
            raise VirtualMachineNotFoundError(
                f"vCenter has no virtual machine with the instance UUID {instance_uuid}"
            )
        return found

    def template(self, instance_uuid: str, hint: Reference) -> FoundMachine:
        """Return the template. Raises ``TemplateNotFoundError`` and as ``virtual_machine``."""
        found = self._find(instance_uuid, hint)
        if found is None:
            raise TemplateNotFoundError(
                f"vCenter has no template with the instance UUID {instance_uuid}"
            )
        if not found.is_template:
            raise TemplateNotFoundError(
                f"{found.machine.name} ({found.state.reference.value}) is no template any more"
            )
        return found

    def existing(self, instance_uuid: str) -> FoundMachine | None:
        """Return the virtual machine if there is one. Raises as ``virtual_machine``."""
        found = self._find(instance_uuid, Reference())
        if found is not None:
            _refuse_untouchable(found)
        return found

    def found(self, reference: Reference) -> FoundMachine:
        """Return what a reference known to be right stands for.

        Raises ``VirtualMachineNotFoundError``, ``RefusedBySiteError`` or ``VCenterError``.
        """
        found = self._found(reference)
        if found is None:
            raise VirtualMachineNotFoundError(f"{reference.value} was deleted meanwhile")
        return found

    def require_managed(self, cluster: Reference) -> None:
        """Raise ``RefusedBySiteError`` unless the edge's configuration manages the cluster."""
        if self.state(cluster) is None:
            raise RefusedBySiteError(f"vCenter has no cluster {cluster.value} any more")

    def state(self, reference: Reference) -> inventory_pb2.InventoryObject | None:
        """Return the present state of one object; None when it is gone. Raises as the others."""
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
            searched = fields({OBJECT: hint.value, INSTANCE_UUID: instance_uuid})
            LOG.info("not found where it was last, searching", extra=searched)
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
        state = self.state(reference)
        if state is None:
            return None
        return FoundMachine(self._session.managed_object(state.reference), state)


def _explain(removal: link_pb2.ObjectRemoval) -> None:
    """Return if the object was deleted; else raise why it is not shown."""
    where = f"{removal.reference.type}:{removal.reference.value}"
    if removal.reason == link_pb2.REMOVAL_REASON_DELETED:
        return
    if removal.reason == link_pb2.REMOVAL_REASON_UNMANAGED:
        raise RefusedBySiteError(f"{where} is in no cluster that this edge's configuration manages")
    if removal.reason == link_pb2.REMOVAL_REASON_HIDDEN:
        raise faults.PermissionDeniedError(
            f"vCenter does not show {where} to the edge's user", "System.View", where
        )
    raise faults.VCenterUnreachableError(f"vCenter does not tell what became of {where}")


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
        raise RefusedBySiteError(f"{where} is a stand-in of vCenter's, not a machine of its own")
