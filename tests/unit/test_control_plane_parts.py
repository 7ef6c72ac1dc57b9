"""Small parts of a control plane: quota of adopted projects, the relay, the state directory."""

import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from certs.authority import Authority
from controlplane.assembly import ControlPlane
from controlplane.cluster_relay import ClusterRelay
from controlplane.config_file import load
from controlplane.errors import ConfigurationError, StartError
from controlplane.nova_api import NovaApiError
from controlplane.quota import RESOURCES, Quotas
from controlplane.quota_keeper import QuotaKeeper
from controlplane.standalone import PROJECT, standalone_settings
from controlplane.state_directory import StateDirectory

PATIENCE = 5.0


class ScriptedNova:
    """Nova's quota API: project `full` has reached its limits, the first request fails."""

    def __init__(self) -> None:
        self.asked = 0
        self.lifted: list[str] = []
        self.done = threading.Event()

    def quota(self, project_id: str) -> dict[str, dict[str, int]]:
        self.asked += 1
        if self.asked == 1:
            raise NovaApiError("Nova's API cannot be reached")
        used = 10 if project_id == "full" else 1
        return {resource: {"in_use": used, "limit": 10} for resource in RESOURCES}

    def set_quota(self, project_id: str, limits: dict[str, int]) -> None:
        self.lifted.append(project_id)
        self.done.set()


@pytest.mark.parametrize("lift", [True, False])
def test_a_project_that_adoption_filled_gets_room_or_is_named(
    lift: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("controlplane.quota_keeper.CHECK_SECONDS", 0.02)
    nova = ScriptedNova()
    keeper = QuotaKeeper(Quotas(nova, None), lambda: ["full", "roomy"], lift=lift)
    with caplog.at_level(logging.WARNING):
        keeper.start()
        keeper.cluster_synchronised("c-1")
        assert nova.done.wait(PATIENCE if lift else 0.5) is lift
        keeper.stop()
    assert set(nova.lifted) == ({"full"} if lift else set())
    assert any("project full uses 10 instances" in message for message in caplog.messages)


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
        "import pathlib, sys; from controlplane.state_directory import StateDirectory as S; "
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


def test_tried_alone_needs_a_directory_and_nothing_of_openstack(tmp_path: Path) -> None:
    config = tmp_path / "controlplane.conf"
    config.write_text("")
    with pytest.raises(ConfigurationError, match=r"\[standalone\] directory: is missing"):
        standalone_settings(load([config]))
    config.write_text(f"[standalone]\ndirectory = {tmp_path}/alone\n")
    settings = standalone_settings(load([config]))
    assert settings.gateway.bind_port == 8443
    assert settings.database.connection == f"sqlite:///{tmp_path}/alone/own.sqlite"
    assert settings.adoption.default_project_id == PROJECT
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
