"""An own MariaDB on the loopback interface, made for tests: fast rather than crash-proof."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql

from tools.servers import packages
from tools.servers.process import Daemon, run
from tools.servers.state import LOOPBACK, Port, folder, password, require_free

NAME = "mariadb"
USER = "vsg"
PACKAGES = ("mariadb-server-core", "mariadb-client-core")
START_SECONDS = 60
CONFIGURATION = """\
[mariadbd]
datadir = {folder}/data
# Relative to the datadir: the path of a socket may have 107 bytes only.
socket = mariadb.sock
pid-file = {folder}/server.pid
tmpdir = {folder}/tmp
init-file = {folder}/accounts.sql
bind-address = 127.0.0.1
port = {port}
skip-name-resolve
skip-log-bin
character-set-server = utf8mb4
collation-server = utf8mb4_general_ci
max-connections = 1000
max-allowed-packet = 64M
innodb-buffer-pool-size = 256M
innodb-flush-log-at-trx-commit = 2
innodb-flush-method = nosync
sync-frm = OFF
innodb-doublewrite = OFF
innodb-file-per-table = ON
"""


class MariaDB:
    """The checkout's MariaDB server."""

    def __init__(self) -> None:
        self.folder = folder(NAME)
        self._password = password(self.folder / "password")

    def start(self) -> None:
        """Install, initialise and start the server; nothing if it runs."""
        # Not Debian's mariadb-server, which runs a server for the whole machine.
        program = packages.ensure("mariadbd", *PACKAGES)
        daemon = self._daemon(program)
        if daemon.pid is None:
            require_free(Port.MARIADB, "MariaDB")
            self._write_configuration()
            self._initialise()
            daemon.start()
        daemon.wait_ready(self.answers, START_SECONDS)

    def stop(self) -> None:
        """Stop the server; its databases stay."""
        self._daemon(Path("mariadbd")).stop()

    @property
    def pid(self) -> int | None:
        """The process, None if it is not running."""
        return self._daemon(Path("mariadbd")).pid

    def kill(self) -> None:
        """Let the server crash.

        What was committed is in the log files or in the kernel's hands, so it outlives the process
        (innodb-flush-log-at-trx-commit = 2), though it would not outlive the machine.
        """
        self._daemon(Path("mariadbd")).kill()

    def answers(self) -> bool:
        """Whether a login works."""
        try:
            self._connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database."""
        return (
            f"mysql+pymysql://{USER}:{self._password}@{LOOPBACK}:{Port.MARIADB.number}/{database}"
            "?charset=utf8mb4"
        )

    def create_database(self, name: str) -> str:
        """Make a database unless it exists; returns its SQLAlchemy URL."""
        self.execute(f"CREATE DATABASE IF NOT EXISTS `{name}`")
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database and all in it."""
        self.execute(f"DROP DATABASE IF EXISTS `{name}`")

    def execute(self, statement: str) -> None:
        """Run one statement as the administrator."""
        with self._cursor() as cursor:
            cursor.execute(statement)

    @contextmanager
    def _cursor(self) -> Iterator[pymysql.cursors.Cursor]:
        connection = self._connect()
        try:
            with connection.cursor() as cursor:
                yield cursor
            connection.commit()
        finally:
            connection.close()

    def _connect(self) -> "pymysql.Connection[pymysql.cursors.Cursor]":
        return pymysql.connect(
            host=LOOPBACK, port=Port.MARIADB.number, user=USER, password=self._password
        )

    def _daemon(self, program: Path) -> Daemon:
        command: list[str | Path] = [
            program,
            f"--defaults-file={self.folder}/server.cnf",
            *self._as_root(),
        ]
        return Daemon(NAME, self.folder, command, stop_seconds=60)

    def _as_root(self) -> list[str]:
        # The server refuses to run as root unless told.
        return ["--user=root"] if os.geteuid() == 0 else []

    def _write_configuration(self) -> None:
        (self.folder / "tmp").mkdir(exist_ok=True)
        (self.folder / "server.cnf").write_text(
            CONFIGURATION.format(folder=self.folder, port=Port.MARIADB.number)
        )
        account = f"`{USER}`@`{LOOPBACK}`"
        accounts = self.folder / "accounts.sql"
        accounts.write_text(
            f"CREATE OR REPLACE USER {account} IDENTIFIED BY '{self._password}';\n"
            f"GRANT ALL ON *.* TO {account} WITH GRANT OPTION;\n"
        )
        accounts.chmod(0o600)

    def _initialise(self) -> None:
        """Make the system tables, in a folder that gets its name only when they are whole."""
        data = self.folder / "data"
        if data.exists():
            return
        packages.ensure("my_print_defaults", *PACKAGES)
        unfinished = self.folder / "data.unfinished"
        run(["rm", "-rf", unfinished], self.folder / "initialise.log")
        run(
            [
                packages.ensure("mariadb-install-db", *PACKAGES),
                "--no-defaults",
                f"--datadir={unfinished}",
                "--skip-test-db",
                "--auth-root-authentication-method=socket",
                *self._as_root(),
            ],
            self.folder / "initialise.log",
        )
        unfinished.rename(data)
