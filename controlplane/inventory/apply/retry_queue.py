"""Servers whose rows still have to be made true: tried again with growing patience.

Nova withholds a row while it works on the server (`task_state`), and some states are its own for
days (a resize that waits to be confirmed): hence the growing delay.
"""

from collections.abc import Callable, Iterable

FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0


class Dirty:
    """Keys and when each is due. Not thread-safe; ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Hold nothing."""
        self._clock = clock
        self._due: dict[str, float] = {}
        self._delays: dict[str, float] = {}

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._due)

    def add(self, key: str) -> None:
        """Try later; each time in a row doubles the delay."""
        delay = self._delays.get(key, FIRST_DELAY)
        self._delays[key] = min(delay * 2, LONGEST_DELAY)
        self._due[key] = self._clock() + delay

    def soon(self, keys: Iterable[str], delay: float = 0.0) -> None:
        """Try in ``delay`` seconds, and patience starts anew."""
        for key in keys:
            self._delays.pop(key, None)
            self._due[key] = self._clock() + delay

    def clean(self, key: str) -> None:
        """Nothing is left to do."""
        self._due.pop(key, None)
        self._delays.pop(key, None)

    def next_due(self) -> float | None:
        """Return the earliest time at which something is due."""
        return min(self._due.values(), default=None)

    def take(self, limit: int) -> list[str]:
        """Remove and return at most ``limit`` keys that are due, the longest overdue first."""
        now = self._clock()
        due = sorted((moment, key) for key, moment in self._due.items() if moment <= now)
        keys = [key for _, key in due[:limit]]
        for key in keys:
            del self._due[key]
        return keys
