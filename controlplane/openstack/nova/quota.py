"""Adoption must not stop a project: its quota counts servers that nobody asked OpenStack for.

Nova sums up what a project has and refuses new servers once that exceeds the limit, 10 servers by
default. A limit that is not reached yet stops the next server, or a larger one, just the same. So
every project that holds adopted servers gets unlimited servers, processors and memory, through
Nova's API or, where Nova uses unified limits, through Keystone's.
"""

import logging
from dataclasses import dataclass
from typing import Any, Protocol

from keystoneauth1.adapter import Adapter

from controlplane.config.nova_config import REQUEST_ERRORS

log = logging.getLogger(__name__)

UNLIMITED = -1
RESOURCES = ("instances", "cores", "ram")
UNIFIED_RESOURCES = ("servers", "class:VCPU", "class:MEMORY_MB", "class:DISK_GB")
"""Names of Keystone's registered limits for Nova (nova/limit/placement.py, local.py)."""
UNIFIED_DRIVER = "nova.quota.UnifiedLimitsDriver"


class QuotaError(Exception):
    """A quota could not be read or set; the message is for a person."""


@dataclass(frozen=True, slots=True)
class Overrun:
    """A project that has no room, or less than none, under a limit."""

    project_id: str
    resource: str
    in_use: int
    limit: int

    def __str__(self) -> str:
        usage = f"uses {self.in_use} {self.resource}, its limit is {self.limit}"
        return f"project {self.project_id} {usage}"


class QuotaApi(Protocol):
    """Where quotas are read and set (``controlplane.openstack.nova.api.NovaApi``)."""

    def quota(self, project_id: str) -> dict[str, dict[str, int]]:
        """Return usage and limit by resource."""

    def set_quota(self, project_id: str, limits: dict[str, int]) -> None:
        """Set limits."""


class Quotas:
    """Lifts the limits of projects, or finds those that have reached one."""

    def __init__(self, nova: QuotaApi, limits: "UnifiedLimits | None") -> None:
        """``limits`` where Nova uses unified limits."""
        self._nova = nova
        self._limits = limits

    def overruns(self, project_id: str) -> list[Overrun]:
        """Return the limits of a project that are reached. Raises ``NovaApiError``."""
        found = self._nova.quota(project_id)
        return [
            Overrun(project_id, resource, found[resource]["in_use"], found[resource]["limit"])
            for resource in RESOURCES
            if UNLIMITED != found[resource]["limit"] <= found[resource]["in_use"]
        ]

    def lift(self, project_id: str) -> None:
        """Make servers, processors and memory of a project unlimited, where they are not.

        Raises ``NovaApiError`` or ``QuotaError``.
        """
        before = self._limits.lift(project_id) if self._limits else self._lift(project_id)
        if before:
            log.info("quota lifted project=%s before=%s", project_id, before)

    def _lift(self, project_id: str) -> dict[str, int]:
        """Lift legacy limits; return those that there were."""
        found = self._nova.quota(project_id)
        limits = {name: found[name]["limit"] for name in RESOURCES}
        before = {name: limit for name, limit in limits.items() if limit != UNLIMITED}
        if before:
            self._nova.set_quota(project_id, dict.fromkeys(before, UNLIMITED))
        return before


class UnifiedLimits:
    """Nova's limits where they are Keystone's (https://docs.openstack.org/api-ref/identity/)."""

    def __init__(self, adapter: Adapter) -> None:
        """``adapter`` is for the identity service and must not raise for failed requests."""
        self._adapter = adapter

    def lift(self, project_id: str) -> dict[str, int]:
        """Override Nova's registered limits for a project; return those that there were.

        Raises ``QuotaError``.
        """
        before: dict[str, int] = {}
        services = self._request("GET", "/services?type=compute")["services"]
        for service in services:
            where = f"service_id={service['id']}"
            registered = self._request("GET", f"/registered_limits?{where}")["registered_limits"]
            present = self._request("GET", f"/limits?{where}&project_id={project_id}")["limits"]
            own = {(limit["resource_name"], limit["region_id"]): limit for limit in present}
            for limit in registered:
                name = limit["resource_name"]
                if name in UNIFIED_RESOURCES:
                    found = own.get((name, limit["region_id"]))
                    value = found["resource_limit"] if found else limit["default_limit"]
                    if value != UNLIMITED:
                        self._lift(project_id, limit, found)
                        before[name] = value
        return before

    def _lift(
        self, project_id: str, registered: dict[str, Any], own: dict[str, Any] | None
    ) -> None:
        if own:
            body: dict[str, Any] = {"limit": {"resource_limit": UNLIMITED}}
            self._request("PATCH", f"/limits/{own['id']}", body)
            return
        limit = {
            "service_id": registered["service_id"],
            "project_id": project_id,
            "resource_name": registered["resource_name"],
            "resource_limit": UNLIMITED,
        }
        if registered.get("region_id"):
            limit["region_id"] = registered["region_id"]
        self._request("POST", "/limits", {"limits": [limit]})

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            response = self._adapter.request(path, method, json=body)
        except REQUEST_ERRORS as error:
            raise QuotaError(f"Keystone cannot be reached: {error}") from error
        if response.status_code >= 400:
            raise QuotaError(
                f"Keystone answered {method} {path} with {response.status_code}: "
                f"{response.text[:300]}"
            )
        return response.json()
