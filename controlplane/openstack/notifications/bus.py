"""Nova's notification topics on the message bus, as a `nova.conf` configures them."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import oslo_messaging
from nova import utils as nova_utils
from oslo_config import cfg

from controlplane.config.nova_config import NovaConfig

EXCHANGE = "nova"
"""nova/config.py:rpc.set_defaults."""


class Bus:
    """Sends notifications as Nova's compute service of a host would."""

    def __init__(self, config: NovaConfig, transport_url: str) -> None:
        """``transport_url`` is the cell's; `[oslo_messaging_notifications]` overrides it.

        Nothing is dialled before the first message.
        """
        group = config.options.notifications
        self._config = config
        self.enabled = any(driver != "noop" for driver in config.notification_drivers)
        self.sends_versioned = group.notification_format in ("both", "versioned")
        self.sends_unversioned = group.notification_format in ("both", "unversioned")
        oslo_messaging.set_transport_defaults(EXCHANGE)
        transport = oslo_messaging.get_notification_transport(
            _messaging_options(config.file), url=config.notification_transport_url or transport_url
        )
        self._versioned = oslo_messaging.Notifier(
            transport, topics=group.versioned_notifications_topics
        )
        self._unversioned = oslo_messaging.Notifier(transport)

    def send_versioned(self, publisher: str, event_type: str, payload: Mapping[str, Any]) -> None:
        """Send one; waits while the bus is away, as long as Nova would."""
        self._versioned.prepare(publisher_id=publisher).info({}, event_type, payload)

    def send_unversioned(self, publisher: str, event_type: str, payload: Mapping[str, Any]) -> None:
        """Send one; waits while the bus is away, as long as Nova would."""
        self._unversioned.prepare(publisher_id=publisher).info({}, event_type, payload)

    def audit_period(self, now: datetime) -> tuple[datetime, datetime]:
        """Find the current usage period, up to now."""
        unit = self._config.options.instance_usage_audit_period
        _, begins = nova_utils.last_completed_audit_period(unit, now)
        return begins, now

    def instance_name(self, columns: Mapping[str, Any]) -> str:
        """Make the name by `instance_name_template` (nova/db/main/models.py:Instance.name)."""
        template = self._config.options.instance_name_template
        try:
            return str(template % columns["id"])
        except TypeError:
            return str(template % dict(columns))


def _messaging_options(file: Path) -> cfg.ConfigOpts:
    options = cfg.ConfigOpts()
    options(args=[], project="nova", default_config_files=[str(file)])
    return options
