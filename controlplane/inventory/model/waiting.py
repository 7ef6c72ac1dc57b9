"""Virtual machines that came before what they refer to: their cluster, host, folder or network."""

from collections.abc import Iterable


class Waiting:
    """Who waits for whom, in one vCenter. Not thread-safe."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._wanted_by: dict[str, set[str]] = {}
        self._since: dict[str, float] = {}
        self._absent: set[str] = set()

    def want(self, key: str, missing: Iterable[str], now: float) -> None:
        """Note what an object waits for, since when."""
        self._since.setdefault(key, now)
        for one in missing:
            self._wanted_by.setdefault(one, set()).add(key)

    def worth_waiting(self, key: str, missing: Iterable[str], now: float, patience: float) -> bool:
        """Tell whether something may still come for which an object has not waited enough.

        What was missing at the end of a complete pass is not shown to the edge's user at all.
        """
        return (
            any(one not in self._absent for one in missing)
            and now - self._since.get(key, now) < patience
        )

    def arrived(self, key: str) -> set[str]:
        """Return who wanted an object that has come."""
        self._absent.discard(key)
        return self._wanted_by.pop(key, set())

    def complete(self) -> None:
        """A complete pass has been taken: what is still missing will not come by itself."""
        self._absent.update(self._wanted_by)

    def done(self, key: str) -> None:
        """An object waits no longer, though it may still want what it has not got."""
        self._since.pop(key, None)
