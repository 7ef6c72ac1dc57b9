"""Threads that live as long as the process, with one boundary for what nobody expected.

Every loop of both tiers runs under ``BackgroundThread``: an unexpected error is logged once with
its traceback, counted, and reported to the ``ThreadMonitor``, by which health turns red; the step
that failed is tried again after a growing delay, and the first one that returns turns it green.
"""

import dataclasses
import logging
import threading
from collections.abc import Callable

from common.backoff import Backoff
from common.log_fields import fields

LOG = logging.getLogger(__name__)

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class ThreadFailure:
    """A thread that is down: its last step failed and none has returned since."""

    thread: str
    reason: str
    """The error's type and text, for a person."""


class ThreadMonitor:
    """Which background threads of this process are down. Safe from any thread."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """``changed`` is called without locks whenever a thread goes down or is up again."""
        self._changed = changed
        self._lock = threading.Lock()
        self._down: dict[str, ThreadFailure] = {}
        self._failures: dict[str, int] = {}

    def failed(self, thread: str, error: Exception) -> None:
        """Count a failed step of a thread, and hold the thread for down."""
        failure = ThreadFailure(thread, f"{type(error).__name__}: {error}")
        with self._lock:
            news = self._down.get(thread) != failure
            self._down[thread] = failure
            self._failures[thread] = self._failures.get(thread, 0) + 1
        if news:
            self._changed()

    def recovered(self, thread: str) -> None:
        """Hold a thread for up again."""
        with self._lock:
            news = self._down.pop(thread, None) is not None
        if news:
            self._changed()

    def down(self) -> list[ThreadFailure]:
        """List the threads that are down, by name."""
        with self._lock:
            return [self._down[thread] for thread in sorted(self._down)]

    def failures(self) -> dict[str, int]:
        """Count the failed steps of each thread that ever failed."""
        with self._lock:
            return dict(self._failures)


class BackgroundThread:
    """Runs a step again and again until it is stopped.

    A step does one unit of work and waits by itself for the next, for a bounded time or on
    something that ``wake`` notifies. What it has taken off a queue when it fails is its own to put
    back or to give up.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], None],
        monitor: ThreadMonitor,
        *,
        wake: Callable[[], None] = lambda: None,
        backoff: Backoff | None = None,
    ) -> None:
        """``wake`` ends the waiting of a step under way, so that ``stop`` takes effect at once."""
        self.name = name
        self.stopping = threading.Event()
        """Set by ``stop``; a step may wait on it."""
        self._step = step
        self._monitor = monitor
        self._wake = wake
        self._backoff = backoff or Backoff(FIRST_DELAY_SECONDS, 2.0, LONGEST_DELAY_SECONDS)
        self._reported = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; once only."""
        self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """End after the step at hand; False when it has not ended within ``timeout`` seconds.

        Does nothing for a thread that was never started or has ended. A step may stop its own
        thread.
        """
        self.stopping.set()
        self._wake()
        if self._thread.ident is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread was started and has not ended."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 - the boundary of this thread
                self._failed(error)
            else:
                self._succeeded()
        self._monitor.recovered(self.name)

    def _failed(self, error: Exception) -> None:
        self._monitor.failed(self.name, error)
        reason = f"{type(error).__name__}: {error}"
        facts = fields(thread=self.name, reason=reason)
        if reason == self._reported:
            LOG.warning("background thread failed again", extra=facts)
        else:
            LOG.error("background thread failed", extra=facts, exc_info=error)
        self._reported = reason
        self.stopping.wait(self._backoff.next_delay())

    def _succeeded(self) -> None:
        if self._reported:
            LOG.warning("background thread works again", extra=fields(thread=self.name))
            self._reported = ""
            self._backoff.reset()
            self._monitor.recovered(self.name)
