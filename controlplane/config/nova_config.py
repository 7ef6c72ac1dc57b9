"""What the control plane reads of a `nova.conf`.

The file is Nova's; it is read with the same options and defaults as Nova's own, and never edited.
"""

from pathlib import Path

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
