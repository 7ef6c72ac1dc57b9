"""The servers that other tests stand on do what those tests take for granted."""

import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pymysql
import pytest

from tools.servers import lease
from tools.servers.lease import Lease
from tools.servers.process import Daemon
from tools.servers.rabbitmq import RabbitMQ
from tools.servers.state import ServerError
from tools.servers.vcsim import Vcsim


def test_a_new_database_is_empty_and_takes_any_character(mariadb) -> None:
    parts = urlsplit(mariadb.create_database("characters"))
    connection = pymysql.connect(
        host=parts.hostname,
        port=parts.port,
        user=parts.username,
        password=parts.password,
        database=parts.path.strip("/"),
        charset="utf8mb4",
    )
    with connection, connection.cursor() as cursor:
        assert cursor.execute("SHOW TABLES") == 0
        cursor.execute("CREATE TABLE words (word TEXT)")
        cursor.execute("INSERT INTO words VALUES ('\N{ROCKET}')")
        cursor.execute("SELECT word FROM words")
        assert cursor.fetchone() == ("\N{ROCKET}",)


def test_a_virtual_host_is_a_bus_of_its_own(rabbitmq: RabbitMQ) -> None:
    rabbitmq.create_virtual_host("test-bus")
    try:
        assert "test-bus" in rabbitmq.control("list_vhosts")
    finally:
        rabbitmq.delete_virtual_host("test-bus")
    assert "test-bus" not in rabbitmq.control("list_vhosts")


def test_vcsim_proves_itself_by_its_own_authority_only(
    shared_vcsim: Callable[..., Vcsim],
) -> None:
    vcenter = shared_vcsim(cluster=1, vm=1)
    trusting = ssl.create_default_context(cafile=vcenter.ca_file)
    with (
        socket.create_connection((vcenter.host, vcenter.port)) as connection,
        trusting.wrap_socket(connection, server_hostname=vcenter.host) as session,
    ):
        assert session.getpeercert() is not None
    with (
        socket.create_connection((vcenter.host, vcenter.port)) as connection,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(connection, server_hostname=vcenter.host)


def test_vcsim_refuses_a_wrong_password(vcsim: Callable[..., Vcsim]) -> None:
    vcenter = vcsim(cluster=1, vm=0)
    vcenter.password = "wrong"
    with pytest.raises(ServerError, match="Login failure"):
        vcenter.govc("about")


def test_an_injected_fault_is_raised_as_often_as_asked(vcsim: Callable[..., Vcsim]) -> None:
    vcenter = vcsim(cluster=1, vm=1)
    vcenter.inject_fault("NoPermission", "PowerOffVM_Task", max_count=1)
    with pytest.raises(ServerError):
        vcenter.govc("vm.power", "-off", "DC0_C0_RP0_VM0")
    vcenter.govc("vm.power", "-off", "DC0_C0_RP0_VM0")


def test_vcsim_comes_back_at_the_same_address(vcsim: Callable[..., Vcsim]) -> None:
    vcenter = vcsim(cluster=1, vm=0)
    url = vcenter.url
    vcenter.stop()
    assert not vcenter.running()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((vcenter.host, vcenter.port))
    vcenter.start()
    assert vcenter.url == url


def test_the_last_user_of_a_server_stops_it() -> None:
    events: list[str] = []

    def use() -> Lease:
        return Lease("test", lambda: events.append("start"), lambda: events.append("stop"))

    with use():
        with use():
            pass
        assert "stop" not in events
    assert events[-1] == "stop"


def test_a_kept_server_outlives_its_users_and_ends_with_its_last_keeper() -> None:
    events: list[str] = []

    def stop() -> None:
        events.append("stop")

    lease.keep("kept", "cloud", lambda: None)
    lease.keep("kept", "hand", lambda: None)
    with Lease("kept", lambda: None, stop):
        assert not lease.release("kept", "hand", stop)
    assert events == []
    assert lease.release("kept", "cloud", stop)
    assert events == ["stop"]


def test_a_process_that_dies_while_starting_is_reported_with_its_log(tmp_path: Path) -> None:
    daemon = Daemon("failing", tmp_path, ["/bin/sh", "-c", "echo out of luck; exit 3"])
    daemon.start()
    with pytest.raises(ServerError, match="out of luck"):
        daemon.wait_ready(lambda: False, 10)


def test_a_killed_process_is_gone_with_what_it_started_and_starts_again(tmp_path: Path) -> None:
    daemon = Daemon("shell", tmp_path, ["sh", "-c", "trap '' TERM; sleep 300 & echo $! ; wait"])
    daemon.start()
    daemon.wait_ready(lambda: daemon.log.read_text().strip() != "", 10)
    sleeper = int(daemon.log.read_text())
    first = daemon.pid
    daemon.kill()
    assert daemon.pid is None
    assert sleeper not in [
        one.pid
        for one in psutil.process_iter(["status"])
        if one.info["status"] != psutil.STATUS_ZOMBIE
    ]
    daemon.start()
    assert daemon.pid not in (None, first)
    daemon.kill()


def test_a_process_is_there_until_its_last_thread_has_ended(tmp_path: Path) -> None:
    script = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    daemon = Daemon("threads", tmp_path, [sys.executable, "-c", script])
    daemon.start()
    first = psutil.Process(daemon.pid)
    try:
        daemon.wait_ready(lambda: first.status() == psutil.STATUS_ZOMBIE, 10)
        assert daemon.pid == first.pid
    finally:
        daemon.kill()
    assert daemon.pid is None
