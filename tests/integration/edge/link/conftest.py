"""The link with both real ends in one process, over real mutual TLS."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.store.database import Database
from controlplane.store.own import migration
from tests.support.cable import Cable
from tests.support.customer import Customer
from tests.support.inventory_receiver import InventoryReceiver
from tests.support.link_ends import ControlPlaneEnd, EdgeEnd
from tests.support.vcenter_truth import VCenterTruth


@pytest.fixture
def customer(tmp_path: Path) -> Callable[[str], Customer]:
    """Makes customers."""
    return lambda name: Customer(tmp_path / name, name)


@pytest.fixture
def acme(customer: Callable[[str], Customer]) -> Customer:
    """The customer that the control plane serves."""
    return customer("acme")


@pytest.fixture
def receiver() -> InventoryReceiver:
    """What the control plane holds, whichever gateway serves it."""
    return InventoryReceiver()


@pytest.fixture
def start_control_plane(
    tmp_path: Path, acme: Customer, receiver: InventoryReceiver
) -> Iterator[Callable[..., ControlPlaneEnd]]:
    """Starts gateways on the same database."""
    database = Database(f"sqlite:///{tmp_path}/own.sqlite")
    migration.upgrade(database)
    started: list[ControlPlaneEnd] = []

    def start(**settings: Any) -> ControlPlaneEnd:
        started.append(ControlPlaneEnd(database, acme.server(), receiver, **settings))
        return started[-1]

    yield start
    for each in started:
        each.stop()
    database.close()


@pytest.fixture
def control_plane(start_control_plane: Callable[..., ControlPlaneEnd]) -> ControlPlaneEnd:
    """A running gateway."""
    return start_control_plane()


@pytest.fixture
def cable(control_plane: ControlPlaneEnd) -> Iterator[Cable]:
    """The way from edge to control plane."""
    cable = Cable(control_plane.port)
    yield cable
    cable.close()


@pytest.fixture
def make_edge(acme: Customer) -> Iterator[Callable[..., EdgeEnd]]:
    """Makes edges of the customer; ``port`` is where they dial."""
    made: list[EdgeEnd] = []

    def make(port: int, truth: VCenterTruth, name: str = "site-1", **settings: Any) -> EdgeEnd:
        made.append(EdgeEnd(acme.bundle(name, port), truth, **settings))
        return made[-1]

    yield make
    for each in made:
        each.stop()
