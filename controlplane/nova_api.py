"""The requests that the control plane makes of Nova's own API.

Reference: https://docs.openstack.org/api-ref/compute/
"""

import logging
from typing import Any, cast

from keystoneauth1.adapter import Adapter

from controlplane.openstack import REQUEST_ERRORS, NovaConfig

log = logging.getLogger(__name__)

MICROVERSION = "2.36"
"""Old enough for every Nova that still runs: nothing newer is needed."""
USERS = ("service_user", "placement", "keystone_authtoken")
"""Sections of `nova.conf` whose user may be an administrator, in this order."""


class NovaApiError(Exception):
    """Nova's API did not do what was asked of it; the message is for a person."""


def connect(config: NovaConfig) -> "NovaApi":
    """Return a client with Nova's own service user. Raises ``NovaConfigError``."""
    return NovaApi(config.adapter("compute", MICROVERSION, *USERS))


class NovaApi:
    """One Nova API. Thread-safe."""

    def __init__(self, adapter: Adapter) -> None:
        """``adapter`` must not raise for failed requests; its user must be an administrator."""
        self._adapter = adapter

    def delete(self, uuid: str) -> str:
        """Ask Nova to delete a server, its ports and attachments included.

        Returns an empty string, or for a person why it could not be asked for.
        """
        try:
            self._request("DELETE", f"/servers/{uuid}", absent_is_fine=True)
        except NovaApiError as error:
            return str(error)
        return ""

    def quota(self, project_id: str) -> dict[str, dict[str, int]]:
        """Return `{resource: {"in_use": n, "limit": n, ...}}`. Raises ``NovaApiError``."""
        response = self._request("GET", f"/os-quota-sets/{project_id}/detail")
        return cast(dict[str, dict[str, int]], response.json()["quota_set"])

    def set_quota(self, project_id: str, limits: dict[str, int]) -> None:
        """Set limits of a project; -1 is unlimited. Raises ``NovaApiError``.

        Where Nova uses unified limits this does nothing: those are Keystone's.
        """
        body = {"quota_set": {**limits, "force": True}}
        self._request("PUT", f"/os-quota-sets/{project_id}", json=body)

    def _request(
        self, method: str, path: str, *, absent_is_fine: bool = False, **arguments: Any
    ) -> Any:
        try:
            response = self._adapter.request(path, method, **arguments)
        except REQUEST_ERRORS as error:
            raise NovaApiError(f"Nova's API cannot be reached: {error}") from error
        if response.status_code < 400 or (response.status_code == 404 and absent_is_fine):
            return response
        raise NovaApiError(
            f"Nova's API answered {method} {path} with {response.status_code}: "
            f"{response.text[:300]}"
        )
