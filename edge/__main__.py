"""`vsg-edge`: parses the command line and runs one of the commands in ``edge.commands``."""

import argparse
import os
import sys
from pathlib import Path

from edge.commands.exit_code import ExitCode
from edge.config import DEFAULT_CONFIG_FILE, load_config
from edge.errors import ConfigError

_COMMANDS = {
    "run": "connect vCenter and control plane, for as long as the process lives",
    "check": "look for everything that could keep `run` from working, and name it",
    "inventory": "show what this edge would report; needs no control plane",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = _parser().parse_args(arguments)
    # gRPC's core logs each refused handshake in many lines; the link reports it in one.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        config = load_config(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return ExitCode.CONFIG
    # A command imports what it alone needs: gRPC reads its environment when it is imported.
    match options.command:
        case "run":
            from edge.commands.run import run

            return run(config, options.config)
        case "check":
            from edge.commands.check import run_check

            return run_check(config, options.format)
        case _:
            from edge.commands.inventory import run_inventory

            return run_inventory(config, options.format)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vsg-edge", description="The edge of the vSphere Gateway: one beside each vCenter."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--config",
            type=Path,
            default=DEFAULT_CONFIG_FILE,
            metavar="FILE",
            help=f"the configuration (default: {DEFAULT_CONFIG_FILE})",
        )
        if name != "run":
            command.add_argument(
                "--format",
                choices=("table", "json"),
                default="table",
                help="a table (plain lines where standard output is no terminal) or JSON",
            )
    return parser


if __name__ == "__main__":
    sys.exit(main())
