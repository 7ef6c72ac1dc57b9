"""Brings the whole cloud up and down."""

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import openstack.exceptions

from tools.cloud import configuration
from tools.cloud.catalogue import Catalogue
from tools.cloud.check import check
from tools.cloud.layout import Layout
from tools.cloud.migrations import Migrations
from tools.cloud.services import services
from tools.progress import Step, Steps
from tools.servers import lease
from tools.servers.state import ServerError

KEEPER = "cloud"
# Steps that a cloud needs once.
FILLING = frozenset({"catalogue", "network", "flavors and quota"})
# Each keeps a core busy; more would only delay those that others wait for.
STEPS_AT_ONCE = (os.cpu_count() or 1) + 1


class Cloud:
    """The one-machine OpenStack of this checkout."""

    def __init__(self) -> None:
        self.layout = Layout()
        self._migrations = Migrations(self.layout)
        self._catalogue = Catalogue(self.layout)
        self._services = services(self.layout)
        self._filled = self.layout.folder / "filled"

    def running(self) -> bool:
        """Whether every process of it answers."""
        return all(service.answers() for service in self._services.values())

    def up(self, steps: Steps) -> None:
        """Start whatever does not run; returns when every service answers with real data.

        Raises ServerError, naming the log file, if one does not.
        """
        with steps.step("MariaDB and RabbitMQ"):
            self._start_servers()
        changed = configuration.write_all(self.layout)
        migrations = self._migrations.steps()
        self._stop(
            name
            for name in self._services
            if self._database_step(name) in migrations or name.partition("-")[0] in changed
        )
        if migrations:
            self._filled.unlink(missing_ok=True)
        try:
            steps.run(migrations | self._start_steps(set(migrations)), STEPS_AT_ONCE)
            self._filled.touch()
        except openstack.exceptions.SDKException as error:
            raise ServerError(
                f"the cloud refused a request: {error}; see the logs in {self.layout.logs}"
            ) from error

    def down(self, purge: bool = False) -> None:
        """Stop every process; with purge, forget all that the cloud held."""
        self._stop(self._services)
        if purge:
            self.layout.mariadb.start()
            self._migrations.forget()
        lease.release("rabbitmq", KEEPER, self.layout.rabbitmq.stop)
        lease.release("mariadb", KEEPER, self.layout.mariadb.stop)
        if purge:
            shutil.rmtree(self.layout.folder)

    def _stop(self, names: Iterable[str]) -> None:
        with ThreadPoolExecutor(len(self._services)) as pool:
            list(pool.map(lambda name: self._services[name].daemon.stop(), names))

    def _database_step(self, service: str) -> str:
        return self._migrations.name_of(service.partition("-")[0])

    def _start_servers(self) -> None:
        with ThreadPoolExecutor(2) as pool:
            starts = [
                pool.submit(lease.keep, "mariadb", KEEPER, self.layout.mariadb.start),
                pool.submit(lease.keep, "rabbitmq", KEEPER, self.layout.rabbitmq.start),
            ]
        for start in starts:
            start.result()

    def _start_steps(self, migrations: set[str]) -> dict[str, Step]:
        """Nova's services start after the catalogue: one that finds none stays broken."""

        def start(name: str, *needs: str) -> Step:
            return Step(self._services[name].start, (self._database_step(name), *needs))

        steps = {
            "keystone": start("keystone"),
            "catalogue": Step(self._catalogue.identity, ("keystone",)),
            "placement": start("placement"),
            "glance": start("glance"),
            "neutron": start("neutron"),
            "nova-api": start("nova-api", "keystone", "catalogue"),
            "nova-conductor": start("nova-conductor", "keystone", "catalogue"),
            "nova-scheduler": start("nova-scheduler", "keystone", "catalogue"),
            "network": Step(self._catalogue.network, ("neutron", "catalogue")),
            "flavors and quota": Step(self._catalogue.compute, ("nova-api",)),
            "check": Step(
                lambda: check(self.layout, self._services),
                ("network", "flavors and quota", *self._services),
            ),
        }
        if self._filled.exists():
            steps = {name: step for name, step in steps.items() if name not in FILLING}
        present = migrations | steps.keys()
        return {
            name: Step(step.action, tuple(need for need in step.needs if need in present))
            for name, step in steps.items()
        }
