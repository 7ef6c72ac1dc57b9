"""The demo's customer authority, made with `vsg-certs` as a provider would."""

import subprocess
from pathlib import Path

from tools.servers.state import CHECKOUT, LOOPBACK, ServerError, folder

CUSTOMER = "demo"


def make(place: str, edge: str, gateway_port: int) -> Path:
    """Make authority, server certificate and edge bundle below .state/``place`` once.

    Returns the folder: ca.pem, server.pem, server.key, operator.pem, operator.key, bundle/.
    """
    directory = folder(place)
    if not (directory / "ca.pem").exists():
        _certs("init", "--customer", CUSTOMER, "--directory", directory)
    _certs("server", "--directory", directory, "--host", LOOPBACK, "--host", "localhost")
    stamp(directory, edge, directory / "bundle", gateway_port)
    return directory


def stamp(directory: Path, edge: str, bundle: Path, gateway_port: int) -> None:
    """Make the bundle of an edge once, by the authority in ``directory``."""
    if not bundle.exists():
        _certs(
            "stamp",
            *("--directory", directory, "--edge", edge, "--output", bundle),
            *("--control-plane", f"{LOOPBACK}:{gateway_port}"),
        )


def _certs(*arguments: str | Path) -> None:
    command = [CHECKOUT / ".venv" / "bin" / "vsg-certs", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerError(f"vsg-certs {arguments[0]}: {done.stderr.strip()}")
