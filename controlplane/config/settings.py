"""The control plane's configuration: oslo.config options, read once into frozen dataclasses.

Each section is one dataclass; each field is one option of the same name, with its help beside it.
There is no global configuration: `controlplane.config.file.load` returns `Settings`, which is
passed down.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from oslo_config import cfg

from controlplane.domain.errors import ConfigurationError

STANDALONE_PORT = 8443
"""Where edges dial a standalone control plane, which may not use port 443."""
STANDALONE_PROJECT = "standalone"
"""Stands for the Keystone project and user that a standalone control plane does not have."""


def _option(kind: type[cfg.Opt], default: Any, text: str, **limits: Any) -> Any:
    """A dataclass field that is also an oslo.config option."""
    metadata = {"kind": kind, "help": text, "limits": limits}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GatewaySettings:
    """``[gateway]``: the listener that edges dial."""

    bind_address: str = _option(cfg.HostAddressOpt, "0.0.0.0", "Address to listen on for edges.")
    bind_port: int = _option(
        cfg.PortOpt, 443, f"Port to listen on for edges; {STANDALONE_PORT} with --standalone."
    )
    ca: str = _option(cfg.StrOpt, "", "The customer's authority: ca.pem of vsg-certs init.")
    certificate: str = _option(cfg.StrOpt, "", "server.pem of vsg-certs server.")
    key: str = _option(cfg.StrOpt, "", "server.key of vsg-certs server.")
    heartbeat_interval: float = _option(
        cfg.FloatOpt, 25.0, "Seconds between an edge's heartbeats.", min=0.1, max=300.0
    )
    offline_misses: int = _option(
        cfg.IntOpt, 3, "Heartbeats in a row that an offline edge has missed.", min=2, max=20
    )
    hello_timeout: float = _option(
        cfg.FloatOpt, 10.0, "Seconds within which an edge must say hello.", min=0.1
    )
    max_edges: int = _option(cfg.IntOpt, 16, "Edges that may be connected at once.", min=1, max=200)
    drain_timeout: float = _option(
        cfg.FloatOpt, 20.0, "Seconds for edges to finish when the control plane stops.", min=0.0
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdminSettings:
    """``[admin]``: the loopback listener for operators, and how the commands reach it."""

    bind_address: str = _option(cfg.HostAddressOpt, "127.0.0.1", "Loopback address to listen on.")
    bind_port: int = _option(cfg.PortOpt, 9444, "Port to listen on.")
    operator_certificate: str = _option(
        cfg.StrOpt, "", "operator.pem of vsg-certs init; used by the commands."
    )
    operator_key: str = _option(
        cfg.StrOpt, "", "operator.key of vsg-certs init; used by the commands."
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DatabaseSettings:
    """``[database]``: the gateway database, which holds what the control plane keeps for itself."""

    connection: str = _option(
        cfg.StrOpt, "", "SQLAlchemy URL, for example mysql+pymysql://user:password@host/vsg.",
        secret=True,
    )  # fmt: skip
    pool_size: int = _option(cfg.IntOpt, 8, "Connections kept to each database.", min=1)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NovaSettings:
    """``[nova]``: the Nova beside which this runs. Its files are read and never written."""

    config_file: str = _option(
        cfg.StrOpt, "/etc/nova/nova.conf", "Where [api_database] and [placement] are read from."
    )
    cell: str = _option(cfg.StrOpt, "cell1", "Name of the cell that adopted servers go to.")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GlanceSettings:
    """``[glance]``: the Glance beside which this runs. Its files are read and never written."""

    config_file: str = _option(
        cfg.StrOpt, "/etc/glance/glance-api.conf", "Where [database] connection is read from."
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AdoptionSettings:
    """``[adoption]``: the owner of an adopted virtual machine, and what may be done with it."""

    default_project_id: str = _option(cfg.StrOpt, "", "Keystone project of what no rule names.")
    default_user_id: str = _option(cfg.StrOpt, "", "Keystone user of adopted servers.")
    rules: tuple[str, ...] = _option(
        cfg.MultiStrOpt, (),
        "folder:/path=project, tag:category:name=project or attribute:name=value=project; "
        "the first that fits decides. May be repeated.",
    )  # fmt: skip
    rules_file: str = _option(cfg.StrOpt, "", "More rules, one a line, # begins a comment.")
    policy: str = _option(
        cfg.StrOpt, "managed", "What may be done with adopted servers.",
        choices=["managed", "locked", "listed"],
    )  # fmt: skip
    cluster_policy: tuple[str, ...] = _option(
        cfg.MultiStrOpt, (), "cluster name=policy where it differs. May be repeated."
    )
    lift_quota: bool = _option(
        cfg.BoolOpt, True,
        "Keep servers, processors and memory unlimited for every project that holds adopted "
        "servers; otherwise those that have reached a limit are only named in the log.",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BrakeSettings:
    """``[brake]``: how many unconfirmed removals at once wait for an operator."""

    fraction: float = _option(
        cfg.FloatOpt, 0.10, "More than this share of a cluster's servers,", min=0.0, max=1.0
    )
    count: int = _option(cfg.IntOpt, 20, "and more than this number.", min=0)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ComputeSettings:
    """``[compute]``: the nova-compute workers, one a cluster."""

    state_directory: str = _option(
        cfg.StrOpt, "/var/lib/vsphere-gateway", "Where workers and control plane keep their state."
    )
    socket: str = _option(
        cfg.StrOpt, "", "Unix socket that workers call; default STATE_DIRECTORY/bridge.sock."
    )
    worker_command: tuple[str, ...] = _option(
        cfg.ListOpt, (), "Command that starts a worker, words separated by commas; "
        "default vsg-compute beside this program.",
    )  # fmt: skip
    worker_config_files: tuple[str, ...] = _option(
        cfg.MultiStrOpt, (),
        "Configuration files of the workers before the generated one; default [nova] config_file.",
    )  # fmt: skip
    remember_deletes: float = _option(
        cfg.FloatOpt, 86400.0,
        "Seconds for which a delete that found the edge offline is kept; when the edge is back by "
        "then it is carried out. 0 keeps none.", min=0.0,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StandaloneSettings:
    """``[standalone]``: ``serve --standalone``, a control plane without OpenStack."""

    directory: str = _option(cfg.StrOpt, "", "Where its SQLite files and its state lie.")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything configured; ``conf`` is for libraries of oslo that take one."""

    gateway: GatewaySettings = dataclasses.field(default_factory=GatewaySettings)
    admin: AdminSettings = dataclasses.field(default_factory=AdminSettings)
    database: DatabaseSettings = dataclasses.field(default_factory=DatabaseSettings)
    nova: NovaSettings = dataclasses.field(default_factory=NovaSettings)
    glance: GlanceSettings = dataclasses.field(default_factory=GlanceSettings)
    adoption: AdoptionSettings = dataclasses.field(default_factory=AdoptionSettings)
    brake: BrakeSettings = dataclasses.field(default_factory=BrakeSettings)
    compute: ComputeSettings = dataclasses.field(default_factory=ComputeSettings)
    standalone: StandaloneSettings = dataclasses.field(default_factory=StandaloneSettings)
    files: tuple[str, ...] = ()
    """The files that this was read from, for messages."""
    conf: cfg.ConfigOpts | None = dataclasses.field(default=None, compare=False, repr=False)

    def given(self, section: str, key: str) -> bool:
        """Whether a file sets an option, even to its default."""
        return bool(self._given_in(section, key))

    def problem(self, section: str, key: str, text: str) -> ConfigurationError:
        """Build the error for a value that proved wrong after it was read."""
        return ConfigurationError(text, file=self._file(section, key), section=section, key=key)

    def required(self, section: str, key: str) -> str:
        """Read a value that must be set. Raises ``ConfigurationError``."""
        value = getattr(getattr(self, section), key)
        if not value:
            field = next(f for f in dataclasses.fields(getattr(self, section)) if f.name == key)
            raise self.problem(section, key, f"is missing, expected: {field.metadata['help']}")
        return str(value)

    def _file(self, section: str, key: str) -> str:
        """Name the file that a value came from, or all that were read."""
        return self._given_in(section, key) or ", ".join(self.files)

    def _given_in(self, section: str, key: str) -> str:
        location = self.conf.get_location(key, section) if self.conf is not None else None
        if location is None or not location.location.is_user_controlled:
            return ""
        return str(location.detail)


SECTIONS: Mapping[str, type[Any]] = {
    "gateway": GatewaySettings,
    "admin": AdminSettings,
    "database": DatabaseSettings,
    "nova": NovaSettings,
    "glance": GlanceSettings,
    "adoption": AdoptionSettings,
    "brake": BrakeSettings,
    "compute": ComputeSettings,
    "standalone": StandaloneSettings,
}


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Every option by section, also for ``oslo-config-generator``."""
    return [(name, list(options(kind))) for name, kind in SECTIONS.items()]


def options(section: type[Any]) -> Iterator[cfg.Opt]:
    """The options of one section's dataclass."""
    for field in dataclasses.fields(section):
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        make = field.metadata["kind"]
        yield make(
            field.name, default=default, help=field.metadata["help"], **field.metadata["limits"]
        )


def standalone_settings(settings: Settings) -> Settings:
    """Adapt settings to ``serve --standalone``: no servers, no root, one directory.

    Raises ``ConfigurationError``.
    """
    directory = Path(settings.required("standalone", "directory")).absolute()
    port = settings.gateway.bind_port
    return dataclasses.replace(
        settings,
        gateway=dataclasses.replace(
            settings.gateway,
            bind_port=port if settings.given("gateway", "bind_port") else STANDALONE_PORT,
        ),
        database=dataclasses.replace(
            settings.database, connection=f"sqlite:///{directory}/own.sqlite"
        ),
        compute=dataclasses.replace(settings.compute, state_directory=str(directory)),
        adoption=dataclasses.replace(
            settings.adoption,
            default_project_id=settings.adoption.default_project_id or STANDALONE_PROJECT,
            default_user_id=settings.adoption.default_user_id or STANDALONE_PROJECT,
        ),
    )
