"""systemd hears from the edge; the unit file says what the program does."""

import configparser
import dataclasses
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.appliance.machine import machine_uuid
from edge.appliance.systemd import Notifier
from edge.config import (
    EdgeSettings,
    LimitSettings,
    LogSettings,
    ManagedSettings,
    load_config,
)

CHECKOUT = Path(__file__).parents[4]
UNIT = CHECKOUT / "edge/appliance/vsg-edge.service"


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def test_readiness_watchdog_and_status(systemd: socket.socket, tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"})
    assert notifier.watchdog_seconds == 60.0
    notifier.ready()
    notifier.alive("all is well")
    notifier.stopping()
    assert systemd.recv(100) == b"READY=1"
    assert systemd.recv(100) == b"WATCHDOG=1\nSTATUS=all is well"
    assert systemd.recv(100).startswith(b"STOPPING=1")


def test_silent_without_systemd() -> None:
    notifier = Notifier({})
    notifier.ready()
    assert notifier.watchdog_seconds is None


def test_watchdog_of_another_process_is_not_ours() -> None:
    environment = {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid() + 1)}
    assert Notifier(environment).watchdog_seconds is None


def test_unit_file_fits_the_program() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(UNIT.read_text())
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert "vsg-edge run --config /etc/vsphere-gateway/edge.toml" in service["ExecStart"]
    assert service["RestartPreventExitStatus"] == "2"
    assert "HUP" in service["ExecReload"]


def test_machine_uuid_from_the_credential(tmp_path: Path) -> None:
    (tmp_path / "machine-uuid").write_text("4C4C4544-0000-2010-8020-80C04F202020\n")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert machine_uuid(environment) == "4c4c4544-0000-2010-8020-80c04f202020"


def test_example_configuration_is_a_good_one(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "vcenter-password").write_text("secret\n")
    shutil.copy(CHECKOUT / "edge/appliance/edge.toml", tmp_path)
    config = load_config(tmp_path / "edge.toml", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert config.vcenter.read_password() == "secret"
    credential = config.vcenter.password.file.name
    assert f"LoadCredential={credential}:" in UNIT.read_text()


def test_every_key_is_documented() -> None:
    """docs/operate/edge.md names every key of the configuration."""
    text = (CHECKOUT / "docs/operate/edge.md").read_text()
    sections = {
        "edge": EdgeSettings,
        "managed": ManagedSettings,
        "log": LogSettings,
        "limits": LimitSettings,
    }
    for section, settings in sections.items():
        for field in dataclasses.fields(settings):
            assert f"`{section}.{field.name}`" in text
