"""Writes many allocations in few requests, and finds the one that placement refuses."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from common.log_fields import fields
from controlplane.domain.records import AllocationRecord, HostAllocations
from controlplane.openstack.placement.client import (
    PlacementClient,
    PlacementConflictError,
    PlacementError,
    PlacementRefusedError,
    resources,
)
from controlplane.openstack.placement.providers import ResourceProviders

LOG = logging.getLogger(__name__)

BATCH = 100
"""Consumers in one request: placement handles them one by one within one transaction."""
FEW = 10
"""Up to so many consumers are read one by one, more by listing the whole provider."""
CONFLICT_ATTEMPTS = 5

Generations = Mapping[str, int | None]
Wanted = Callable[[AllocationRecord], bool]
"""Whether a record is still what its consumer should hold.

It is asked after the generations were read: what another thread writes later is a conflict.
"""


class BulkRequests:
    """Writes allocations. Every method raises ``PlacementUnavailableError``."""

    def __init__(self, client: PlacementClient, providers: ResourceProviders) -> None:
        """``providers`` widens what is too small for virtual machines that already run."""
        self._client = client
        self._providers = providers
        self.refused: dict[str, str] = {}
        """Why placement does not hold what it should for a consumer, until it does."""

    def write(self, provider: str, records: Sequence[AllocationRecord], wanted: Wanted) -> None:
        """Write the allocations of one provider."""
        self._write(provider, records, self._generations(provider, records), wanted)

    def reconcile(
        self,
        provider: str,
        expected: HostAllocations,
        latest: Callable[[str], bool],
    ) -> tuple[int, int]:
        """Write the allocations that differ from placement's, release those of ended servers.

        Returns how many of each. ``latest`` is ``Wanted`` by consumer.
        """
        stored = self._client.provider_allocations(provider)
        differing = [
            record
            for record in expected.records
            if stored.get(record.consumer_uuid, {}).get("resources") != resources(record)
        ]
        generations = {uuid: found["consumer_generation"] for uuid, found in stored.items()}
        for start in range(0, len(differing), BATCH):
            part = differing[start : start + BATCH]
            self._write(provider, part, generations, lambda record: latest(record.consumer_uuid))
        leftover = sorted(stored.keys() & expected.ended)
        self.release(leftover, latest)
        return len(differing), len(leftover)

    def release(self, consumers: Collection[str], unwanted: Callable[[str], bool]) -> None:
        """Delete the allocations of consumers, wherever they are.

        ``unwanted`` tells whether a consumer should still hold nothing, asked as ``Wanted`` is.
        """
        left = list(consumers)
        while len(left) > FEW:
            left = self._release_provider(left, unwanted)
        for consumer in left:
            if unwanted(consumer):
                self._client.delete_allocations(consumer)
                self.refused.pop(consumer, None)

    def _release_provider(self, consumers: list[str], unwanted: Callable[[str], bool]) -> list[str]:
        """Release the first consumer and all others of its provider; returns what is left."""
        first, others = consumers[0], consumers[1:]
        held = self._client.consumer_allocations(first)
        if not held["allocations"]:
            return others
        stored = self._client.provider_allocations(next(iter(held["allocations"])))
        mine = [consumer for consumer in consumers if consumer in stored and unwanted(consumer)]
        generations = {uuid: found["consumer_generation"] for uuid, found in stored.items()}
        try:
            for start in range(0, len(mine), BATCH):
                part = mine[start : start + BATCH]
                self._client.clear_allocations(part, generations, held)
        except (PlacementConflictError, PlacementRefusedError):
            # Nova wrote in the meantime: one by one, whatever the generation is.
            for consumer in filter(unwanted, mine):
                self._client.delete_allocations(consumer)
        return [consumer for consumer in others if consumer not in stored]

    def _generations(self, provider: str, records: Sequence[AllocationRecord]) -> Generations:
        if len(records) <= FEW:
            return {
                record.consumer_uuid: self._generation(record.consumer_uuid) for record in records
            }
        stored = self._client.provider_allocations(provider)
        return {uuid: found["consumer_generation"] for uuid, found in stored.items()}

    def _generation(self, consumer: str) -> int | None:
        found = self._client.consumer_allocations(consumer)
        generation: int | None = found.get("consumer_generation")
        return generation

    def _write(
        self,
        provider: str,
        records: Sequence[AllocationRecord],
        generations: Generations,
        wanted: Wanted,
        widened: bool = False,
    ) -> None:
        """Write; widen the provider once, then halve until what is refused is alone."""
        latest = [record for record in records if wanted(record)]
        if not latest:
            return
        try:
            self._client.set_allocations(latest, generations)
        except (PlacementConflictError, PlacementRefusedError) as error:
            if len(latest) == 1:
                self._write_one(provider, latest[0], wanted)
            elif not widened and self._widened(provider, latest, error):
                self._write(provider, latest, generations, wanted, widened=True)
            else:
                half = len(latest) // 2
                self._write(provider, latest[:half], generations, wanted, widened)
                self._write(provider, latest[half:], generations, wanted, widened)
            return
        for record in latest:
            self.refused.pop(record.consumer_uuid, None)

    def _write_one(self, provider: str, record: AllocationRecord, wanted: Wanted) -> None:
        consumer = record.consumer_uuid
        problem: PlacementError | None = None
        for _ in range(CONFLICT_ATTEMPTS):
            generation = self._generation(consumer)
            if not wanted(record):
                return
            try:
                self._client.set_allocations([record], {consumer: generation})
            except PlacementConflictError as error:
                problem = error
            except PlacementRefusedError as error:
                problem = error
                if not self._widened(provider, [record], error):
                    break
            else:
                self.refused.pop(consumer, None)
                return
        LOG.warning("allocation refused", extra=fields(server=consumer, reason=problem))
        self.refused[consumer] = str(problem)

    def _widened(
        self, provider: str, records: Sequence[AllocationRecord], error: PlacementError
    ) -> bool:
        return isinstance(error, PlacementRefusedError) and self._providers.widen(provider, records)
