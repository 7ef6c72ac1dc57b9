"""Small parts of a control plane: the relay, the state directory."""

import subprocess
import sys
from pathlib import Path

import pytest

from certs.authority import Authority
from controlplane.assembly import ControlPlane
from controlplane.config.file import load
from controlplane.config.settings import STANDALONE_PROJECT, standalone_settings
from controlplane.config.state_directory import StateDirectory
from controlplane.domain.errors import ConfigurationError, StartError
from controlplane.inventory.cluster_events import ClusterRelay


def test_every_listener_is_told_in_order() -> None:
    told: list[tuple[str, str, str]] = []

    class Listener:
        def __init__(self, name: str) -> None:
            self.name = name

        def cluster_found(self, cluster_uuid: str) -> None:
            told.append((self.name, "found", cluster_uuid))

        def cluster_synchronised(self, cluster_uuid: str) -> None:
            told.append((self.name, "synchronised", cluster_uuid))

        def allocations_written(self, cluster_uuid: str) -> None:
            told.append((self.name, "allocated", cluster_uuid))

        def cluster_gone(self, cluster_uuid: str, reason: str) -> None:
            told.append((self.name, reason, cluster_uuid))

    relay = ClusterRelay()
    relay.add(Listener("a"))
    relay.add(Listener("b"))
    relay.cluster_found("c")
    relay.cluster_synchronised("c")
    relay.allocations_written("c")
    relay.cluster_gone("c", "gone")
    assert [what for name, what, _ in told if name == "a"] == [
        "found", "synchronised", "allocated", "gone",
    ]  # fmt: skip
    assert [name for name, *_ in told] == ["a", "b"] * 4


def test_a_state_directory_has_one_owner_at_a_time(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path / "state")
    taking = (
        "import pathlib, sys; from controlplane.config.state_directory import StateDirectory as S; "
        f"S(pathlib.Path({str(tmp_path / 'state')!r}))"
    )
    refused = subprocess.run(
        [sys.executable, "-c", taking], capture_output=True, text=True, check=False
    )
    assert "in use by another control plane (process " in refused.stderr
    with pytest.raises(StartError, match="in use"):
        StateDirectory(tmp_path / "state")
    first.close()
    StateDirectory(tmp_path / "state").close()


def test_a_state_directory_names_its_control_plane_alike_after_a_restart(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path / "a")
    name = first.instance_id()
    first.close()
    again, other = StateDirectory(tmp_path / "a"), StateDirectory(tmp_path / "b")
    assert again.instance_id() == name
    assert other.instance_id() != name
    again.close()
    other.close()


def test_tried_alone_needs_a_directory_and_nothing_of_openstack(tmp_path: Path) -> None:
    config = tmp_path / "controlplane.conf"
    config.write_text("")
    with pytest.raises(ConfigurationError, match=r"\[standalone\] directory: is missing"):
        standalone_settings(load([config]))
    config.write_text(f"[standalone]\ndirectory = {tmp_path}/alone\n")
    settings = standalone_settings(load([config]))
    assert settings.gateway.bind_port == 8443
    assert settings.database.connection == f"sqlite:///{tmp_path}/alone/own.sqlite"
    assert settings.adoption.default_project_id == STANDALONE_PROJECT
    config.write_text(f"[standalone]\ndirectory = {tmp_path}\n[gateway]\nbind_port = 443\n")
    assert standalone_settings(load([config])).gateway.bind_port == 443


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
    ca = tmp_path / "ca"
    authority = Authority.create(ca, "acme")
    authority.issue_server(["gw"]).write(ca / "server.pem", ca / "server.key")
    config = tmp_path / "controlplane.conf"
    gateway = {"ca": ca / "ca.pem", "certificate": ca / "server.pem", "key": ca / "server.key"}
    options = "".join(f"{key} = {value}\n" for key, value in gateway.items())
    config.write_text(f"[standalone]\ndirectory = {tmp_path}\n[gateway]\n{options}{content}")
    with pytest.raises(ConfigurationError, match=rf"^{config}: {problem}"):
        ControlPlane(load([config]), standalone=True)
