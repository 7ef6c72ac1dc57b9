"""Keeps the edge connected with its vCenter: log in, read, follow, and try again after an error.

The link to the control plane lives on whatever happens here; heartbeats carry the state.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

from common.backoff import Backoff
from common.process_memory import trim_memory
from edge.errors import SecretUnreadableError
from edge.health import Health
from edge.interfaces import Collector
from edge.log import OBJECTS, REASON, STATE, VCENTER, WAIT_SECONDS, fields
from edge.sync.inventory import Inventory
from edge.vcenter.client import faults
from vsphere_gateway.v1 import inventory_pb2, link_pb2

LOGIN_REFUSED_SECONDS = 20 * 60.0
"""Flat time between logins that vCenter refuses.

vCenter's own default locks an account for 5 minutes after 5 refused logins within 3 minutes
("Edit the vCenter Single Sign-On Lockout Policy"). Active Directory's strictest common policy is 3
within 30 minutes. Two in any 30 minutes stay below both. A changed password file is tried at once.
"""
FLAT_SECONDS = 60.0
"""Time between tries that send no password, or whose password was right."""
FileVersion: TypeAlias = tuple[int, ...]
PASSWORD_CHECK_SECONDS = 10.0
"""How often the password's file is looked at while vCenter refuses the password."""
QUESTION_SECONDS = 60.0
"""Longest wait for a question; its only purpose is that no thread waits without end."""

log = logging.getLogger(__name__)


class Session(Protocol):
    """What is needed of the vCenter session (``edge.vcenter.client.session.VCenterSession``)."""

    def connect(self) -> None:
        """Log in, or make sure that the present login is good. Raises ``VCenterError``."""

    def vcenter(self) -> inventory_pb2.VCenter:
        """Describe vCenter."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What an error of vCenter means for the next try."""

    state: link_pb2.VCenterState.ValueType
    flat_seconds: float | None
    """Seconds to the next try; None lets the growing delays decide."""


def judge(error: Exception) -> Verdict:
    """Classify an error by its type."""
    match error:
        case faults.LoginRefusedError() | SecretUnreadableError():
            return Verdict(link_pb2.VCENTER_STATE_LOGIN_REFUSED, LOGIN_REFUSED_SECONDS)
        case faults.CertificateNotTrustedError():
            return Verdict(link_pb2.VCENTER_STATE_CERTIFICATE_NOT_TRUSTED, FLAT_SECONDS)
        case faults.PermissionDeniedError():
            return Verdict(link_pb2.VCENTER_STATE_PERMISSION_DENIED, FLAT_SECONDS)
        case _:
            return Verdict(link_pb2.VCENTER_STATE_UNREACHABLE, None)


class VCenterSupervisor:
    """Runs the collector into the inventory for as long as the process lives."""

    def __init__(
        self,
        host: str,
        password_file: Path,
        session: Session,
        collector: Collector,
        inventory: Inventory,
        health: Health,
        backoff: Backoff,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._password_file = password_file
        self._session = session
        self._collector = collector
        self._inventory = inventory
        self._health = health
        self._backoff = backoff
        self._now = now
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._reported = ""
        self._trying: FileVersion | None = None
        """The password's file that a login under way may have read."""

    def run(self) -> None:
        """Follow vCenter until ``stop``.

        Raises ``VCenterReplacedError`` when another vCenter has taken the place of the first.
        """
        while not self._stop.is_set():
            self._wake.clear()
            try:
                self._follow()
            except (faults.VCenterError, SecretUnreadableError) as error:
                self._wait_after(error)

    def stop(self) -> None:
        """Let ``run`` and ``answer_questions`` return soon."""
        self._stop.set()
        self._wake.set()
        self._inventory.close()
        self._health.wake()

    def retry_now(self) -> None:
        """Do not wait any longer for the next try."""
        self._wake.set()

    def answer_questions(self) -> None:
        """Ask vCenter what the inventory wants to know, until ``stop``."""
        backoff = Backoff()
        while not self._stop.is_set():
            health = self._health.vcenter()
            if not _is_usable(health.state):
                self._health.wait_for_change(health.version, QUESTION_SECONDS)
                continue
            references = self._inventory.next_verification(QUESTION_SECONDS)
            try:
                if references:
                    self._inventory.apply_verification(
                        references, self._collector.confirm(references)
                    )
                    backoff.reset()
            except (faults.VCenterError, SecretUnreadableError) as error:
                self._inventory.retry_verification(references)
                log.info("questions wait", extra=fields({REASON: error, OBJECTS: len(references)}))
                self._health.wait_for_change(health.version, 1.0 + backoff.next_delay())

    def _follow(self) -> None:
        """Read everything, then follow the changes, until ``stop`` or an error."""
        self._trying = _version_of(self._password_file)
        self._session.connect()
        self._trying = None
        self._inventory.begin_read(self._session.vcenter())
        self._health.set_vcenter(link_pb2.VCENTER_STATE_READING)
        for update in self._collector.updates(self._stop):
            self._inventory.apply(update)
            if update.full_read and update.complete:
                self._connected()

    def _connected(self) -> None:
        self._backoff.reset()
        self._reported = ""
        self._health.set_vcenter(link_pb2.VCENTER_STATE_CONNECTED)
        trim_memory()
        log.info("vCenter connected", extra=fields({VCENTER: self._host}))

    def _wait_after(self, error: Exception) -> None:
        tried = _version_of(self._password_file) if self._trying is None else self._trying
        verdict = judge(error)
        flat = verdict.flat_seconds
        seconds = self._backoff.next_delay() if flat is None else flat
        refused = verdict.state == link_pb2.VCENTER_STATE_LOGIN_REFUSED
        advice = (
            f"; next try in {seconds / 60:.0f} min so that the account is not locked, or as soon as"
            f" {self._password_file} changes or the edge is reloaded (SIGHUP)"
            if refused
            else ""
        )
        self._health.set_vcenter(verdict.state, f"{error}{advice}")
        self._report(verdict, f"{error}{advice}", seconds)
        self._sleep(seconds, tried if refused else None)

    def _report(self, verdict: Verdict, message: str, seconds: float) -> None:
        """Log a reason once, until vCenter has been read again or the reason is another."""
        level = logging.DEBUG if message == self._reported else logging.WARNING
        self._reported = message
        facts = {
            VCENTER: self._host,
            STATE: link_pb2.VCenterState.Name(verdict.state),
            REASON: message,
            WAIT_SECONDS: round(seconds, 1),
        }
        log.log(level, "vCenter is of no use", extra=fields(facts))

    def _sleep(self, seconds: float, tried: FileVersion | None) -> None:
        """Wait, but not when a password's file is there that is another than the one ``tried``."""
        end = self._now() + seconds
        while (left := end - self._now()) > 0:
            step = left if tried is None else min(left, PASSWORD_CHECK_SECONDS)
            if self._wake.wait(step):
                return
            if tried is not None and _version_of(self._password_file) != tried:
                log.info("the password has changed, trying again")
                return


def _is_usable(state: link_pb2.VCenterState.ValueType) -> bool:
    return state in (link_pb2.VCENTER_STATE_READING, link_pb2.VCENTER_STATE_CONNECTED)


def _version_of(file: Path) -> FileVersion:
    try:
        found = file.stat()
    except OSError:
        return ()
    # The time alone may stay the same: it is coarse, and whoever replaces a file can set it.
    return found.st_mtime_ns, found.st_size, found.st_ino
