"""What the parts of the edge ask of each other."""

import dataclasses
import threading
from collections.abc import Generator, Iterator
from typing import Protocol

from vsphere_gateway.v1 import inventory_pb2, link_pb2, operations_pb2

CONFIRM_AT_ONCE = 200
"""Most references in one call of ``Collector.confirm``."""


@dataclasses.dataclass(frozen=True, slots=True)
class CollectorUpdate:
    """What one answer of vCenter says about the managed part of its inventory.

    ``objects`` carry neither ``content_hash`` nor ``revision``: the inventory sets both.
    ``removals`` carry a reason that was confirmed with vCenter, and neither revision nor time.
    An object is in one of the three lists at most. An unreadable one stays unreadable until a
    later update has it among ``objects`` or ``removals``.
    """

    objects: list[inventory_pb2.InventoryObject]
    removals: list[link_pb2.ObjectRemoval] = dataclasses.field(default_factory=list)
    unreadable: list[link_pb2.UnreadableObject] = dataclasses.field(default_factory=list)
    complete: bool = True
    """False while more pages follow of what ``full_read`` or ``newly_managed`` names."""
    full_read: bool = False
    """Part of a read of everything: what it has not mentioned by its last page (``complete``) is
    no longer shown; ``confirm`` finds out whether it was deleted."""
    newly_managed: bool = False
    """Part of a read of clusters that came under management: changes of others overtake it, and
    after its last page (``complete``) both sides are compared."""


class Managed(Protocol):
    """What OpenStack may see and touch (``edge.config.ManagedSettings`` says what each means)."""

    @property
    def read_only_folders(self) -> tuple[str, ...]:
        """Inventory paths or globs of folders whose virtual machines are read only."""

    @property
    def read_only_edition(self) -> int:
        """A number that grows whenever what is read only changes."""

    def manages_cluster(self, name: str) -> bool:
        """Whether a cluster of this name is managed."""

    def name_is_read_only(self, name: str) -> bool:
        """Whether a virtual machine of this name is read only."""

    def folder_is_read_only(self, path: str) -> bool:
        """Whether virtual machines in the folder ``path`` or below it are read only."""


class Collector(Protocol):
    """Reads everything once, then yields changes without an end."""

    def updates(self, stop: threading.Event) -> Generator[CollectorUpdate, None, None]:
        """Yield the full read's pages (``full_read=True``), then changes as they come.

        Raises ``edge.vcenter.client.faults.VCenterError`` when the session is no longer usable;
        the caller connects again and starts with a new full read.
        """

    def confirm(self, references: list[inventory_pb2.ObjectReference]) -> CollectorUpdate:
        """Ask vCenter afresh for some objects: each comes back as an object or a removal.

        Called by another thread while ``updates`` waits, with at most
        ``CONFIRM_AT_ONCE`` references. One that can be neither read nor confirmed as gone comes
        back in ``unreadable``. Raises ``edge.vcenter.client.faults.VCenterError``.
        """


class ObservedStates(Protocol):
    """Where operations report the states that they read (implemented by ``edge.sync``)."""

    def observed(self, state: inventory_pb2.InventoryObject) -> inventory_pb2.InventoryObject:
        """Apply what an operation read; return it with ``content_hash`` and ``revision`` set."""


class InventorySource(Protocol):
    """What the link needs of the inventory (implemented by ``edge.sync``).

    All methods may be called from any thread.
    """

    def vcenter(self) -> inventory_pb2.VCenter | None:
        """The vCenter, None before the first contact."""

    def attach(self, holdings: link_pb2.Holdings) -> None:
        """Begin a stream with what the control plane holds; resets lanes that are unacked."""

    def detach(self) -> None:
        """End the stream; what was sent and not acknowledged will be sent again."""

    def next_request(self, timeout: float) -> link_pb2.InventoryRequest | None:
        """Wait for the next message to send: changes first; None after ``timeout`` seconds."""

    def received(self, response: link_pb2.InventoryResponse) -> None:
        """Apply an ack, nack, parity, bucket contents, holdings or confirm message."""


class OnDemandReadSource(Protocol):
    """Answers an on-demand read, `Audit` in the protocol (implemented by ``edge.sync``)."""

    def messages(self, audit_id: str, stop: threading.Event) -> Iterator[link_pb2.AuditRequest]:
        """Read vCenter afresh and yield the whole answer; never raises because of vCenter."""


class OperationRunner(Protocol):
    """What the link needs of the executor (implemented by ``edge.operations``)."""

    def submit(self, operation: operations_pb2.Operation) -> None:
        """Accept an operation; never blocks on vCenter. A known key repeats its result."""

    def cancel(self, cancel: operations_pb2.CancelOperation) -> None:
        """Stop an operation if that is still possible."""

    def acknowledged(self, operation_id: str) -> None:
        """Forget a stored result."""

    def lease_changed(self, lease: link_pb2.Lease) -> None:
        """Note whether operations may run, and with which fencing epoch."""

    def unsettled(self) -> list[operations_pb2.OperationProgress]:
        """Operations that run or whose results are not yet acknowledged."""

    def replay(self) -> None:
        """A new call is welcome: send every unacknowledged result again."""

    def drain(self, timeout: float) -> bool:
        """Accept nothing new and wait for what runs; False when ``timeout`` seconds passed."""
