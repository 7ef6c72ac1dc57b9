"""A whole pipeline on real schemas: MariaDB and SQLite, Nova's and Glance's own migrations."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from controlplane.store import standalone, upstream_schema
from controlplane.store.database import Database
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.tables import CELL_MAPPINGS
from tests.support.inventory_stage import InventoryStage
from tests.support.openstack_databases import OpenStackDatabases
from tests.support.servers import Databases


@pytest.fixture(scope="session")
def sqlite_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenStackDatabases]:
    folder = tmp_path_factory.mktemp("standalone")
    databases = standalone.open_databases(folder)

    def own_url() -> str:
        own: Path = tmp_path_factory.mktemp("own") / "own.sqlite"
        return f"sqlite:///{own}"

    yield OpenStackDatabases(databases.nova, databases.glance, own_url)
    databases.close()


@pytest.fixture(scope="session")
def mariadb_databases(mariadb: Databases) -> Iterator[OpenStackDatabases]:
    urls = {kind: mariadb.create_database(kind.replace("-", "_")) for kind in upstream_schema.KINDS}
    upstream_schema.create(urls)
    api, cell = Database(urls["nova-api"]), Database(urls["nova-cell"])
    glance = Database(urls["glance"])
    mapping = {
        "uuid": "3c1d7a4e-0000-4000-8000-000000000001",
        "name": "cell1",
        "database_connection": urls["nova-cell"],
        "transport_url": "none:///",
        "disabled": False,
    }
    cell_id = api.run(
        lambda connection: connection.execute(
            sqlalchemy.insert(CELL_MAPPINGS).values(mapping)
        ).inserted_primary_key[0]
    )
    nova = NovaDatabases(api, cell, cell_id, "cell1", "none:///")
    yield OpenStackDatabases(nova, glance, lambda: mariadb.create_database("own"))
    nova.close()
    glance.close()


@pytest.fixture(params=["sqlite", "mariadb"])
def databases(request: pytest.FixtureRequest) -> OpenStackDatabases:
    """Each kind of database in turn."""
    found: OpenStackDatabases = request.getfixturevalue(f"{request.param}_databases")
    return found


@pytest.fixture
def stage(databases: OpenStackDatabases) -> Iterator[InventoryStage]:
    """A pipeline with empty gateway database."""
    stage = InventoryStage(databases.nova, databases.glance, databases.own_url())
    stage.start()
    yield stage
    stage.stop()
