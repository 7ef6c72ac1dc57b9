"""The requests of the placement API that the control plane makes.

Reference: https://docs.openstack.org/api-ref/placement/
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

from keystoneauth1.adapter import Adapter

from controlplane.config.nova_config import NovaConfig
from controlplane.domain.records import AllocationRecord
from controlplane.openstack.keystone import adapters
from controlplane.openstack.keystone.adapters import REQUEST_ERRORS

MICROVERSION = "1.38"
"""The first with consumer types (Xena)."""
CONSUMER_TYPE = "INSTANCE"
"""As nova/scheduler/client/report.py."""
HTTP_FORBIDDEN = 403
HTTP_NOT_FOUND = 404
_CONCURRENT_UPDATE = "placement.concurrent_update"

Json = dict[str, Any]


class PlacementError(Exception):
    """Placement did not do what was asked of it."""


class PlacementUnavailableError(PlacementError):
    """Placement or Keystone cannot be reached or is failing: the same call may succeed later."""


class PlacementConflictError(PlacementError):
    """Another writer changed the provider or the consumer: read again, then repeat."""


class PlacementRefusedError(PlacementError):
    """Placement refuses the values themselves, for example more than the capacity."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One resource provider as placement has it."""

    name: str
    inventories: Mapping[str, Mapping[str, Any]]
    usages: Mapping[str, int]
    traits: frozenset[str]
    allocations: Mapping[str, Mapping[str, int]]
    """Amounts by resource class, by consumer."""


def connect(config: NovaConfig) -> "PlacementClient":
    """Make a client with the user of `[placement]`. Raises ``NovaConfigError``."""
    return PlacementClient(adapters.connect(config, "placement", MICROVERSION, ("placement",)))


class PlacementClient:
    """One placement service. Thread-safe. Every method raises ``PlacementError``."""

    def __init__(self, adapter: Adapter) -> None:
        """``adapter`` must not raise for failed requests."""
        self._adapter = adapter

    def provider(self, uuid: str) -> Json | None:
        """Read a resource provider, None when there is none."""
        return self._get(f"/resource_providers/{uuid}")

    def snapshot(self, uuid: str) -> Provider | None:
        """Read a resource provider with all that it has, None when there is none."""
        found = self.provider(uuid)
        if found is None:
            return None
        traits, _ = self.traits(uuid)
        allocations = self.provider_allocations(uuid)
        return Provider(
            name=found["name"],
            inventories=self.inventories(uuid)["inventories"],
            usages=self.usages(uuid),
            traits=traits,
            allocations={consumer: one["resources"] for consumer, one in allocations.items()},
        )

    def create_provider(self, uuid: str, name: str) -> None:
        """Create a root provider."""
        self._request("POST", "/resource_providers", json={"uuid": uuid, "name": name})

    def delete_provider(self, uuid: str) -> None:
        """Delete a provider; nothing when there is none."""
        self._request("DELETE", f"/resource_providers/{uuid}", absent_is_fine=True)

    def inventories(self, provider: str) -> Json:
        """Read `{"inventories": {class: {...}}, "resource_provider_generation": n}`."""
        return self._existing(f"/resource_providers/{provider}/inventories")

    def set_inventories(self, provider: str, inventories: Json, generation: int) -> None:
        """Replace a provider's inventories."""
        body = {"inventories": inventories, "resource_provider_generation": generation}
        self._request("PUT", f"/resource_providers/{provider}/inventories", json=body)

    def usages(self, provider: str) -> dict[str, int]:
        """Read what consumers use, by resource class."""
        found = self._existing(f"/resource_providers/{provider}/usages")
        return cast(dict[str, int], found["usages"])

    def traits(self, provider: str) -> tuple[frozenset[str], int]:
        """Read a provider's traits, and its generation."""
        found = self._existing(f"/resource_providers/{provider}/traits")
        return frozenset(found["traits"]), found["resource_provider_generation"]

    def set_traits(self, provider: str, traits: Collection[str], generation: int) -> None:
        """Replace a provider's traits."""
        body = {"traits": sorted(traits), "resource_provider_generation": generation}
        self._request("PUT", f"/resource_providers/{provider}/traits", json=body)

    def create_trait(self, trait: str) -> None:
        """Create a custom trait; nothing when it exists."""
        self._request("PUT", f"/traits/{trait}")

    def provider_allocations(self, provider: str) -> dict[str, Json]:
        """Read `{consumer: {"resources": {...}, "consumer_generation": n}}`."""
        found = self._existing(f"/resource_providers/{provider}/allocations")
        return cast(dict[str, Json], found["allocations"])

    def consumer_allocations(self, consumer: str) -> Json:
        """Read `{"allocations": {provider: {...}}}`, with a generation when there are any."""
        return self._existing(f"/allocations/{consumer}")

    def set_allocations(
        self, records: Collection[AllocationRecord], generations: Mapping[str, int | None]
    ) -> None:
        """Replace the allocations of many consumers at once; a generation of None means new."""
        body = {
            record.consumer_uuid: {
                "allocations": {record.provider_uuid: {"resources": resources(record)}},
                "project_id": record.project_id,
                "user_id": record.user_id,
                "consumer_generation": generations.get(record.consumer_uuid),
                "consumer_type": CONSUMER_TYPE,
            }
            for record in records
        }
        self._request("POST", "/allocations", json=body)

    def clear_allocations(
        self, consumers: Collection[str], generations: Mapping[str, int | None], owner: Json
    ) -> None:
        """Remove the allocations of many consumers at once.

        ``owner`` gives `project_id` and `user_id`, which the request needs although the consumers
        cease to exist.
        """
        body = {
            consumer: {
                "allocations": {},
                "project_id": owner["project_id"],
                "user_id": owner["user_id"],
                "consumer_generation": generations.get(consumer),
                "consumer_type": CONSUMER_TYPE,
            }
            for consumer in consumers
        }
        self._request("POST", "/allocations", json=body)

    def delete_allocations(self, consumer: str) -> None:
        """Delete a consumer's allocations; nothing when it has none."""
        self._request("DELETE", f"/allocations/{consumer}", absent_is_fine=True)

    def _existing(self, path: str) -> Json:
        found = self._get(path)
        if found is None:
            raise PlacementRefusedError(f"GET {path}: there is no such provider")
        return found

    def _get(self, path: str) -> Json | None:
        response = self._request("GET", path, absent_is_fine=True)
        if response.status_code == HTTP_NOT_FOUND:
            return None
        try:
            return cast(Json, response.json())
        except ValueError as error:  # a proxy's page
            raise PlacementUnavailableError(
                f"GET {path}: the answer is no JSON: {response.text[:300]}"
            ) from error

    def _request(
        self, method: str, path: str, *, absent_is_fine: bool = False, **arguments: Any
    ) -> Any:
        try:
            response = self._adapter.request(path, method, **arguments)
        except REQUEST_ERRORS as error:
            raise PlacementUnavailableError(f"{method} {path}: {error}") from error
        status = response.status_code
        if status < 400 or (status == HTTP_NOT_FOUND and absent_is_fine):
            return response
        message = f"{method} {path}: {status} {_detail(response)}"
        if status == HTTP_FORBIDDEN:
            message += "; the user of [placement] in nova.conf needs the role admin or service"
        if status == 409 and _CONCURRENT_UPDATE in response.text:
            raise PlacementConflictError(message)
        if status in (401, HTTP_FORBIDDEN, 408, 429) or status >= 500:
            raise PlacementUnavailableError(message)
        raise PlacementRefusedError(message)


def resources(record: AllocationRecord) -> dict[str, int]:
    """Make the amounts by resource class; placement refuses an amount of 0."""
    amounts = {"VCPU": record.vcpus, "MEMORY_MB": record.memory_mb, "DISK_GB": record.disk_gb}
    return {name: amount for name, amount in amounts.items() if amount}


def _detail(response: Any) -> str:
    try:
        errors = response.json()["errors"]
        return "; ".join(str(error.get("detail", "")).strip() for error in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        return str(response.text)[:500]
