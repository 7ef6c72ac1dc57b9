"""All that `make demo` runs: vCenter, OpenStack, control plane and edge."""

import os
import shlex

from rich.console import Console

from tools.cloud.catalogue import connect
from tools.cloud.cloud import Cloud
from tools.cloud.layout import DEMO, Layout
from tools.demo import authority, controlplane, edge, vcenter
from tools.progress import Steps
from tools.servers import golang, lease
from tools.servers.state import BIN, CHECKOUT, LOOPBACK, Port, folder
from tools.servers.vcsim import Vcsim

PLACE = "demo"
VCENTER_PLACE = "demo/vcenter"
DATABASE = "vsphere_gateway"
PARITY_SECONDS = 120

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


class Stage:
    """The demo's processes; each is started only if it does not run."""

    def __init__(self) -> None:
        self._layout = Layout()
        self._cloud = Cloud()
        self.control_plane = controlplane.daemon(PLACE)
        self.edge = edge.daemon(PLACE)

    @property
    def vcenter(self) -> Vcsim:
        """The simulated vCenter."""
        return vcenter.simulator(VCENTER_PLACE, Port.DEMO_VCENTER)

    def up(self, console: Console) -> None:
        """Start everything and wait until OpenStack holds what vCenter has.

        Raises ``ServerError``, with the log to look at.
        """
        with Steps(console) as steps:
            with steps.step("simulator, govc and grpcurl"):
                for program in (golang.VCSIM, golang.GOVC, golang.GRPCURL):
                    golang.ensure(program)
            lease.keep("cloud", PLACE, lambda: self._cloud.up(steps))
            with steps.step("a vCenter with 2 clusters, 5 virtual machines and a template"):
                if not self.vcenter.running():
                    vcenter.start(VCENTER_PLACE, Port.DEMO_VCENTER)
            with steps.step("control plane and edge"):
                self._configure()
                self.control_plane.start()
                self.edge.start()
            with steps.step("first sync, until both sides hold the same"):
                controlplane.wait_for_parity(PLACE, PARITY_SECONDS, self.control_plane, self.edge)

    def down(self) -> None:
        """Stop what the demo started; the cloud too, unless something else uses it."""
        self.edge.stop()
        self.control_plane.stop()
        self.vcenter.stop()
        lease.release("cloud", PLACE, self._cloud.down)

    def environment(self) -> dict[str, str]:
        """Return the variables with which openstack, govc, grpcurl and our commands work."""
        certificates = folder(f"{PLACE}/certificates")
        return {
            **self._layout.environment(),
            **self.vcenter.govc_environment(),
            "PATH": f"{CHECKOUT}/.venv/bin:{BIN}:{os.environ['PATH']}",
            "VSG_CONFIG_FILE": str(folder(PLACE) / "controlplane.conf"),
            "VSG_ADMIN": f"{LOOPBACK}:{Port.DEMO_ADMIN.number}",
            "VSG_ADMIN_TLS": shlex.join(
                [
                    *("-cacert", f"{certificates}/ca.pem"),
                    *("-cert", f"{certificates}/operator.pem"),
                    *("-key", f"{certificates}/operator.key"),
                ]
            ),
        }

    def _configure(self) -> None:
        certificates = authority.make(f"{PLACE}/certificates", edge.NAME, Port.DEMO_GATEWAY.number)
        keystone = connect(self._layout).identity
        sections = SECTIONS.format(
            database=self._layout.mariadb.create_database(DATABASE),
            layout=self._layout,
            project=keystone.find_project(DEMO).id,
            user=keystone.find_user(DEMO).id,
            state=folder(f"{PLACE}/state"),
        )
        controlplane.configure(PLACE, certificates, Port.DEMO_GATEWAY, Port.DEMO_ADMIN, [sections])
        edge.configure(self.vcenter, certificates / "bundle", PLACE)
