"""The session with vCenter: who is trusted, who is logged in, and what errors say."""

import dataclasses
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from edge.config import ManagedSettings
from edge.errors import SecretUnreadableError
from edge.vcenter.client import faults
from edge.vcenter.client.certificate import describe_certificate, fetch_certificate
from edge.vcenter.client.session import VCenterSession
from tests.support.edge_vcenter_site import PATIENCE, VCenterSite, vcenter_settings
from tests.support.restricted_vcenter import RestrictedVCenter
from tests.support.servers import StartVcsim
from tools.servers.vcsim import Vcsim
from vsphere_gateway.v1 import inventory_pb2


@pytest.fixture
def simulator(vcsim: StartVcsim) -> Vcsim:
    return vcsim(vm=2)


@pytest.fixture
def site(simulator: Vcsim, tmp_path: Path) -> Iterator[VCenterSite]:
    opened = VCenterSite(simulator, tmp_path, ManagedSettings(("*",)))
    yield opened
    opened.close()


def thumbprint_of(simulator: Vcsim) -> str:
    return simulator.thumbprint.replace(":", "").lower()


def test_login_tells_which_vcenter_it_is(site: VCenterSite) -> None:
    vcenter = site.session.vcenter()
    assert len(vcenter.instance_uuid) == 36
    assert vcenter.api_version == "8.0.3.0"
    assert site.session.api_version == "8.0.3.0"


def test_authority_in_a_file_is_trusted(simulator: Vcsim, tmp_path: Path) -> None:
    session = VCenterSession(vcenter_settings(simulator, tmp_path))
    session.connect()
    session.close()


def test_pinned_thumbprint_is_trusted_without_an_authority(
    simulator: Vcsim, tmp_path: Path
) -> None:
    settings = vcenter_settings(
        simulator, tmp_path, ca_file=None, thumbprint=thumbprint_of(simulator)
    )
    session = VCenterSession(settings)
    session.connect()
    session.close()


def test_certificate_of_an_unknown_authority_is_refused_and_described(
    simulator: Vcsim, tmp_path: Path
) -> None:
    settings = vcenter_settings(simulator, tmp_path, ca_file=None)
    with pytest.raises(faults.CertificateNotTrustedError) as refused:
        VCenterSession(settings).connect()
    presented = refused.value.presented
    assert presented == describe_certificate(fetch_certificate(settings))
    assert presented.thumbprint == simulator.thumbprint
    text = str(refused.value)
    for fact in (presented.subject, presented.issuer, presented.thumbprint):
        assert fact in text
    assert f"{presented.not_after:%Y-%m-%d}" in text
    assert "vcenter.thumbprint" in text
    assert "vcenter.ca_file" in text


def test_wrong_thumbprint_is_refused_on_loopback_too(
    site: VCenterSite, simulator: Vcsim, tmp_path: Path
) -> None:
    sessions = site.session_count()
    settings = vcenter_settings(simulator, tmp_path, ca_file=None, thumbprint="ab" * 32)
    with pytest.raises(faults.CertificateNotTrustedError, match=simulator.thumbprint):
        VCenterSession(settings).connect()
    assert site.session_count() == sessions, "the password was sent to a server not trusted"


def test_pinned_thumbprint_is_checked_on_every_new_connection(
    simulator: Vcsim, tmp_path: Path
) -> None:
    pinned = thumbprint_of(simulator)
    session = VCenterSession(vcenter_settings(simulator, tmp_path, ca_file=None, thumbprint=pinned))
    session.connect()
    simulator.stop()
    for file in (simulator.certificate.certificate, simulator.certificate.key):
        file.unlink()
    shutil.rmtree(simulator.certificate.certificate.parent, ignore_errors=True)
    other = Vcsim(simulator.folder.parent / "other", port=simulator.port, vm=0)
    other.start()
    try:
        with pytest.raises(faults.CertificateNotTrustedError):
            session.managed_object(reference("Folder", "group-d1")).name  # noqa: B018
    finally:
        other.stop()


def test_nothing_is_trusted_when_the_authority_file_has_no_certificate(
    simulator: Vcsim, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    with pytest.raises(faults.CertificateNotTrustedError, match=r"empty\.pem"):
        VCenterSession(vcenter_settings(simulator, tmp_path, ca_file=empty))


def test_wrong_password_is_one_typed_refusal_that_names_the_user(
    simulator: Vcsim, tmp_path: Path
) -> None:
    session = VCenterSession(vcenter_settings(simulator, tmp_path))
    (tmp_path / "password").write_text("wrong\n")
    with pytest.raises(faults.LoginRefusedError, match=simulator.username):
        session.connect()
    assert session.login_refusals == 1
    assert not session.is_logged_in


def test_password_is_read_again_at_the_next_login(simulator: Vcsim, tmp_path: Path) -> None:
    settings = vcenter_settings(simulator, tmp_path)
    session = VCenterSession(settings)
    (tmp_path / "password").write_text("wrong\n")
    with pytest.raises(faults.LoginRefusedError):
        session.connect()
    (tmp_path / "password").write_text(simulator.password + "\n")
    session.connect()
    assert session.login_refusals == 0
    (tmp_path / "password").unlink()
    with pytest.raises(SecretUnreadableError):
        VCenterSession(settings).connect()
    session.close()


def test_operations_never_repeat_a_refused_login(site: VCenterSite, tmp_path: Path) -> None:
    folder = site.session.managed_object(reference("Folder", "group-d1"))
    assert folder.name
    (tmp_path / "password").write_text("wrong\n")
    site.end_sessions()
    for _ in range(5):
        with pytest.raises(faults.LoginRefusedError):
            folder.name  # noqa: B018
    assert site.session.login_refusals == 1


def test_expired_session_is_renewed_once_for_many_threads(site: VCenterSite) -> None:
    folder = site.session.managed_object(reference("Folder", "group-d1"))
    generation, sessions = site.session.generation, site.session_count()
    site.end_sessions()
    names: list[str] = []
    threads = [threading.Thread(target=lambda: names.append(folder.name)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == ["Datacenters"] * 8
    assert site.session.generation == generation + 1
    assert site.session_count() == sessions


def test_connect_keeps_a_good_login(site: VCenterSite) -> None:
    generation = site.session.generation
    site.session.connect()
    assert site.session.generation == generation
    site.end_sessions()
    site.session.connect()
    assert site.session.generation == generation + 1


def test_close_logs_out(site: VCenterSite) -> None:
    sessions = site.session_count()
    site.session.close()
    assert site.session_count() == sessions - 1


def test_session_that_ends_right_after_its_login_is_an_error_and_no_deadlock(
    site: VCenterSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = VCenterSession(site.settings)
    soap, is_in = session.soap, threading.Event()

    def lose_the_session(envelope: bytes, deadline_seconds: float = PATIENCE) -> bytes:
        if is_in.is_set():
            raise faults.SessionExpiredError("ended at once")
        answer = soap(envelope, deadline_seconds)
        if b"<Login " in envelope:
            is_in.set()
        return answer

    monkeypatch.setattr(session, "soap", lose_the_session)
    errors: list[Exception] = []

    def connect() -> None:
        try:
            session.connect()
        except faults.VCenterError as error:
            errors.append(error)

    connecting = threading.Thread(target=connect, daemon=True)
    connecting.start()
    connecting.join(PATIENCE)
    assert not connecting.is_alive(), "the login waits for itself"
    assert isinstance(errors[0], faults.SessionExpiredError)
    monkeypatch.undo()
    session.connect()
    session.close()


def test_close_does_not_wait_for_a_login_that_vcenter_leaves_unanswered(
    simulator: Vcsim, tmp_path: Path
) -> None:
    relay = RestrictedVCenter(simulator)
    session = VCenterSession(vcenter_settings(relay, tmp_path))  # type: ignore[arg-type]
    relay.keep_waiting(b"<Login ")
    connecting = threading.Thread(target=session.connect, daemon=True)
    connecting.start()
    assert relay.keeps.wait(PATIENCE)
    began = time.monotonic()
    session.close()
    assert time.monotonic() - began < PATIENCE / 2
    relay.answer_all()
    connecting.join(PATIENCE)
    session.close()
    relay.close()


def test_frozen_vcenter_is_unreachable_after_the_deadline(
    site: VCenterSite, simulator: Vcsim
) -> None:
    simulator.suspend()
    started = time.monotonic()
    try:
        with pytest.raises(faults.VCenterUnreachableError, match="deadline"):
            site.session.soap(b"<nothing/>", deadline_seconds=0.5)
    finally:
        simulator.resume()
    assert time.monotonic() - started < 5


def test_stopped_vcenter_is_unreachable(site: VCenterSite, simulator: Vcsim) -> None:
    simulator.stop()
    with pytest.raises(faults.VCenterUnreachableError):
        site.session.connect()


def test_deleted_object_is_named(site: VCenterSite) -> None:
    gone = site.session.managed_object(reference("VirtualMachine", "vm-4711"))
    with pytest.raises(faults.ManagedObjectNotFoundError) as error:
        gone.name  # noqa: B018
    assert error.value.managed_object == "VirtualMachine:vm-4711"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("NoPermission", faults.PermissionDeniedError),
        ("InvalidPowerState", faults.InvalidPowerStateError),
        ("TaskInProgress", faults.ConcurrentAccessError),
        ("InsufficientResourcesFault", faults.NoResourcesError),
        ("DuplicateName", faults.DuplicateNameError),
        ("ToolsUnavailable", faults.ToolsUnavailableError),
        ("FileLocked", faults.FileInUseError),
        ("NoDiskSpace", faults.NoSpaceError),
        ("NotSupported", faults.VSphereFaultError),
    ],
)
def test_faults_of_calls_are_typed(
    site: VCenterSite, simulator: Vcsim, fault: str, error: type[faults.VCenterError]
) -> None:
    machine = site.objects(vim.VirtualMachine)[0]
    mine: Any = site.session.managed_object(reference("VirtualMachine", machine._moId))
    simulator.inject_fault(fault, "PowerOffVM_Task", max_count=1)
    with pytest.raises(error) as raised:
        mine.PowerOffVM_Task()
    assert raised.value.vsphere_fault == fault


def test_settings_show_no_secret(simulator: Vcsim, tmp_path: Path) -> None:
    settings = vcenter_settings(simulator, tmp_path)
    assert simulator.password not in repr(dataclasses.asdict(settings))


def reference(type_name: str, value: str) -> inventory_pb2.ObjectReference:
    return inventory_pb2.ObjectReference(type=type_name, value=value)
