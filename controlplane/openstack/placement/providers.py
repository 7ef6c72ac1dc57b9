"""Makes the resource provider of a managed cluster, before its worker starts.

Once it runs, Nova's compute manager keeps it up to date from the driver; what is written here is
what the driver reports too, so neither undoes the other.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from common.log_fields import fields
from common.placement_inventories import Amount, fitting, inventories
from controlplane.domain.records import AllocationRecord, ComputeHostRecord
from controlplane.openstack.placement.client import (
    Json,
    PlacementClient,
    PlacementConflictError,
    resources,
)

LOG = logging.getLogger(__name__)

DISABLED_TRAIT = "COMPUTE_STATUS_DISABLED"
"""Keeps the scheduler away from a host whose service is disabled (os_traits)."""
ATTEMPTS = 5
CUSTOM_PREFIX = "CUSTOM_VSG_"
"""Traits with this prefix are ours to add and remove."""

Result = TypeVar("Result")


class ResourceProviders:
    """Providers, their inventories and traits. Every method raises ``PlacementError``."""

    def __init__(self, client: PlacementClient) -> None:
        """``client`` may be shared with the allocation writer."""
        self._client = client

    def provision(self, record: ComputeHostRecord, disabled: bool) -> None:
        """Make the provider of a compute host, or bring its totals and traits up to date."""
        if self._client.provider(record.node_uuid) is None:
            self._client.create_provider(record.node_uuid, record.node)
            facts = fields(provider=record.node_uuid, node=record.node)
            LOG.info("resource provider created", extra=facts)
        for trait in sorted(record.traits):
            self._client.create_trait(trait)
        _repeat(lambda: self._set_inventories(record))
        _repeat(lambda: self._set_traits(record, disabled))

    def set_disabled(self, provider: str, disabled: bool) -> None:
        """Add or remove the trait that keeps the scheduler away."""

        def work() -> None:
            traits, generation = self._client.traits(provider)
            wanted = traits | {DISABLED_TRAIT} if disabled else traits - {DISABLED_TRAIT}
            if wanted != traits:
                self._client.set_traits(provider, wanted, generation)

        _repeat(work)

    def remove(self, provider: str, ended: Collection[str] = ()) -> None:
        """Delete the provider, and what servers that have ended still hold on it.

        Their release may wait in a queue, or have been lost with an earlier process.
        """
        if self._client.provider(provider) is None:
            return
        for consumer in self._client.provider_allocations(provider).keys() & set(ended):
            self._client.delete_allocations(consumer)
        self._client.delete_provider(provider)

    def widen(self, provider: str, records: Sequence[AllocationRecord]) -> bool:
        """Raise ratios and largest amounts until the allocations fit; returns whether any changed.

        vCenter has placed these virtual machines already: what placement thinks of the capacity is
        no reason to leave them out. Only what exceeds it is raised.
        """
        return _repeat(lambda: self._widen(provider, records))

    def _widen(self, provider: str, records: Sequence[AllocationRecord]) -> bool:
        found = self._client.inventories(provider)
        usages = self._client.usages(provider)
        changed = False
        for name, inventory in found["inventories"].items():
            amounts = [resources(record).get(name, 0) for record in records]
            needed = usages.get(name, 0) + sum(amounts)
            wanted = fitting(inventory, needed, max(amounts, default=0))
            changed = changed or wanted != inventory
            inventory.update(wanted)
        if changed:
            generation = found["resource_provider_generation"]
            self._client.set_inventories(provider, found["inventories"], generation)
            LOG.info("resource provider widened", extra=fields(provider=provider))
        return changed

    def _set_inventories(self, record: ComputeHostRecord) -> None:
        found = self._client.inventories(record.node_uuid)
        wanted = _inventories(record, found["inventories"])
        if wanted != found["inventories"]:
            generation = found["resource_provider_generation"]
            self._client.set_inventories(record.node_uuid, wanted, generation)

    def _set_traits(self, record: ComputeHostRecord, disabled: bool) -> None:
        traits, generation = self._client.traits(record.node_uuid)
        foreign = {trait for trait in traits if not trait.startswith(CUSTOM_PREFIX)}
        wanted = (foreign - {DISABLED_TRAIT}) | record.traits
        if disabled:
            wanted |= {DISABLED_TRAIT}
        if wanted != traits:
            self._client.set_traits(record.node_uuid, wanted, generation)


def _inventories(record: ComputeHostRecord, stored: dict[str, Json]) -> dict[str, Json]:
    amounts = {
        "VCPU": Amount(record.cpus, record.cpus_used, record.largest_cpus),
        "MEMORY_MB": Amount(record.memory_mb, record.memory_mb_used, record.largest_memory_mb),
        "DISK_GB": Amount(record.disk_gb, record.disk_gb_used, record.largest_disk_gb),
    }
    return inventories(amounts, stored)


def _repeat(work: Callable[[], Result]) -> Result:
    """Repeat work that another writer of the same provider interfered with."""
    for _ in range(ATTEMPTS - 1):
        try:
            return work()
        except PlacementConflictError:
            continue
    return work()
