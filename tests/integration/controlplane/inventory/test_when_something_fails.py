"""What fails is told and done again, takes no sound object down, and holds up no other vCenter."""

import functools
import json
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy
from sqlalchemy.engine import Connection

from controlplane.domain.records import ServerOutcome, ServerRecord
from controlplane.inventory import service
from controlplane.openstack.nova.delete_queue import NovaDeleteQueue
from controlplane.store.database import Database
from controlplane.store.errors import DatabaseUnavailableError, StatementRejectedError
from controlplane.store.nova.servers import NovaServers
from controlplane.store.nova.tables import INFO_CACHES
from tests.support.generated_vcenter import GeneratedVCenter
from tests.support.inventory_edge import FeedEdge
from tests.support.inventory_stage import InventoryStage
from vsphere_gateway.v1 import inventory_pb2, link_pb2


@pytest.fixture
def site() -> GeneratedVCenter:
    return GeneratedVCenter(machines=3)


class Wrapped:
    """A writer of servers in whose way something stands."""

    def __init__(
        self, stage: InventoryStage, before: Callable[[Sequence[ServerRecord]], None]
    ) -> None:
        self._servers = stage.servers
        self._before = before

    def apply(
        self, records: Sequence[ServerRecord], restore: Collection[str] = ()
    ) -> list[ServerOutcome]:
        self._before(records)
        return self._servers.apply(records, restore)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._servers, name)


class FailsOnce:
    """Raises what nobody expects, the first time that it is called."""

    def __init__(self, then: Callable[..., None]) -> None:
        self.failed = False
        self._then = then

    def __call__(self, *arguments: Any) -> None:
        if not self.failed:
            self.failed = True
            raise RuntimeError("injected after the commit")
        self._then(*arguments)


@pytest.mark.parametrize("listener", ["announce", "submit", "adopted", "cluster_found"])
def test_failure_after_the_commit_quarantines_nothing_and_is_made_good(
    stage: InventoryStage, site: GeneratedVCenter, listener: str
) -> None:
    edge = stage.edge(site)
    edge.synchronise()
    cluster = stage.clusters(site)[0].uuid
    failing = FailsOnce(getattr(stage.told, listener))
    setattr(stage.told, listener, failing)

    if listener == "cluster_found":
        threads = functools.partial(_set_threads, 4)
        edge.changes(site.change("HostSystem:host-1-1", threads))
        assert failing.failed
    edge.changes(site.add_machine("vm-new"))

    assert failing.failed
    assert edge.nacks == {}
    assert stage.quarantined(site) == {}
    server = site.instance_uuid("vm-new")
    assert server in stage.servers_of(site)
    edge.synchronise()
    stage.eventually(lambda: server in stage.told.allocations, "allocation")
    assert ("found", cluster) in stage.told.clusters[1:]
    assert stage.look(site).differences == []


def test_error_that_comes_again_is_bisected_out_and_the_stream_goes_on(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    bad = site.instance_uuid("vm-2")

    def refuse(records: Sequence[ServerRecord]) -> None:
        if any(one.uuid == bad for one in records):
            raise StatementRejectedError("(1054, \"Unknown column 'x' in 'SET'\")")

    stage.servers = Wrapped(stage, refuse)
    stage.restart()
    edge = stage.edge(site)

    edge.synchronise()

    assert stage.quarantined(site) == {"VirtualMachine:vm-2": "ROW_REFUSED"}
    assert "Unknown column" in edge.nacks["VirtualMachine:vm-2"].status.message
    assert len(stage.servers_of(site)) == 2
    edge.changes(site.change_machine("vm-1", lambda machine: setattr(machine, "cpus", 7)))
    assert stage.row(site.instance_uuid("vm-1"))["vcpus"] == 7


def test_what_nova_holds_is_told_although_a_later_step_failed(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site)
    edge.synchronise()
    stage.told.allocations.clear()
    key, server = "VirtualMachine:vm-new", site.instance_uuid("vm-new")

    with refusing(stage.own, "INSERT INTO objects"):
        edge.changes(site.add_machine("vm-new"))

    assert list(edge.nacks) == [key]
    assert server in stage.told.allocations


def test_unexpected_error_turns_health_red_until_the_work_is_done(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site)
    edge.synchronise()

    with refusing(stage.own, "INSERT INTO"):
        change = site.change_machine("vm-1", lambda machine: setattr(machine, "cpus", 7))
        edge.send_batch(link_pb2.LANE_CHANGES, [change], wait=False)
        stage.eventually(lambda: bool(stage.monitor.down()), "red health")
        assert edge.unacked() == 1

    edge.wait(lambda: edge.unacked() == 0, "ack")
    stage.eventually(lambda: not stage.monitor.down(), "green health")
    assert list(stage.monitor.failures()) == [f"inventory-{site.vcenter_uuid[:8]}"]
    assert edge.synchronise() == 0


def test_changes_do_not_wait_for_novas_api_to_delete_servers(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    answer = threading.Event()
    asked: list[str] = []

    def delete(uuid: str) -> str:
        asked.append(uuid)
        assert answer.wait(60)
        return ""

    deletes = NovaDeleteQueue(delete, stage.monitor)
    deletes.start()
    stage.servers = NovaServers(stage.nova, deletes)
    stage.restart()
    edge = stage.edge(site)
    edge.synchronise()
    server = site.instance_uuid("vm-1")
    port = json.dumps([{"id": str(uuid4())}])
    of_server = INFO_CACHES.c.instance_uuid == server
    row = INFO_CACHES.update().where(of_server).values(network_info=port)
    stage.nova.cell.run(lambda connection: connection.execute(row))
    try:
        edge.changes(site.remove("VirtualMachine:vm-1"))
        edge.changes(site.change_machine("vm-2", lambda machine: setattr(machine, "cpus", 7)))

        assert stage.row(site.instance_uuid("vm-2"))["vcpus"] == 7
        stage.eventually(lambda: asked == [server], "request")
        assert server in stage.servers_of(site)
    finally:
        answer.set()
        deletes.stop()


def test_stream_of_one_vcenter_does_not_wait_while_another_is_read(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    other = GeneratedVCenter(machines=1)
    edge, there = stage.edge(site), stage.edge(other)
    edge.synchronise()
    there.synchronise()
    edge.close()
    there.close()
    served_elsewhere(stage, site)
    with gated(stage.own, "FROM objects") as gate:
        opening = threading.Thread(target=edge.open)
        opening.start()
        assert gate.reached.wait(10)

        answered = in_time(there.open)

        gate.open.set()
        opening.join(30)
    assert answered


def test_vcenter_never_has_two_workers(
    stage: InventoryStage, site: GeneratedVCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, gate = threading.Event(), threading.Event()

    def wait(_: Sequence[ServerRecord]) -> None:
        began.set()
        assert gate.wait(60)

    monkeypatch.setattr(service, _PATIENCE, 0.3)
    stage.servers = Wrapped(stage, wait)
    stage.restart()
    edge = stage.edge(site)
    edge.open()
    edge.send_batch(link_pb2.LANE_SNAPSHOT, list(site.objects.values()), wait=False)
    assert began.wait(30)
    edge.close()
    served_elsewhere(stage, site)

    try:
        with pytest.raises(DatabaseUnavailableError, match="dial again"):
            edge.open()
        assert len(workers(site)) == 1
    finally:
        gate.set()
    stage.eventually(lambda: opened(edge), "stream")
    assert len(workers(site)) == 1
    again = stage.edge(site, epoch=2)
    again.synchronise()
    assert len(stage.servers_of(site)) == 3


def test_vcenter_is_read_once_by_an_orderly_restart(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site)
    edge.synchronise()
    edge.close()
    stage.stop()
    with counted(stage.own, "objects.content_hash") as reads:
        stage.start()
        stage.edge(site).open()
    assert len(reads) == 1


def test_vcenter_is_read_again_after_a_process_that_did_not_end_in_order(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site)
    edge.synchronise()
    edge.close()
    stage.stop()
    served_elsewhere(stage, site)
    with counted(stage.own, "objects.content_hash") as reads:
        stage.start()
        stage.edge(site).open()
    assert len(reads) == 2


def _set_threads(number: int, one: inventory_pb2.InventoryObject) -> None:
    one.host.cpu_threads = number


_PATIENCE = "LOAD_SECONDS"


def served_elsewhere(stage: InventoryStage, site: GeneratedVCenter) -> None:
    """Have another process serve a vCenter."""
    sql = sqlalchemy.text("UPDATE vcenters SET served_by = 'another' WHERE uuid = :uuid")
    stage.own.run(lambda connection: connection.execute(sql, {"uuid": site.vcenter_uuid}))


def workers(site: GeneratedVCenter) -> list[threading.Thread]:
    return [
        one for one in threading.enumerate() if one.name == f"inventory-{site.vcenter_uuid[:8]}"
    ]


def opened(edge: FeedEdge) -> bool:
    try:
        edge.open()
    except DatabaseUnavailableError:
        return False
    return True


def in_time(call: Callable[[], Any]) -> bool:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


class Gate:
    """Where statements wait."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()


@contextmanager
def listening(database: Database, listener: Callable[[str], None]) -> Iterator[None]:
    """Call ``listener`` with each statement, before it is executed."""

    def before(_c: Connection, _cursor: object, statement: str, *_rest: object) -> None:
        listener(" ".join(statement.replace("`", "").split()))

    sqlalchemy.event.listen(database.engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        sqlalchemy.event.remove(database.engine, "before_cursor_execute", before)


@contextmanager
def gated(database: Database, text: str) -> Iterator[Gate]:
    """Hold statements with some text back until the gate is open."""
    gate = Gate()

    def wait(statement: str) -> None:
        if text in statement:
            gate.reached.set()
            assert gate.open.wait(60)

    with listening(database, wait):
        yield gate


@contextmanager
def refusing(database: Database, text: str) -> Iterator[None]:
    """Have a database refuse statements with some text for a reason that stays."""

    def refuse(statement: str) -> None:
        if text in statement:
            raise sqlalchemy.exc.ProgrammingError(statement, {}, Exception("no such column: x"))

    with listening(database, refuse):
        yield


@contextmanager
def counted(database: Database, text: str) -> Iterator[list[str]]:
    """Note the statements with some text."""
    found: list[str] = []
    with listening(database, lambda one: found.append(one) if text in one else None):
        yield found
