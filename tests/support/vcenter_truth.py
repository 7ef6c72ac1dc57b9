"""A vCenter's inventory as a dictionary of virtual machine names.

Stands for vCenter and the collector where a test is about delivery and not about vSphere: it gives
full reads in pages, changes in order, and answers to questions, all as `CollectorUpdate`.
"""

import threading
from collections.abc import Iterator, Sequence

from common.references import key_of
from edge.interfaces import CollectorUpdate
from edge.vcenter.client.faults import VCenterError
from vsphere_gateway.v1 import inventory_pb2, link_pb2

VCENTER = inventory_pb2.VCenter(instance_uuid="8d5f0c3e-vcenter", version="8.0.3")


def virtual_machine(identifier: str, name: str) -> inventory_pb2.InventoryObject:
    """Return a virtual machine as the parser would."""
    return inventory_pb2.InventoryObject(
        reference=inventory_pb2.ObjectReference(type="VirtualMachine", value=identifier),
        virtual_machine=inventory_pb2.VirtualMachine(name=name, cpus=2, memory_mb=2048),
    )


class VCenterTruth:
    """What exists, by managed object identifier, with the name as the only thing that changes."""

    def __init__(self, names: dict[str, str] | None = None) -> None:
        self.names = dict(names or {})
        self.hidden: set[str] = set()
        self.failure: VCenterError | None = None
        """Raised by ``read_once`` after its first page."""

    def keys(self) -> dict[str, str]:
        """Return what an edge may see: names by key."""
        return {
            f"VirtualMachine:{identifier}": name
            for identifier, name in self.names.items()
            if identifier not in self.hidden
        }

    def full_read(self, page: int = 500) -> Iterator[CollectorUpdate]:
        """Yield the pages of a full read of the present state."""
        objects = [
            virtual_machine(identifier, name)
            for identifier, name in self.names.items()
            if identifier not in self.hidden
        ]
        pages = [objects[start : start + page] for start in range(0, len(objects), page)] or [[]]
        for number, each in enumerate(pages, start=1):
            yield CollectorUpdate(each, complete=number == len(pages), full_read=True)

    def read_once(self, stop: threading.Event) -> Iterator[CollectorUpdate]:
        """Read everything for an audit."""
        for update in self.full_read(2):
            yield update
            if self.failure is not None:
                raise self.failure

    def change(self, identifier: str) -> CollectorUpdate:
        """Return what vCenter announces about one object now."""
        if identifier in self.names:
            return CollectorUpdate([virtual_machine(identifier, self.names[identifier])])
        return self._removal(identifier, link_pb2.REMOVAL_REASON_DELETED)

    def confirm(self, references: Sequence[inventory_pb2.ObjectReference]) -> CollectorUpdate:
        """Answer a question about some objects."""
        answer = CollectorUpdate([])
        for reference in references:
            identifier = key_of(reference).partition(":")[2]
            if identifier in self.hidden:
                part = self._removal(identifier, link_pb2.REMOVAL_REASON_HIDDEN)
            else:
                part = self.change(identifier)
            answer.objects.extend(part.objects)
            answer.removals.extend(part.removals)
        return answer

    def _removal(
        self, identifier: str, reason: link_pb2.RemovalReason.ValueType
    ) -> CollectorUpdate:
        reference = inventory_pb2.ObjectReference(type="VirtualMachine", value=identifier)
        return CollectorUpdate([], [link_pb2.ObjectRemoval(reference=reference, reason=reason)])
