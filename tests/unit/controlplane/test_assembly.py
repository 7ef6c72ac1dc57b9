"""What a control plane checks before it starts, and how it ends when another has taken over."""

from pathlib import Path
from typing import cast

import pytest

from certs.authority import Authority
from controlplane.assembly import ControlPlane
from controlplane.compute.workers.supervisor import WorkerSupervisor
from controlplane.config.file import load
from controlplane.config.state_directory import StateDirectory
from controlplane.domain.errors import ConfigurationError
from controlplane.store.database import Database


def configured(folder: Path, content: str = "") -> Path:
    """Write a configuration to try a control plane alone, and the certificates that it names."""
    ca = folder / "ca"
    authority = Authority.create(ca, "acme")
    authority.issue_server(["gw"]).write(ca / "server.pem", ca / "server.key")
    config = folder / "controlplane.conf"
    gateway = {"ca": ca / "ca.pem", "certificate": ca / "server.pem", "key": ca / "server.key"}
    options = "".join(f"{key} = {value}\n" for key, value in gateway.items())
    config.write_text(f"[standalone]\ndirectory = {folder}\n[gateway]\n{options}{content}")
    return config


class BrokenSupervisor:
    """Workers that cannot be asked to end."""

    def abandon(self) -> None:
        raise OSError("no such process")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[adoption]\nrules = web=x\n", r"\[adoption\] rules: expected folder:/path=project"),
        ("[adoption]\nrules_file = /nowhere/rules\n", r"\[adoption\] rules_file: /nowhere/rules"),
        ("[adoption]\ncluster_policy = x\n", r"\[adoption\] cluster_policy: expected"),
        ("[admin]\nbind_address = 0.0.0.0\n", r"\[admin\] bind_address: expected a loopback"),
        ("[gateway]\nca = /nowhere/ca.pem\n", r"\[gateway\] certificate: .*/nowhere/ca.pem"),
    ],
)
def test_what_is_wrong_in_the_configuration_is_found_before_anything_starts(
    tmp_path: Path, content: str, problem: str
) -> None:
    config = configured(tmp_path, content)
    with pytest.raises(ConfigurationError, match=rf"^{config}: {problem}"):
        ControlPlane(load([config]), standalone=True)


def test_a_control_plane_whose_lease_is_lost_ends_also_when_its_workers_cannot_be_asked_to(
    tmp_path: Path,
) -> None:
    ended: list[bool] = []
    control_plane = ControlPlane(
        load([configured(tmp_path)]), standalone=True, lost=lambda: ended.append(True)
    )
    state = StateDirectory(tmp_path / "state")
    database = Database(f"sqlite:///{tmp_path}/own.sqlite")
    supervisor = cast(WorkerSupervisor, BrokenSupervisor())
    lease = control_plane._lease(state, database, supervisor)
    with pytest.raises(OSError, match="no such process"):
        lease._lost("another")
    assert ended == [True]
    database.close()
    state.close()
