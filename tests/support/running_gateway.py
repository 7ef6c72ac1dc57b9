"""A real gateway on a loopback port; what lies behind it is faked, and a test turns its clock."""

import uuid

from certs.credentials import TlsMaterial
from common.background import ThreadMonitor
from controlplane.config.settings import GatewaySettings
from controlplane.gateway.edges.edge_registry import EdgeRegistry, Timing
from controlplane.gateway.gateway import Gateway
from controlplane.gateway.refusals import Refusals
from controlplane.gateway.streams.on_demand_reads import OnDemandReader
from controlplane.store.database import Database
from tests.support.gateway_parties import (
    FakeClock,
    RecordedEdges,
    RecordedOperations,
    RecordedPipeline,
)

INTERVAL = 25.0


class RunningGateway:
    """A gateway that listens, and all that a test looks at."""

    def __init__(self, database: Database, tls: TlsMaterial, hands: FakeClock) -> None:
        self.hands = hands
        self.operations = RecordedOperations()
        self.edges = RecordedEdges()
        self.pipeline = RecordedPipeline()
        self.refusals = Refusals()
        self.monitor = ThreadMonitor()
        self.database = database
        self.registry = EdgeRegistry(
            database, self.edges, hands.clock, Timing(INTERVAL, 3), jitter=lambda: 0.5
        )
        self.on_demand_reads = OnDemandReader(self.registry, lambda: str(uuid.uuid4()))
        settings = GatewaySettings(
            bind_address="127.0.0.1", bind_port=0, hello_timeout=1.0, drain_timeout=5.0
        )
        self.gateway = Gateway(
            settings, tls, self.registry, self.on_demand_reads, self.pipeline, self.operations,
            self.edges, self.refusals, hands.clock, self.monitor,
        )  # fmt: skip
        self.registry.load()
        self.gateway.start()
        self.port = self.gateway.port

    def stop(self) -> None:
        self.gateway.stop()
