"""What the processes under measurement use: processor time, memory, bytes on the link."""

import dataclasses
import re
import subprocess
import time

import psutil

from tools.cloud.layout import Layout
from tools.cloud.services import services
from tools.demo.deployment import Deployment
from tools.servers import packages
from tools.servers.mariadb import MariaDB
from tools.servers.state import ServerError
from tools.servers.vcsim import Vcsim

MIB = 1 << 20
SAMPLE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Processes:
    """Everything that a first sync keeps busy, by name."""

    ids: dict[str, int]

    def processor_seconds(self) -> dict[str, float]:
        """Return the processor time that each has used since its start."""
        used = {}
        for name, pid in self.ids.items():
            used[name] = _processor_seconds(psutil.Process(pid))
        return used

    def resident_mib(self, name: str) -> float:
        """Return resident memory."""
        return float(psutil.Process(self.ids[name]).memory_info().rss) / MIB

    def idle_percent(self, seconds: float) -> dict[str, float]:
        """Return the share of one processor that each uses while nothing happens."""
        before = self.processor_seconds()
        time.sleep(seconds)
        after = self.processor_seconds()
        return {name: (after[name] - before[name]) / seconds * 100 for name in self.ids}


def wait_until_at_rest(percent: float, seconds: float) -> None:
    """Wait, ``seconds`` at most, until less than ``percent`` of all processors is used.

    Placement, notifications and workers' starts go on for a while after what they follow.
    """
    deadline = time.monotonic() + seconds
    while psutil.cpu_percent(SAMPLE_SECONDS) >= percent and time.monotonic() < deadline:
        continue


def processes(deployment: Deployment, vcenter: Vcsim) -> Processes:
    """Find them; all must run."""
    found = {
        "vCenter": vcenter.pid,
        "edge": deployment.edge.pid,
        "control plane": deployment.control_plane.pid,
        "MariaDB": MariaDB().pid,
    }
    return Processes({name: pid for name, pid in found.items() if pid is not None})


def following_processor_seconds(deployment: Deployment) -> dict[str, float]:
    """Return the processor time used so far by what goes on after a first sync, by name."""
    placement = services(Layout())["placement"].daemon.pid
    control_plane = deployment.control_plane.pid
    found = {
        "placement": [psutil.Process(placement)] if placement else [],
        "workers": psutil.Process(control_plane).children(recursive=True) if control_plane else [],
    }
    return {name: sum(map(_processor_seconds, each)) for name, each in found.items()}


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def link_bytes(deployment: Deployment) -> int:
    """Return what the edge's present connection has carried, both ways, as the kernel counts.

    Raises ``ServerError`` when there is no connection.
    """
    tool = packages.ensure("ss", "iproute2")
    said = subprocess.run(
        [tool, "-tinH", "state", "established", f"( dport = :{deployment.gateway.number} )"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    counted = [int(number) for number in re.findall(r"bytes_(?:acked|received):(\d+)", said)]
    if not counted:
        raise ServerError("no connection between edge and control plane")
    return sum(counted)
