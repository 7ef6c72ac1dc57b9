"""The worker of one cluster: started when wanted, watched, restarted after a failure."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from common.log_fields import fields
from controlplane.compute.workers import process, worker_config
from controlplane.compute.workers.process import WorkerProcess
from controlplane.compute.workers.worker_config import SHUTDOWN_SECONDS, WorkerSettings
from controlplane.domain.ports import WorkerStatus

log = logging.getLogger(__name__)

FIRST_DELAY = 2.0
LONGEST_DELAY = 120.0
"""Seconds between attempts to start a worker that ends by itself."""
PROVEN_SECONDS = 300.0
"""After a worker has run for so long its delays begin anew."""
START_SECONDS = 600.0
"""A worker that has not loaded its servers by then no longer holds up the next one."""
KILL_SECONDS = SHUTDOWN_SECONDS + 15.0


class StartQueue(Protocol):
    """Lets few workers start at a time.

    Each needs seconds of a processor, and the conductor to load its servers: when ten load 1,000
    each at once their requests time out and are repeated.
    """

    def may_start(self) -> bool:
        """Whether one more worker may start now."""


@dataclass(slots=True)
class Times:
    """When things happened or are due, in monotonic seconds; 0 means never."""

    started: float = 0.0
    retry: float = 0.0
    kill: float = 0.0


class ComputeWorker:
    """One worker. Driven by the supervisor's thread; ``ended`` posts to it."""

    def __init__(
        self,
        settings: WorkerSettings,
        command: Sequence[str],
        ended: Callable[[WorkerProcess, int | None], None],
    ) -> None:
        self.settings = settings
        self.wanted = False
        self._command = list(command)
        self._ended = ended
        self._process: WorkerProcess | None = None
        self._state = "stopped"
        self._message = ""
        self._failures = 0
        self._stale = False
        self._times = Times()

    @property
    def over(self) -> bool:
        """No process runs."""
        return self._process is None

    @property
    def starting(self) -> bool:
        """A process runs and has not loaded its servers yet."""
        return self._state == "starting"

    def status(self) -> WorkerStatus:
        """Report the state for diagnostics."""
        pid = self._process.pid if self._process else 0
        return WorkerStatus(self._state, pid, self._message)

    def take_over(self) -> None:
        """Take over the process that an earlier control plane left, or mark it for replacement."""
        found = process.find(self.settings.directory)
        if found is None:
            return
        self._process, fingerprint = found
        self._state = "running"
        self._watch(self._process)
        self._stale = fingerprint != self._fingerprint()
        log.info("worker taken over", extra=self._log_fields(stale=self._stale))

    def abandon(self) -> None:
        """Ask the process to end, from any thread."""
        running = self._process
        if running is not None:
            running.terminate()

    def drive(self, now: float, queue: StartQueue) -> None:
        """Start or end the process, as is wanted."""
        if self._process is not None:
            if self.starting and now - self._times.started > START_SECONDS:
                self._state, self._message = "running", "has not loaded its servers yet"
            if not self.wanted or self._stale:
                self._end(now)
        elif self.wanted and now >= self._times.retry and queue.may_start():
            try:
                self._start(now)
            except OSError as error:
                self._failed(now, f"cannot be started: {error}")
        elif not self.wanted:
            self._state, self._message = "stopped", ""

    def next_due(self, now: float) -> float:
        """When ``drive`` has something to do; all times are monotonic seconds.

        A worker that waits for its turn to start has nothing due: an event of another wakes it.
        """
        if self._process is not None:
            if self._times.kill:
                return self._times.kill
            return self._times.started + START_SECONDS if self.starting else inf
        return self._times.retry if self.wanted and self._times.retry > now else inf

    def has_started(self) -> None:
        """Note that the worker has loaded its servers."""
        if self.starting:
            self._state, self._message = "running", ""
            log.info("worker runs", extra=self._log_fields())

    def ended(self, ended: WorkerProcess, status: int | None, now: float) -> None:
        """Note that a process has ended."""
        if ended is not self._process:
            return
        self._process = None
        asked = bool(self._times.kill)
        self._times.kill = 0.0
        self._stale = False
        if asked:
            self._state, self._message = "stopped", ""
            log.info("worker stopped", extra=self._log_fields(pid=ended.pid))
            return
        if now - self._times.started > PROVEN_SECONDS:
            self._failures = 0
        self._failed(now, self._exit_message(status))

    def _failed(self, now: float, message: str) -> None:
        delay = min(FIRST_DELAY * 2**self._failures, LONGEST_DELAY)
        self._failures += 1
        self._times.retry = now + delay
        self._state, self._message = "failed", message
        log.error("worker failed", extra=self._log_fields(wait_seconds=delay, reason=message))

    def _start(self, now: float) -> None:
        arguments = worker_config.write(self.settings)
        command = [*self._command, *arguments]
        self._process = process.start(command, self.settings.directory, self._fingerprint())
        self._state, self._message = "starting", ""
        self._times = Times(started=now)
        self._watch(self._process)
        log.info("worker started", extra=self._log_fields())

    def _end(self, now: float) -> None:
        assert self._process is not None
        if not self._times.kill:
            self._times.kill = now + KILL_SECONDS
            self._process.terminate()
        elif now >= self._times.kill:
            log.warning("worker does not end and is killed", extra=self._log_fields())
            self._times.kill = now + KILL_SECONDS
            self._process.kill()

    def _watch(self, running: WorkerProcess) -> None:
        running.watch(lambda status: self._ended(running, status))

    def _fingerprint(self) -> str:
        return worker_config.fingerprint(self.settings)

    def _exit_message(self, status: int | None) -> str:
        how = "ended" if status is None else f"ended with status {status}"
        output = process.last_output(self.settings.directory)
        return f"{how}; see {self.settings.directory}/worker.log{f': {output}' if output else ''}"

    def _log_fields(self, **more: object) -> dict[str, object]:
        pid = self._process.pid if self._process else None
        return fields(**{"host": self.settings.compute_host, "pid": pid} | more)
