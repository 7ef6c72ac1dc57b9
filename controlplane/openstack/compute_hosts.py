"""Makes managed clusters compute hosts: Nova's rows and placement's provider together."""

import logging

from common.log_fields import fields
from controlplane.domain.records import ComputeHostRecord, ServiceStatus
from controlplane.openstack.placement.client import PlacementError
from controlplane.openstack.placement.providers import ResourceProviders
from controlplane.store.glance.images import GlanceImages
from controlplane.store.nova.compute_hosts import ComputeHostRows

LOG = logging.getLogger(__name__)


class ComputeHosts:
    """Provisions compute hosts and enables or disables them (a ``ComputeHostWriter``)."""

    def __init__(
        self,
        rows: ComputeHostRows,
        providers: ResourceProviders | None,
        images: GlanceImages | None = None,
    ) -> None:
        """``providers`` is None where no placement runs, ``images`` where no Glance does."""
        self._rows = rows
        self._providers = providers
        self._images = images

    def provision(self, record: ComputeHostRecord) -> None:
        """Make service, node, mapping and provider (``ComputeHostWriter.provision``).

        Makes the image too that servers refer to whose template is not known.
        """
        if self._images:
            _, _, vcenter_uuid = record.node.partition(".")
            self._images.provide_unknown(vcenter_uuid)
        status = self._rows.provision(record)
        if self._providers:
            self._providers.provision(record, disabled=status.disabled)
        facts = fields(host=record.host, disabled=status.disabled)
        LOG.info("compute host provisioned", extra=facts)

    def status(self, host: str) -> ServiceStatus | None:
        """Read the service's row (``ComputeHostWriter.status``)."""
        return self._rows.status(host)

    def disable(self, host: str, reason: str) -> ServiceStatus:
        """Disable the service (``ComputeHostWriter.disable``)."""
        status = self._rows.disable(host, reason)
        self._follow(status)
        return status

    def enable(self, host: str) -> ServiceStatus:
        """Enable the service (``ComputeHostWriter.enable``)."""
        status = self._rows.enable(host)
        self._follow(status)
        return status

    def remove(self, host: str) -> None:
        """Take the host out of Nova and placement (``ComputeHostWriter.remove``).

        Placement comes first: what fails, or is interrupted, is repeated for as long as there is a
        row to find the provider by.
        """
        self._rows.require_empty(host)
        node = self._rows.node_uuid(host)
        if node and self._providers:
            self._providers.remove(node, self._rows.ended(host))
        self._rows.remove(host)
        LOG.info("compute host removed", extra=fields(host=host))

    def _follow(self, status: ServiceStatus) -> None:
        """Set the trait by which placement spares the scheduler a disabled host."""
        change = "compute service disabled" if status.disabled else "compute service enabled"
        LOG.info(change, extra=fields(host=status.host, reason=status.disabled_reason or None))
        node = self._rows.node_uuid(status.host)
        if not node or not self._providers:
            return
        try:
            self._providers.set_disabled(node, status.disabled)
        except PlacementError as error:
            LOG.warning("trait not updated", extra=fields(host=status.host, error=error))
