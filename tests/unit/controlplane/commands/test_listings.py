"""What operators see of every listing, on terminals of several widths."""

import io
from collections.abc import Mapping, Sequence

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.cells import cell_len

from common.terminal import ESSENTIAL, Column, print_plain
from controlplane.commands.listings import LISTINGS
from controlplane.commands.output import show
from controlplane.commands.verify import DIFFERENCES, EXCUSED
from vsphere_gateway.v1 import diagnostics_pb2, link_pb2

THEN = Timestamp(seconds=1_795_870_000)
VCENTER = "1b2c31fa-a6e8-5f0b-ae82-1f1e4503cb88"
UUID = "bcf64368-322d-5cb4-9e34-d735483952d1"
SAMPLES: Mapping[str, Message] = {
    "edges": diagnostics_pb2.EdgeStatus(
        name="site-1", online=True, link_age_ms=2600, version="0.1.0", vcenter_uuid=VCENTER,
        vcenter_name="VMware vCenter Server 8.0.3 build-24022515", parity_at=THEN, since=THEN,
        vcenter_state=link_pb2.VCENTER_STATE_CONNECTED, certificate_not_after=THEN,
        lease_held=True, peer="192.0.2.17:60416",
    ),
    "clusters": diagnostics_pb2.ClusterStatus(
        uuid=UUID, name="production-cluster-01", moref="domain-c15", policy="managed",
        compute_host="production-cluster-01-7d0d4008", state="provisioned", hosts=16, servers=400,
        worker_pid=40404, worker_state="restarting",
        state_reason="AUTO: edge site-1 offline since 2026-11-28T12:44:50Z",
    ),
    "servers": diagnostics_pb2.ServerStatus(
        uuid=UUID, name="build-server-17", status="SHUTOFF", compute_host="test-225a86af",
        project_id="6d7f0c2a1a9b4a0b9d1f64a7b6c5d4e3", moref="vm-122", cpus=16, memory_mb=65536,
        disk_gb=2048, addresses=["10.0.0.31", "2001:db8::250:56ff:fe9a:1"], origin="adopted",
    ),
    "images": diagnostics_pb2.ImageStatus(
        id=UUID, name="ubuntu-24.04-golden", status="active", size_bytes=8 * 1024**3,
        visibility="shared", owner="6d7f0c2a1a9b4a0b9d1f64a7b6c5d4e3", moref="vm-132",
    ),
    "operations": diagnostics_pb2.OperationStatus(
        operation_id="o-1", action="power_off", instance_uuid=UUID, state="failed",
        compute_host="test-225a86af", request_id=f"req-{UUID}", created_at=THEN, edge="site-1",
        error="InvalidPowerState: the virtual machine is being migrated; try again later",
    ),
    "quarantine": diagnostics_pb2.QuarantineEntry(
        vcenter_uuid=VCENTER, object="VirtualMachine:vm-122", name="build-server-17",
        reason="duplicate_identity", since=THEN, attempts=12,
        message="two virtual machines have the same instance UUID; give one of them another",
    ),
    "differences": diagnostics_pb2.Difference(
        vcenter_uuid=VCENTER, object="VirtualMachine:vm-122", name="build-server-17",
        place="nova-cell", field="instances.power_state", expected="running", found="shut down",
    ),
    "excused": diagnostics_pb2.Excused(
        vcenter_uuid=VCENTER, object="VirtualMachine:vm-122", name="build-server-17",
        reason="a power_off of this server is under way",
    ),
}  # fmt: skip
ALL_COLUMNS: Mapping[str, Sequence[Column]] = {
    **{name: listing.columns for name, listing in LISTINGS.items()},
    "differences": DIFFERENCES,
    "excused": EXCUSED,
}


def printed(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    file = io.StringIO()
    show([SAMPLES[name]], ALL_COLUMNS[name], "table", file)
    return file.getvalue().splitlines()


def cells(name: str) -> dict[Column, str]:
    file = io.StringIO()
    print_plain([SAMPLES[name]], ALL_COLUMNS[name], file)
    line = file.getvalue().splitlines()[1]
    return dict(zip(ALL_COLUMNS[name], line.split("\t"), strict=True))


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("name", ALL_COLUMNS)
def test_every_word_that_is_shown_is_whole_and_every_column_is_shown_or_named(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(name, width, monkeypatch)
    text = " ".join(" ".join(lines).split())
    assert max(map(cell_len, lines)) <= width
    _, _, note = text.partition("No room for: ")
    left_out = note.partition(". --format json")[0].split(", ")
    assert set(left_out) - {""} <= {column.title for column in ALL_COLUMNS[name]}
    words = text.split()
    for column, cell in cells(name).items():
        if column.title in left_out:
            assert column.rank < ESSENTIAL
        else:
            assert set(column.title.split()) | set(cell.split()) <= set(words)


@pytest.mark.parametrize("name", ALL_COLUMNS)
def test_80_columns_are_enough_for_a_table(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    titles, rule, *_ = printed(name, 80, monkeypatch)
    assert set(rule) == {"─"}
    essential = [column.title for column in ALL_COLUMNS[name] if column.rank == ESSENTIAL]
    assert all(title in titles for title in essential)


def test_an_operation_is_shown_with_its_server_before_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    titles = printed("operations", 80, monkeypatch)[0].split()
    assert titles == ["Action", "State", "Server", "Error"]
