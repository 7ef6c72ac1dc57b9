"""Threads that belong together: the first failure stops all, then all are waited for.

For the threads of one call, whose failure ends the call. A loop that lives as long as the process
is a ``common.background.BackgroundThread``: its failure is reported and it goes on.
"""

import threading
from collections.abc import Callable
from types import TracebackType


class Tasks:
    """A group of threads. Use it as a context manager: leaving it stops and waits.

    A failure of one calls ``stop``, and is raised again when the group is left: also in the place
    of the error that the stop caused in the ``with`` block.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        """``stop`` must make every task return soon; it may be called more than once."""
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
        if self._failure is not None:
            raise self._failure from error

    def start(self, name: str, target: Callable[[], None]) -> None:
        """Run ``target`` in a thread of its own."""
        thread = threading.Thread(target=self._run, args=(target,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def all_alive(self) -> bool:
        """Whether every task runs."""
        return all(thread.is_alive() for thread in self._threads)

    def _run(self, target: Callable[[], None]) -> None:
        try:
            target()
        except Exception as error:  # noqa: BLE001 - raised again where the group is left
            if self._failure is None:
                self._failure = error
            self._stop()
