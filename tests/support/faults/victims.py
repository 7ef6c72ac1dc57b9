"""What is killed, and how it comes back. Nothing is told to end: `kill -9` each."""

import os
import signal
from abc import ABC, abstractmethod

from tests.support.faults.deployed_site import WORKER_SECONDS, DeployedSite
from tests.support.waiting import eventually


class Victim(ABC):
    """One process of a site."""

    def __init__(self, site: DeployedSite) -> None:
        self.site = site

    @abstractmethod
    def kill(self) -> None:
        """Let it crash."""

    @abstractmethod
    def restart(self) -> None:
        """Do what whoever looks after it does then."""


class Edge(Victim):
    """The edge; systemd starts it again."""

    def kill(self) -> None:
        self.site.deployment.edge.kill()

    def restart(self) -> None:
        self.site.deployment.edge.start()


class ControlPlane(Victim):
    """The control plane, without its workers."""

    def kill(self) -> None:
        self.site.deployment.control_plane.kill()

    def restart(self) -> None:
        self.site.deployment.control_plane.start()


class Worker(Victim):
    """A worker; the control plane itself starts it again."""

    _killed = 0

    def kill(self) -> None:
        self._killed = self._pids()[0]
        os.kill(self._killed, signal.SIGKILL)

    def restart(self) -> None:
        eventually(lambda: self._killed in self._pids(), False, WORKER_SECONDS)

    def _pids(self) -> list[int]:
        return [one["worker_pid"] for one in self.site.ask("clusters") if one["worker_pid"]]


class MariaDB(Victim):
    """The database of all: ours, Nova's, Glance's, placement's, Keystone's, Neutron's."""

    def kill(self) -> None:
        self.site.mariadb.kill()

    def restart(self) -> None:
        self.site.mariadb.start()


class RabbitMQ(Victim):
    """Nova's message bus."""

    def kill(self) -> None:
        self.site.rabbitmq.kill()

    def restart(self) -> None:
        self.site.rabbitmq.start()


VICTIMS = {
    "edge": Edge,
    "control_plane": ControlPlane,
    "worker": Worker,
    "mariadb": MariaDB,
    "rabbitmq": RabbitMQ,
}
