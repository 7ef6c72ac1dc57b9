"""The state directory belongs to one control plane at a time, and names it."""

import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.config.state_directory import StateDirectory
from controlplane.domain.errors import StartError


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
