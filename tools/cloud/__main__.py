"""The one-machine OpenStack: up, down, env."""

import argparse
import sys
import time

from common.terminal import console_for
from tools.cloud.cloud import Cloud
from tools.progress import Steps
from tools.servers import lease
from tools.servers.state import ServerError

NAME = "cloud"
KEEPER = "hand"


def up() -> None:
    """Start the cloud, to stay, and say how to use it."""
    cloud = Cloud()
    console = console_for(sys.stdout)
    started = time.monotonic()

    def start() -> None:
        with Steps() as steps:
            cloud.up(steps)

    lease.keep(NAME, KEEPER, start)
    console.print(f"The cloud answers, after {time.monotonic() - started:.0f} s.", style="green")
    console.print(f"  keystone       {cloud.layout.auth_url}", soft_wrap=True)
    console.print(f"  to use it      source {cloud.layout.openrc}", soft_wrap=True)
    console.print(f"  configuration  {cloud.layout.nova_conf}", soft_wrap=True)
    console.print(f"                 {cloud.layout.glance_conf}", soft_wrap=True)
    console.print(f"  logs           {cloud.layout.logs}", soft_wrap=True)


def down(purge: bool) -> None:
    """Stop the cloud unless a test run uses it."""
    cloud = Cloud()
    stopped = lease.release(NAME, KEEPER, lambda: cloud.down(purge))
    print("stopped" if stopped else "the cloud stays: something else uses it")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.cloud", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start it, or what is missing of it")
    stop = commands.add_parser("down", help="stop it; what it held stays")
    stop.add_argument("--purge", action="store_true", help="forget what it held, too")
    commands.add_parser("env", help="print the administrator's OS_* variables")
    arguments = parser.parse_args()
    try:
        if arguments.command == "up":
            up()
        elif arguments.command == "down":
            down(arguments.purge)
        else:
            print(Cloud().layout.openrc.read_text(), end="")
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
