"""The requests that the control plane makes of Nova's own API.

Reference: https://docs.openstack.org/api-ref/compute/
"""

from typing import Any, cast
from urllib.parse import quote

from keystoneauth1.adapter import Adapter

from controlplane.config.nova_config import NovaConfig
from controlplane.domain.errors import NovaApiError
from controlplane.domain.records import ServerAction, ServerFacts
from controlplane.openstack.keystone import adapters
from controlplane.openstack.keystone.adapters import REQUEST_ERRORS

MICROVERSION = "2.36"
"""Old enough for every Nova that still runs: nothing newer is needed."""
HTTP_FORBIDDEN = 403
HTTP_NOT_FOUND = 404
_HOST = "OS-EXT-SRV-ATTR:host"
"""Shown to administrators alone."""


class NotAdministratorError(NovaApiError):
    """The user of `nova.conf` lacks the role that Nova's policy wants; the message names it.

    Nova tells such a user that other projects' servers do not exist, so its answers prove nothing.
    """

    def __init__(self, user: str, refused: str) -> None:
        sections = ", ".join(f"[{section}]" for section in adapters.ADMINISTRATORS)
        super().__init__(
            f"Nova's API forbids {refused} to {user}, who lacks the role admin: run `openstack "
            "role add --user USER --project PROJECT admin` with the username and project_name of "
            f"nova.conf's first of {sections} that has an auth_type"
        )


def connect(config: NovaConfig) -> "NovaApi":
    """Make a client with Nova's own service user. Raises ``NovaConfigError``."""
    return NovaApi(adapters.connect(config, "compute", MICROVERSION, adapters.ADMINISTRATORS))


class NovaApi:
    """One Nova API. Thread-safe. Every method but ``delete`` raises ``NovaApiError``."""

    def __init__(self, adapter: Adapter) -> None:
        """``adapter`` must not raise for failed requests; its user must be an administrator."""
        self._adapter = adapter

    def delete(self, uuid: str) -> str:
        """Ask Nova to delete a server, its ports and attachments included.

        Returns an empty string, or for an operator why it could not be asked for.
        """
        try:
            self._server("DELETE", uuid)
        except NovaApiError as error:
            return str(error)
        return ""

    def server(self, uuid: str) -> ServerFacts | None:
        """Read what decides about a delete of a server; None when there is no such server."""
        response = self._server("GET", uuid)
        if response is None:
            return None
        found = _member(response, "server")
        if _HOST not in found:
            raise NotAdministratorError(self._user(), f"reading the host of server {uuid}")
        return ServerFacts(
            vm_state=found["OS-EXT-STS:vm_state"],
            task_state=found["OS-EXT-STS:task_state"],
            service_up=any(one["state"] == "up" for one in self._services(found[_HOST] or "")),
            actions=self._actions(uuid),
        )

    def user_id(self) -> str:
        """Read the id of the user that asks."""
        try:
            return str(self._adapter.get_user_id())
        except REQUEST_ERRORS as error:
            raise NovaApiError(f"Keystone cannot be reached: {error}") from error

    def quota(self, project_id: str) -> dict[str, dict[str, int]]:
        """Read `{resource: {"in_use": n, "limit": n, ...}}`."""
        response = self._request("GET", f"/os-quota-sets/{project_id}/detail")
        return cast(dict[str, dict[str, int]], _member(response, "quota_set"))

    def set_quota(self, project_id: str, limits: dict[str, int]) -> None:
        """Set limits of a project; -1 is unlimited.

        Where Nova uses unified limits this does nothing: those are Keystone's.
        """
        body = {"quota_set": {**limits, "force": True}}
        self._request("PUT", f"/os-quota-sets/{project_id}", json=body)

    def _server(self, method: str, uuid: str) -> Any:
        """Make a request about a server; None when there is none."""
        response = self._request(method, f"/servers/{uuid}", absent_is_fine=True)
        if response.status_code != HTTP_NOT_FOUND:
            return response
        # A user who is no administrator gets the same answer about other projects' servers.
        self._services("none")
        return None

    def _services(self, host: str) -> Any:
        response = self._request("GET", f"/os-services?binary=nova-compute&host={quote(host)}")
        return _member(response, "services")

    def _actions(self, uuid: str) -> list[ServerAction]:
        response = self._request("GET", f"/servers/{uuid}/os-instance-actions")
        found = _member(response, "instanceActions")
        return [ServerAction(one["action"], one["request_id"]) for one in found]

    def _request(
        self, method: str, path: str, *, absent_is_fine: bool = False, **arguments: Any
    ) -> Any:
        try:
            response = self._adapter.request(path, method, **arguments)
        except REQUEST_ERRORS as error:
            raise NovaApiError(f"Nova's API cannot be reached: {error}") from error
        status = response.status_code
        if status < 400 or (status == HTTP_NOT_FOUND and absent_is_fine):
            return response
        if status == HTTP_FORBIDDEN:
            raise NotAdministratorError(self._user(), f"{method} {path} ({response.text[:200]})")
        raise NovaApiError(
            f"Nova's API answered {method} {path} with {status}: {response.text[:300]}"
        )

    def _user(self) -> str:
        try:
            return f"user {self._adapter.get_user_id()}"
        except REQUEST_ERRORS:
            return "its service user"


def _member(response: Any, name: str) -> Any:
    """Read one member of an answer, which may come from a proxy instead of Nova."""
    try:
        return response.json()[name]
    except (ValueError, KeyError, TypeError) as error:
        raise NovaApiError(
            f"an answer of Nova's API has no {name}: {response.text[:300]}"
        ) from error
