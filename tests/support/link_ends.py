"""Both ends of the link, for tests of the link: the real edge's parts and the real gateway.

What is faked: vCenter and the collector (``VCenterTruth``), what the control plane does with
inventory (``InventoryReceiver`` behind a queue that a test may hold up), and its ledger.
"""

import queue
import random
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from certs.credentials import TlsMaterial
from common.background import ThreadMonitor
from common.backoff import Backoff
from common.clock import Clock
from controlplane.config.settings import GatewaySettings
from controlplane.domain.ports import InventorySink
from controlplane.gateway.edges.edge_registry import EdgeRegistry, Timing
from controlplane.gateway.gateway import Gateway
from controlplane.gateway.refusals import Refusals
from controlplane.gateway.streams.on_demand_reads import OnDemandReader
from controlplane.store.database import Database
from edge.config import ControlPlaneSettings
from edge.control_messages import ControlMessages
from edge.health import Health
from edge.link.link import Dialer, EdgeFacts, Link
from edge.operations.executor import OperationExecutor
from edge.sync.inventory import Inventory
from edge.sync.on_demand_read import OnDemandReads
from edge.sync.outbox import OutboxLimits
from tests.support.gateway_parties import RecordedEdges, RecordedOperations
from tests.support.inventory_receiver import InventoryReceiver
from tests.support.scripted_operations import ScriptedOperations
from tests.support.vcenter_truth import VCENTER, VCenterTruth
from vsphere_gateway.v1 import inventory_pb2, link_pb2

PATIENCE = 20.0
"""Seconds that a test waits for what must happen soon."""


class ReceiverPipeline:
    """A fake of the inventory pipeline: applies messages one by one in a thread."""

    def __init__(self, receiver: InventoryReceiver) -> None:
        self.receiver = receiver
        self.opened = 0
        self.arrived: list[link_pb2.InventoryRequest] = []
        """Everything that came in, applied or not."""
        self.held_up = threading.Event()
        """While it is set nothing is applied and nothing acknowledged."""
        self.changed = threading.Condition()

    def open(
        self, edge_name: str, opened: link_pb2.InventoryOpen, sink: InventorySink
    ) -> "ReceiverFeed":
        with self.changed:
            self.opened += 1
            (holdings,) = self.receiver.open(opened)
        return ReceiverFeed(self, holdings.holdings, sink)

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until a condition on what was received holds."""
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE), "did not happen in time"

    def observed(self, vcenter_uuid: str, state: inventory_pb2.InventoryObject) -> None:
        raise AssertionError("the link observes nothing")

    def reassert(self, instance_uuids: object) -> None:
        raise AssertionError("the link asserts nothing")


class ReceiverFeed:
    """A fake of one open inventory stream."""

    def __init__(
        self, pipeline: ReceiverPipeline, holdings: link_pb2.Holdings, sink: InventorySink
    ) -> None:
        self._pipeline = pipeline
        self._holdings = holdings
        self._sink = sink
        self._queue: queue.SimpleQueue[link_pb2.InventoryRequest | None] = queue.SimpleQueue()
        self._closed = False
        threading.Thread(target=self._apply, daemon=True).start()

    def holdings(self) -> link_pb2.Holdings:
        return self._holdings

    def receive(self, request: link_pb2.InventoryRequest) -> None:
        with self._pipeline.changed:
            self._pipeline.arrived.append(request)
            self._pipeline.changed.notify_all()
        self._queue.put(request)

    def close(self) -> None:
        self._closed = True
        self._queue.put(None)

    def _apply(self) -> None:
        while (request := self._queue.get()) is not None:
            with self._pipeline.changed:
                free = self._pipeline.changed.wait_for(
                    lambda: self._closed or not self._pipeline.held_up.is_set(), PATIENCE
                )
                if self._closed or not free:
                    return
                answers = self._pipeline.receiver.receive(request)
                self._pipeline.changed.notify_all()
            for answer in answers:
                self._sink.send(answer)


class ControlPlaneEnd:
    """The real gateway; a new one may take the place of an old one on the same port."""

    def __init__(
        self,
        database: Database,
        tls: TlsMaterial,
        receiver: InventoryReceiver,
        port: int = 0,
        heartbeat_interval: float = 25.0,
    ) -> None:
        self.pipeline = ReceiverPipeline(receiver)
        self.operations = RecordedOperations()
        self.edges = RecordedEdges()
        self.refusals = Refusals()
        self.registry = EdgeRegistry(
            database,
            self.edges,
            Clock(),
            Timing(heartbeat_interval, 3),
            random.random,
        )
        self.on_demand_reads = OnDemandReader(self.registry, lambda: str(uuid.uuid4()))
        settings = GatewaySettings(
            bind_address="127.0.0.1",
            bind_port=port,
            heartbeat_interval=heartbeat_interval,
            drain_timeout=5.0,
        )
        self.gateway = Gateway(
            settings,
            tls,
            self.registry,
            self.on_demand_reads,
            self.pipeline,
            self.operations,
            self.edges,
            self.refusals,
            Clock(),
            ThreadMonitor(),
        )
        self.registry.load()
        self.gateway.start()
        self.port = self.gateway.port

    def stop(self) -> None:
        """End it without a word, as a crash would as far as the edge can see."""
        self.gateway.stop()


class EdgeEnd:
    """The real inventory, executor and link of one edge."""

    def __init__(
        self,
        bundle: Path,
        truth: VCenterTruth,
        limits: OutboxLimits | None = None,
        settings: ControlPlaneSettings | None = None,
        environment: dict[str, str] | None = None,
        epoch: int = 1,
        capabilities: tuple[str, ...] = ("audit", "operation.power_on"),
    ) -> None:
        self.truth = truth
        limits = limits or OutboxLimits()
        self.inventory = Inventory(limits)
        self.health = Health(self.inventory)
        self.operations = ScriptedOperations()
        messages = ControlMessages()
        self.executor = OperationExecutor(
            self.operations, self.inventory, messages, self.health.threads
        )
        self.link = Link(
            Dialer(bundle, settings or ControlPlaneSettings("none"), environment or {}),
            EdgeFacts("0.1.0", epoch, capabilities),
            self.inventory,
            limits,
            self.executor,
            messages,
            OnDemandReads(lambda: self.truth),
            self.health,
            Backoff(0.05, 1.6, 0.2),
        )
        self._answering = threading.Thread(target=self._answer, daemon=True)
        self._stopped = False

    def start(self) -> "EdgeEnd":
        """Begin to dial."""
        self.link.start()
        self._answering.start()
        return self

    def read_vcenter(self, page: int = 500) -> None:
        """Log in and read everything, as the supervisor does."""
        self.inventory.begin_read(VCENTER)
        self.health.set_vcenter(link_pb2.VCENTER_STATE_READING)
        for update in self.truth.full_read(page):
            self.inventory.apply(update)
        self.health.set_vcenter(link_pb2.VCENTER_STATE_CONNECTED)

    def change(self, identifier: str, name: str | None) -> None:
        """Create, change or delete an object; vCenter announces it."""
        if name is None:
            del self.truth.names[identifier]
        else:
            self.truth.names[identifier] = name
        self.inventory.apply(self.truth.change(identifier))

    def stop(self) -> None:
        """Close the link in order, or break it off if it hangs."""
        if self._stopped:
            return
        self._stopped = True
        self.link.stop()
        self.inventory.close()
        if self._answering.ident is not None:
            self._answering.join(PATIENCE)
            assert not self._answering.is_alive()
        self.executor.close(1.0)

    def _answer(self) -> None:
        while not self._stopped:
            references = self.inventory.next_verification(PATIENCE)
            if references:
                self.inventory.apply_verification(references, self.truth.confirm(references))
