"""What the control plane reads of a `nova.conf`, and the sessions that it opens with it.

The file is Nova's; it is read with the same options and defaults as Nova's own, and never edited.
"""

from pathlib import Path

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as keystone_exceptions
from keystoneauth1 import loading as keystone_loading
from oslo_config import cfg

_DATABASE = [cfg.StrOpt("connection", secret=True)]
_DEFAULT = [
    cfg.StrOpt("transport_url", secret=True, default="rabbit://"),
    cfg.StrOpt("default_availability_zone", default="nova"),
    cfg.StrOpt("instance_name_template", default="instance-%08x"),
    cfg.StrOpt("instance_usage_audit_period", default="month"),
]
_NOTIFICATIONS = [
    cfg.StrOpt("notification_format", default="unversioned"),
    cfg.ListOpt("versioned_notifications_topics", default=["versioned_notifications"]),
    cfg.StrOpt("notify_on_state_change"),
    cfg.BoolOpt("bdms_in_notifications", default=False),
]
_MESSAGING = [
    cfg.StrOpt("transport_url", secret=True),
    cfg.MultiStrOpt("driver", default=[]),
]
_QUOTA = [
    cfg.StrOpt("driver", default="nova.quota.DbQuotaDriver"),
    cfg.IntOpt("instances", default=10),
    cfg.IntOpt("cores", default=20),
    cfg.IntOpt("ram", default=50 * 1024),
]


class NovaConfigError(Exception):
    """The `nova.conf` cannot be used; the message names file, section and key."""


class NovaConfig:
    """One `nova.conf`."""

    def __init__(self, file: Path) -> None:
        """Read ``file``. Raises ``NovaConfigError``."""
        self.file = file
        self.options = cfg.ConfigOpts()
        try:
            self.options(args=[], project="nova", default_config_files=[str(file)])
        except (cfg.ConfigFilesNotFoundError, cfg.ConfigFilesPermissionDeniedError) as error:
            raise NovaConfigError(f"{file}: cannot be read, it must be Nova's nova.conf") from error
        except cfg.ConfigFileParseError as error:
            raise NovaConfigError(f"{file}: {error}") from error
        self.options.register_opts(_DEFAULT)
        self.options.register_opts(_DATABASE, group="api_database")
        self.options.register_opts(_DATABASE, group="database")
        self.options.register_opts(_NOTIFICATIONS, group="notifications")
        self.options.register_opts(_MESSAGING, group="oslo_messaging_notifications")
        self.options.register_opts(_QUOTA, group="quota")

    @property
    def api_database(self) -> str:
        """URL of the API database. Raises ``NovaConfigError`` when the file has none."""
        url = self.options.api_database.connection
        if not url:
            raise NovaConfigError(
                f"{self.file}: [api_database] connection is missing; "
                "use the nova.conf of a host that runs nova-api or nova-conductor"
            )
        return str(url)

    @property
    def database(self) -> str:
        """URL in `[database]`, which fills the templates of cell mappings; may be empty."""
        return self.options.database.connection or ""

    @property
    def transport_url(self) -> str:
        """URL of the message bus, which fills the templates of cell mappings; may be empty."""
        return self.options.transport_url or ""

    @property
    def notification_drivers(self) -> list[str]:
        """Drivers of `[oslo_messaging_notifications]`; none means that Nova notifies nobody."""
        return list(self.options.oslo_messaging_notifications.driver)

    @property
    def notification_transport_url(self) -> str:
        """URL of a bus that is for notifications alone; empty for the common one."""
        return self.options.oslo_messaging_notifications.transport_url or ""

    def adapter(self, service_type: str, microversion: str, *sections: str) -> adapter.Adapter:
        """Return a client for one service with the user of the first usable section.

        Failed requests are returned, not raised. Raises ``NovaConfigError``.
        """
        section = self._usable_section(sections)
        options = self.options
        try:
            auth = keystone_loading.load_auth_from_conf_options(options, section)
        except keystone_exceptions.AuthPluginException as error:
            raise NovaConfigError(f"{self.file}: [{section}] auth_type: {error}") from error
        session = keystone_loading.load_session_from_conf_options(options, section, auth=auth)
        keystone_loading.register_adapter_conf_options(
            options, "placement", include_deprecated=False
        )
        own = options.placement if service_type == "placement" else None
        return adapter.Adapter(
            session=session,
            service_type=service_type,
            # The one section that says which region this nova.conf is of.
            region_name=options.placement.region_name,
            interface=(own.valid_interfaces if own else None) or ["internal", "public"],
            endpoint_override=own.endpoint_override if own else None,
            default_microversion=microversion,
            raise_exc=False,
            connect_retries=2,
        )

    def _usable_section(self, sections: tuple[str, ...]) -> str:
        for section in sections:
            keystone_loading.register_session_conf_options(self.options, section)
            keystone_loading.register_auth_conf_options(self.options, section)
            if self.options[section].auth_type:
                return section
        names = " or ".join(f"[{section}]" for section in sections)
        raise NovaConfigError(f"{self.file}: no auth_type in {names}")


REQUEST_ERRORS = (
    keystone_exceptions.ClientException,
    keystone_exceptions.DiscoveryFailure,
)
"""What a request through an adapter may raise: Keystone or the service cannot be used."""

__all__ = ["REQUEST_ERRORS", "NovaConfig", "NovaConfigError"]
