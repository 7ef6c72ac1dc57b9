"""The assembled edge: what `systemctl status` shows of it, and what ends it."""

import dataclasses
import threading
from pathlib import Path
from typing import cast

import pytest

from edge.assembly import Edge, assemble
from edge.config import load_config
from edge.errors import VCenterReplacedError
from edge.sync.vcenter_supervisor import VCenterSupervisor
from vsphere_gateway.v1 import link_pb2


def assembled(folder: Path) -> Edge:
    (folder / "bundle").mkdir()
    (folder / "password").write_text("secret-password")
    file = folder / "edge.toml"
    file.write_text(
        """
        [edge]
        bundle = "bundle"
        [vcenter]
        host = "vcenter.example.com"
        username = "edge@vsphere.local"
        password_file = "password"
        [managed]
        clusters = ["*"]
        """
    )
    return assemble(load_config(file, {}), {})


def test_status_line_names_vcenter_link_counts_and_what_is_down(tmp_path: Path) -> None:
    edge = assembled(tmp_path)
    edge.health.set_vcenter(link_pb2.VCENTER_STATE_LOGIN_REFUSED)
    well = "vCenter login refused; link down; 0 objects, 0 to be acknowledged"
    assert edge.status() == well
    edge.health.threads.failed("vcenter", KeyError("a bug"))
    assert edge.status() == f"{well}; thread vcenter is down: KeyError: 'a bug'"
    edge.health.threads.recovered("vcenter")
    assert edge.status() == well


class ReplacedVCenter:
    """A supervisor that finds another vCenter at the address."""

    def run(self) -> None:
        raise VCenterReplacedError("vCenter a was replaced by b; the edge starts anew")

    def stop(self) -> None:
        """Nothing is left to stop."""


def test_edge_whose_vcenter_was_replaced_ends_in_order_so_that_systemd_starts_it_again(
    tmp_path: Path,
) -> None:
    supervisor = cast(VCenterSupervisor, ReplacedVCenter())
    edge = dataclasses.replace(assembled(tmp_path), supervisor=supervisor)
    stop = threading.Event()
    with pytest.raises(VCenterReplacedError):
        edge.run(stop)
    assert stop.is_set()
    assert not any(thread.alive for thread in edge.link.threads)
