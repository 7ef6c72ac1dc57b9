"""The edge's object graph, built in one place."""

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping

from common.backoff import Backoff
from common.log_fields import fields
from common.process_memory import limit_arenas, trim_memory
from common.version import SOFTWARE_VERSION
from edge.appliance.machine import machine_uuid
from edge.appliance.systemd import Notifier
from edge.config import EdgeConfig
from edge.control_messages import ControlMessages
from edge.errors import ConfigError
from edge.health import Health
from edge.link.link import Dialer, EdgeFacts, Link
from edge.managed import ManagedScope
from edge.operations.executor import OperationExecutor
from edge.sync.inventory import Inventory
from edge.sync.on_demand_read import OnDemandReads
from edge.sync.outbox import OutboxLimits
from edge.sync.vcenter_supervisor import VCenterSupervisor
from edge.tasks import Tasks
from edge.vcenter.client.session import VCenterSession
from edge.vcenter.collector.collector import VCenterCollector
from edge.vcenter.collector.configuration_cache import ConfigurationCache
from edge.vcenter.operations.dispatch import ACTIONS, VCenterOperations
from vsphere_gateway.v1 import link_pb2

STATUS_SECONDS = 10.0
"""How often systemd is notified, unless its watchdog asks for more."""
FINISH_SECONDS = 30.0
"""Longest time that running operations have to finish when the edge is stopped."""
ACKNOWLEDGE_SECONDS = 5.0
"""Longest time that the control plane has to acknowledge their results."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Edge:
    """All parts of a running edge."""

    config: EdgeConfig
    facts: EdgeFacts
    scope: ManagedScope
    session: VCenterSession
    collector: VCenterCollector
    inventory: Inventory
    health: Health
    supervisor: VCenterSupervisor
    operations: VCenterOperations
    executor: OperationExecutor
    link: Link
    notifier: Notifier

    def run(self, stop: threading.Event) -> None:
        """Run until ``stop`` is set, or until a part fails; then stop in order."""
        facts = fields(
            epoch=self.facts.epoch,
            version=self.facts.version,
            vcenter=self.config.vcenter.host,
        )
        log.info("edge starts", extra=facts)
        limit_arenas()
        trim_memory()
        with Tasks(stop.set) as tasks:
            try:
                self.link.start()
                tasks.start("vcenter", self.supervisor.run)
                self.notifier.ready()
                self._watch(stop, tasks)
            finally:
                self._finish()
        self._log_out()

    def _watch(self, stop: threading.Event, tasks: Tasks) -> None:
        """Answer systemd's watchdog for as long as every thread lives."""
        interval = min((self.notifier.watchdog_seconds or 60.0) / 3, STATUS_SECONDS)
        while not stop.wait(interval):
            if tasks.all_alive() and all(thread.alive for thread in self.link.threads):
                self.notifier.alive(self.status())

    def reload(self, read: Callable[[], EdgeConfig]) -> None:
        """Apply the site's present list of clusters, and retry an unavailable vCenter at once.

        ``read`` reads the configuration. Everything but ``[managed]`` takes effect at a start only.
        """
        try:
            managed = read().managed
        except ConfigError as error:
            log.error("configuration not reloaded", extra=fields(error=error))
            return
        if self.scope.replace(managed):
            self.collector.rescope()
            log.info("[managed] reloaded", extra=fields(clusters=",".join(managed.clusters)))
        self.supervisor.retry_now()

    def status(self) -> str:
        """One line for `systemctl status`."""
        counts = self.inventory.counts()
        state = link_pb2.VCenterState.Name(self.health.vcenter().state)
        vcenter = state.removeprefix("VCENTER_STATE_").replace("_", " ").lower()
        link = "open" if self.link.is_open else "down"
        facts = [
            f"vCenter {vcenter}",
            f"link {link}",
            f"{counts.objects} objects, {counts.outbox_objects} to be acknowledged",
            *self.health.failing_threads(),
        ]
        return "; ".join(facts)

    def _finish(self) -> None:
        """Finish operations while heartbeats continue, then stop the link and the collector."""
        self.notifier.stopping()
        log.info("edge stops")
        self.executor.close(FINISH_SECONDS)
        if self.link.is_open:
            self.executor.drain(ACKNOWLEDGE_SECONDS)
        self.link.stop()
        self.supervisor.stop()

    def _log_out(self) -> None:
        self.operations.close()
        self.session.close()
        log.info("edge has stopped")


def assemble(config: EdgeConfig, environment: Mapping[str, str] = os.environ) -> Edge:
    """Build an edge; nothing runs or connects yet.

    Raises ``edge.vcenter.client.faults.VCenterError`` when ``vcenter.ca_file`` cannot be used.
    """
    own_uuid = machine_uuid(environment)
    facts = EdgeFacts(
        version=SOFTWARE_VERSION,
        epoch=time.time_ns(),
        capabilities=("audit", *(f"operation.{action}" for action in sorted(ACTIONS))),
    )
    limits = OutboxLimits(content_bytes=config.limits.outbox_bytes)
    session = VCenterSession(config.vcenter)
    scope = ManagedScope(config.managed)
    cache = ConfigurationCache(config.edge.cache_directory)
    collector = VCenterCollector(session, scope, own_uuid, cache)
    inventory = Inventory(limits)
    health = Health(inventory)
    operations = VCenterOperations(session, collector, scope, health.threads)
    messages = ControlMessages()
    executor = OperationExecutor(operations, inventory, messages, health.threads)
    reads = OnDemandReads(lambda: VCenterCollector(session, scope, own_uuid))
    dialer = Dialer(config.edge.bundle, config.control_plane, environment)
    return Edge(
        config=config,
        facts=facts,
        scope=scope,
        session=session,
        collector=collector,
        inventory=inventory,
        health=health,
        supervisor=VCenterSupervisor(
            config.vcenter.host,
            config.vcenter.password.file,
            session,
            collector,
            inventory,
            health,
            health.threads,
            Backoff(),
        ),
        operations=operations,
        executor=executor,
        link=Link(dialer, facts, inventory, limits, executor, messages, reads, health, Backoff()),
        notifier=Notifier(environment),
    )
