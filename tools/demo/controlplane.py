"""The demo's control plane: its configuration, its process, and what it says of itself."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.servers.process import Daemon, run
from tools.servers.state import CHECKOUT, LOOPBACK, Port, ServerError, folder

PROGRAM = CHECKOUT / ".venv" / "bin" / "vsg-controlplane"
POLL_SECONDS = 0.5

LISTENERS = """\
[gateway]
bind_address = {address}
bind_port = {gateway.number}
ca = {certificates}/ca.pem
certificate = {certificates}/server.pem
key = {certificates}/server.key
heartbeat_interval = 5

[admin]
bind_port = {admin.number}
operator_certificate = {certificates}/operator.pem
operator_key = {certificates}/operator.key
"""


def configure(
    place: str, certificates: Path, gateway: Port, admin: Port, sections: Sequence[str]
) -> Path:
    """Write the configuration below .state/``place``: listeners, then ``sections``."""
    config = folder(place) / "controlplane.conf"
    listeners = LISTENERS.format(
        address=LOOPBACK, gateway=gateway, admin=admin, certificates=certificates
    )
    config.write_text("\n".join([listeners, *sections]))
    return config


def daemon(place: str, *arguments: str) -> Daemon:
    """Return the control plane's process, running or not."""
    directory = folder(place)
    config = directory / "controlplane.conf"
    command: list[str | Path] = [PROGRAM, "serve", "--config-file", config, *arguments]
    return Daemon("controlplane", directory, command, stop_seconds=60)


def upgrade(place: str) -> None:
    """Make or upgrade the gateway database. Raises ``ServerError`` with the log."""
    directory = folder(place)
    config = directory / "controlplane.conf"
    run([PROGRAM, "db", "upgrade", "--config-file", config], directory / "db_upgrade.log")


def ask(place: str, what: str) -> list[dict[str, Any]]:
    """Return what `vsg-controlplane WHAT --format json` says; empty while it does not answer."""
    config = folder(place) / "controlplane.conf"
    done = subprocess.run(
        [PROGRAM, what, "--config-file", config, "--format", "json"],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    return list(json.loads(done.stdout)) if done.returncode == 0 else []


def wait_for_parity(place: str, seconds: float, *processes: Daemon) -> None:
    """Wait until an edge and the control plane hold the same inventory.

    Raises ``ServerError`` with the end of a log when one of ``processes`` ends, or time is up.
    """
    _wait(
        place, "edges", lambda edges: any(edge["parity_at"] for edge in edges), seconds, processes
    )


def wait_for_workers(place: str, seconds: float, *processes: Daemon) -> None:
    """Wait until every managed cluster has its worker and its compute service is enabled.

    Raises ``ServerError`` as ``wait_for_parity`` does.
    """

    def ready(clusters: list[dict[str, Any]]) -> bool:
        managed = [cluster for cluster in clusters if cluster["state"] != "unmanaged"]
        return bool(managed) and all(
            cluster["state"] == "active" and cluster["worker_state"] == "running"
            for cluster in managed
        )

    _wait(place, "clusters", ready, seconds, processes)


def wait_until_empty(place: str, seconds: float, *processes: Daemon) -> None:
    """Wait until no cluster is managed and OpenStack has none of its servers.

    Raises ``ServerError`` as ``wait_for_parity`` does.
    """

    def empty(clusters: list[dict[str, Any]]) -> bool:
        # None at all is the answer of a control plane that has not begun to listen.
        return bool(clusters) and all(
            each["state"] == "unmanaged" and not each["servers"] for each in clusters
        )

    _wait(place, "clusters", empty, seconds, processes)


def _wait(
    place: str,
    what: str,
    ready: Callable[[list[dict[str, Any]]], bool],
    seconds: float,
    processes: Sequence[Daemon],
) -> None:
    deadline = time.monotonic() + seconds
    while not ready(ask(place, what)):
        for process in processes:
            if process.pid is None:
                process.wait_ready(lambda: False, 0)
        if time.monotonic() > deadline:
            logs = ", ".join(str(process.log) for process in processes)
            raise ServerError(f"{what} not as expected after {seconds:.0f} s; look at {logs}")
        time.sleep(POLL_SECONDS)
