"""A real gateway on a loopback port with real certificates, its own tables in SQLite."""

import dataclasses
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certs.authority import Authority
from certs.bundle import EdgeBundle
from certs.credentials import TlsMaterial, load_tls_material
from certs.identity import Role
from common.background import ThreadMonitor
from controlplane.config.settings import GatewaySettings
from controlplane.gateway.edges.edge_registry import EdgeRegistry, Timing
from controlplane.gateway.gateway import Gateway
from controlplane.gateway.refusals import Refusals
from controlplane.gateway.streams.on_demand_reads import OnDemandReader
from controlplane.store.database import Database
from controlplane.store.own import migration
from tests.support.dialled_edge import DialledEdge
from tests.support.gateway_parties import Hands, RecordedEdges, RecordedOperations, RecordedPipeline

INTERVAL = 25.0


@dataclasses.dataclass
class Customer:
    """A customer's authority and the files that it issued."""

    authority: Authority
    directory: Path

    def edge(self, name: str) -> TlsMaterial:
        """Stamp an edge and return what it dials with."""
        bundle = EdgeBundle(
            self.directory / name, self.authority.customer, name, "127.0.0.1:1", "127.0.0.1"
        )
        bundle.write(self.authority.certificate_pem, self.authority.issue_edge(name))
        return bundle.tls_material()

    def material(self, role: Role) -> TlsMaterial:
        """Return the control plane's or an operator's credentials."""
        certificate, key = (self.directory / f"{role.value}{end}" for end in (".pem", ".key"))
        issue = {
            Role.CONTROL_PLANE: lambda: self.authority.issue_server(["127.0.0.1"]),
            Role.OPERATOR: lambda: self.authority.issue_operator("ann"),
        }[role]
        issue().write(certificate, key)
        return load_tls_material(self.authority.directory / "ca.pem", certificate, key, role)


@pytest.fixture(scope="session")
def customers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Customer]:
    """Returns the authority of a customer, made once."""
    made: dict[str, Customer] = {}

    def customer(name: str) -> Customer:
        if name not in made:
            directory = tmp_path_factory.mktemp(name)
            made[name] = Customer(Authority.create(directory / "ca", name), directory)
        return made[name]

    return customer


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """The own tables."""
    database = Database(f"sqlite:///{tmp_path}/own.sqlite")
    migration.upgrade(database)
    yield database
    database.close()


class Running:
    """A gateway that listens, and all that a test looks at."""

    def __init__(self, database: Database, tls: TlsMaterial, hands: Hands) -> None:
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


@pytest.fixture
def start_gateway(
    database: Database, customers: Callable[[str], Customer]
) -> Iterator[Callable[..., Running]]:
    """Starts gateways on the same database, one after the other; the clock stands still."""
    started: list[Running] = []
    hands = Hands()

    def start() -> Running:
        running = Running(database, customers("acme").material(Role.CONTROL_PLANE), hands)
        started.append(running)
        return running

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def gateway(start_gateway: Callable[[], Running]) -> Running:
    """A running gateway of customer acme."""
    return start_gateway()


@pytest.fixture
def dial(
    gateway: Running, customers: Callable[[str], Customer]
) -> Iterator[Callable[..., DialledEdge]]:
    """Dials the gateway as an edge of customer acme."""
    dialled: list[DialledEdge] = []

    def connect(name: str = "site-1", epoch: int = 1, port: int = 0) -> DialledEdge:
        tls = customers("acme").edge(name)
        edge = DialledEdge(port or gateway.port, tls.channel_credentials(), name, epoch)
        dialled.append(edge)
        return edge

    yield connect
    for edge in dialled:
        edge.hang_up()
