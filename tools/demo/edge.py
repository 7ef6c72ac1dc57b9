"""The demo's edge: its configuration and its process."""

import json
from collections.abc import Sequence
from pathlib import Path

from tools.servers.process import Daemon
from tools.servers.state import CHECKOUT, folder
from tools.servers.vcsim import Vcsim

NAME = "site-1"
CACHE = "cache"
START_SECONDS = 30

CONFIG = """\
[edge]
bundle = "{bundle}"
cache_directory = "{cache}"

[vcenter]
host = "{vcenter.host}"
port = {vcenter.port}
username = "{vcenter.username}"
password_file = "vcenter-password"
ca_file = "{vcenter.ca_file}"

[managed]
clusters = {clusters}

[control_plane]
proxy = "none"
"""


def configure(vcenter: Vcsim, bundle: Path, place: str, clusters: Sequence[str] = ("*",)) -> Path:
    """Write the edge's configuration below .state/``place``; return the file."""
    directory = folder(place)
    secret = directory / "vcenter-password"
    secret.touch(mode=0o600)
    secret.write_text(f"{vcenter.password}\n")
    config = directory / "edge.toml"
    config.write_text(
        CONFIG.format(bundle=bundle, cache=CACHE, vcenter=vcenter, clusters=json.dumps(clusters))
    )
    return config


def daemon(place: str) -> Daemon:
    """Return the edge's process, running or not."""
    directory = folder(place)
    program = CHECKOUT / ".venv" / "bin" / "vsg-edge"
    return Daemon("edge", directory, [program, "run", "--config", directory / "edge.toml"])
