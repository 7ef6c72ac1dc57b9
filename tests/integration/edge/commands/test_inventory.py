"""`vsg-edge inventory` shows what would be reported, with no control plane."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.__main__ import main
from edge.commands.inventory import run_inventory
from edge.config import EdgeConfig, load_config
from tests.support.servers import StartVcsim
from tools.servers.vcsim import Vcsim

MakeConfig = Callable[..., EdgeConfig]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def simulator(shared_vcsim: StartVcsim) -> Vcsim:
    return shared_vcsim(cluster=2, host=2, vm=3)


@pytest.fixture
def make_config(simulator: Vcsim, tmp_path: Path) -> MakeConfig:
    def make(clusters: str = '["DC0_C0"]', password: str = simulator.password) -> EdgeConfig:
        (tmp_path / "bundle").mkdir(exist_ok=True)
        (tmp_path / "password").write_text(password)
        (tmp_path / "edge.toml").write_text(
            f"""
            [edge]
            bundle = "{tmp_path / "bundle"}"
            [vcenter]
            host = "{simulator.host}"
            port = {simulator.port}
            username = "{simulator.username}"
            password_file = "{tmp_path / "password"}"
            ca_file = "{simulator.ca_file}"
            [managed]
            clusters = {clusters}
            """
        )
        return load_config(tmp_path / "edge.toml")

    return make


def test_json_has_every_kind_of_object_by_name(make_config: MakeConfig) -> None:
    stream = io.StringIO()
    assert run_inventory(make_config(), "json", stream) == 0
    shown = json.loads(stream.getvalue())
    assert [each["name"] for each in shown["clusters"]] == ["DC0_C0"]
    assert [each["name"] for each in shown["hosts"]] == ["DC0_C0_H0", "DC0_C0_H1"]
    names = [each["name"] for each in shown["virtual_machines"]]
    assert names == ["DC0_C0_RP0_VM0", "DC0_C0_RP0_VM1", "DC0_C0_RP0_VM2"]
    machine = shown["virtual_machines"][0]
    assert machine["cluster"] == "DC0_C0"
    assert machine["power"] == "on"
    assert machine["disk_gib"] == 10
    assert machine["networks"] == ["DC0_DVPG0"]
    assert shown["datastores"][0]["name"] == "LocalDS_0"
    assert {each["name"] for each in shown["networks"]} >= {"DC0_DVPG0", "VM Network"}
    assert shown["vcenter"]["instance_uuid"]
    assert shown["unreadable"] == []


def test_piped_tables_have_one_line_for_each_object(make_config: MakeConfig) -> None:
    stream = io.StringIO()
    assert run_inventory(make_config(), "table", stream) == 0
    lines = stream.getvalue().splitlines()
    assert "virtual machines: 3" in lines
    machine = next(line for line in lines if line.startswith("DC0_C0_RP0_VM0\t"))
    assert machine.split("\t")[1:6] == ["DC0_C0", "on", "1", "32", "10"]


def test_terminal_gets_aligned_tables(make_config: MakeConfig) -> None:
    stream = Terminal()
    assert run_inventory(make_config(), "table", stream) == 0
    assert "DC0_C0_H0" in stream.getvalue()
    assert "\t" not in stream.getvalue()


def test_narrow_terminal_is_told_which_columns_it_has_no_room_for(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    assert run_inventory(make_config(), "table", stream) == 0
    text = " ".join(stream.getvalue().split())
    assert "Name Cluster Power CPUs Memory MiB Disk GiB" in text
    assert "Protected, Instance UUID, Reference. --format json has them" in text


def test_pattern_that_matches_nothing_names_the_clusters_there_are(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config('["prod-*"]')
    assert run_inventory(config, "table", io.StringIO()) == 1
    message = capsys.readouterr().err
    assert "managed.clusters: nothing matches prod-*" in message
    assert "DC0_C0, DC0_C1" in message


def test_wrong_password_is_one_line(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(password="not-the-password")
    assert main(["inventory", "--config", str(config.file)]) == 1
    message = capsys.readouterr().err
    assert len(message.strip().splitlines()) == 1
    assert "refuses the login" in message
    assert "not-the-password" not in message
