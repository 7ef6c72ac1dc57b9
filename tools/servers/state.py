"""Where the servers of this checkout keep their files, and which ports are theirs."""

import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
STATE = CHECKOUT / ".state"
BIN = STATE / "bin"
LOOPBACK = "127.0.0.1"
PORT_BASE_VARIABLE = "VSG_PORT_BASE"
FIRST_PORT_BASE = 20000
LAST_PORT_BASE = 32000  # Linux hands out ports from 32768 on
PORTS_PER_CHECKOUT = 100


class Port(IntEnum):
    """Offset of each server's port from the checkout's base."""

    MARIADB = 0
    RABBITMQ = 1
    RABBITMQ_DISTRIBUTION = 2
    EPMD = 3
    KEYSTONE = 10
    PLACEMENT = 11
    GLANCE = 12
    NEUTRON = 13
    NOVA = 14
    DEMO_VCENTER = 30
    DEMO_GATEWAY = 31
    DEMO_ADMIN = 32
    QUICKSTART_VCENTER = 40
    QUICKSTART_GATEWAY = 41
    QUICKSTART_ADMIN = 42
    TEST_VCENTER = 50
    TEST_GATEWAY = 51
    TEST_ADMIN = 52
    BENCH_VCENTER = 60
    BENCH_GATEWAY = 61
    BENCH_ADMIN = 62
    FAULTS_VCENTER = 70
    FAULTS_GATEWAY = 71
    FAULTS_ADMIN = 72
    FAULTS_SECOND_VCENTER = 73

    @property
    def number(self) -> int:
        """The TCP port."""
        return port_base() + self.value


class ServerError(Exception):
    """A server could not be installed, started or stopped; says what to look at."""


def folder(name: str) -> Path:
    """A private folder below .state/, made if missing."""
    path = STATE / name
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock that other processes of this checkout take too."""
    folder("locks")
    with (STATE / "locks" / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def port_base() -> int:
    """First port of this checkout: VSG_PORT_BASE, else one found free once and remembered.

    Raises ServerError if VSG_PORT_BASE is no port number.
    """
    given = os.environ.get(PORT_BASE_VARIABLE)
    if given:
        if not given.isdecimal() or not 1024 <= int(given) <= 65535 - PORTS_PER_CHECKOUT:
            raise ServerError(f"{PORT_BASE_VARIABLE}={given}: expected a port from 1024 to 65435")
        return int(given)
    remembered = STATE / "port_base"
    with locked("port_base"):
        if not remembered.exists():
            remembered.write_text(f"{_free_port_base()}\n")
        return int(remembered.read_text())


def _free_port_base() -> int:
    for base in range(FIRST_PORT_BASE, LAST_PORT_BASE, PORTS_PER_CHECKOUT):
        if all(port_is_free(base + port.value) for port in Port):
            return base
    raise ServerError(f"no block of free ports; name one with {PORT_BASE_VARIABLE}")


def port_is_free(number: int) -> bool:
    """Whether a server could listen on the port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, number))
        except OSError:
            return False
        return True


def require_free(port: Port, server: str) -> None:
    """Raise ServerError if something else listens on a port that the server needs."""
    if not port_is_free(port.number):
        raise ServerError(
            f"{server}: port {port.number} is taken by another program; "
            f"choose other ports with {PORT_BASE_VARIABLE}"
        )


def password(path: Path) -> str:
    """A random password, made at first use and kept in a file that only its owner can read."""
    if not path.exists():
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as stream:
            stream.write(secrets.token_hex(16))
    return path.read_text()
