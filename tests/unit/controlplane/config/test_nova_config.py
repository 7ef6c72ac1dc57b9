"""A `nova.conf` that cannot be used says what is wrong with it."""

from pathlib import Path

import pytest

from controlplane.config.nova_config import NovaConfig, NovaConfigError
from controlplane.store.glance.connection import GlanceConfigError, open_database
from controlplane.store.nova.cells import filled


def config(folder: Path, text: str) -> NovaConfig:
    file = folder / "nova.conf"
    file.write_text(text)
    return NovaConfig(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NovaConfigError, match=r"absent\.conf: cannot be read"):
        NovaConfig(tmp_path / "absent.conf")


def test_a_file_that_is_no_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(NovaConfigError, match=r"nova\.conf"):
        config(tmp_path, "this is no configuration\n")


def test_a_file_without_api_database_says_which_file_has_one(tmp_path: Path) -> None:
    with pytest.raises(NovaConfigError, match=r"\[api_database\] connection is missing"):
        _ = config(tmp_path, "[DEFAULT]\n").api_database


def test_defaults_are_novas(tmp_path: Path) -> None:
    read = config(tmp_path, "[DEFAULT]\n")
    assert read.options.default_availability_zone == "nova"
    assert read.options.notifications.notification_format == "unversioned"
    assert read.notification_drivers == []
    assert read.options.quota.instances == 10


@pytest.mark.parametrize(
    ("mapped", "default", "url"),
    [
        ("mysql://a:b@c/cell1", "mysql://x/y", "mysql://a:b@c/cell1"),
        (
            "{scheme}://{username}:{password}@{hostname}:{port}/cell1?{query}",
            "mysql+pymysql://nova:pw@db:3306/cell0?charset=utf8",
            "mysql+pymysql://nova:pw@db:3306/cell1?charset=utf8",
        ),
        ("{scheme}://{hostname}/{path}", "mysql://db/cell0", "mysql://db/cell0"),
    ],
)
def test_templates_of_cell_mappings_are_filled(mapped: str, default: str, url: str) -> None:
    assert filled(mapped, default) == url


def test_glances_file_must_name_its_database(tmp_path: Path) -> None:
    file = tmp_path / "glance-api.conf"
    with pytest.raises(GlanceConfigError, match="cannot be read"):
        open_database(file)
    file.write_text("[DEFAULT]\n")
    with pytest.raises(GlanceConfigError, match=r"\[database\] connection is missing"):
        open_database(file)
    file.write_text("[DEFAULT]\nmetadata_encryption_key = k\n[database]\nconnection = sqlite://\n")
    assert open_database(file).encrypts_locations
