"""An own RabbitMQ node on the loopback interface."""

import os
import subprocess
import time
from pathlib import Path

import amqp

from tools.servers import packages
from tools.servers.process import POLL_SECONDS, Daemon
from tools.servers.state import (
    LOOPBACK,
    Port,
    ServerError,
    folder,
    password,
    port_is_free,
    require_free,
)

NAME = "rabbitmq"
USER = "vsg"
START_SECONDS = 90
END_SECONDS = 60
NODE_PORTS = (Port.RABBITMQ, Port.RABBITMQ_DISTRIBUTION)
CONFIGURATION = """\
listeners.tcp.local = 127.0.0.1:{port}
default_user = {user}
default_pass = {password}
default_vhost = /
default_permissions.configure = .*
default_permissions.read = .*
default_permissions.write = .*
loopback_users.{user} = true
disk_free_limit.absolute = 50MB
log.console = true
log.console.level = warning
log.file = false
"""


class RabbitMQ:
    """The checkout's RabbitMQ node, with an Erlang port mapper of its own."""

    def __init__(self) -> None:
        self.folder = folder(NAME)
        self._password = password(self.folder / "password")
        self.node = f"vsg{Port.RABBITMQ.number}@localhost"

    def start(self) -> None:
        """Install and start the node; nothing if it runs."""
        packages.ensure("rabbitmq-server", "rabbitmq-server")
        node = self._node()
        if node.pid is None:
            self._start_port_mapper()
            for port in NODE_PORTS:
                require_free(port, "RabbitMQ")
            self._write_configuration()
            node.start()
        node.wait_ready(self.answers, START_SECONDS)

    def stop(self) -> None:
        """Stop the node and its port mapper."""
        self._node().stop()
        self._port_mapper().stop()

    def kill(self) -> None:
        """Let the node crash; its port mapper stays.

        Returns when it can be started again: its threads end after its process seems to have.
        """
        self._node().kill()
        deadline = time.monotonic() + END_SECONDS
        while not all(port_is_free(port.number) for port in NODE_PORTS):
            if time.monotonic() > deadline:
                raise ServerError(f"RabbitMQ holds its ports {END_SECONDS} s after its end")
            time.sleep(POLL_SECONDS)

    def answers(self) -> bool:
        """Whether a login works."""
        try:
            with self._connect():
                return True
        except (OSError, amqp.AMQPError):
            return False

    def transport_url(self, virtual_host: str = "") -> str:
        """oslo.messaging transport URL; the default virtual host is named /."""
        return f"rabbit://{USER}:{self._password}@{LOOPBACK}:{Port.RABBITMQ.number}/{virtual_host}"

    def create_virtual_host(self, name: str) -> str:
        """Make a virtual host, an empty bus of its own; returns its transport URL."""
        self.control("add_vhost", name)
        self.control("set_permissions", "-p", name, USER, ".*", ".*", ".*")
        return self.transport_url(name)

    def delete_virtual_host(self, name: str) -> None:
        """Remove a virtual host and its queues."""
        self.control("delete_vhost", name)

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl on this node; returns what it printed.

        Raises ServerError if it fails.
        """
        program = packages.ensure("rabbitmqctl", "rabbitmq-server")
        result = subprocess.run(
            [self._script(program), "-q", *arguments],
            env=os.environ | self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise ServerError(f"rabbitmqctl {arguments[0]}: {result.stdout}{result.stderr}")
        return result.stdout

    def _connect(self) -> amqp.Connection:
        return amqp.Connection(
            host=f"{LOOPBACK}:{Port.RABBITMQ.number}",
            userid=USER,
            password=self._password,
            connect_timeout=5,
        )

    def _node(self) -> Daemon:
        program = packages.find("rabbitmq-server") or Path("rabbitmq-server")
        return Daemon(NAME, self.folder, [self._script(program)], self._environment())

    @staticmethod
    def _script(program: Path) -> Path:
        # What is in /usr/sbin changes to the user rabbitmq, who cannot write here.
        own = Path("/usr/lib/rabbitmq/bin") / program.name
        return own if own.exists() else program

    def _port_mapper(self) -> Daemon:
        program = packages.find("epmd") or Path("epmd")
        arguments = ["-address", LOOPBACK, "-port", str(Port.EPMD.number)]
        return Daemon("epmd", self.folder, [program, *arguments])

    def _start_port_mapper(self) -> None:
        mapper = self._port_mapper()
        if mapper.pid is None:
            require_free(Port.EPMD, "RabbitMQ's port mapper")
            mapper.start()

    def _write_configuration(self) -> None:
        configuration = self.folder / "rabbitmq.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            CONFIGURATION.format(port=Port.RABBITMQ.number, user=USER, password=self._password)
        )

    def _environment(self) -> dict[str, str]:
        return {
            # Erlang keeps the cookie that admits rabbitmqctl in the home folder.
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(Port.EPMD.number),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(Port.RABBITMQ_DISTRIBUTION.number),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "node.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none"
            ),
        }
