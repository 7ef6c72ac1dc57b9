"""What each error of vCenter means for the next try, without waiting for any."""

import os
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from common.backoff import Backoff
from edge.errors import VCenterReplacedError
from edge.health import Health
from edge.interfaces import CollectorUpdate
from edge.sync.inventory import Inventory
from edge.sync.outbox import OutboxLimits
from edge.sync.vcenter_supervisor import LOGIN_REFUSED_SECONDS, VCenterSupervisor
from edge.vcenter.client import faults
from tests.support.vcenter_truth import VCENTER, VCenterTruth
from vsphere_gateway.v1 import inventory_pb2, link_pb2

PATIENCE = 10.0


class ScriptedVCenter:
    """Session and collector whose errors a test chooses: real ones cannot be had in order."""

    def __init__(self, truth: VCenterTruth) -> None:
        self.truth = truth
        self.errors: list[Exception] = []
        self.logins = 0
        self.identity = VCENTER
        self.broken = threading.Event()
        self.breaks_with: Exception = faults.SessionExpiredError("expired")
        self.confirm_errors: list[Exception] = []
        self.unreadable = ""
        """Identifier of an object whose verification always fails."""
        self.changed = threading.Condition()
        self.meanwhile: list[Callable[[], object]] = []
        """What happens during the next logins."""

    def connect(self) -> None:
        with self.changed:
            self.logins += 1
            self.changed.notify_all()
        if self.meanwhile:
            self.meanwhile.pop(0)()
        if self.errors:
            raise self.errors.pop(0)

    def vcenter(self) -> inventory_pb2.VCenter:
        return self.identity

    def updates(self, stop: threading.Event) -> Generator[CollectorUpdate, None, None]:
        yield from self.truth.full_read()
        while not stop.wait(0.005):
            if self.broken.is_set():
                self.broken.clear()
                raise self.breaks_with

    def confirm(self, references: list[inventory_pb2.ObjectReference]) -> CollectorUpdate:
        if self.confirm_errors:
            raise self.confirm_errors.pop(0)
        if self.unreadable in [reference.value for reference in references]:
            raise KeyError("a defect")
        return self.truth.confirm(references)

    def wait_for_logins(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.logins >= count, PATIENCE)


class SupervisedVCenter:
    """A supervisor over a scripted vCenter."""

    def __init__(self, folder: Path) -> None:
        self.password = folder / "password"
        self.password.write_text("first")
        self.vcenter = ScriptedVCenter(VCenterTruth({"vm-1": "a"}))
        self.inventory = Inventory(OutboxLimits())
        self.health = Health(self.inventory)
        self.supervisor = VCenterSupervisor(
            "vc.example.com",
            self.password,
            self.vcenter,
            self.vcenter,
            self.inventory,
            self.health,
            self.health.threads,
            Backoff(0.01, 1.0, 0.01),
        )
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.supervisor.stop()
        if self._thread.ident is not None:
            self.wait_for_end()

    def wait_for_end(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def wait_for(self, state: link_pb2.VCenterState.ValueType) -> str:
        """Wait for a state; return what it says to a person."""
        while (health := self.health.vcenter()).state != state:
            assert self.health.wait_for_change(health.version, PATIENCE), health
        return health.message

    def wait_for_failure(self, thread: str) -> str:
        """Wait until health shows that a thread is down; return what heartbeats say."""
        while not any(each.thread == thread for each in self.health.threads.down()):
            version = self.health.vcenter().version
            assert self.health.wait_for_change(version, PATIENCE) or self.health.threads.down()
        return "\n".join(self.health.heartbeat().failing_threads)

    def confirm(self, *identifiers: str) -> list[link_pb2.ObjectRemoval]:
        """Have the control plane ask about objects that do not exist; return the first answer."""
        self.inventory.attach(link_pb2.Holdings())
        confirm = link_pb2.ConfirmObjects()
        for identifier in identifiers:
            confirm.references.add(type="VirtualMachine", value=identifier)
        self.inventory.received(link_pb2.InventoryResponse(confirm_objects=confirm))
        removals: list[link_pb2.ObjectRemoval] = []
        while not removals:
            request = self.inventory.next_request(PATIENCE)
            assert request is not None
            removals.extend(request.batch.removals)
        return removals

    def _run(self) -> None:
        try:
            self.supervisor.run()
        except VCenterReplacedError as error:
            self.failure = error


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SupervisedVCenter]:
    site = SupervisedVCenter(tmp_path)
    yield site
    site.stop()


def test_expired_session_logs_in_again_at_once_and_removes_nothing(site: SupervisedVCenter) -> None:
    site.start()
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)
    site.vcenter.broken.set()
    site.vcenter.wait_for_logins(2)
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)
    assert site.inventory.counts().objects == 1


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (faults.VCenterUnreachableError("down"), link_pb2.VCENTER_STATE_UNREACHABLE),
        (
            faults.CertificateNotTrustedError("forged", None),
            link_pb2.VCENTER_STATE_CERTIFICATE_NOT_TRUSTED,
        ),
        (
            faults.PermissionDeniedError("no", "System.View", "Folder:group-d1"),
            link_pb2.VCENTER_STATE_PERMISSION_DENIED,
        ),
    ],
)
def test_each_error_has_its_state_and_is_tried_again(
    site: SupervisedVCenter, error: Exception, state: link_pb2.VCenterState.ValueType
) -> None:
    site.vcenter.errors = [error]
    seen: list[link_pb2.VCenterState.ValueType] = []
    set_vcenter = site.health.set_vcenter

    def note(new: link_pb2.VCenterState.ValueType, message: str = "") -> None:
        seen.append(new)
        set_vcenter(new, message)

    site.health.set_vcenter = note  # type: ignore[method-assign]
    site.start()
    site.vcenter.wait_for_logins(1)
    while not seen:
        assert site.health.wait_for_change(site.health.vcenter().version, PATIENCE) or seen
    site.supervisor.retry_now()
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)
    assert seen == [
        state,
        link_pb2.VCENTER_STATE_READING,
        link_pb2.VCENTER_STATE_CONNECTED,
    ]


def test_refused_login_is_not_repeated_before_its_time(site: SupervisedVCenter) -> None:
    """Two in 30 minutes lock no account under any common policy."""
    assert LOGIN_REFUSED_SECONDS >= 15 * 60
    site.vcenter.errors = [faults.LoginRefusedError("wrong password")]
    site.start()
    message = site.wait_for(link_pb2.VCENTER_STATE_LOGIN_REFUSED)
    assert "wrong password" in message
    assert "next try in 20 min" in message
    threading.Event().wait(0.2)
    assert site.vcenter.logins == 1


def test_changed_password_is_tried_at_once(
    site: SupervisedVCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.sync.vcenter_supervisor.PASSWORD_CHECK_SECONDS", 0.02)
    site.vcenter.errors = [faults.LoginRefusedError("wrong password")]
    site.start()
    site.wait_for(link_pb2.VCENTER_STATE_LOGIN_REFUSED)
    site.password.write_text("second")
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)
    assert site.vcenter.logins == 2


def test_password_that_changes_during_a_refused_login_is_tried_at_once(
    site: SupervisedVCenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.sync.vcenter_supervisor.PASSWORD_CHECK_SECONDS", 0.02)
    site.vcenter.errors = [faults.LoginRefusedError("wrong password")]

    def replace() -> None:
        site.password.write_text("second")
        os.utime(site.password, ns=(0, 0))

    os.utime(site.password, ns=(0, 0))
    site.vcenter.meanwhile = [replace]
    site.start()
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)
    assert site.vcenter.logins == 2


def test_reload_tries_at_once(site: SupervisedVCenter) -> None:
    site.vcenter.errors = [faults.LoginRefusedError("wrong password")]
    site.start()
    site.wait_for(link_pb2.VCENTER_STATE_LOGIN_REFUSED)
    site.supervisor.retry_now()
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)


def test_another_vcenter_at_the_address_ends_the_process(site: SupervisedVCenter) -> None:
    site.start()
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)
    site.vcenter.identity = inventory_pb2.VCenter(instance_uuid="another")
    site.vcenter.broken.set()
    site.wait_for_end()
    assert isinstance(site.failure, VCenterReplacedError)


def test_questions_are_answered_while_vcenter_is_connected(site: SupervisedVCenter) -> None:
    site.start()
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)
    assert [each.reference.value for each in site.confirm("vm-9")] == ["vm-9"]


def test_stop_between_two_attempts_makes_no_further_attempt(site: SupervisedVCenter) -> None:
    """Its wake-up is lost when the next attempt has begun: that one must see the stop itself."""
    site.supervisor._reader.stopping.set()
    site.supervisor._read_or_follow()
    assert site.vcenter.logins == 0


def test_unexpected_error_of_the_reader_turns_health_red_until_vcenter_is_read_again(
    site: SupervisedVCenter,
) -> None:
    site.start()
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)
    site.vcenter.errors = [KeyError("a defect"), KeyError("a defect")]
    site.vcenter.broken.set()
    assert "thread vcenter is down: KeyError: 'a defect'" in site.wait_for_failure("vcenter")
    assert "a defect" in site.wait_for(link_pb2.VCENTER_STATE_UNREACHABLE)
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)
    assert site.health.threads.failures() == {"vcenter": 2}
    while site.health.threads.down():
        site.health.wait_for_change(site.health.vcenter().version, 0.1)
    assert site.vcenter.logins == 4


def test_unexpected_error_while_changes_are_followed_reads_vcenter_again(
    site: SupervisedVCenter,
) -> None:
    site.start()
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)
    site.vcenter.breaks_with = KeyError("a defect")
    site.vcenter.broken.set()
    site.wait_for(link_pb2.VCENTER_STATE_UNREACHABLE)
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)
    assert site.vcenter.logins == 2
    assert site.inventory.counts().objects == 1


def test_unexpected_error_of_a_verification_turns_health_red_and_loses_no_question(
    site: SupervisedVCenter,
) -> None:
    site.vcenter.confirm_errors = [KeyError("a defect")]
    site.start()
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)
    seen: list[str] = []
    watcher = threading.Thread(target=lambda: seen.append(site.wait_for_failure("verification")))
    watcher.start()
    assert [each.reference.value for each in site.confirm("vm-9")] == ["vm-9"]
    watcher.join(PATIENCE)
    assert "thread verification is down" in seen[0]


def test_object_that_cannot_be_verified_holds_up_no_other(site: SupervisedVCenter) -> None:
    site.vcenter.unreadable = "vm-13"
    site.start()
    site.wait_for(link_pb2.VCENTER_STATE_CONNECTED)
    assert [each.reference.value for each in site.confirm("vm-13", "vm-9")] == ["vm-9"]
