"""Wrong configuration: the file, the key and what was expected."""

from pathlib import Path

import pytest

from controlplane.config.file import load
from controlplane.config.settings import Settings
from controlplane.domain.errors import ConfigurationError


def read(tmp_path: Path, content: str) -> Settings:
    path = tmp_path / "controlplane.conf"
    path.write_text(content)
    return load([path])


def test_values_are_read_and_the_rest_has_defaults(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        "[DEFAULT]\ndebug = true\n"
        "[gateway]\nbind_port = 9443\nheartbeat_interval = 2.5\n"
        "[adoption]\nrules = folder:/a=one\nrules = tag:owner:b=two\n",
    )
    assert settings.gateway.bind_port == 9443
    assert settings.gateway.heartbeat_interval == 2.5
    assert settings.gateway.bind_address == "0.0.0.0"
    assert settings.adoption.rules == ("folder:/a=one", "tag:owner:b=two")
    assert settings.adoption.cluster_policy == ()
    assert settings.conf is not None
    assert settings.conf.debug is True


def test_what_is_not_configured_equals_the_dataclass_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path, "")
    assert settings.compute == Settings().compute
    assert settings.brake == Settings().brake


def test_a_later_file_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "1.conf", tmp_path / "2.conf"
    first.write_text("[gateway]\nbind_port = 1\nbind_address = 192.0.2.1\n")
    second.write_text("[gateway]\nbind_port = 2\n")
    gateway = load([first, second]).gateway
    assert (gateway.bind_port, gateway.bind_address) == (2, "192.0.2.1")
    second.write_text("[gateway]\nbind_port = two\n")
    with pytest.raises(ConfigurationError, match=rf"^{second}: \[gateway\] bind_port: .*'two'"):
        load([first, second])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[gateway]\nbind_port = abc\n", "[gateway] bind_port: expected a port number"),
        ("[gateway]\nbind_port = 70000\n", "at most 65535, found '70000'"),
        ("[gateway]\noffline_misses = 1\n", "offline_misses: expected a whole number at least 2"),
        ("[gateway]\nbind_address = a b\n", "bind_address: expected a host name or IP address"),
        ("[adoption]\npolicy = all\n", "expected one of managed, locked, listed, found 'all'"),
        ("[gateway]\nbind_prt = 1\n", "[gateway] bind_prt: unknown key, did you mean bind_port?"),
        ("[gatway]\nbind_port = 1\n", "[gatway]: unknown section, did you mean gateway?"),
        ("[zzz]\na = 1\n", "[zzz]: unknown section, expected one of admin, adoption"),
        ("nothing\n", "expected an INI file; line 1"),
    ],
)
def test_a_wrong_value_names_file_key_and_expectation(
    tmp_path: Path, content: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path}/controlplane.conf: ")
    assert problem in str(caught.value)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone\.conf: cannot be read: No such file"):
        load([tmp_path / "gone.conf"])
    (tmp_path / "binary.conf").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"binary\.conf: expected UTF-8"):
        load([tmp_path / "binary.conf"])


def test_a_value_that_must_be_there_is_asked_for(tmp_path: Path) -> None:
    settings = read(tmp_path, "[database]\nconnection = sqlite://\n")
    assert settings.required("database", "connection") == "sqlite://"
    with pytest.raises(ConfigurationError, match=r"controlplane\.conf: \[gateway\] ca: is missing"):
        settings.required("gateway", "ca")
