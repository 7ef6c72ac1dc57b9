"""Keeps the edge connected with its vCenter: log in, read, follow, and try again after an error.

The link to the control plane lives on whatever happens here; heartbeats carry the state.
"""

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Protocol, TypeAlias

from common.background import BackgroundThread, ThreadMonitor
from common.backoff import Backoff
from common.log_fields import fields
from common.process_memory import trim_memory
from edge.errors import SecretUnreadableError, VCenterReplacedError
from edge.health import Health
from edge.interfaces import CONFIRM_AT_ONCE, Collector, CollectorUpdate
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
"""Time between attempts that send no password, or whose password was right."""
FileVersion: TypeAlias = tuple[int, ...]
PASSWORD_CHECK_SECONDS = 10.0
"""How often the password's file is checked for a change while vCenter refuses the password."""
VERIFICATION_SECONDS = 60.0
"""Longest wait for something to verify; its only purpose is that no thread waits without end."""

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
    """Feeds the inventory from the collector for as long as the process lives."""

    def __init__(
        self,
        host: str,
        password_file: Path,
        session: Session,
        collector: Collector,
        inventory: Inventory,
        health: Health,
        monitor: ThreadMonitor,
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
        self._verification_backoff = Backoff()
        self._verify_at_once = CONFIRM_AT_ONCE
        self._now = now
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._reported = ""
        self._trying: FileVersion | None = None
        """The password's file that a login under way may have read."""
        self._updates: Generator[CollectorUpdate, None, None] | None = None
        """What follows after a full read; None when everything is to be read."""
        self._replaced: VCenterReplacedError | None = None
        self._reader = BackgroundThread(
            "vcenter", self._read_or_follow, monitor, wake=self._wake.set
        )
        self._verifier = BackgroundThread(
            "verification", self._verify, monitor, wake=self._end_verification
        )

    def run(self) -> None:
        """Follow vCenter, and verify what the inventory is unsure of, until ``stop``.

        Raises ``VCenterReplacedError`` when another vCenter has taken the place of the first.
        """
        self._reader.start()
        self._verifier.start()
        self._stop.wait()
        self._reader.stop()
        self._verifier.stop()
        if self._replaced is not None:
            raise self._replaced

    def stop(self) -> None:
        """Let ``run`` return soon."""
        self._stop.set()

    def retry_now(self) -> None:
        """Cut the wait for the next attempt short."""
        self._wake.set()

    def _read_or_follow(self) -> None:
        """One step: log in and read everything, or follow the changes until an error."""
        self._wake.clear()
        if self._reader.stopping.is_set():  # its wake-up may be what was cleared
            return
        try:
            if self._updates is None:
                self._read()
            else:
                self._follow()
        except (faults.VCenterError, SecretUnreadableError) as error:
            self._wait_after(error)
        except VCenterReplacedError as error:
            self._replaced = error
            self._stop.set()
            self._reader.stop()
        except Exception as error:
            # Logged and repeated by the thread; nobody may take the inventory for current.
            self._health.set_vcenter(
                link_pb2.VCENTER_STATE_UNREACHABLE,
                f"unexpected error in the edge, vCenter will be read again: {error!r}",
            )
            raise

    def _read(self) -> None:
        self._trying = _version_of(self._password_file)
        self._session.connect()
        self._trying = None
        self._inventory.begin_read(self._session.vcenter())
        self._health.set_vcenter(link_pb2.VCENTER_STATE_READING)
        with contextlib.ExitStack() as unfinished:
            updates = self._collector.updates(self._reader.stopping)
            unfinished.callback(updates.close)
            for update in updates:
                self._inventory.apply(update)
                if update.full_read and update.complete:
                    unfinished.pop_all()
                    self._updates = updates
                    self._connected()
                    return

    def _follow(self) -> None:
        updates, self._updates = self._updates, None
        if updates is not None:
            with contextlib.closing(updates):
                for update in updates:
                    self._inventory.apply(update)

    def _connected(self) -> None:
        self._backoff.reset()
        self._reported = ""
        self._health.set_vcenter(link_pb2.VCENTER_STATE_CONNECTED)
        trim_memory()
        log.info("vCenter connected", extra=fields(vcenter=self._host))

    def _verify(self) -> None:
        """One step: ask vCenter about objects that the inventory is unsure of."""
        health = self._health.vcenter()
        if not _is_usable(health.state):
            self._health.wait_for_change(health.version, VERIFICATION_SECONDS)
            return
        references = self._inventory.next_verification(VERIFICATION_SECONDS, self._verify_at_once)
        if not references:
            return
        try:
            answer = self._collector.confirm(references)
            self._inventory.apply_verification(references, answer)
        except (faults.VCenterError, SecretUnreadableError) as error:
            self._inventory.retry_verification(references)
            log.info("verification postponed", extra=fields(reason=error, objects=len(references)))
            delay = 1.0 + self._verification_backoff.next_delay()
            self._health.wait_for_change(health.version, delay)
        except Exception:
            # One object that nobody can read must not hold up the others.
            self._verify_at_once = 1
            self._inventory.retry_verification(references)
            raise
        else:
            self._verify_at_once = min(2 * self._verify_at_once, CONFIRM_AT_ONCE)
            self._verification_backoff.reset()

    def _end_verification(self) -> None:
        self._inventory.close()
        self._health.wake()

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
        facts = fields(
            vcenter=self._host,
            state=link_pb2.VCenterState.Name(verdict.state),
            reason=message,
            wait_seconds=round(seconds, 1),
        )
        log.log(level, "vCenter is unusable", extra=facts)

    def _sleep(self, seconds: float, tried: FileVersion | None) -> None:
        """Wait, but not when the password's file is another version than the one ``tried``."""
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
