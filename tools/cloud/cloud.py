"""Brings the whole cloud up and down."""

import os
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import openstack.exceptions

from tools.cloud import configuration
from tools.cloud.catalogue import Catalogue, connect
from tools.cloud.layout import SERVICE_USERS, Layout
from tools.cloud.migrations import Migrations
from tools.cloud.services import services
from tools.progress import Step, Steps
from tools.servers import lease
from tools.servers.state import ServerError

KEEPER = "cloud"
CHECK_SECONDS = 60
# Each keeps a core busy; more would only delay those that others wait for.
STEPS_AT_ONCE = (os.cpu_count() or 1) + 1
NOVA_SERVICES = frozenset({"nova-conductor", "nova-scheduler"})


class Cloud:
    """The one-machine OpenStack of this checkout."""

    def __init__(self) -> None:
        self.layout = Layout()
        self._migrations = Migrations(self.layout)
        self._catalogue = Catalogue(self.layout)
        self._services = services(self.layout)

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
        try:
            steps.run(migrations | self._start_steps(set(migrations)), STEPS_AT_ONCE)
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
            database = {self._database_step(name)} & migrations
            return Step(self._services[name].start, (*database, *needs))

        return {
            "keystone": start("keystone"),
            "catalogue": Step(self._catalogue.identity, ("keystone",)),
            "placement": start("placement"),
            "glance": start("glance"),
            "neutron": start("neutron"),
            "nova-api": start("nova-api", "catalogue"),
            "nova-conductor": start("nova-conductor", "catalogue"),
            "nova-scheduler": start("nova-scheduler", "catalogue"),
            "network": Step(self._catalogue.network, ("neutron", "catalogue")),
            "flavors and quota": Step(self._catalogue.compute, ("nova-api",)),
            "check": Step(
                self._check,
                (
                    *("placement", "glance", "network", "flavors and quota"),
                    *("nova-conductor", "nova-scheduler"),
                ),
            ),
        }

    def _check(self) -> None:
        """Ask every API for something that it must read from its database."""
        cloud = connect(self.layout)
        questions: dict[str, Callable[[], bool]] = {
            "keystone": lambda: {user.name for user in cloud.identity.users()} >= {*SERVICE_USERS},
            "placement": lambda: cloud.placement.get("/resource_providers").status_code == 200,
            "glance": lambda: list(cloud.image.images()) is not None,
            "neutron": lambda: len(list(cloud.network.networks())) > 0,
            "nova-api": lambda: list(cloud.compute.servers(all_projects=True)) is not None,
            "nova-conductor": lambda: self._up(cloud) >= NOVA_SERVICES,
        }
        deadline = time.monotonic() + CHECK_SECONDS
        for name, answered in questions.items():
            log = self._services[name].daemon.log
            while True:
                try:
                    if answered():
                        break
                    problem = "does not answer as it should"
                except openstack.exceptions.SDKException as error:
                    problem = str(error)
                if time.monotonic() > deadline:
                    raise ServerError(f"{name}: {problem}; see {log}")
                time.sleep(0.5)

    @staticmethod
    def _up(cloud: openstack.connection.Connection) -> set[str]:
        return {item.binary for item in cloud.compute.services() if item.state == "up"}
