"""Threads that belong together: the first failure stops all, then all are waited for."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from common.log_fields import fields
from edge.errors import EdgeError

log = logging.getLogger(__name__)


class Tasks:
    """A group of threads. Use it as a context manager: leaving it stops and waits.

    A failure of one calls ``stop``, and is raised again when the group is left.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        """``stop`` makes every task return soon; it may be called more than once."""
        self._stop = stop
        self._threads: list[threading.Thread] = []
        self._failure: Exception | None = None

    def __enter__(self) -> "Tasks":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        for thread in self._threads:
            thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    def start(self, name: str, target: Callable[[], None]) -> None:
        """Run ``target`` in a thread of its own."""
        thread = threading.Thread(target=self._run, args=(name, target), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def all_alive(self) -> bool:
        """Tell whether every task runs."""
        return all(thread.is_alive() for thread in self._threads)

    def _run(self, name: str, target: Callable[[], None]) -> None:
        try:
            target()
        except Exception as error:  # the one boundary of the thread
            if self._failure is None:
                self._failure = error
            told = isinstance(error, EdgeError)
            facts = fields(thread=name, reason=error)
            log.error("task failed", extra=facts, exc_info=None if told else error)
            self._stop()
