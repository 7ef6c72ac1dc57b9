"""A user of `nova.conf` that cannot be used: the message says what is wrong with it."""

from pathlib import Path

import pytest

from controlplane.config.nova_config import NovaConfig, NovaConfigError
from controlplane.openstack.keystone import adapters


def connect(folder: Path, text: str, sections: tuple[str, ...]) -> None:
    file = folder / "nova.conf"
    file.write_text(text)
    adapters.connect(NovaConfig(file), "placement", "1.38", sections)


def test_a_service_without_user_names_the_sections(tmp_path: Path) -> None:
    with pytest.raises(NovaConfigError, match=r"no auth_type in \[service_user\] or \[placement\]"):
        connect(tmp_path, "[DEFAULT]\n", ("service_user", "placement"))


def test_an_unknown_kind_of_authentication_is_named(tmp_path: Path) -> None:
    with pytest.raises(NovaConfigError, match=r"\[placement\] auth_type"):
        connect(tmp_path, "[placement]\nauth_type = magic\n", ("placement",))


def test_a_user_without_what_its_kind_needs_is_named(tmp_path: Path) -> None:
    with pytest.raises(NovaConfigError, match=r"\[placement\] auth_type: .*auth_url"):
        connect(tmp_path, "[placement]\nauth_type = password\n", ("placement",))
