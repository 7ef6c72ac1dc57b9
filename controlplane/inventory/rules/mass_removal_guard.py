"""The brake: many virtual machines that vanish at once are a fault until someone says otherwise.

What vCenter confirmed as deleted, reference by reference, is never braked. Pure.
"""

import itertools
from dataclasses import dataclass, field

WINDOW_SECONDS = 300.0
"""Removals within this time count as at once."""


@dataclass(frozen=True, slots=True)
class MassRemovalLimits:
    """How much may vanish unconfirmed."""

    fraction: float = 0.10
    count: int = 20

    def exceeded(self, vanished: int, servers: int) -> bool:
        """Tell whether so many of a cluster's servers are too many, or all there are."""
        if servers and vanished >= servers:
            return True
        return vanished > self.count and vanished > servers * self.fraction


@dataclass(slots=True)
class MassRemovalGuard:
    """What vanished unconfirmed from one cluster of late."""

    limits: MassRemovalLimits
    _times: dict[str, float] = field(default_factory=dict)
    """When, by key, the longest ago first."""

    def add(self, key: str, now: float) -> None:
        """Note that an object is no longer shown; ``now`` is a monotonic time in seconds."""
        self._times.pop(key, None)
        self._times[key] = now

    def back(self, key: str) -> None:
        """Note that an object was shown again, or that its end was confirmed."""
        self._times.pop(key, None)

    def excess(self, servers: int, now: float) -> tuple[str, ...]:
        """Return what has vanished at once if that is too much, else nothing."""
        past = itertools.takewhile(lambda key: self._times[key] < now - WINDOW_SECONDS, self._times)
        for key in list(past):
            del self._times[key]
        return tuple(self._times) if self.limits.exceeded(len(self._times), servers) else ()
