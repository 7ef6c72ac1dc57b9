"""A real placement service on MariaDB, without Keystone, on the loopback interface."""

import socketserver
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref import simple_server

import pytest
from oslo_config import cfg

from controlplane.openstack.placement.client import PlacementClient
from controlplane.openstack.placement.providers import ResourceProviders
from tests.support.placement_samples import client_for
from tests.support.servers import Databases


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


@pytest.fixture
def providers(client: PlacementClient) -> ResourceProviders:
    return ResourceProviders(client)
