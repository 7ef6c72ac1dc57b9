"""Asks vCenter for the next pages while one is parsed.

vCenter answers several requests at a time, and this process parses one at a time: with two under
way neither waits for the other.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

Fetch = Callable[[], list[bytes]]
"""One request with its continuations."""

_THREADS: Final = 2
_AHEAD: Final = 3
"""Most answers that are held or under way besides the one that is parsed."""


def fetch_ahead(fetches: Sequence[Fetch]) -> Iterator[bytes]:
    """Yield the pages of all ``fetches``, in their order.

    Raises what a fetch raises, in its turn. Threads end with the request that is under way when the
    caller takes no more.
    """
    if len(fetches) == 1:
        yield from fetches[0]()
        return
    fetching = _Fetching(fetches)
    try:
        yield from fetching.pages()
    finally:
        fetching.end()


class _Fetching:
    """Threads that are a few answers ahead."""

    def __init__(self, fetches: Sequence[Fetch]) -> None:
        self._fetches = fetches
        self._answers: list[queue.SimpleQueue[list[bytes] | Exception]] = [
            queue.SimpleQueue() for _ in fetches
        ]
        self._room = threading.Semaphore(_AHEAD)
        self._next = iter(range(len(fetches)))
        self._lock = threading.Lock()
        self._ended = threading.Event()
        for _ in range(min(_THREADS, len(fetches))):
            threading.Thread(target=self._run, name="vcenter-read", daemon=True).start()

    def pages(self) -> Iterator[bytes]:
        for answer in self._answers:
            fetched = answer.get()
            self._room.release()
            if isinstance(fetched, Exception):
                raise fetched
            yield from fetched

    def end(self) -> None:
        self._ended.set()
        self._room.release(_THREADS)

    def _run(self) -> None:
        while True:
            self._room.acquire()
            with self._lock:
                index = next(self._next, None)
            if index is None or self._ended.is_set():
                # The other threads have nothing left to do either.
                self._room.release()
                return
            try:
                self._answers[index].put(self._fetches[index]())
            except Exception as error:  # noqa: BLE001 - the thread's boundary: the caller raises it
                self._answers[index].put(error)
