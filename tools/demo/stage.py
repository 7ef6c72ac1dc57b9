"""All that `make demo` runs: vCenter, OpenStack, control plane and edge."""

import functools
import os
import shlex
from typing import Any

from rich.console import Console

from tools.cloud.catalogue import connect
from tools.cloud.cloud import Cloud
from tools.cloud.layout import ADMIN, DEMO, Layout
from tools.demo import vcenter
from tools.demo.deployment import Deployment
from tools.progress import Steps
from tools.servers import golang, lease
from tools.servers.state import BIN, CHECKOUT, LOOPBACK, Port, folder
from tools.servers.vcsim import Vcsim

PLACE = "demo"
VCENTER_PLACE = "demo/vcenter"
DATABASE = "vsphere_gateway"
PARITY_SECONDS = 120
WORKER_SECONDS = 180


class Stage:
    """The demo's processes; each is started only if it does not run."""

    def __init__(self) -> None:
        self._layout = Layout()
        self._cloud = Cloud()
        self._deployment = Deployment(PLACE, Port.DEMO_GATEWAY, Port.DEMO_ADMIN, DATABASE)

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
                self._deployment.configure(self.vcenter)
                self._deployment.start()
            with steps.step("first sync, until both sides hold the same"):
                self._deployment.wait_for_parity(PARITY_SECONDS)
            with steps.step("a nova-compute worker for each cluster"):
                self._deployment.wait_for_workers(WORKER_SECONDS)

    def down(self) -> None:
        """Stop what the demo started; the cloud too, unless something else uses it."""
        self._deployment.stop()
        self.vcenter.stop()
        lease.release("cloud", PLACE, self._cloud.down)

    def environment(self) -> dict[str, str]:
        """Return the variables with which openstack, govc, grpcurl and our commands work."""
        certificates = self._deployment.certificates
        return {
            **self._layout.environment(ADMIN, DEMO),
            **self.vcenter.govc_environment(),
            # Tables of `openstack` are wrapped to the terminal's width.
            "CLIFF_FIT_WIDTH": "1",
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

    def servers(self) -> dict[str, str]:
        """Return name and status of the project's servers."""
        return {server.name: server.status for server in self._openstack.compute.servers()}

    @functools.cached_property
    def _openstack(self) -> Any:
        return connect(self._layout, DEMO)
