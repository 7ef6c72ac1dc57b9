"""What placement holds of a provider, read to be judged. Nothing is written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.openstack.placement.client import PlacementClient


@dataclass(frozen=True, slots=True)
class Provider:
    """One resource provider as placement has it."""

    name: str
    inventories: Mapping[str, Mapping[str, Any]]
    usages: Mapping[str, int]
    traits: frozenset[str]
    allocations: Mapping[str, Mapping[str, int]]
    """Amounts by resource class, by consumer."""


class PlacementReader:
    """Reads providers. Thread-safe."""

    def __init__(self, client: PlacementClient) -> None:
        """``client`` may be shared."""
        self._client = client

    def provider(self, uuid: str) -> Provider | None:
        """Return a provider, None when there is none. Raises ``PlacementError``."""
        found = self._client.provider(uuid)
        if found is None:
            return None
        traits, _ = self._client.traits(uuid)
        allocations = self._client.provider_allocations(uuid)
        return Provider(
            name=found["name"],
            inventories=self._client.inventories(uuid)["inventories"],
            usages=self._client.usages(uuid),
            traits=traits,
            allocations={consumer: one["resources"] for consumer, one in allocations.items()},
        )
