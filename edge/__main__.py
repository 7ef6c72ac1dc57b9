"""`vsg-edge`: the command line of the edge."""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from edge.config import DEFAULT_CONFIG_FILE, EdgeConfig, load_config
from edge.errors import ConfigError, EdgeError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIG = 2


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = _parser().parse_args(arguments)
    # gRPC's core logs refused handshakes by itself, many lines each; the link says it in one.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        config = load_config(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    commands = {"run": _run, "check": _check, "inventory": _inventory}
    return commands[options.command](config, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vsg-edge", description="The edge of the vSphere Gateway: one beside each vCenter."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "connect vCenter and control plane, for as long as the process lives"),
        ("check", "look for everything that could be in the way of `run`, and name it"),
        ("inventory", "show what this edge would report; needs no control plane"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--config",
            type=Path,
            default=DEFAULT_CONFIG_FILE,
            metavar="FILE",
            help=f"the configuration (default: {DEFAULT_CONFIG_FILE})",
        )
        if name != "run":
            command.add_argument("--format", choices=("table", "json"), default="table")
    return parser


# Each command imports what it needs: the others start faster, and gRPC reads its environment late.


def _run(config: EdgeConfig, options: argparse.Namespace) -> int:
    from edge.assembly import assemble
    from edge.log import set_up_logging
    from edge.vcenter.client.faults import VCenterError

    set_up_logging(config.log)
    try:
        edge = assemble(config)
    except VCenterError as error:
        print(f"{config.file}: vcenter.ca_file: {error}", file=sys.stderr)
        return EXIT_CONFIG
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, lambda *_: edge.reload(lambda: load_config(options.config)))
    try:
        edge.run(stop)
    except EdgeError:  # told in the log
        return EXIT_FAILED
    return EXIT_OK


def _check(config: EdgeConfig, options: argparse.Namespace) -> int:
    from edge.commands.check import run_check

    return EXIT_OK if run_check(config, options.format) else EXIT_FAILED


def _inventory(config: EdgeConfig, options: argparse.Namespace) -> int:
    from edge.commands.inventory import run_inventory

    return run_inventory(config, options.format)


if __name__ == "__main__":
    sys.exit(main())
