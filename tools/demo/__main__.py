"""`make demo`, `make demo-env` and `make demo-down`."""

import argparse
import shlex
import sys

from rich.console import Console

from common.terminal import console_for
from tools.demo import tour
from tools.demo.shell import Shell, TourError
from tools.demo.stage import Stage
from tools.servers.state import ServerError

NEXT = """
Everything keeps running. To go on by hand:

  eval "$(make -s demo-env)"
  openstack server list
  govc vm.power -off db-1           # and look again
  openstack server start db-1
  vsg-controlplane clusters
  vsg-controlplane operations
  grpcurl $VSG_ADMIN_TLS $VSG_ADMIN list
  make demo-down                    # stops all of it
"""


def main() -> int:
    """Run one command; 0 when it did what it should."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("command", choices=["up", "env", "down"])
    parser.add_argument("--no-tour", action="store_true", help="start everything, show nothing")
    options = parser.parse_args()
    stage = Stage()
    console = console_for(sys.stdout)
    try:
        if options.command == "env":
            _print_environment(stage)
        elif options.command == "down":
            stage.down()
            console.print("The demo is stopped.")
        else:
            _up(stage, console, not options.no_tour)
    except (ServerError, TourError) as error:
        console_for(sys.stderr).print(f"demo: {error}", style="red", soft_wrap=True)
        return 1
    return 0


def _up(stage: Stage, console: Console, with_tour: bool) -> None:
    stage.up(console)
    if with_tour:
        tour.take(Shell(console, stage.environment(), stage.servers))
    console.print(NEXT)


def _print_environment(stage: Stage) -> None:
    for name, value in stage.environment().items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    sys.exit(main())
