"""What a control plane without OpenStack is given, and what it must be told."""

from pathlib import Path

import pytest

from controlplane.config.file import load
from controlplane.config.settings import STANDALONE_PROJECT, standalone_settings
from controlplane.domain.errors import ConfigurationError


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
