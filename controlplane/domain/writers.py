"""What the pipeline and the supervisor ask of the writers.

Implemented by ``controlplane.store.nova`` (servers, compute hosts), ``controlplane.store.glance``
(images), ``controlplane.openstack.placement`` and ``controlplane.openstack.notifications``. All are
safe to call from several threads; two calls for the same server are the caller's to keep in order.

The order for one batch: ``images.apply``, ``servers.apply``, gateway database, ack; after the
commit ``announcer.announce`` and ``placement.submit``, which only queue.

A database that is away raises ``controlplane.store.errors.DatabaseUnavailableError``: what was not
applied is simply applied again. Values that a database refuses are an outcome, not an error.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from controlplane.domain.records import (
    AllocationRecord,
    ComputeHostRecord,
    HostAllocations,
    ImageOutcome,
    ImageRecord,
    RemovalOutcome,
    ServerAnnouncement,
    ServerOutcome,
    ServerRecord,
    ServiceStatus,
)


class ServerWriter(Protocol):
    """Writes adopted virtual machines into Nova's API and cell databases."""

    def apply(
        self, records: Sequence[ServerRecord], restore: Collection[str] = ()
    ) -> list[ServerOutcome]:
        """Make the rows say what the records say; one outcome a record, in order.

        Idempotent: equal records write nothing. The compute hosts must have been provisioned.
        A row that is deleted comes back only when ``restore`` names its UUID (adopted again, or
        deleted without an entry in the ledger), else the outcome is ``GONE``: a late change of a
        virtual machine that Nova has just destroyed must not bring its server back.
        """

    def delete(self, uuids: Sequence[str]) -> list[RemovalOutcome]:
        """Delete the servers of virtual machines that vCenter no longer has.

        A server with ports or volumes is deleted by Nova itself (``REQUESTED``): ask again until
        it is ``ABSENT``.
        """

    def unmanage(self, uuids: Sequence[str]) -> list[RemovalOutcome]:
        """Take servers out of Nova whose virtual machines live on unmanaged."""

    def allocations(self, compute_host: str) -> list[AllocationRecord]:
        """What placement should hold for the adopted servers of one compute host."""

    def ended(self, compute_host: str) -> frozenset[str]:
        """UUIDs of the servers that ended on a compute host: placement should hold nothing."""


class ImageWriter(Protocol):
    """Writes templates into Glance's database."""

    def apply(self, records: Sequence[ImageRecord]) -> list[ImageOutcome]:
        """Make the rows say what the records say; one outcome a record, in order."""

    def remove(self, image_ids: Sequence[str]) -> list[ImageOutcome]:
        """Remove the images of templates that are gone; the datastore is never touched."""


class ComputeHostWriter(Protocol):
    """Provisions compute hosts and enables or disables their services."""

    def provision(self, record: ComputeHostRecord) -> None:
        """Make service (disabled as ``AUTO: first sync`` if new), node, mapping and provider.

        Idempotent. On a host that exists the totals are updated and the service left as it is.
        Raises ``controlplane.openstack.placement.client.PlacementError`` when placement refuses or
        cannot be reached.
        """

    def disable(self, host: str, reason: str) -> ServiceStatus:
        """Disable the service; ``reason`` must start with ``AUTO:``; an operator's stays."""

    def enable(self, host: str) -> ServiceStatus:
        """Enable the service if it was disabled by us; an operator's disable stays."""

    def status(self, host: str) -> ServiceStatus | None:
        """Read the service's row; None when there is no such host."""

    def remove(self, host: str) -> None:
        """Take the host of a cluster that left management out of Nova and placement.

        Its servers must be gone. The node's UUID is used again when the cluster comes back.
        Raises ``ServersLeftError`` when servers are left on it.
        """


class AllocationWriter(Protocol):
    """Writes allocations to placement from a thread per resource provider."""

    def submit(
        self, records: Iterable[AllocationRecord], done: Callable[[], None] | None = None
    ) -> None:
        """Queue allocations; ``done`` is called once all of them are written or refused."""

    def reconcile(
        self,
        provider_uuid: str,
        read: Callable[[], HostAllocations],
        done: Callable[[], None] | None = None,
    ) -> None:
        """Queue a comparison of one provider's allocations with all that it should hold.

        ``read`` says what, when its turn has come, in the writer's thread; it may raise
        ``StoreError`` and is called again then. What placement holds of ended servers is released:
        an earlier process may not have come to it.
        """

    def release(self, consumer_uuids: Iterable[str]) -> None:
        """Queue the removal of the allocations of servers that are gone."""


class Announcer(Protocol):
    """Sends notifications in Nova's own form from a background thread."""

    def announce(self, announcements: Iterable[ServerAnnouncement]) -> None:
        """Queue notifications; never blocks, and drops (counted, logged) when the queue is full."""


class AdoptionWatch(Protocol):
    """Hears whose servers were adopted (implemented by the keeper of quota)."""

    def adopted(self, project_ids: Collection[str]) -> None:
        """Servers of these projects were adopted or came back; never blocks."""


@dataclass(frozen=True, slots=True)
class Writers:
    """Where inventory is written, apart from the gateway database."""

    servers: ServerWriter
    images: ImageWriter
    allocations: AllocationWriter
    announcer: Announcer
    quota: AdoptionWatch
