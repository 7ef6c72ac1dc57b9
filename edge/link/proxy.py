"""Chooses the proxy to the control plane.

gRPC would read the environment by rules of its own. The choice is made here instead, once for the
channel and for `vsg-edge check`, and given to gRPC as a channel option.
"""

import base64
import dataclasses
import ipaddress
import urllib.parse
from collections.abc import Mapping

from edge.config import ControlPlaneSettings

_VARIABLES = ("grpc_proxy", "https_proxy", "HTTPS_PROXY", "http_proxy")
"""In gRPC's order; upper-case HTTPS_PROXY is what many sites set. HTTP_PROXY is left out as curl
does, since a web server's request header can set it."""
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy", "NO_PROXY")


@dataclasses.dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that allows CONNECT."""

    host: str
    port: int
    username: str = ""
    password: str = dataclasses.field(default="", repr=False)

    def __str__(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The form that gRPC takes, user name and password included."""
        if not self.username:
            return str(self)
        credentials = ":".join(
            urllib.parse.quote(part, safe="") for part in (self.username, self.password)
        )
        return f"http://{credentials}@{self.host}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """Headers of a CONNECT request."""
        if not self.username:
            return {}
        token = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return {"Proxy-Authorization": f"Basic {token}"}


def choose_proxy(
    settings: ControlPlaneSettings, host: str, environment: Mapping[str, str]
) -> Proxy | None:
    """Choose the proxy for ``host``; None means a direct connection.

    Raises ``SecretUnreadableError`` when the proxy's password cannot be read.
    """
    if settings.proxy_mode == "none":
        return None
    if settings.proxy_mode == "fixed":
        password = settings.proxy_password.read() if settings.proxy_password else ""
        return _parse(settings.proxy or "", settings.proxy_username or "", password)
    url = next((environment[name] for name in _VARIABLES if environment.get(name)), "")
    if not url or _is_exempt(host, environment):
        return None
    return _parse(url if "://" in url else f"http://{url}")


def _is_exempt(host: str, environment: Mapping[str, str]) -> bool:
    names = next((environment[name] for name in _EXCEPTIONS if environment.get(name)), "")
    return any(_exempts(entry.strip().lower(), host.lower()) for entry in names.split(","))


def _exempts(entry: str, host: str) -> bool:
    """Whether an entry of no_proxy covers a host: name, domain, address, network or ``*``."""
    if "/" in entry:
        try:
            return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    domain = entry.removeprefix("*").removeprefix(".")
    return entry == "*" or (bool(domain) and (host == domain or host.endswith(f".{domain}")))


def _parse(url: str, username: str = "", password: str = "") -> Proxy:
    parts = urllib.parse.urlsplit(url)
    return Proxy(
        parts.hostname or "",
        parts.port or 80,
        username or urllib.parse.unquote(parts.username or ""),
        password or urllib.parse.unquote(parts.password or ""),
    )
