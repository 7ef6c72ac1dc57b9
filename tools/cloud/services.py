"""The cloud's processes."""

import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

from tools.cloud.layout import SCRIPTS, Layout
from tools.servers.process import Daemon
from tools.servers.state import Port, require_free

START_SECONDS = 120
STOP_SECONDS = 5


@dataclass(frozen=True)
class Service:
    """One process of the cloud."""

    daemon: Daemon
    port: Port | None = None

    @property
    def name(self) -> str:
        """As in the names of its log and pid file."""
        return self.daemon.name

    def start(self) -> None:
        """Start unless it runs, and wait until it answers. Raises ServerError."""
        if self.daemon.pid is None:
            if self.port is not None:
                require_free(self.port, self.name)
            self.daemon.start()
        if self.port is not None:
            self.daemon.wait_ready(self.answers, START_SECONDS)

    def answers(self) -> bool:
        """Whether the API answers at all; a service without one answers when it runs."""
        if self.port is None:
            return self.daemon.pid is not None
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            opener.open(Layout.url(self.port, "/"), timeout=5).close()
        except urllib.error.HTTPError as answer:
            return answer.code < 500  # version lists come as 300
        except OSError:
            return False
        return True


def services(layout: Layout) -> dict[str, Service]:
    """Every process, by name."""
    nova_folder = str(layout.service_folder("nova"))
    apis = {
        "keystone": (
            Port.KEYSTONE,
            "keystone.wsgi.api",
            {"OS_KEYSTONE_CONFIG_DIR": str(layout.service_folder("keystone"))},
        ),
        "placement": (
            Port.PLACEMENT,
            "placement.wsgi.api",
            {"OS_PLACEMENT_CONFIG_DIR": str(layout.service_folder("placement"))},
        ),
        "glance": (
            Port.GLANCE,
            "glance.wsgi.api",
            {"OS_GLANCE_CONFIG_DIR": str(layout.service_folder("glance"))},
        ),
        "neutron": (
            Port.NEUTRON,
            "neutron.wsgi.api",
            {
                "OS_NEUTRON_CONFIG_DIR": str(layout.service_folder("neutron")),
                "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
            },
        ),
        "nova-api": (
            Port.NOVA,
            "nova.wsgi.osapi_compute",
            {"OS_NOVA_CONFIG_DIR": nova_folder},
        ),
    }
    found = {
        name: Service(_api(layout, name, module, port, environment), port)
        for name, (port, module, environment) in apis.items()
    }
    for name in ("nova-conductor", "nova-scheduler"):
        command = [SCRIPTS / name, "--config-file", layout.nova_conf]
        found[name] = Service(_daemon(layout, name, command, {}))
    return found


def _api(layout: Layout, name: str, module: str, port: Port, environment: dict[str, str]) -> Daemon:
    command = [sys.executable, "-m", "tools.cloud.wsgi_server", module, str(port.number)]
    return _daemon(layout, name, command, environment)


def _daemon(
    layout: Layout, name: str, command: Sequence[object], environment: dict[str, str]
) -> Daemon:
    return Daemon(
        name,
        layout.logs,
        [str(part) for part in command],
        {"PYTHONWARNINGS": "ignore", **environment},
        stop_seconds=STOP_SECONDS,
    )
