"""The requests that the control plane makes of Nova's own API.

Reference: https://docs.openstack.org/api-ref/compute/
"""

import logging
from typing import Any, cast
from urllib.parse import quote

from keystoneauth1.adapter import Adapter

from controlplane.config.nova_config import REQUEST_ERRORS, NovaConfig
from controlplane.operations.deferral import Action, ServerFacts

log = logging.getLogger(__name__)

MICROVERSION = "2.36"
"""Old enough for every Nova that still runs: nothing newer is needed."""
HTTP_NOT_FOUND = 404
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

    def server(self, uuid: str) -> ServerFacts | None:
        """Return what decides about a delete of a server. Raises ``NovaApiError``."""
        response = self._request("GET", f"/servers/{uuid}", absent_is_fine=True)
        if response.status_code == HTTP_NOT_FOUND:
            return None
        found = response.json()["server"]
        return ServerFacts(
            vm_state=found["OS-EXT-STS:vm_state"],
            task_state=found["OS-EXT-STS:task_state"],
            service_up=self._service_up(found["OS-EXT-SRV-ATTR:host"] or ""),
            actions=self._actions(uuid),
        )

    def _service_up(self, host: str) -> bool:
        response = self._request("GET", f"/os-services?binary=nova-compute&host={quote(host)}")
        return any(one["state"] == "up" for one in response.json()["services"])

    def _actions(self, uuid: str) -> list[Action]:
        found = self._request("GET", f"/servers/{uuid}/os-instance-actions").json()
        return [Action(one["action"], one["request_id"]) for one in found["instanceActions"]]

    def user_id(self) -> str:
        """Return the id of the user that asks. Raises ``NovaApiError``."""
        try:
            return str(self._adapter.get_user_id())
        except REQUEST_ERRORS as error:
            raise NovaApiError(f"Keystone cannot be reached: {error}") from error

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
        if response.status_code < 400 or (
            response.status_code == HTTP_NOT_FOUND and absent_is_fine
        ):
            return response
        raise NovaApiError(
            f"Nova's API answered {method} {path} with {response.status_code}: "
            f"{response.text[:300]}"
        )
