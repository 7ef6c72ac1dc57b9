"""MariaDB goes away again and again while inventory comes in: afterwards nothing differs."""

import random
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url

from controlplane.store.database import Database
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.own import objects
from tests.support.cut_line import CutLine
from tests.support.generated_vcenter import GeneratedVCenter
from tests.support.inventory_stage import InventoryStage
from tests.support.openstack_databases import OpenStackDatabases
from vsphere_gateway.v1 import inventory_pb2

SEED = 20261122
CUTS = 10


@pytest.fixture
def line(mariadb_databases: OpenStackDatabases) -> Iterator[CutLine]:
    url = mariadb_databases.nova.cell.engine.url
    line = CutLine(url.host or "", url.port or 0)
    yield line
    line.cut()


@pytest.fixture
def fragile(mariadb_databases: OpenStackDatabases, line: CutLine) -> Iterator[InventoryStage]:
    """A pipeline whose every database is behind the line."""

    def through(database: Database) -> Database:
        return Database(_through(database.engine.url.render_as_string(hide_password=False), line))

    nova = mariadb_databases.nova
    behind = NovaDatabases(
        through(nova.api), through(nova.cell), nova.cell_id, nova.cell_name, nova.transport_url
    )
    stage = InventoryStage(
        behind, through(mariadb_databases.glance), _through(mariadb_databases.own_url(), line)
    )
    stage.start()
    yield stage
    stage.stop()


def test_first_sync_and_changes_survive_lost_databases(
    fragile: InventoryStage, line: CutLine, caplog: pytest.LogCaptureFixture
) -> None:
    site, chance = GeneratedVCenter(clusters=2, machines=150), random.Random(SEED)
    edge = fragile.edge(site)
    done = threading.Event()

    def cut_and_mend() -> None:
        for number in range(1, CUTS + 1):
            done.wait(chance.uniform(0.1, 0.3) * number)  # longer and longer: it must get through
            line.cut()
            done.wait(chance.uniform(0.05, 0.3))
            line.mend()

    edge.batch = 40
    edge.open()
    breaker = threading.Thread(target=cut_and_mend)
    breaker.start()
    try:
        edge.snapshot(site.objects.values())
        for _ in range(20):
            moref = f"vm-{chance.randint(1, 300)}"
            cpus = chance.randint(1, 64)
            edge.changes(site.change_machine(moref, lambda m, cpus=cpus: setattr(m, "cpus", cpus)))
    finally:
        done.set()
        breaker.join()

    edge.synchronise()

    rows = fragile.servers_of(site)
    assert {uuid: row["vcpus"] for uuid, row in rows.items()} == {
        machine.instance_uuid: machine.cpus for machine in _machines(site)
    }
    with fragile.own.read() as connection:
        held = objects.held(connection, site.vcenter_uuid)
        assert {row.reference: row.content_hash for row in held} == site.hashes()
    assert not edge.nacks
    assert "inventory waits for a database" in caplog.text


def _machines(site: GeneratedVCenter) -> list[inventory_pb2.VirtualMachine]:
    return [site.state(key).virtual_machine for key in site.machine_keys()]


def _through(url: str, line: CutLine) -> str:
    return make_url(url).set(port=line.port).render_as_string(hide_password=False)
