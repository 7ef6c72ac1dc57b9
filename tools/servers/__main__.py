"""Installs, starts and stops the servers that tests use: install, up, down, status."""

import argparse
import sys
from collections.abc import Callable
from functools import partial

from tools.progress import Step, Steps
from tools.servers import golang, lease, packages
from tools.servers.mariadb import PACKAGES, MariaDB
from tools.servers.rabbitmq import RabbitMQ
from tools.servers.state import ServerError

KEEPER = "hand"
SERVERS: dict[str, Callable[[], MariaDB | RabbitMQ]] = {"mariadb": MariaDB, "rabbitmq": RabbitMQ}


def install() -> None:
    """Bring what the servers and the simulator need, without starting anything."""
    with Steps() as steps:
        steps.run(
            {
                "MariaDB": Step(lambda: packages.ensure("mariadbd", *PACKAGES)),
                "RabbitMQ": Step(lambda: packages.ensure("rabbitmq-server", "rabbitmq-server")),
                "vcsim": Step(lambda: golang.ensure(golang.VCSIM)),
                "govc": Step(lambda: golang.ensure(golang.GOVC), needs=("vcsim",)),
                "grpcurl": Step(lambda: golang.ensure(golang.GRPCURL), needs=("govc",)),
            }
        )


def up() -> None:
    """Start the servers, to stay."""
    with Steps() as steps:
        steps.run(
            {
                name: Step(partial(lease.keep, name, KEEPER, make().start))
                for name, make in SERVERS.items()
            }
        )


def down() -> None:
    """Stop the servers unless something still uses them."""
    for name, make in SERVERS.items():
        stopped = lease.release(name, KEEPER, make().stop)
        print(f"{name}: {'stopped' if stopped else 'stays, it is in use'}")


def status() -> None:
    """Say which servers answer."""
    for name, make in SERVERS.items():
        print(f"{name}: {'answers' if make().answers() else 'does not answer'}")


COMMANDS: dict[str, Callable[[], None]] = {
    "install": install,
    "up": up,
    "down": down,
    "status": status,
}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.servers", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = COMMANDS[parser.parse_args().command]
    try:
        command()
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
