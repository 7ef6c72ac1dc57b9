"""One control plane and one edge between a vCenter and the one-machine OpenStack.

The demo, the end-to-end tests and the benchmarks each have their own, with ports, files and a
database of its own, beside the same cloud.
"""

import dataclasses
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.cloud.catalogue import connect
from tools.cloud.layout import ADMIN, DEMO, Layout
from tools.demo import authority, controlplane, edge
from tools.servers.process import Daemon
from tools.servers.state import Port, folder
from tools.servers.vcsim import Vcsim

NO_CLUSTER = "none-of-them"
SECTIONS = """\
[database]
connection = {database}

[nova]
config_file = {layout.nova_conf}

[glance]
config_file = {layout.glance_conf}

[adoption]
default_project_id = {project}
default_user_id = {user}

[compute]
state_directory = {state}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Deployment:
    """Names and addresses; the processes are known by their pid files."""

    place: str
    """Folder below .state/."""
    gateway: Port
    admin: Port
    database: str
    """Name of the gateway database."""
    project: str = DEMO
    """Name of the project that adopted servers go to; made if missing."""

    @property
    def control_plane(self) -> Daemon:
        """The control plane's process, running or not."""
        return controlplane.daemon(self.place)

    @property
    def edge(self) -> Daemon:
        """The edge's process, running or not."""
        return edge.daemon(self.place)

    @property
    def certificates(self) -> Path:
        """The authority's folder."""
        return folder(f"{self.place}/certificates")

    def configure(self, vcenter: Vcsim, clusters: Sequence[str] = ("*",)) -> None:
        """Write both configurations and make the gateway database.

        ``clusters`` are the names or globs that the site lists.
        """
        layout = Layout()
        authority.make(f"{self.place}/certificates", edge.NAME, self.gateway.number)
        openstack = connect(layout)
        keystone = openstack.identity
        sections = SECTIONS.format(
            database=layout.mariadb.create_database(self.database),
            layout=layout,
            project=self._join_project(openstack),
            user=keystone.find_user(DEMO).id,
            state=folder(f"{self.place}/state"),
        )
        controlplane.configure(self.place, self.certificates, self.gateway, self.admin, [sections])
        controlplane.upgrade(self.place)
        edge.configure(vcenter, self.certificates / "bundle", self.place, clusters)

    def start(self) -> None:
        """Start what does not run."""
        self.control_plane.start()
        self.edge.start()

    def manage(self, vcenter: Vcsim, clusters: Sequence[str]) -> None:
        """Have the running edge take other clusters under management."""
        edge.configure(vcenter, self.certificates / "bundle", self.place, clusters)
        self.edge.send(signal.SIGHUP)

    @property
    def socket(self) -> Path:
        """Where workers call the control plane."""
        return folder(f"{self.place}/state") / "bridge.sock"

    def wait_for_parity(self, seconds: float) -> None:
        """Wait until both sides hold the same. Raises ``ServerError`` with the log to look at."""
        controlplane.wait_for_parity(self.place, seconds, self.control_plane, self.edge)

    def wait_for_workers(self, seconds: float) -> None:
        """Wait until Nova can act on every cluster. Raises ``ServerError``."""
        controlplane.wait_for_workers(self.place, seconds, self.control_plane, self.edge)

    def leave(self, vcenter: Vcsim, seconds: float) -> None:
        """Take every server out of OpenStack: the site lists no cluster any more.

        Nothing happens in vCenter. Raises ``ServerError`` after ``seconds``.
        """
        self.edge.stop()
        self.configure(vcenter, clusters=[NO_CLUSTER])
        self.start()
        controlplane.wait_until_empty(self.place, seconds, self.control_plane, self.edge)

    def lose_cache(self) -> None:
        """Take from the edge what it keeps across restarts, as if it were deployed anew."""
        shutil.rmtree(folder(self.place) / edge.CACHE, ignore_errors=True)

    def stop(self) -> None:
        """Stop both, the edge first."""
        self.edge.stop()
        self.control_plane.stop()

    def _join_project(self, openstack: Any) -> str:
        """Let the administrator see hypervisors and the project's servers at once."""
        keystone = openstack.identity
        project = keystone.find_project(self.project) or keystone.create_project(name=self.project)
        keystone.assign_project_role_to_user(
            project, keystone.find_user(ADMIN), keystone.find_role(ADMIN)
        )
        return str(project.id)
