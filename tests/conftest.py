"""Servers for tests: real ones, of this checkout, on the loopback interface.

A server that runs already is used and left running; what a test run starts, it stops,
unless another run of this checkout still uses it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.servers import Databases, StartVcsim, Uncaptured
from tools.cloud.cloud import Cloud
from tools.progress import Steps
from tools.servers.lease import Lease
from tools.servers.mariadb import MariaDB
from tools.servers.rabbitmq import RabbitMQ
from tools.servers.vcsim import Vcsim


@pytest.fixture(scope="session")
def mariadb(terminal: Callable[[str], None]) -> Iterator[Databases]:
    """A running MariaDB: `mariadb.create_database("nova")` returns a URL for SQLAlchemy."""
    server = MariaDB()
    if not server.answers():
        terminal("starting MariaDB")
    with Lease("mariadb", server.start, server.stop):
        databases = Databases(server)
        try:
            yield databases
        finally:
            databases.drop_all()


@pytest.fixture(scope="session")
def rabbitmq(terminal: Callable[[str], None]) -> Iterator[RabbitMQ]:
    """A running RabbitMQ: `rabbitmq.transport_url()` is for oslo.messaging."""
    server = RabbitMQ()
    if not server.answers():
        terminal("starting RabbitMQ")
    with Lease("rabbitmq", server.start, server.stop):
        yield server


@pytest.fixture
def vcsim(tmp_path: Path) -> Iterator[StartVcsim]:
    """Starts simulated vCenters for one test: `vcsim(cluster=2, vm=10)`; see Vcsim."""
    with _simulators(tmp_path) as start:
        yield start


@pytest.fixture(scope="session")
def shared_vcsim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartVcsim]:
    """Starts simulated vCenters for tests that only read; the same flags, the same one."""
    with _simulators(tmp_path_factory.mktemp("vcsim")) as start:
        started: dict[str, Vcsim] = {}

        def start_once(**flags: str | int | float) -> Vcsim:
            key = repr(sorted(flags.items()))
            if key not in started:
                started[key] = start(**flags)
            return started[key]

        yield start_once


@contextmanager
def _simulators(folder: Path) -> Iterator[StartVcsim]:
    started: list[Vcsim] = []

    def start(**flags: str | int | float) -> Vcsim:
        simulator = Vcsim(folder / f"vcsim{len(started)}", **flags)
        started.append(simulator)
        simulator.start()
        return simulator

    try:
        yield start
    finally:
        for simulator in started:
            simulator.stop()


@pytest.fixture(scope="session")
def cloud(uncaptured: Uncaptured) -> Iterator[Cloud]:
    """The whole one-machine OpenStack, answering; its first start takes a minute or two."""
    the_cloud = Cloud()

    def start() -> None:
        if the_cloud.running():
            return
        with uncaptured(), Steps() as steps:
            print("\nstarting the one-machine OpenStack", flush=True)
            the_cloud.up(steps)

    with Lease("cloud", start, the_cloud.down):
        yield the_cloud


@pytest.fixture(scope="session")
def terminal(uncaptured: Uncaptured) -> Callable[[str], None]:
    """Says on the terminal what a slow fixture is doing, which pytest would capture."""

    def say(text: str) -> None:
        with uncaptured():
            print(f"\n{text} ...", flush=True)

    return say


@pytest.fixture(scope="session")
def uncaptured(request: pytest.FixtureRequest) -> Uncaptured:
    """Blocks whose output reaches the terminal."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    return capture.global_and_fixture_disabled
