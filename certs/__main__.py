"""The command ``vsg-certs``: the customer's certificate authority."""

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

from certs.authority import CA_CERTIFICATE_FILE, DEFAULT_LIFETIME, Authority, Clock, utc_now
from certs.bundle import EdgeBundle, format_address, parse_address
from certs.errors import CertificateError
from certs.files import PUBLIC_MODE, write_file
from certs.listing import print_index
from common.terminal import FORMATS

SERVER_FILES = ("server.pem", "server.key")
OPERATOR_FILES = ("operator.pem", "operator.key")


def main(arguments: Sequence[str] | None = None, clock: Clock = utc_now) -> int:
    """Run one command; 0 when it succeeded, 1 when it could not, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        run = {"init": _init, "server": _server, "stamp": _stamp, "list": _list}[options.command]
        run(options, clock)
    except CertificateError as error:
        print(f"vsg-certs: {error}", file=sys.stderr)
        return 1
    return 0


def _init(options: argparse.Namespace, clock: Clock) -> None:
    directory: Path = options.directory
    authority = Authority.create(directory, options.customer, clock)
    certificate, key = (directory / name for name in OPERATOR_FILES)
    authority.issue_operator(options.operator, options.lifetime).write(certificate, key)
    print(f"Authority of customer {authority.customer}: {directory / CA_CERTIFICATE_FILE}")
    print(f"Operator certificate for the admin listener: {certificate}, {key}")
    print(f"Next: vsg-certs server --directory {directory} --host NAME-OR-ADDRESS")


def _server(options: argparse.Namespace, clock: Clock) -> None:
    authority = Authority(options.directory, clock)
    output: Path = options.output or options.directory
    certificate, key = (output / name for name in SERVER_FILES)
    authority.issue_server(options.host, options.lifetime).write(certificate, key)
    if output.resolve() != authority.directory.resolve():
        write_file(output / CA_CERTIFICATE_FILE, authority.certificate_pem, PUBLIC_MODE)
    print(f"Control plane's certificate for {', '.join(options.host)}: {certificate}, {key}")
    print(
        f"Next: vsg-certs stamp --directory {options.directory} --edge NAME "
        f"--control-plane {format_address(options.host[0], 443)} --output BUNDLE"
    )


def _stamp(options: argparse.Namespace, clock: Clock) -> None:
    authority = Authority(options.directory, clock)
    host, port = parse_address(options.control_plane)
    bundle = EdgeBundle(
        directory=options.output,
        customer=authority.customer,
        edge=options.edge,
        control_plane=format_address(host, port),
        server_name=options.server_name or host,
    )
    bundle.write(authority.certificate_pem, authority.issue_edge(options.edge, options.lifetime))
    print(f"Bundle of edge {bundle.edge} for {bundle.control_plane}: {bundle.directory}")


def _list(options: argparse.Namespace, clock: Clock) -> None:
    print_index(Authority(options.directory, clock).index.entries(), options.format, clock())


def _days(text: str) -> datetime.timedelta:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 3650:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 1 to 3650 days")
    return datetime.timedelta(days=int(text))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vsg-certs", description="The certificate authority of one customer."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    init = _command(commands, "init", "make the authority and an operator's certificate")
    init.add_argument("--customer", required=True, help="short name, for example acme")
    init.add_argument("--operator", default="admin", help="name in the operator's certificate")
    _add_lifetime(init)

    server = _command(commands, "server", "issue the control plane's certificate")
    server.add_argument(
        "--host",
        required=True,
        action="append",
        metavar="NAME-OR-ADDRESS",
        help="what edges dial; may be repeated; loopback is always included",
    )
    server.add_argument("--output", type=Path, help="directory to write to instead of DIRECTORY")
    _add_lifetime(server)

    stamp = _command(commands, "stamp", "make the bundle of an edge")
    stamp.add_argument("--edge", required=True, help="the edge's name")
    stamp.add_argument("--control-plane", required=True, metavar="HOST:PORT")
    stamp.add_argument("--server-name", help="name in the control plane's certificate, if not HOST")
    stamp.add_argument("--output", required=True, type=Path, help="the bundle's directory")
    _add_lifetime(stamp)

    listing = _command(commands, "list", "show what was issued")
    listing.add_argument("--format", choices=FORMATS, help="table on a terminal, else plain")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
    command.add_argument("--directory", required=True, type=Path, help="the authority's directory")
    return command


def _add_lifetime(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--days",
        dest="lifetime",
        type=_days,
        default=DEFAULT_LIFETIME,
        help=f"validity of the certificate (default {DEFAULT_LIFETIME.days})",
    )


if __name__ == "__main__":
    sys.exit(main())
