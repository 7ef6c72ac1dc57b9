"""Who inherits a server is not forgotten when the control plane ends, at whatever point."""

import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest

from controlplane.domain.records import Announced, ServerOutcome, ServerRecord
from controlplane.inventory.jobs import Jobs
from controlplane.inventory.periodic_tasks import PeriodicTasks
from controlplane.inventory.rules.identity import derived_uuid
from controlplane.store.errors import DatabaseUnavailableError
from controlplane.store.own.schema import servers
from controlplane.store.own.servers import ServerState
from tests.support.generated_vcenter import GeneratedVCenter
from tests.support.inventory_edge import FeedEdge
from tests.support.inventory_stage import InventoryStage
from vsphere_gateway.v1 import inventory_pb2, link_pb2

HIDDEN = link_pb2.REMOVAL_REASON_HIDDEN
FIRST = "VirtualMachine:vm-1"
SUCCESSOR = "VirtualMachine:vm-copy"


@pytest.fixture
def site() -> GeneratedVCenter:
    return GeneratedVCenter(machines=3)


@pytest.fixture
def server(site: GeneratedVCenter) -> str:
    """The server that two virtual machines claim."""
    return site.instance_uuid("vm-1")


@pytest.fixture
def contested(stage: InventoryStage, site: GeneratedVCenter, server: str) -> FeedEdge:
    """The stream of a site with a newcomer that waits."""
    edge = stage.edge(site)
    edge.synchronise()
    edge.changes(site.add_machine("vm-copy", instance_uuid=server))
    assert stage.quarantined(site) == {SUCCESSOR: "DUPLICATE_INSTANCE_UUID"}
    return edge


@pytest.fixture
def edge_first(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on a control plane hears from its edges before it looks at what it holds."""

    def go() -> None:
        monkeypatch.setattr(Jobs, "resume", lambda _jobs: None)
        monkeypatch.setattr(PeriodicTasks, "_live_and_inherited", lambda _tasks: False)

    return go


def killed(stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge) -> FeedEdge:
    """Start the control plane anew; its edge, which went on, opens a stream."""
    edge.close()
    stage.restart()
    again = stage.edge(site)
    again.open()
    return again


def living(stage: InventoryStage, server: str) -> bool:
    return bool(stage.row(server)["deleted"] == 0)


def moref_of(stage: InventoryStage, server: str) -> str:
    machine = stage.queries.virtual_machine(server)
    return "" if machine is None else machine.reference.value


def inherits(stage: InventoryStage, server: str, identifier: int) -> None:
    """The copy comes to stand behind the same server, which nobody was told to be gone."""
    stage.eventually(lambda: moref_of(stage, server) == "vm-copy", "inheritance")
    assert stage.row(server)["id"] == identifier
    assert (Announced.DELETE, server) not in stage.told.said


def agreed(stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge) -> None:
    """Both sides come to hold the same, and verification finds nothing."""
    edge.synchronise()
    stage.eventually(lambda: stage.look(site).differences == [], "agreement")


def test_successor_inherits_when_the_first_goes_before_anything_was_looked_at(
    stage: InventoryStage,
    site: GeneratedVCenter,
    server: str,
    contested: FeedEdge,
    edge_first: Callable[[], None],
) -> None:
    edge_first()
    identifier = stage.row(server)["id"]
    edge = killed(stage, site, contested)

    edge.changes(site.remove(FIRST))

    inherits(stage, server, identifier)
    agreed(stage, site, edge)


def test_successor_in_another_vcenter_inherits_when_the_first_goes_before_anything_was_looked_at(
    stage: InventoryStage, site: GeneratedVCenter, server: str, edge_first: Callable[[], None]
) -> None:
    here, other = stage.edge(site), GeneratedVCenter(machines=1)
    here.synchronise()
    other.add_machine("vm-5", instance_uuid=server)
    there = stage.edge(other)
    there.synchronise()
    edge_first()
    there.close()
    edge = killed(stage, site, here)

    edge.changes(site.remove(FIRST))

    stage.eventually(lambda: moref_of(stage, server) == "vm-5", "inheritance")
    assert stage.row(server)["node"] == f"domain-c1.{other.vcenter_uuid}"
    assert (Announced.DELETE, server) not in stage.told.said
    agreed(stage, site, edge)
    agreed(stage, other, stage.edge(other, epoch=2))


class Stuck:
    """A writer of servers whose database goes away."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self.away = False
        self.tried = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def apply(
        self, records: Sequence[ServerRecord], restore: Collection[str] = ()
    ) -> list[ServerOutcome]:
        if self.away:
            self.tried = True
            raise DatabaseUnavailableError("gone away")
        outcomes: list[ServerOutcome] = self._writer.apply(records, restore)
        return outcomes


def transferred(
    stage: InventoryStage,
    site: GeneratedVCenter,
    edge: FeedEdge,
    before_start: Callable[[], None] = lambda: None,
) -> FeedEdge:
    """The first goes, and the control plane is killed before the successor has taken the server."""
    stuck = Stuck(stage.servers)
    stage.servers = stuck
    edge = killed(stage, site, edge)
    edge.synchronise()
    stuck.away = True
    edge.changes(site.remove(FIRST))
    stage.eventually(lambda: stuck.tried, "attempt to take the server")
    edge.close()
    stage.stop()
    stuck.away = False
    before_start()
    stage.start()
    again = stage.edge(site)
    again.open()
    return again


def test_server_that_was_transferred_is_taken_after_the_restart(
    stage: InventoryStage, site: GeneratedVCenter, server: str, contested: FeedEdge
) -> None:
    identifier = stage.row(server)["id"]
    edge = transferred(stage, site, contested)

    stage.eventually(lambda: moref_of(stage, server) == "vm-copy", "inheritance")

    assert stage.row(server)["id"] == identifier
    assert (Announced.DELETE, server) not in stage.told.said
    agreed(stage, site, edge)


@pytest.mark.parametrize(
    "end", [link_pb2.REMOVAL_REASON_DELETED, link_pb2.REMOVAL_REASON_UNMANAGED]
)
def test_server_that_was_transferred_ends_when_the_successor_goes_before_anything_was_looked_at(
    stage: InventoryStage, site: GeneratedVCenter, server: str, contested: FeedEdge,
    edge_first: Callable[[], None], end: int,
) -> None:  # fmt: skip
    edge = transferred(stage, site, contested, edge_first)
    assert living(stage, server)

    edge.changes(site.remove(SUCCESSOR, end))

    assert not living(stage, server)
    agreed(stage, site, edge)


def test_server_that_was_transferred_to_a_hidden_successor_ends_with_it(
    stage: InventoryStage, site: GeneratedVCenter, server: str, contested: FeedEdge
) -> None:
    successor = site.state(SUCCESSOR)
    contested.changes(site.remove(SUCCESSOR, HIDDEN))
    contested.changes(site.remove(FIRST))
    assert living(stage, server)
    assert stage.look(site).differences == []
    edge = killed(stage, site, contested)
    edge.synchronise()
    assert living(stage, server)

    site.give_back(successor)
    edge.changes(site.remove(SUCCESSOR))

    stage.eventually(lambda: not living(stage, server), "end of the server")
    agreed(stage, site, edge)


def test_hidden_successor_is_not_forgotten(
    stage: InventoryStage, site: GeneratedVCenter, server: str, contested: FeedEdge
) -> None:
    successor, identifier = site.state(SUCCESSOR), stage.row(server)["id"]
    contested.changes(site.remove(SUCCESSOR, HIDDEN))
    edge = killed(stage, site, contested)

    edge.changes(site.remove(FIRST))
    assert living(stage, server)
    edge.changes(site.give_back(successor))

    inherits(stage, server, identifier)
    agreed(stage, site, edge)


def test_who_came_first_inherits_also_after_a_restart(
    stage: InventoryStage,
    site: GeneratedVCenter,
    server: str,
    contested: FeedEdge,
    edge_first: Callable[[], None],
) -> None:
    contested.changes(site.add_machine("vm-another", instance_uuid=server))
    edge_first()
    edge = killed(stage, site, contested)

    edge.changes(site.remove(FIRST))

    stage.eventually(lambda: moref_of(stage, server) == "vm-copy", "inheritance")
    assert stage.quarantined(site).keys() == {"VirtualMachine:vm-another"}
    assert (Announced.DELETE, server) not in stage.told.said
    edge.synchronise()
    edge.wait_asked()
    edge.answer()
    own = derived_uuid((site.vcenter_uuid, "vm-another"))
    stage.eventually(lambda: own in stage.servers_of(site), "server of its own")
    agreed(stage, site, edge)


def managed_by(machine: inventory_pb2.VirtualMachine) -> None:
    machine.managed_by.extension_key = "com.vmware.vcDr"


def another_uuid(machine: inventory_pb2.VirtualMachine) -> None:
    machine.instance_uuid = str(uuid.uuid4())


@pytest.mark.parametrize("change", [None, managed_by, another_uuid])
@pytest.mark.parametrize("restarted", [True, False])
def test_server_ends_with_the_first_when_the_newcomer_no_longer_has_its_uuid(
    stage: InventoryStage,
    site: GeneratedVCenter,
    server: str,
    contested: FeedEdge,
    restarted: bool,
    change: Any,
) -> None:
    withdrawn = site.change_machine("vm-copy", change) if change else site.convert(
        "vm-copy", template=True
    )  # fmt: skip
    contested.changes(withdrawn)
    edge = killed(stage, site, contested) if restarted else contested

    edge.changes(site.remove(FIRST))

    assert not living(stage, server)
    assert (Announced.DELETE, server) in stage.told.said
    agreed(stage, site, edge)


@pytest.mark.parametrize("change", [None, managed_by, another_uuid])
def test_server_that_was_transferred_ends_when_the_successor_no_longer_has_its_uuid(
    stage: InventoryStage, site: GeneratedVCenter, server: str, contested: FeedEdge,
    edge_first: Callable[[], None], change: Any,
) -> None:  # fmt: skip
    edge = transferred(stage, site, contested, edge_first)
    assert living(stage, server)
    withdrawn = site.change_machine("vm-copy", change) if change else site.convert(
        "vm-copy", template=True
    )  # fmt: skip

    edge.changes(withdrawn)

    assert not living(stage, server)
    agreed(stage, site, edge)


def test_server_that_was_transferred_and_has_no_successor_any_more_ends(
    stage: InventoryStage, site: GeneratedVCenter, server: str, contested: FeedEdge
) -> None:
    contested.changes(site.remove(SUCCESSOR))
    contested.close()
    stage.stop()
    row = servers.update().where(servers.c.uuid == server)
    stage.own.run(lambda c: c.execute(row.values(state=ServerState.TRANSFERRED.value)))
    site.remove(FIRST)
    stage.start()

    stage.eventually(lambda: not living(stage, server), "end of the server")
    agreed(stage, site, stage.edge(site))
