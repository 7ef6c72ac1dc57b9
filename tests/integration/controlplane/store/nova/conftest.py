"""Nova's own schema on MariaDB, and Nova's own objects to read it with."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import insert, select

from controlplane.store import upstream_schema
from controlplane.store.database import Database
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.compute_hosts import ComputeHostRows
from controlplane.store.nova.servers import NovaServers
from controlplane.store.nova.tables import CELL_MAPPINGS
from tests.support.server_samples import compute_host
from tests.support.servers import Databases

CELL_UUID = "6a1b0d0e-0c1e-4e3a-9d0a-27d1a4f2b001"


@pytest.fixture(scope="session")
def databases(mariadb: Databases) -> Iterator[NovaDatabases]:
    """The API database and a cell, made by Nova's own migrations."""
    urls = {
        kind: mariadb.create_database(kind.replace("-", "_")) for kind in ("nova-api", "nova-cell")
    }
    upstream_schema.create(urls)
    api, cell = Database(urls["nova-api"]), Database(urls["nova-cell"])

    def map_cell(connection: Any) -> int:
        connection.execute(
            insert(CELL_MAPPINGS).values(
                uuid=CELL_UUID,
                name="cell1",
                database_connection=urls["nova-cell"],
                transport_url="none:///",
            )
        )
        return int(connection.execute(select(CELL_MAPPINGS.c.id)).scalar_one())

    opened = NovaDatabases(api, cell, api.run(map_cell), "cell1", "none:///")
    ComputeHostRows(opened).provision(compute_host())
    yield opened
    opened.close()


@pytest.fixture
def servers(databases: NovaDatabases) -> NovaServers:
    """The writer under test, with no Nova to ask for deletes."""
    return NovaServers(databases)


@pytest.fixture(scope="session")
def nova(databases: NovaDatabases, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A context for Nova's own objects, aimed at the cell."""
    from nova import config, context, objects

    api, cell = (
        database.engine.url.render_as_string(hide_password=False).replace("%", "%%")
        for database in (databases.api, databases.cell)
    )
    file = tmp_path_factory.mktemp("nova") / "nova.conf"
    file.write_text(
        "[DEFAULT]\ntransport_url = fake://\n"
        f"[api_database]\nconnection = {api}\n[database]\nconnection = {cell}\n"
        "[notifications]\nnotification_format = both\n"
        "notify_on_state_change = vm_state\n"
        "[oslo_messaging_notifications]\ndriver = test\n"
    )
    config.parse_args(["nova"], default_config_files=[str(file)])
    objects.register_all()
    admin = context.get_admin_context()
    context.set_target_cell(admin, objects.CellMapping.get_by_uuid(admin, CELL_UUID))
    return admin
