"""What operators see of compute services, and what becomes of workers."""

import logging
import os
import sys
from functools import partial
from pathlib import Path

import pytest

from common.log_fields import fields_of
from controlplane.compute.workers import supervisor as supervisor_module
from controlplane.compute.workers import worker as worker_module
from controlplane.compute.workers.compute_services import ComputeServices
from controlplane.domain.records import ComputeHostRecord
from controlplane.store.errors import StatementRejectedError
from controlplane.store.own.clusters import ClusterState
from tests.support.supervisor_stage import NOW, VCENTER, SupervisorStage, cluster
from tests.support.waiting import eventually_true

PATIENCE = 15.0


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "FIRST_DELAY", 0.05)
    monkeypatch.setattr(worker_module, "KILL_SECONDS", 0.5)
    monkeypatch.setattr(supervisor_module, "RETRY_SECONDS", 0.05)


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # gone before the open, or before the read
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def pid_of(stage: SupervisorStage, number: int = 1) -> int:
    return stage.supervisor.worker_status(cluster(number).uuid).pid


def test_host_is_provisioned_then_its_worker_runs_then_it_is_enabled(
    stage: SupervisorStage,
) -> None:
    row = stage.write(cluster(1))
    stage.supervisor.edge_online(VCENTER, "edge-1")
    stage.supervisor.cluster_found(row.uuid)
    eventually_true(lambda: stage.row(row).state is ClusterState.PROVISIONED, seconds=PATIENCE)
    assert stage.hosts.calls == [("provision", "c1-1a2b3c4d", row.compute_node_uuid)]
    assert pid_of(stage) == 0, "no worker before the first parity"
    stage.supervisor.cluster_synchronised(row.uuid)
    eventually_true(lambda: pid_of(stage), seconds=PATIENCE)
    assert ("enable", "c1-1a2b3c4d") not in stage.hosts.calls, "no scheduling before allocations"
    stage.supervisor.allocations_written(row.uuid)
    eventually_true(lambda: stage.row(row).state is ClusterState.ACTIVE, seconds=PATIENCE)
    assert stage.hosts.calls[-1] == ("enable", "c1-1a2b3c4d")
    folder = stage.folder / "workers" / "c1-1a2b3c4d"
    assert (folder / "compute_id").read_text() == row.compute_node_uuid


def test_worker_starts_and_runs_once_it_has_called(stage: SupervisorStage) -> None:
    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(lambda: pid_of(stage), seconds=PATIENCE)
    assert stage.supervisor.worker_status(row.uuid).state == "starting"
    stage.supervisor.worker_started("c1-1a2b3c4d")
    eventually_true(
        lambda: stage.supervisor.worker_status(row.uuid).state == "running", seconds=PATIENCE
    )


def test_edge_that_goes_disables_with_its_name_and_since_when_and_back_enables(
    stage: SupervisorStage,
) -> None:
    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(
        lambda: stage.row(row).state is ClusterState.ACTIVE and pid_of(stage), seconds=PATIENCE
    )
    pid = pid_of(stage)
    stage.supervisor.edge_offline(VCENTER, "edge-1", 1_800_000_000.0)
    eventually_true(lambda: stage.row(row).state is ClusterState.OFFLINE, seconds=PATIENCE)
    reason = "AUTO: edge edge-1 offline since 2027-01-15T08:00:00Z"
    assert stage.hosts.disabled["c1-1a2b3c4d"] == reason
    assert stage.row(row).state_reason == reason
    stage.supervisor.edge_online(VCENTER, "edge-1")
    eventually_true(lambda: stage.row(row).state is ClusterState.ACTIVE, seconds=PATIENCE)
    assert stage.hosts.disabled["c1-1a2b3c4d"] == ""
    assert pid_of(stage) == pid, "the worker runs on"


def test_operator_s_disable_is_never_overridden(stage: SupervisorStage) -> None:
    stage.hosts.disabled["c1-1a2b3c4d"] = "maintenance on Sunday"
    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(lambda: stage.row(row).state is ClusterState.ACTIVE, seconds=PATIENCE)
    stage.supervisor.edge_offline(VCENTER, "edge-1", 1_800_000_000.0)
    eventually_true(lambda: stage.row(row).state is ClusterState.OFFLINE, seconds=PATIENCE)
    stage.supervisor.edge_online(VCENTER, "edge-1")
    eventually_true(lambda: "maintenance" in stage.row(row).state_reason, seconds=PATIENCE)
    assert stage.hosts.disabled["c1-1a2b3c4d"] == "maintenance on Sunday"


def test_edge_that_returns_before_the_first_sync_is_complete_does_not_enable(
    stage: SupervisorStage,
) -> None:
    row = stage.write(cluster(1))
    stage.supervisor.edge_online(VCENTER, "edge-1")
    stage.supervisor.cluster_found(row.uuid)
    stage.supervisor.edge_offline(VCENTER, "edge-1", 1_800_000_000.0)
    eventually_true(
        lambda: "offline since" in stage.hosts.disabled.get("c1-1a2b3c4d", ""), seconds=PATIENCE
    )
    stage.supervisor.edge_online(VCENTER, "edge-1")
    eventually_true(
        lambda: stage.hosts.disabled["c1-1a2b3c4d"] == "AUTO: first sync", seconds=PATIENCE
    )
    assert stage.row(row).state is ClusterState.PROVISIONED


def test_placement_that_is_away_is_tried_again(stage: SupervisorStage) -> None:
    stage.hosts.away = True
    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(lambda: stage.hosts.attempts >= 2, seconds=PATIENCE)
    assert pid_of(stage) == 0
    stage.hosts.away = False
    eventually_true(lambda: stage.row(row).state is ClusterState.ACTIVE, seconds=PATIENCE)
    eventually_true(lambda: pid_of(stage), seconds=PATIENCE)


def test_worker_that_crashes_is_started_again_and_says_why(stage: SupervisorStage) -> None:
    stage.supervisor.stop()
    marker = stage.folder / "crashed"
    script = (
        f"import os, time, sys; p = {str(marker)!r}\n"
        "if not os.path.exists(p):\n open(p, 'w'); sys.exit('the bus is away')\n"
        "time.sleep(60)"
    )
    stage.worker = [sys.executable, "-c", script]
    stage.begin()
    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(
        lambda: (
            "the bus is away" in stage.supervisor.worker_status(row.uuid).message or marker.exists()
        ),
        seconds=PATIENCE,
    )
    eventually_true(lambda: pid_of(stage) and alive(pid_of(stage)), seconds=PATIENCE)


def test_delay_grows_while_a_worker_keeps_crashing(stage: SupervisorStage) -> None:
    stage.supervisor.stop()
    stage.worker = [sys.executable, "-c", "raise SystemExit('no such option')"]
    stage.begin()
    row = stage.write(cluster(1))
    stage.complete(row)
    worker = lambda: stage.supervisor._hosts[row.uuid].worker  # noqa: E731
    eventually_true(
        lambda: row.uuid in stage.supervisor._hosts and worker()._failures >= 3, seconds=PATIENCE
    )
    eventually_true(
        lambda: stage.supervisor.worker_status(row.uuid).state == "failed", seconds=PATIENCE
    )
    assert "no such option" in stage.supervisor.worker_status(row.uuid).message
    assert "worker.log" in stage.supervisor.worker_status(row.uuid).message


def test_workers_start_one_after_another(stage: SupervisorStage) -> None:
    stage.supervisor.stop()
    stage.starts_at_once = 1
    stage.begin()
    rows = [stage.write(cluster(number)) for number in (1, 2, 3)]
    for row in rows:
        stage.complete(row)
    eventually_true(
        lambda: sum(bool(pid_of(stage, number)) for number in (1, 2, 3)) == 1, seconds=PATIENCE
    )
    eventually_true(
        lambda: all(stage.row(row).state is ClusterState.ACTIVE for row in rows), seconds=PATIENCE
    )
    assert sum(bool(pid_of(stage, number)) for number in (1, 2, 3)) == 1
    eventually_true(
        lambda: (
            [stage.supervisor.worker_started(row.compute_host) for row in rows]
            and all(pid_of(stage, number) for number in (1, 2, 3))
        ),
        seconds=PATIENCE,
    )


def test_stop_ends_every_worker(stage: SupervisorStage) -> None:
    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(lambda: pid_of(stage), seconds=PATIENCE)
    pid = pid_of(stage)
    stage.supervisor.stop()
    assert not alive(pid)


def test_worker_that_ignores_the_request_to_end_is_killed(stage: SupervisorStage) -> None:
    stage.supervisor.stop()
    ready = stage.folder / "ready"
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"open({str(ready)!r}, 'w'); time.sleep(60)"
    )
    stage.worker = [sys.executable, "-c", script]
    stage.begin()
    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(ready.exists, seconds=PATIENCE)
    pid = pid_of(stage)
    stage.supervisor.stop()
    assert not alive(pid)


def crash(stage: SupervisorStage) -> None:
    """The control plane is gone at once; its workers are not told."""
    stage.supervisor._stopping = True
    for host in stage.supervisor._hosts.values():
        host.worker._process = None
    stage.supervisor._post(lambda: None)
    assert stage.supervisor._over.wait(10)


def test_worker_of_a_crashed_control_plane_is_taken_over(stage: SupervisorStage) -> None:
    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(
        lambda: stage.row(row).state is ClusterState.ACTIVE and pid_of(stage), seconds=PATIENCE
    )
    pid = pid_of(stage)
    stage.database.run(lambda c: supervisor_store(c, row.uuid))
    crash(stage)
    stage.begin()
    assert stage.supervisor.worker_status(row.uuid).pid == pid
    assert stage.supervisor.worker_status(row.uuid).state == "running"
    stage.supervisor.stop()
    eventually_true(lambda: not alive(pid), seconds=PATIENCE)


def test_worker_with_old_settings_is_replaced(stage: SupervisorStage) -> None:
    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(
        lambda: stage.row(row).state is ClusterState.ACTIVE and pid_of(stage), seconds=PATIENCE
    )
    pid = pid_of(stage)
    stage.database.run(lambda c: supervisor_store(c, row.uuid))
    crash(stage)
    (stage.folder / "nova.conf").write_text("[DEFAULT]\ndebug = true\n")
    stage.begin()
    eventually_true(lambda: pid_of(stage) not in (0, pid), seconds=PATIENCE)
    assert not alive(pid)


def test_number_that_another_process_has_now_is_left_alone(stage: SupervisorStage) -> None:
    row = stage.write(cluster(1), ClusterState.ACTIVE)
    stage.supervisor.stop()
    folder = stage.folder / "workers" / row.compute_host
    folder.mkdir(parents=True)
    (folder / "worker.json").write_text(
        f'{{"pid": {os.getpid()}, "started": "another", "fingerprint": "x"}}'
    )
    stage.begin()
    assert stage.supervisor.worker_status(row.uuid).pid == 0


def supervisor_store(connection: object, uuid: str) -> None:
    from controlplane.store.own import clusters

    clusters.synchronised(connection, [uuid], NOW)  # type: ignore[arg-type]
    clusters.allocated(connection, uuid, NOW)  # type: ignore[arg-type]


def test_cluster_that_left_management_loses_worker_and_host(stage: SupervisorStage) -> None:
    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(
        lambda: stage.row(row).state is ClusterState.ACTIVE and pid_of(stage), seconds=PATIENCE
    )
    pid = pid_of(stage)
    stage.supervisor.cluster_gone(row.uuid, "the site no longer lists it")
    eventually_true(lambda: ("remove", "c1-1a2b3c4d") in stage.hosts.calls, seconds=PATIENCE)
    assert not alive(pid)
    assert stage.hosts.last_words["c1-1a2b3c4d"] == "AUTO: cluster C1: the site no longer lists it"
    assert stage.supervisor.worker_status(row.uuid).state == "stopped"


def test_host_of_a_cluster_that_left_is_kept_while_it_has_servers_and_nobody_is_alarmed(
    stage: SupervisorStage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "controlplane.compute.workers.supervisor")

    def has_tried(times: int) -> bool:
        return stage.hosts.calls.count(("remove", "c1-1a2b3c4d")) >= times

    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(lambda: stage.row(row).state is ClusterState.ACTIVE, seconds=PATIENCE)
    for times, left in enumerate((1, 1, 0), start=1):
        stage.hosts.servers = left
        stage.supervisor.cluster_gone(row.uuid, "the site no longer lists it")
        eventually_true(partial(has_tried, times), seconds=PATIENCE)
    eventually_true(lambda: stage.supervisor._hosts == {}, seconds=PATIENCE)
    said = [record for record in caplog.records if "servers are left" in str(fields_of(record))]
    assert [record.levelname for record in said] == ["INFO"]


def test_host_that_was_kept_goes_after_its_servers_though_nobody_tells(
    stage: SupervisorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "LONGEST_RETRY", 0.05)
    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(lambda: stage.row(row).state is ClusterState.ACTIVE, seconds=PATIENCE)
    stage.hosts.servers = 1
    stage.supervisor.cluster_gone(row.uuid, "the site no longer lists it")
    eventually_true(
        lambda: stage.hosts.calls.count(("remove", "c1-1a2b3c4d")) >= 3, seconds=PATIENCE
    )
    stage.hosts.servers = 0
    eventually_true(lambda: stage.supervisor._hosts == {}, seconds=PATIENCE)


@pytest.mark.parametrize("restarted", [False, True])
def test_cluster_that_comes_back_waits_for_its_servers_before_nova_may_use_it(
    stage: SupervisorStage, restarted: bool
) -> None:
    row = stage.write(cluster(1))
    stage.complete(row)
    stage.database.run(lambda connection: supervisor_store(connection, row.uuid))
    eventually_true(lambda: stage.row(row).state is ClusterState.ACTIVE, seconds=PATIENCE)
    stage.write(row, ClusterState.UNMANAGED)
    stage.supervisor.cluster_gone(row.uuid, "the site no longer lists it")
    eventually_true(lambda: stage.supervisor._hosts == {}, seconds=PATIENCE)

    stage.write(row, ClusterState.NEW)
    stage.supervisor.cluster_found(row.uuid)
    eventually_true(lambda: stage.row(row).state is ClusterState.PROVISIONED, seconds=PATIENCE)
    if restarted:
        stage.supervisor.stop()
        stage.begin()
        stage.supervisor.edge_online(VCENTER, "edge-1")
    stage.supervisor.cluster_synchronised(row.uuid)
    eventually_true(lambda: pid_of(stage), seconds=PATIENCE)
    assert stage.hosts.disabled["c1-1a2b3c4d"] == "AUTO: first sync"
    assert [call[0] for call in stage.hosts.calls].count("enable") == 1
    stage.supervisor.allocations_written(row.uuid)
    eventually_true(lambda: stage.row(row).state is ClusterState.ACTIVE, seconds=PATIENCE)


def test_host_of_a_cluster_that_leaves_as_the_control_plane_ends_is_removed(
    stage: SupervisorStage,
) -> None:
    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(
        lambda: stage.row(row).state is ClusterState.ACTIVE and pid_of(stage), seconds=PATIENCE
    )
    stage.supervisor.cluster_gone(row.uuid, "the site no longer lists it")
    stage.supervisor.stop()
    assert stage.hosts.calls[-1] == ("remove", "c1-1a2b3c4d")


def test_host_of_a_cluster_that_left_while_the_control_plane_ended_is_removed_later(
    stage: SupervisorStage,
) -> None:
    stage.supervisor.stop()
    stage.write(cluster(1), ClusterState.UNMANAGED)
    stage.write(cluster(2), ClusterState.UNMANAGED)
    stage.hosts.disabled["c1-1a2b3c4d"] = "AUTO: cluster C1: why"
    stage.begin()
    eventually_true(lambda: stage.hosts.calls[-1:] == [("remove", "c1-1a2b3c4d")], seconds=PATIENCE)
    eventually_true(lambda: stage.supervisor._hosts == {}, seconds=PATIENCE)
    assert ("remove", "c2-1a2b3c4d") not in stage.hosts.calls


def test_cluster_in_alarm_is_disabled_and_its_worker_stopped(stage: SupervisorStage) -> None:
    row = stage.write(cluster(1))
    stage.complete(row)
    eventually_true(
        lambda: stage.row(row).state is ClusterState.ACTIVE and pid_of(stage), seconds=PATIENCE
    )
    stage.write(row, ClusterState.ALARM)
    stage.supervisor.cluster_found(row.uuid)
    eventually_true(lambda: stage.hosts.disabled["c1-1a2b3c4d"] == "AUTO: why", seconds=PATIENCE)
    eventually_true(lambda: pid_of(stage) == 0, seconds=PATIENCE)


def test_an_unexpected_error_about_one_host_stops_no_other_and_is_reported_until_it_is_over(
    stage: SupervisorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, other = stage.write(cluster(1)), stage.write(cluster(2))
    provision = stage.hosts.provision

    def broken(record: ComputeHostRecord) -> None:
        if record.host == row.compute_host:
            raise KeyError("a mistake of ours")
        provision(record)

    broken_host = f"supervisor/{row.compute_host}"
    with monkeypatch.context() as patch:
        patch.setattr(stage.hosts, "provision", broken)
        stage.complete(row)
        stage.complete(other)
        eventually_true(
            lambda: [one.thread for one in stage.monitor.down()] == [broken_host], seconds=PATIENCE
        )
        eventually_true(lambda: stage.row(other).state is ClusterState.ACTIVE, seconds=PATIENCE)
    eventually_true(lambda: stage.row(row).state is ClusterState.ACTIVE, seconds=PATIENCE)
    eventually_true(lambda: stage.monitor.down() == [], seconds=PATIENCE)


def test_an_unexpected_error_about_one_worker_holds_up_no_other(
    stage: SupervisorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, other = stage.write(cluster(1)), stage.write(cluster(2))
    drive = worker_module.ComputeWorker.drive
    broken_worker = f"supervisor/{row.compute_host}/worker"
    monkeypatch.setattr(supervisor_module, "RETRY_SECONDS", 0.05)

    def broken(worker: worker_module.ComputeWorker, now: float, slots: object) -> None:
        if worker is stage.supervisor._hosts[row.uuid].worker:
            raise KeyError("a mistake of ours")
        drive(worker, now, stage.supervisor)

    with monkeypatch.context() as patch:
        patch.setattr(worker_module.ComputeWorker, "drive", broken)
        stage.complete(row)
        stage.complete(other)
        eventually_true(lambda: pid_of(stage, 2), seconds=PATIENCE)
        eventually_true(
            lambda: [one.thread for one in stage.monitor.down()] == [broken_worker],
            seconds=PATIENCE,
        )
    eventually_true(lambda: pid_of(stage, 1), seconds=PATIENCE)
    eventually_true(lambda: stage.monitor.down() == [], seconds=PATIENCE)


def test_a_failing_worker_is_no_longer_reported_when_its_cluster_is_gone(
    stage: SupervisorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = stage.write(cluster(1))

    def broken(worker: worker_module.ComputeWorker, now: float, slots: object) -> None:
        raise KeyError("a mistake of ours")

    with monkeypatch.context() as patch:
        patch.setattr(worker_module.ComputeWorker, "drive", broken)
        stage.complete(row)
        eventually_true(stage.monitor.down, seconds=PATIENCE)
        stage.supervisor.cluster_gone(row.uuid, "left management")
        eventually_true(lambda: stage.monitor.down() == [], seconds=PATIENCE)


def test_clusters_that_the_database_refuses_to_read_turn_health_red(
    stage: SupervisorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = stage.write(cluster(1))

    def rejected(services: ComputeServices, uuid: str) -> None:
        raise StatementRejectedError("unknown column 'policy'")

    monkeypatch.setattr(supervisor_module, "LONGEST_RETRY", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(ComputeServices, "read", rejected)
        stage.complete(row)
        eventually_true(
            lambda: [one.thread for one in stage.monitor.down()] == ["supervisor/clusters"],
            seconds=PATIENCE,
        )
    eventually_true(lambda: stage.row(row).state is ClusterState.ACTIVE, seconds=PATIENCE)
    assert stage.monitor.down() == []
