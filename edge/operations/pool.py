"""Threads for operations: bounded in number, in order for what has the same key."""

import collections
import logging
import threading
import time
from collections.abc import Callable

LOG = logging.getLogger("edge.operations.pool")

Job = Callable[[], None]


class Workers:
    """Runs jobs on at most ``size`` threads; jobs with the same key one after the other.

    A job that waits for its turn behind one of the same key occupies no thread.
    """

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._condition = threading.Condition()
        self._ready: collections.deque[tuple[str, Job]] = collections.deque()
        self._behind: dict[str, collections.deque[Job]] = {}
        self._threads = 0
        self._idle = 0
        self._stopped = False

    def submit(self, key: str, job: Job) -> None:
        """Run ``job`` after those of the same ``key``; an empty key waits for none."""
        with self._condition:
            if key and key in self._behind:
                self._behind[key].append(job)
                return
            if key:
                self._behind[key] = collections.deque()
            self._ready.append((key, job))
            if self._idle < len(self._ready) and self._threads < self._size:
                self._threads += 1
                name = f"{self._name}-{self._threads}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
            self._condition.notify()

    def stop(self, timeout: float) -> bool:
        """End the threads once nothing is left to do; False after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        with self._condition:
            self._stopped = True
            self._condition.notify_all()
            return self._condition.wait_for(lambda: not self._threads, end - time.monotonic())

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            key, job = taken
            try:
                job()
            except Exception:
                # The thread's boundary: a job reports its own errors, so this is a bug in it.
                LOG.exception("job failed")
            finally:
                self._finished(key)

    def _take(self) -> tuple[str, Job] | None:
        with self._condition:
            self._idle += 1
            self._condition.wait_for(lambda: self._ready or self._stopped)
            self._idle -= 1
            if self._ready:
                return self._ready.popleft()
            self._threads -= 1
            self._condition.notify_all()
            return None

    def _finished(self, key: str) -> None:
        with self._condition:
            behind = self._behind.get(key)
            if behind:
                self._ready.append((key, behind.popleft()))
                self._condition.notify()
            else:
                self._behind.pop(key, None)
