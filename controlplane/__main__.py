"""The command ``vsg-controlplane``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from common.terminal import FORMATS
from common.version import SOFTWARE_VERSION
from controlplane.commands.listings import LISTINGS
from controlplane.config.file import DEFAULT_CONFIG_FILE, load
from controlplane.config.settings import Settings
from controlplane.domain.errors import ConfigurationError, ControlPlaneError

CONFIG_FILE_VARIABLE = "VSG_CONFIG_FILE"
"""Names the configuration file where --config-file does not."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: 0 when it succeeded, 1 when it could not, 2 for wrong configuration.

    ``verify`` has exit codes of its own.
    """
    options = _parser().parse_args(arguments)
    files = getattr(options, "config_file", None) or [
        Path(os.environ.get(CONFIG_FILE_VARIABLE, DEFAULT_CONFIG_FILE))
    ]
    try:
        return _run(options, load(files))
    except ConfigurationError as error:
        print(f"vsg-controlplane: {error}", file=sys.stderr)
        return 2
    except ControlPlaneError as error:
        print(f"vsg-controlplane: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has gone; nothing must be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(options: argparse.Namespace, settings: Settings) -> int:
    """Run a command. Each imports what it needs: a listing must not wait for Nova's modules."""
    if options.command == "serve":
        use_native_threads()
        from controlplane.commands.serve import serve

        return serve(settings, standalone=options.standalone)
    if options.command == "db":
        from controlplane.commands.database import upgrade

        upgrade(settings)
        return 0
    if options.command == "verify":
        from controlplane.commands.verify import verify

        return verify(options.format, settings)
    from controlplane.commands.admin_client import release_alarm, run_listing

    if getattr(options, "release", None):
        release_alarm(options.release, settings)
    else:
        run_listing(LISTINGS[options.command], options, settings)
    return 0


def use_native_threads() -> None:
    """Keep eventlet out of this process, before anything of Nova is imported.

    nova/monkey_patch.py: after this an import of eventlet raises.
    """
    os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"
    from nova import monkey_patch

    monkey_patch.patch(backend="threading")


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument(
        "--config-file",
        action="append",
        type=Path,
        metavar="FILE",
        help=f"configuration; may be repeated, later files win (default: ${CONFIG_FILE_VARIABLE}, "
        f"else {DEFAULT_CONFIG_FILE})",
    )
    parser = argparse.ArgumentParser(
        prog="vsg-controlplane",
        description="Bridges a customer's vCenters, through their edges, to OpenStack.",
        parents=[common],
    )
    parser.add_argument("--version", action="version", version=SOFTWARE_VERSION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the control plane", parents=[common])
    serve.add_argument(
        "--standalone",
        action="store_true",
        help="try it alone: SQLite files with the schemas of Nova and Glance, no OpenStack",
    )
    database = commands.add_parser("db", help="the gateway database", parents=[common])
    database.add_argument("action", choices=["upgrade"], help="bring the tables to this version")
    verify = commands.add_parser(
        "verify",
        help="compare vCenter with the gateway database, Nova, Glance and placement",
        description="Exit code: 0 nothing differs, 1 something does, 3 it could not be verified.",
        parents=[common],
    )
    verify.add_argument("--format", choices=FORMATS, help="table on a terminal, else plain")
    for name, listing in LISTINGS.items():
        command = commands.add_parser(name, help=listing.summary, parents=[common])
        command.add_argument("--format", choices=FORMATS, help="table on a terminal, else plain")
        if name == "servers":
            command.add_argument("--cluster", default="", help="name or UUID of one cluster")
        if name == "operations":
            command.add_argument("--limit", type=int, default=0, help="at most this many (50)")
        if name == "quarantine":
            command.add_argument(
                "--release", metavar="ALARM", help="apply what an alarm holds back"
            )
    return parser


if __name__ == "__main__":
    sys.exit(main())
