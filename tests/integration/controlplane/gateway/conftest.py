"""A real gateway on a loopback port with real certificates, its own tables in SQLite."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certs.identity import Role
from controlplane.store.database import Database
from controlplane.store.own import migration
from tests.support.customer import Customer
from tests.support.dialled_edge import DialledEdge
from tests.support.gateway_parties import FakeClock
from tests.support.running_gateway import RunningGateway


@pytest.fixture(scope="session")
def customers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Customer]:
    """Returns the authority of a customer, made once."""
    made: dict[str, Customer] = {}

    def customer(name: str) -> Customer:
        if name not in made:
            directory = tmp_path_factory.mktemp(name)
            made[name] = Customer(directory, name)
        return made[name]

    return customer


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """The own tables."""
    database = Database(f"sqlite:///{tmp_path}/own.sqlite")
    migration.upgrade(database)
    yield database
    database.close()


@pytest.fixture
def start_gateway(
    database: Database, customers: Callable[[str], Customer]
) -> Iterator[Callable[..., RunningGateway]]:
    """Starts gateways on the same database, one after the other; the clock stands still."""
    started: list[RunningGateway] = []
    hands = FakeClock()

    def start() -> RunningGateway:
        running = RunningGateway(database, customers("acme").material(Role.CONTROL_PLANE), hands)
        started.append(running)
        return running

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def gateway(start_gateway: Callable[[], RunningGateway]) -> RunningGateway:
    """A running gateway of customer acme."""
    return start_gateway()


@pytest.fixture
def dial(
    gateway: RunningGateway, customers: Callable[[str], Customer]
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
