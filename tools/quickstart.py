"""`make quickstart`: discovery alone, with a simulated vCenter and no OpenStack.

Ends with what was discovered on the screen. ``--keep`` leaves everything running for a look by
hand; ``--down`` stops that.
"""

import argparse
import os
import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console

from common.terminal import console_for
from tools.demo import authority, controlplane, edge, vcenter
from tools.demo.shell import Shell, TourError
from tools.progress import Steps
from tools.servers import golang
from tools.servers.process import Daemon
from tools.servers.state import CHECKOUT, Port, ServerError, folder

PLACE = "quickstart"
PARITY_SECONDS = 60

STANDALONE = """\
[standalone]
directory = {directory}
"""


def main() -> int:
    """Run it; 0 when everything was shown."""
    parser = argparse.ArgumentParser(prog="make quickstart", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    parser.add_argument("--down", action="store_true", help="stop what --keep left running")
    options = parser.parse_args()
    console = console_for(sys.stdout)
    try:
        if not options.down:
            _up(console)
            _show(console)
    except (ServerError, TourError) as error:
        console.print(f"quickstart: {error}", style="red", soft_wrap=True)
        _down()
        return 1
    if options.keep:
        console.print("\nStill running. `make quickstart ARGS=--down` stops it.")
    else:
        _down()
    return 0


def _processes() -> tuple[Daemon, Daemon]:
    """Return the control plane and the edge."""
    return controlplane.daemon(PLACE, "--standalone"), edge.daemon(PLACE)


def _up(console: Console) -> None:
    control_plane, edge_process = _processes()
    with Steps(console) as steps:
        with steps.step("simulator and its tools"):
            golang.ensure(golang.VCSIM)
            golang.ensure(golang.GOVC)
        with steps.step("a vCenter with 2 clusters, 5 virtual machines and a template"):
            _down()
            simulated = vcenter.start(f"{PLACE}/vcenter", Port.QUICKSTART_VCENTER)
        with steps.step("certificates"):
            certificates = authority.make(
                f"{PLACE}/certificates", edge.NAME, Port.QUICKSTART_GATEWAY.number
            )
        with steps.step("control plane and edge, until both hold the same"):
            _configure_control_plane(certificates)
            edge.configure(simulated, certificates / "bundle", PLACE)
            control_plane.start()
            edge_process.start()
            controlplane.wait_for_parity(PLACE, PARITY_SECONDS, control_plane, edge_process)


def _configure_control_plane(certificates: Path) -> None:
    # A fresh vCenter each time, so nothing of an earlier one is remembered.
    shutil.rmtree(folder(f"{PLACE}/standalone"))
    directory = folder(f"{PLACE}/standalone")
    controlplane.configure(
        PLACE,
        certificates,
        Port.QUICKSTART_GATEWAY,
        Port.QUICKSTART_ADMIN,
        [STANDALONE.format(directory=directory)],
    )


def _show(console: Console) -> None:
    shell = Shell(console, {"PATH": f"{CHECKOUT}/.venv/bin:{os.environ['PATH']}"})
    for what in ("edges", "clusters", "servers", "images"):
        shell.heading(what)
        shell.show(listing(what, on_terminal=console.is_terminal))
    shell.say("\nNext: `make demo` shows the same with a whole OpenStack, and operations.")


def listing(what: str, on_terminal: bool) -> str:
    """Return the command that lists something, as a table only where somebody looks at it."""
    form = "table" if on_terminal else "plain"
    config = shlex.quote(str(folder(PLACE) / "controlplane.conf"))
    return f"vsg-controlplane {what} --format {form} --config-file {config}"


def _down() -> None:
    control_plane, edge_process = _processes()
    edge_process.stop()
    control_plane.stop()
    vcenter.simulator(f"{PLACE}/vcenter", Port.QUICKSTART_VCENTER).stop()


if __name__ == "__main__":
    sys.exit(main())
