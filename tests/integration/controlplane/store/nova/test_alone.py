"""The same writers on SQLite files, for a control plane that is tried alone."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from controlplane.domain.mapping.servers import unknown_image_id
from controlplane.domain.records import Power, RemovalChange, ServerChange
from controlplane.openstack.compute_hosts import ComputeHosts
from controlplane.store import standalone
from controlplane.store.glance.images import GlanceImages
from controlplane.store.glance.tables import IMAGES
from controlplane.store.nova.compute_hosts import ComputeHostRows
from controlplane.store.nova.notification_data import NotificationDataReader
from controlplane.store.nova.servers import NovaServers
from controlplane.store.standalone import StandaloneDatabases
from tests.support.server_samples import HOST, VCENTER, compute_host, machine, record


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneDatabases]:
    folder: Path = tmp_path_factory.mktemp("alone")
    first = standalone.open_databases(folder)
    first.close()
    opened = standalone.open_databases(folder)
    assert opened.nova.cell_id == first.nova.cell_id
    yield opened
    opened.close()


def test_a_server_lives_and_dies_on_sqlite_as_on_mariadb(alone: StandaloneDatabases) -> None:
    images = GlanceImages(alone.glance)
    hosts = ComputeHosts(ComputeHostRows(alone.nova), None, images)
    hosts.provision(compute_host(node=f"domain-c7.{VCENTER}"))
    assert not hosts.enable(HOST).disabled
    with alone.glance.read() as connection:
        known = connection.execute(sqlalchemy.select(IMAGES.c.id)).scalars().all()
    assert known == [unknown_image_id(VCENTER)]

    servers = NovaServers(alone.nova)
    made = machine()
    batch = [record(made), record()]
    assert {one.change for one in servers.apply(batch)} == {ServerChange.ADOPTED}
    assert {one.change for one in servers.apply(batch)} == {ServerChange.NONE}
    off = dataclasses.replace(batch[0], power=Power.SHUTDOWN)
    assert servers.apply([off])[0].change is ServerChange.UPDATED
    state = NotificationDataReader(alone.nova.cell).read([off.uuid])[off.uuid]
    assert state.columns["vm_state"] == "stopped"
    assert len(servers.allocations(HOST)) == 2

    assert servers.delete([off.uuid])[0].change is RemovalChange.DELETED
    assert servers.apply([off])[0].change is ServerChange.GONE
    assert servers.apply([off], restore=[off.uuid])[0].change is ServerChange.RESTORED
    assert servers.apply([off])[0].change is ServerChange.NONE
    assert servers.unmanage([one.uuid for one in batch])[0].change is RemovalChange.UNMANAGED
    hosts.remove(HOST)
    assert hosts.status(HOST) is None
