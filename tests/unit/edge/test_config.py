"""A wrong configuration names the file, the key and what was expected, and exits with 2."""

from pathlib import Path

import pytest

from edge.__main__ import main
from edge.config import EdgeConfig, ManagedSettings, load_config
from edge.errors import ConfigError, SecretUnreadableError

GOOD = """
[edge]
bundle = "bundle"

[vcenter]
host = "vcenter.example.com"
username = "edge@vsphere.local"
password_file = "password"
thumbprint = "{thumbprint}"

[managed]
clusters = ["prod-*", "lab"]
read_only_names = ["vcenter*"]
read_only_folders = ["/dc1/vm/appliances"]
"""
THUMBPRINT = ":".join(["AB"] * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "password").write_text("s3cret-Pass\n")
    (tmp_path / "ca.pem").write_text("")
    return tmp_path


def load(folder: Path, text: str, **environment: str) -> EdgeConfig:
    file = folder / "edge.toml"
    file.write_text(text.replace("{thumbprint}", THUMBPRINT))
    return load_config(file, environment)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    file = folder / "edge.toml"
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{file}: ") for line in lines)
    return [line.removeprefix(f"{file}: ") for line in lines]


def test_cache_is_where_the_file_says_else_where_systemd_gives_it_else_nowhere(
    folder: Path,
) -> None:
    named = GOOD.replace('bundle = "bundle"', 'bundle = "bundle"\ncache_directory = "kept"')
    assert load(folder, named, CACHE_DIRECTORY="/x").edge.cache_directory == folder / "kept"
    assert load(folder, GOOD, CACHE_DIRECTORY="/x").edge.cache_directory == Path("/x")
    assert load(folder, GOOD).edge.cache_directory is None


def test_good_file(folder: Path) -> None:
    config = load(folder, GOOD)
    assert config.edge.bundle == folder / "bundle"
    assert config.vcenter.port == 443
    assert config.vcenter.read_password() == "s3cret-Pass"
    assert config.vcenter.thumbprint == "ab" * 32
    assert config.control_plane.proxy_mode == "environment"
    assert config.limits.outbox_bytes == 32 << 20


def test_password_is_read_when_it_is_used(folder: Path) -> None:
    config = load(folder, GOOD)
    (folder / "password").write_text("rotated\n")
    assert config.vcenter.read_password() == "rotated"
    (folder / "password").write_text("")
    with pytest.raises(SecretUnreadableError, match="is empty"):
        config.vcenter.read_password()
    (folder / "password").unlink()
    with pytest.raises(SecretUnreadableError, match="cannot read"):
        config.vcenter.read_password()


def test_password_is_in_no_representation(folder: Path) -> None:
    assert "s3cret-Pass" not in repr(load(folder, GOOD))


def test_password_from_a_systemd_credential(folder: Path) -> None:
    text = GOOD.replace('password_file = "password"', 'password_credential = "password"')
    config = load(folder, text, CREDENTIALS_DIRECTORY=str(folder))
    assert config.vcenter.read_password() == "s3cret-Pass"
    assert "LoadCredential=password" in problems(folder, text)[0]


def test_unknown_keys_and_sections_are_errors(folder: Path) -> None:
    found = problems(folder, GOOD + '\n[managd]\nx = 1\n[log]\nlevl = "info"\n')
    assert found == [
        "log.levl: unknown key; [log] has format, level",
        "managd: unknown section; there are [edge], [vcenter], [managed], [control_plane], [log],"
        " [limits]",
    ]


@pytest.mark.parametrize(
    ("line", "wrong", "expected"),
    [
        ("host =", 'host = ""', "vcenter.host: is '', expected vCenter's DNS name or IP address"),
        ("host =", "", "vcenter.host: is missing"),
        ("host =", 'host = "https://vc"', "vcenter.host: is 'https://vc', expected a DNS name"),
        ("username =", "username = 5", "vcenter.username: is 5, expected a vCenter user"),
        ("username =", "port = 0\nusername='x'", "vcenter.port: is 0, expected a number from 1"),
        ("username =", "port = true\nusername='x'", "vcenter.port: is True, expected a number"),
        ("password_file =", 'password_file = "nope"', "does not exist, expected a file that holds"),
        ("password_file =", "", "vcenter.password_file: is missing, expected password_file or"),
        (
            "thumbprint =",
            'thumbprint = "AB:CD"',
            "vcenter.thumbprint: is 'AB:CD', expected",
        ),
        ("thumbprint =", 'ca_file = "no.pem"', "vcenter.ca_file: "),
        ("clusters =", "clusters = []", "managed.clusters: is empty, expected at least one"),
        ("clusters =", 'clusters = "all"', "managed.clusters: is 'all', expected a list"),
        ("bundle =", 'bundle = "password"', "is no directory, expected what `vsg-certs stamp`"),
    ],
)
def test_wrong_value_names_key_and_expectation(
    folder: Path, line: str, wrong: str, expected: str
) -> None:
    lines = [wrong if each.startswith(line) else each for each in GOOD.splitlines()]
    assert any(expected in problem for problem in problems(folder, "\n".join(lines)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('proxy = "https://proxy:1"', "control_plane.proxy: is 'https://proxy:1', expected"),
        ('proxy = "http://user:pw@proxy:1"', "without a user name"),
        ('proxy = "none"\nproxy_username = "u"', "needs a proxy"),
        ('proxy = "http://proxy:3128"\nproxy_username = "u"', "expected proxy_username and"),
    ],
)
def test_wrong_proxy(folder: Path, text: str, expected: str) -> None:
    assert expected in "\n".join(problems(folder, f"{GOOD}\n[control_plane]\n{text}\n"))


def test_all_problems_are_told_at_once(folder: Path) -> None:
    keys = [problem.partition(":")[0] for problem in problems(folder, "[vcenter]\nport = 'x'")]
    assert set(keys) == {
        "edge.bundle",
        "managed.clusters",
        "vcenter.host",
        "vcenter.password_file",
        "vcenter.port",
        "vcenter.username",
    }


def test_missing_file_and_broken_file(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: cannot be read"):
        load_config(folder / "nothing.toml")
    assert "is not TOML" in problems(folder, "[edge")[0]


def test_wrong_configuration_exits_with_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "edge.toml"
    file.write_text("[edge]\nbundle = 1\n")
    for command in ("run", "check", "inventory"):
        assert main([command, "--config", str(file)]) == 2
        assert f"{file}: edge.bundle: is 1, expected" in capsys.readouterr().err


def test_patterns() -> None:
    managed = ManagedSettings(("prod-*", "lab [x]"), ("vcenter*",), ("/dc1/vm/app*", "dc2/vm/x"))
    assert managed.manages_cluster("prod-1")
    assert managed.manages_cluster("lab [x]")
    assert not managed.manages_cluster("Prod-1")
    assert managed.name_is_read_only("vcenter-7")
    assert managed.folder_is_read_only("/dc1/vm/appliances/below")
    assert managed.folder_is_read_only("/dc2/vm/x")
    assert not managed.folder_is_read_only("/dc1/vm")
