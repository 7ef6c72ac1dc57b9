"""A real placement service on MariaDB, without Keystone, on the loopback interface."""

import dataclasses
import socketserver
import threading
import uuid
from collections.abc import Iterator
from typing import Any
from wsgiref import simple_server

import pytest
from keystoneauth1 import adapter, session, token_endpoint
from oslo_config import cfg

from controlplane.domain.records import AllocationRecord, ComputeHostRecord
from controlplane.openstack.placement.client import MICROVERSION, PlacementClient
from controlplane.openstack.placement.providers import ResourceProviders
from tests.conftest import Databases


class _Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True


class _Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="session")
def placement_endpoint(mariadb: Databases) -> Iterator[str]:
    from placement import conf, deploy

    options = cfg.ConfigOpts()
    conf.register_opts(options)
    url = mariadb.create_database("placement")
    options.set_override("connection", url, group="placement_database")
    options.set_override("sync_on_startup", True, group="placement_database")
    options.set_override("auth_strategy", "noauth2", group="api")
    options([], project="placement", default_config_files=[])
    application = deploy.loadapp(options)
    with simple_server.make_server(
        "127.0.0.1", 0, application, server_class=_Server, handler_class=_Quiet
    ) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def client(placement_endpoint: str) -> PlacementClient:
    return client_for(placement_endpoint)


def client_for(endpoint: str) -> PlacementClient:
    """A client of the service at an endpoint."""
    plugin = token_endpoint.Token(endpoint, "admin:admin")
    return PlacementClient(
        adapter.Adapter(
            session=session.Session(auth=plugin),
            service_type="placement",
            default_microversion=MICROVERSION,
            raise_exc=False,
        )
    )


@pytest.fixture
def providers(client: PlacementClient) -> ResourceProviders:
    return ResourceProviders(client)


def cluster(**changes: Any) -> ComputeHostRecord:
    """A cluster with a new provider."""
    number = uuid.uuid4()
    fields: dict[str, Any] = {
        "host": f"host-{number}",
        "node": f"domain-c7.{number}",
        "node_uuid": str(number),
        "cpus": 64,
        "memory_mb": 262144,
        "disk_gb": 10240,
        "largest_cpus": 64,
        "largest_memory_mb": 131072,
        "largest_disk_gb": 4096,
        "cpus_used": 0,
        "memory_mb_used": 0,
        "disk_gb_used": 0,
        "hypervisor_version": 8000003,
        "cpu_info": "{}",
        "traits": frozenset({"CUSTOM_VSG_VCENTER_A"}),
    }
    return ComputeHostRecord(**{**fields, **changes})


def allocation(host: ComputeHostRecord, **changes: object) -> AllocationRecord:
    """What one server of a cluster holds."""
    made = AllocationRecord(
        consumer_uuid=str(uuid.uuid4()),
        provider_uuid=host.node_uuid,
        project_id="p" * 32,
        user_id="u" * 32,
        vcpus=1,
        memory_mb=512,
        disk_gb=10,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]
