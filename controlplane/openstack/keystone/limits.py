"""Nova's limits where they are Keystone's: unified limits.

Reference: https://docs.openstack.org/api-ref/identity/
"""

from typing import Any

from keystoneauth1.adapter import Adapter

from controlplane.openstack.keystone.adapters import REQUEST_ERRORS

UNLIMITED = -1
RESOURCES = ("servers", "class:VCPU", "class:MEMORY_MB", "class:DISK_GB")
"""Names of Keystone's registered limits for Nova (nova/limit/placement.py, local.py)."""
NOVA_DRIVER = "nova.quota.UnifiedLimitsDriver"
"""`[quota] driver` of a Nova that keeps its limits in Keystone."""
HTTP_FORBIDDEN = 403


class KeystoneError(Exception):
    """Keystone did not do what was asked of it; the message says what to do."""


class UnifiedLimits:
    """Lifts the limits of projects in Keystone. Thread-safe."""

    def __init__(self, adapter: Adapter) -> None:
        """``adapter`` is for the identity service and must not raise for failed requests."""
        self._adapter = adapter

    def lift(self, project_id: str) -> dict[str, int]:
        """Override Nova's registered limits for a project; returns those that were in force.

        Raises ``KeystoneError``.
        """
        before: dict[str, int] = {}
        for service in self._list("services", "type=compute"):
            where = f"service_id={service['id']}"
            present = self._list("limits", f"{where}&project_id={project_id}")
            own = {(limit["resource_name"], limit["region_id"]): limit for limit in present}
            for limit in self._list("registered_limits", where):
                name = limit["resource_name"]
                if name in RESOURCES:
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

    def _list(self, kind: str, query: str) -> list[dict[str, Any]]:
        path = f"/{kind}?{query}"
        response = self._request("GET", path)
        try:
            found: list[dict[str, Any]] = response.json()[kind]
        except (ValueError, KeyError, TypeError) as error:
            raise KeystoneError(
                f"Keystone's answer to GET {path} has no {kind}: {response.text[:300]}"
            ) from error
        return found

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            response = self._adapter.request(path, method, json=body)
        except REQUEST_ERRORS as error:
            raise KeystoneError(f"Keystone cannot be reached: {error}") from error
        if response.status_code == HTTP_FORBIDDEN:
            raise KeystoneError(
                f"Keystone forbids {method} {path}: the user of nova.conf's first section with an "
                "auth_type needs the role admin, or turn [adoption] lift_quota off"
            )
        if response.status_code >= 400:
            raise KeystoneError(
                f"Keystone answered {method} {path} with {response.status_code}: "
                f"{response.text[:300]}"
            )
        return response
