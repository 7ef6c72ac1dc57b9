"""A real worker on the whole cloud: supervisor, bridge and ledger are real, the edge is scripted.

The edge is a fake because these tests break it at chosen moments; tests/end_to_end has a real one.
"""

import os
from collections.abc import Iterator

import pytest

from controlplane.store.database import Database
from controlplane.store.own import clusters, migration
from tests.support.servers import Databases, Uncaptured
from tests.support.waiting import eventually
from tests.support.worker_site import PATIENCE, WorkerSite
from tools.cloud.cloud import Cloud

WORKER_SECONDS = 180
DISK_IMAGE = bytes(1024)


@pytest.fixture(scope="session")
def site(
    cloud: Cloud,
    mariadb: Databases,
    tmp_path_factory: pytest.TempPathFactory,
    uncaptured: Uncaptured,
) -> Iterator[WorkerSite]:
    """A site whose worker runs and is enabled."""
    database = Database(mariadb.create_database("compute"))
    migration.upgrade(database)
    site = WorkerSite(database, tmp_path_factory.mktemp("cp"), cloud)
    database.run(lambda connection: clusters.write(connection, [site.row]))
    image = site.openstack.image.create_image(
        f"template-{os.getpid()}", data=DISK_IMAGE, disk_format="raw", container_format="bare"
    )
    site.image_id = image.id
    try:
        site.announce()
        with uncaptured():
            print("\nstarting a nova-compute worker ...", flush=True)
        eventually(site.settled, True, WORKER_SECONDS)
        yield site
    finally:
        site.supervisor.cluster_gone(site.row.uuid, "the tests are over")
        eventually(lambda: site.row.uuid in site.supervisor._hosts, False, 90)
        site.stop()
        site.openstack.image.delete_image(image, ignore_missing=True)
        database.close()


@pytest.fixture(autouse=True)
def own_servers(site: WorkerSite) -> Iterator[None]:
    """Deletes what a test has booted, with an edge that is there and does all it is asked."""
    yield
    site.edge.faults.clear()
    site.edge.hold = set()
    if not site.edge.online_now:
        site.edge.reconnect()
    for server in site.servers:
        site.openstack.compute.delete_server(server, ignore_missing=True)
    for server in site.servers:
        eventually(lambda gone=server: site.gone(gone), True, seconds=PATIENCE)
    site.servers.clear()
