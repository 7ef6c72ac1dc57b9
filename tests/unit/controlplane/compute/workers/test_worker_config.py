"""The generated files, read as nova-compute reads them."""

from pathlib import Path
from typing import Any

import nova.conf
import pytest
from nova import config
from nova.virt import node
from oslo_messaging import transport

from controlplane.compute.workers import worker_config
from controlplane.compute.workers.worker_config import WorkerSettings

NODE_UUID = "77777777-0000-5000-8000-000000000001"


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    operators = tmp_path / "etc"
    operators.mkdir()
    (operators / "nova.conf").write_text(
        "[DEFAULT]\nhost = controller\ncompute_driver = libvirt.LibvirtDriver\n"
        "sync_power_state_interval = 600\nreport_interval = 7\nlog_dir = /var/log/nova\n"
        "transport_url = rabbit://api-level/\nconcurrency_backend = eventlet\n"
    )
    return WorkerSettings(
        compute_host="dc0-c0-1a2b3c4d",
        compute_node_uuid=NODE_UUID,
        directory=tmp_path / "workers" / "dc0-c0-1a2b3c4d",
        socket=tmp_path / "bridge.sock",
        config_files=(operators / "nova.conf",),
        transport_url="rabbit://nova:pa$$word@cell1/",
    )


@pytest.fixture
def conf() -> Any:
    """Nova's global configuration, forgotten before, since others read it too, and afterwards."""
    nova.conf.CONF.reset()
    yield nova.conf.CONF
    nova.conf.CONF.reset()


def read(arguments: list[str]) -> None:
    config.parse_args(["nova-compute", *arguments], init_rpc=False, configure_db=False)


def test_vcenter_is_the_truth_whatever_the_operator_s_file_says(
    settings: WorkerSettings, conf: Any
) -> None:
    read(worker_config.write(settings))
    assert conf.host == "dc0-c0-1a2b3c4d"
    assert conf.compute_driver == "vsphere_gateway.GatewayDriver"
    assert conf.sync_power_state_interval == -1
    assert conf.resume_guests_state_on_host_boot is False
    assert conf.running_deleted_instance_action == "log"
    assert conf.running_deleted_instance_poll_interval == -1
    assert conf.heal_instance_info_cache_interval == -1
    assert conf.concurrency_backend == "threading"
    assert conf.report_interval == 7, "the rest is the operator's"


def test_password_with_a_dollar_sign_survives(settings: WorkerSettings, conf: Any) -> None:
    read(worker_config.write(settings))
    conf.register_opts(transport._transport_opts)
    assert conf.transport_url == "rabbit://nova:pa$$word@cell1/"


def test_operator_has_the_last_word_for_one_worker(settings: WorkerSettings, conf: Any) -> None:
    worker_config.write(settings)
    own = settings.directory / "conf.d" / "mine.conf"
    own.write_text("[DEFAULT]\nupdate_resources_interval = 120\n")
    read(worker_config.write(settings))
    assert conf.update_resources_interval == 120


def test_node_s_identity_is_ours_and_not_that_of_another_host_beside_nova_conf(
    settings: WorkerSettings, conf: Any
) -> None:
    others = settings.config_files[0].with_name("compute_id")
    others.write_text("11111111-1111-4111-8111-111111111111")
    read(worker_config.write(settings))
    assert node.read_local_node_uuid() == NODE_UUID


def test_files_are_for_their_owner_alone(settings: WorkerSettings) -> None:
    worker_config.write(settings)
    assert (settings.directory / "worker.conf").stat().st_mode & 0o077 == 0
    assert settings.directory.stat().st_mode & 0o077 == 0


def test_fingerprint_changes_with_whatever_a_worker_reads(settings: WorkerSettings) -> None:
    worker_config.write(settings)
    seen = {worker_config.fingerprint(settings)}
    settings.config_files[0].write_text("[DEFAULT]\ndebug = true\n")
    seen.add(worker_config.fingerprint(settings))
    (settings.directory / "conf.d" / "mine.conf").write_text("[DEFAULT]\n")
    seen.add(worker_config.fingerprint(settings))
    assert len(seen) == 3
    worker_config.write(settings)
    assert worker_config.fingerprint(settings) in seen
