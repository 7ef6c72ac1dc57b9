"""Threads for operations: bounded in number, in order for what has the same key."""

import collections
import threading
import time
from collections.abc import Callable

from common.background import BackgroundThread, ThreadMonitor

WAIT_SECONDS = 60.0
"""Longest wait for a job; its only purpose is that no thread waits without end."""

Job = Callable[[], None]


class WorkerPool:
    """Runs jobs on at most ``size`` threads; jobs with the same key one after the other.

    A job that waits for its turn behind one of the same key occupies no thread. A job reports its
    own errors; one that raises is a bug, and its thread counts as down until it has run another.
    """

    def __init__(self, name: str, size: int, monitor: ThreadMonitor) -> None:
        self._name = name
        self._size = size
        self._monitor = monitor
        self._lock = threading.RLock()
        self._submitted = threading.Condition(self._lock)
        self._all_finished = threading.Condition(self._lock)
        self._ready: collections.deque[tuple[str, Job]] = collections.deque()
        self._behind: dict[str, collections.deque[Job]] = {}
        self._threads: list[BackgroundThread] = []
        self._idle = 0
        self._unfinished = 0
        self._stopped = False

    def submit(self, key: str, job: Job) -> None:
        """Run ``job`` after those of the same ``key``; an empty key waits for none."""
        with self._lock:
            self._unfinished += 1
            if key and key in self._behind:
                self._behind[key].append(job)
                return
            if key:
                self._behind[key] = collections.deque()
            self._ready.append((key, job))
            if self._idle < len(self._ready) and len(self._threads) < self._size:
                self._start_thread()
            self._submitted.notify()

    def stop(self, timeout: float) -> bool:
        """End the threads once nothing is left to do; False after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        with self._lock:
            if not self._all_finished.wait_for(lambda: not self._unfinished, timeout):
                return False
            self._stopped = True
            self._submitted.notify_all()
            threads = list(self._threads)
        ended = [thread.stop(max(0.0, end - time.monotonic())) for thread in threads]
        return all(ended)

    def _start_thread(self) -> None:
        name = f"{self._name}-{len(self._threads) + 1}"
        thread = BackgroundThread(name, self._run_next, self._monitor)
        self._threads.append(thread)
        thread.start()

    def _run_next(self) -> None:
        taken = self._next_job()
        if taken is None:
            return
        key, job = taken
        try:
            job()
        finally:
            self._finished(key)

    def _next_job(self) -> tuple[str, Job] | None:
        with self._lock:
            self._idle += 1
            self._submitted.wait_for(lambda: self._ready or self._stopped, WAIT_SECONDS)
            self._idle -= 1
            return self._ready.popleft() if self._ready else None

    def _finished(self, key: str) -> None:
        with self._lock:
            self._unfinished -= 1
            behind = self._behind.get(key)
            if behind:
                self._ready.append((key, behind.popleft()))
                self._submitted.notify()
            else:
                self._behind.pop(key, None)
            if not self._unfinished:
                self._all_finished.notify_all()
