"""Makes the cloud's databases, with each service's own migrations."""

import functools
import hashlib
from collections.abc import Callable
from importlib.metadata import version

from cryptography.fernet import Fernet

from tools.cloud.layout import ADMIN, DATABASES, REGION, SCRIPTS, Layout
from tools.progress import Step
from tools.servers.process import run
from tools.servers.state import port_base

PACKAGES = {"placement": "openstack-placement"}  # the others are named like their service


class Migrations:
    """The databases, made once for the installed versions of the services."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        # Longest first, and what others wait for before that.
        self._migrate: dict[str, Callable[[], None]] = {
            "keystone": self._keystone,
            "nova": self._nova,
            "neutron": self._neutron,
            "glance": self._glance,
            "placement": self._placement,
        }

    def steps(self) -> dict[str, Step]:
        """What is left to do, by name_of()."""
        return {
            self.name_of(service): Step(functools.partial(self._make, service))
            for service in self._migrate
            if not self._made(service)
        }

    @staticmethod
    def name_of(service: str) -> str:
        """Name of the step that makes a service's databases."""
        return f"{service}: database"

    def forget(self) -> None:
        """Drop the databases."""
        for service in self._migrate:
            self._drop(service)

    def _make(self, service: str) -> None:
        self._drop(service)
        for name in DATABASES[service]:
            self._layout.mariadb.create_database(name)
        self._migrate[service]()
        self._layout.file(service, "migrated").write_text(self._fingerprint(service))

    def _drop(self, service: str) -> None:
        self._layout.file(service, "migrated").unlink(missing_ok=True)
        for name in DATABASES[service]:
            self._layout.mariadb.drop_database(name)

    def _made(self, service: str) -> bool:
        stamp = self._layout.file(service, "migrated")
        return stamp.exists() and stamp.read_text() == self._fingerprint(service)

    def _fingerprint(self, service: str) -> str:
        """Databases hold the cloud's own addresses, so these count besides the version."""
        parts = (
            version(PACKAGES.get(service, service)),
            str(port_base()),
            self._layout.database_url(service),
            self._layout.transport_url,
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _run(self, program: str, *arguments: str, **environment: str) -> None:
        words = [word for word in arguments if word.replace("_", "").isalnum()]
        name = "-".join([program, *words[:2]])
        run([SCRIPTS / program, *arguments], self._layout.logs / f"{name}.log", environment)

    def _keystone(self) -> None:
        options = ("--config-file", str(self._layout.file("keystone", "keystone.conf")))
        self._run("keystone-manage", *options, "db_sync")
        self._fernet_keys("fernet-keys")
        self._fernet_keys("credential-keys")
        url = self._layout.auth_url
        self._run(
            "keystone-manage",
            *options,
            "bootstrap",
            f"--bootstrap-username={ADMIN}",
            f"--bootstrap-project-name={ADMIN}",
            f"--bootstrap-region-id={REGION}",
            f"--bootstrap-public-url={url}",
            f"--bootstrap-internal-url={url}",
            OS_BOOTSTRAP_PASSWORD=self._layout.password,
        )

    def _fernet_keys(self, name: str) -> None:
        """As keystone-manage's fernet_setup does, which takes seconds to start.

        Key 0 is the next one, the highest the one in use.
        """
        repository = self._layout.file("keystone", name)
        repository.mkdir(exist_ok=True, mode=0o700)
        for key in ("0", "1"):
            (repository / key).touch(mode=0o600)
            (repository / key).write_bytes(Fernet.generate_key())

    def _placement(self) -> None:
        configuration = str(self._layout.file("placement", "placement.conf"))
        self._run("placement-manage", "--config-file", configuration, "db", "sync")

    def _glance(self) -> None:
        configuration = str(self._layout.glance_conf)
        self._run("glance-manage", "--config-file", configuration, "db_sync")

    def _neutron(self) -> None:
        configuration = str(self._layout.file("neutron", "neutron.conf"))
        self._run("neutron-db-manage", "--config-file", configuration, "upgrade", "heads")

    def _nova(self) -> None:
        """In the order that nova's installation guide prescribes."""
        options = ("--config-file", str(self._layout.nova_conf))
        cell0 = self._layout.database_url("nova_cell0")
        cell1 = self._layout.database_url("nova_cell1")
        self._run("nova-manage", *options, "api_db", "sync")
        self._run("nova-manage", *options, "cell_v2", "map_cell0", "--database_connection", cell0)
        self._run(
            *("nova-manage", *options, "cell_v2", "create_cell", "--name", "cell1"),
            *("--database_connection", cell1, "--transport-url", self._layout.transport_url),
        )
        self._run("nova-manage", *options, "db", "sync")
