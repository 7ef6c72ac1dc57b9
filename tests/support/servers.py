"""What the fixtures for real servers give to tests: databases by name, ways to start a vCenter."""

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager

from tools.servers.mariadb import MariaDB
from tools.servers.vcsim import Vcsim

StartVcsim = Callable[..., Vcsim]
Uncaptured = Callable[[], AbstractContextManager[None]]


class Databases:
    """A running MariaDB that gives out databases and drops them afterwards."""

    def __init__(self, server: MariaDB) -> None:
        self.server = server
        self._created: list[str] = []

    def create_database(self, name: str) -> str:
        """Make an empty database, its name made unique; returns its SQLAlchemy URL."""
        unique = f"test_{name}_{secrets.token_hex(4)}"
        url = self.server.create_database(unique)
        self._created.append(unique)
        return url

    def drop_all(self) -> None:
        """Drop what was created."""
        for name in self._created:
            self.server.drop_database(name)
