"""The edge's configuration: one TOML file, read once into frozen dataclasses."""

import dataclasses
import fnmatch
import os
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

from edge.config_tables import Table, Tables, read_toml
from edge.errors import SecretUnreadableError
from edge.scrub import remember_secret

DEFAULT_CONFIG_FILE = Path("/etc/vsphere-gateway/edge.toml")

LogFormat = Literal["text", "json"]
ProxyMode = Literal["environment", "none", "fixed"]


@dataclasses.dataclass(frozen=True, slots=True)
class Secret:
    """Where a password is kept. It is read when it is needed and never held."""

    file: Path
    """The file; one trailing line break is not part of the password."""

    def read(self) -> str:
        """Read the password.

        Raises ``SecretUnreadableError`` when the file is missing, unreadable, empty or not UTF-8.
        """
        try:
            text = self.file.read_text(encoding="utf-8")
        except OSError as error:
            raise SecretUnreadableError(f"cannot read {self.file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SecretUnreadableError(f"{self.file} is not UTF-8 text") from error
        password = text.removesuffix("\n").removesuffix("\r")
        if not password:
            raise SecretUnreadableError(f"{self.file} is empty, it must hold the password")
        remember_secret(password)
        return password


@dataclasses.dataclass(frozen=True, slots=True)
class EdgeSettings:
    """``[edge]``: this appliance."""

    bundle: Path
    """The directory that `vsg-certs stamp` wrote: authority, address, certificate and key."""
    cache_directory: Path | None = None
    """Where configurations that were read are kept across restarts; None keeps nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class VCenterSettings:
    """``[vcenter]``: the vCenter beside this edge."""

    host: str
    """DNS name or IP address."""
    username: str
    """For example ``vsphere-gateway@vsphere.local``."""
    password: Secret
    """From ``password_file``, or from ``password_credential`` (a systemd credential's name)."""
    port: int = 443
    """HTTPS port."""
    ca_file: Path | None = None
    """PEM file of the authorities that vCenter's certificate is verified against; None means the
    system's."""
    thumbprint: str | None = None
    """SHA-256 of vCenter's certificate as 64 lower-case hex digits; trusts that one alone."""

    def read_password(self) -> str:
        """Read the password. Raises ``SecretUnreadableError``."""
        return self.password.read()


@dataclasses.dataclass(frozen=True, slots=True)
class ManagedSettings:
    """``[managed]``: what OpenStack may see and touch. What is not listed never leaves the site.

    Patterns are shell globs (``*``, ``?``, ``[abc]``), compared case-sensitively, as vCenter
    does.
    """

    clusters: tuple[str, ...]
    """Names or globs of clusters."""
    read_only_names: tuple[str, ...] = ()
    """Names or globs of virtual machines that are shown and never touched."""
    read_only_folders: tuple[str, ...] = ()
    """Inventory paths or globs of folders whose virtual machines are shown and never touched."""

    @property
    def read_only_edition(self) -> int:
        """Always 0: these settings never change (``edge.managed.ManagedScope``'s do)."""
        return 0

    def manages_cluster(self, name: str) -> bool:
        """Whether a cluster of this name is managed."""
        return _matches(name, self.clusters)

    def name_is_read_only(self, name: str) -> bool:
        """Whether a virtual machine of this name is read only."""
        return _matches(name, self.read_only_names)

    def folder_is_read_only(self, path: str) -> bool:
        """Whether virtual machines in the folder ``path`` or below it are read only.

        ``path`` is the inventory path, for example ``/dc1/vm/appliances``.
        """
        parts = path.strip("/").split("/")
        ancestors = ("/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        patterns = tuple("/" + pattern.strip("/") for pattern in self.read_only_folders)
        return any(_matches(ancestor, patterns) for ancestor in ancestors)


@dataclasses.dataclass(frozen=True, slots=True)
class ControlPlaneSettings:
    """``[control_plane]``: how the control plane is reached; its address is in the bundle."""

    proxy_mode: ProxyMode = "environment"
    """``environment`` follows https_proxy and no_proxy, ``none`` uses no proxy."""
    proxy: str | None = None
    """``http://host:port`` of a proxy that allows CONNECT, when ``proxy_mode`` is ``fixed``."""
    proxy_username: str | None = None
    """User name for the proxy's Basic authentication."""
    proxy_password: Secret | None = None
    """From ``proxy_password_file``."""


@dataclasses.dataclass(frozen=True, slots=True)
class LogSettings:
    """``[log]``: one line an event on standard error."""

    level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""
    format: LogFormat = "text"
    """``text`` is key=value, ``json`` one JSON object a line."""


@dataclasses.dataclass(frozen=True, slots=True)
class LimitSettings:
    """``[limits]``: bounds on memory."""

    outbox_mib: int = 32
    """Most MiB of objects that wait for the control plane. What exceeds it is read again later."""

    @property
    def outbox_bytes(self) -> int:
        """``outbox_mib`` in bytes."""
        return self.outbox_mib << 20


@dataclasses.dataclass(frozen=True, slots=True)
class EdgeConfig:
    """Everything that a person decides about an edge."""

    edge: EdgeSettings
    vcenter: VCenterSettings
    managed: ManagedSettings
    control_plane: ControlPlaneSettings
    log: LogSettings
    limits: LimitSettings
    file: Path
    """The file that it came from."""


def load_config(file: Path, environment: Mapping[str, str] = os.environ) -> EdgeConfig:
    """Read and check ``file``.

    ``environment`` gives ``CREDENTIALS_DIRECTORY`` and ``CACHE_DIRECTORY``, which systemd sets
    (systemd.exec(5)).
    Raises ``ConfigError`` with every problem found.
    """
    tables = Tables(file, read_toml(file))
    config = EdgeConfig(
        edge=_edge(tables.table("edge"), environment),
        vcenter=_vcenter(tables.table("vcenter"), environment),
        managed=_managed(tables.table("managed")),
        control_plane=_control_plane(tables.table("control_plane")),
        log=_log(tables.table("log")),
        limits=_limits(tables.table("limits")),
        file=file,
    )
    tables.finish()
    return config


def _edge(table: Table, environment: Mapping[str, str]) -> EdgeSettings:
    bundle = table.path("bundle", "the directory that `vsg-certs stamp` wrote")
    if table.has("bundle") and not bundle.is_dir():
        table.problem("bundle", f"{bundle} is no directory, expected what `vsg-certs stamp` wrote")
    if table.has("cache_directory"):
        return EdgeSettings(bundle, table.path("cache_directory", "a directory of the edge's own"))
    given = environment.get("CACHE_DIRECTORY")
    return EdgeSettings(bundle, Path(given) if given else None)


def _vcenter(table: Table, environment: Mapping[str, str]) -> VCenterSettings:
    host = table.string("host", "vCenter's DNS name or IP address")
    if "/" in host or " " in host:
        table.problem("host", f"is {host!r}, expected a DNS name or IP address without https://")
    settings = VCenterSettings(
        host=host,
        port=table.integer("port", 1, 65535, 443),
        username=table.string("username", "a vCenter user, for example edge@vsphere.local"),
        password=_vcenter_password(table, environment),
        ca_file=_optional_file(table, "ca_file", "a PEM file with vCenter's authority"),
        thumbprint=_thumbprint(table),
    )
    if settings.ca_file and settings.thumbprint:
        table.problem("thumbprint", "is set together with ca_file, expected one of the two")
    return settings


def _vcenter_password(table: Table, environment: Mapping[str, str]) -> Secret:
    from_file, from_credential = table.has("password_file"), table.has("password_credential")
    if from_file == from_credential:
        given = "both are given" if from_file else "is missing"
        table.problem("password_file", f"{given}, expected password_file or password_credential")
        return Secret(Path())
    if from_file:
        return Secret(table.readable_file("password_file", "a file that holds the password"))
    name = table.string("password_credential", "the name of a systemd credential")
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        table.problem(
            "password_credential",
            "CREDENTIALS_DIRECTORY is not set, expected systemd to start the edge with "
            f"LoadCredential={name}:... in its unit",
        )
        return Secret(Path())
    file = Path(folder) / name
    if not os.access(file, os.R_OK):
        table.problem("password_credential", f"systemd passes no credential {name!r}")
    return Secret(file)


def _optional_file(table: Table, key: str, expected: str) -> Path | None:
    return table.readable_file(key, expected) if table.has(key) else None


def _thumbprint(table: Table) -> str | None:
    expected = "SHA-256 of vCenter's certificate as 64 hex digits, colons allowed"
    value = table.optional_string("thumbprint", expected)
    if not value:
        return None
    digits = value.replace(":", "").replace(" ", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        table.problem("thumbprint", f"is {value!r}, expected {expected}")
    return digits


def _managed(table: Table) -> ManagedSettings:
    clusters = table.strings("clusters", 'a list of cluster names or globs, for example ["prod-*"]')
    if not clusters:
        table.problem(
            "clusters", 'is empty, expected at least one cluster name or glob, for example ["*"]'
        )
    return ManagedSettings(
        clusters=clusters,
        read_only_names=table.strings("read_only_names", "a list of names or globs"),
        read_only_folders=table.strings("read_only_folders", "a list of inventory paths or globs"),
    )


def _control_plane(table: Table) -> ControlPlaneSettings:
    proxy = table.string("proxy", _PROXY_EXPECTED, "environment")
    username = table.optional_string("proxy_username", "the user name for the proxy")
    password_file = _optional_file(table, "proxy_password_file", "a file with the proxy's password")
    if proxy in ("environment", "none"):
        if username or password_file:
            table.problem("proxy_username", "needs a proxy, expected proxy = http://host:port")
        return ControlPlaneSettings(proxy_mode=cast(ProxyMode, proxy))
    if not _is_proxy_address(proxy):
        table.problem("proxy", f"is {proxy!r}, expected {_PROXY_EXPECTED}")
    if bool(username) != bool(password_file):
        table.problem("proxy_username", "expected proxy_username and proxy_password_file together")
    secret = Secret(password_file) if password_file else None
    return ControlPlaneSettings("fixed", proxy, username, secret)


_PROXY_EXPECTED = "environment, none, or http://host:port without a user name"


def _is_proxy_address(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
        complete = bool(parts.hostname and parts.port)
    except ValueError:
        return False
    return complete and parts.scheme == "http" and not parts.username and parts.path in ("", "/")


def _log(table: Table) -> LogSettings:
    return LogSettings(
        level=table.choice("level", ("info", "debug", "warning", "error")),
        format=cast(LogFormat, table.choice("format", ("text", "json"))),
    )


def _limits(table: Table) -> LimitSettings:
    return LimitSettings(outbox_mib=table.integer("outbox_mib", 1, 1024, 32))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
