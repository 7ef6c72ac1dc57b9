"""Where inventory is written: beside a real OpenStack, or alone on SQLite files.

One way through from here on: the rest of the control plane does not know which it is.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from common.background import ThreadMonitor
from controlplane.config.nova_config import NovaConfig, NovaConfigError
from controlplane.config.settings import Settings
from controlplane.domain.writers import Writers
from controlplane.openstack.compute_hosts import ComputeHosts
from controlplane.openstack.keystone import adapters, limits
from controlplane.openstack.keystone.limits import UnifiedLimits
from controlplane.openstack.notifications.announcer import BusAnnouncer, NoAnnouncer
from controlplane.openstack.notifications.bus import Bus
from controlplane.openstack.nova import api as nova_api
from controlplane.openstack.nova.api import NovaApi
from controlplane.openstack.nova.delete_queue import NovaDeleteQueue
from controlplane.openstack.nova.quota import NoQuota, QuotaKeeper, Quotas
from controlplane.openstack.placement import client as placement_client
from controlplane.openstack.placement.allocations import AllocationQueue, NoPlacement
from controlplane.openstack.placement.client import PlacementClient
from controlplane.openstack.placement.providers import ResourceProviders
from controlplane.store import standalone
from controlplane.store.database import Database
from controlplane.store.glance import connection as glance_connection
from controlplane.store.glance.images import GlanceImages
from controlplane.store.glance.readers import GlanceReader
from controlplane.store.nova import cells
from controlplane.store.nova.compute_hosts import ComputeHostRows
from controlplane.store.nova.notification_data import NotificationDataReader
from controlplane.store.nova.readers import ListedServers, NovaReader
from controlplane.store.nova.servers import NovaServers
from controlplane.store.own import servers

Step = Callable[[], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    """The writers of one OpenStack, or of what stands in for it."""

    writers: Writers
    compute_hosts: ComputeHosts
    servers: ListedServers
    """What Nova's own rows say, for diagnostics."""
    nova: NovaReader
    """All of Nova's rows, to be judged."""
    glance: GlanceReader
    placement: PlacementClient | None
    """None where no placement runs."""
    nova_api: NovaApi | None
    """None where no Nova runs."""
    transport_url: str
    """The cell's message bus, for the workers."""
    start: Step
    """Begin to write in the background."""
    stop: Step
    """End what writes in the background."""
    close: Step
    """Close every connection."""


def beside_openstack(settings: Settings, own: Database, monitor: ThreadMonitor) -> Backend:
    """Open what Nova's and Glance's own files name; ``own`` is the gateway database.

    ``monitor`` is told of background threads that fail.

    Raises ``ConfigurationError``, or ``StoreError`` when the API database is away.
    """
    config = _nova_config(settings)
    try:
        nova = cells.open_databases(config, settings.nova.cell)
        placement = placement_client.connect(config)
        api = nova_api.connect(config)
        unified = _unified_limits(config)
    except NovaConfigError as error:
        raise settings.problem("nova", "config_file", str(error)) from error
    glance = _glance(settings)
    providers = ResourceProviders(placement)
    allocations = AllocationQueue(placement, providers, monitor)
    announcer = BusAnnouncer(
        NotificationDataReader(nova.cell), Bus(config, nova.transport_url), monitor
    )
    quota = QuotaKeeper(
        Quotas(api, unified),
        functools.partial(_projects, own),
        monitor,
        lift=settings.adoption.lift_quota,
    )
    deletes = NovaDeleteQueue(api.delete, monitor)

    def start() -> None:
        deletes.start()
        announcer.start()
        quota.start()

    def stop() -> None:
        quota.stop()
        allocations.stop()
        announcer.stop()
        deletes.stop()

    def close() -> None:
        nova.close()
        glance.database.close()

    zone = config.options.default_availability_zone
    images = GlanceImages(glance.database, with_locations=not glance.encrypts_locations)
    return Backend(
        writers=Writers(
            servers=NovaServers(nova, deletes, zone),
            images=images,
            allocations=allocations,
            announcer=announcer,
            quota=quota,
        ),
        compute_hosts=ComputeHosts(ComputeHostRows(nova), providers, images),
        servers=ListedServers(nova.cell),
        nova=NovaReader(nova),
        glance=GlanceReader(glance.database, with_locations=not glance.encrypts_locations),
        placement=placement,
        nova_api=api,
        transport_url=nova.transport_url,
        start=start,
        stop=stop,
        close=close,
    )


def alone(directory: Path) -> Backend:
    """Open SQLite files with Nova's and Glance's schemas in ``directory``; make what is missing.

    Raises ``StoreError``.
    """
    databases = standalone.open_databases(directory)
    images = GlanceImages(databases.glance)
    return Backend(
        writers=Writers(
            servers=NovaServers(databases.nova),
            images=images,
            allocations=NoPlacement(),
            announcer=NoAnnouncer(),
            quota=NoQuota(),
        ),
        compute_hosts=ComputeHosts(ComputeHostRows(databases.nova), None, images),
        servers=ListedServers(databases.nova.cell),
        nova=NovaReader(databases.nova),
        glance=GlanceReader(databases.glance),
        placement=None,
        nova_api=None,
        transport_url="",
        start=_nothing,
        stop=_nothing,
        close=databases.close,
    )


def _nova_config(settings: Settings) -> NovaConfig:
    try:
        return NovaConfig(Path(settings.nova.config_file))
    except NovaConfigError as error:
        raise settings.problem("nova", "config_file", str(error)) from error


def _projects(own: Database) -> set[str]:
    with own.read() as connection:
        return servers.projects(connection)


def _unified_limits(config: NovaConfig) -> UnifiedLimits | None:
    if config.options.quota.driver != limits.NOVA_DRIVER:
        return None
    return UnifiedLimits(adapters.connect(config, "identity", "", adapters.ADMINISTRATORS))


def _glance(settings: Settings) -> glance_connection.GlanceDatabase:
    try:
        return glance_connection.open_database(Path(settings.glance.config_file))
    except glance_connection.GlanceConfigError as error:
        raise settings.problem("glance", "config_file", str(error)) from error


def _nothing() -> None:
    """There is nothing to start or stop."""
