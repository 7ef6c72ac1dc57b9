"""Mass removal: many virtual machines that go missing at once are a fault until a person decides.

What vCenter confirmed as deleted, reference by reference, is never held back. Pure.
"""

import itertools
from dataclasses import dataclass, field

WINDOW_SECONDS = 300.0
"""Removals within this time count as at once."""


@dataclass(frozen=True, slots=True)
class MassRemovalLimits:
    """How many servers of a cluster may go missing unconfirmed: the options of ``[brake]``."""

    fraction: float = 0.10
    count: int = 20

    def exceeded(self, missing: int, servers: int) -> bool:
        """Whether so many of a cluster's servers are too many, or all of them."""
        if servers and missing >= servers:
            return True
        return missing > self.count and missing > servers * self.fraction


@dataclass(slots=True)
class MassRemovalGuard:
    """What recently went missing from one cluster without a confirmation."""

    limits: MassRemovalLimits
    _times: dict[str, float] = field(default_factory=dict)
    """When, by key, the longest ago first."""

    def add(self, key: str, now: float) -> None:
        """Note that an object is no longer reported; ``now`` is a monotonic time in seconds."""
        self._times.pop(key, None)
        self._times[key] = now

    def discard(self, key: str) -> None:
        """Note that an object is reported again, or that its end was confirmed."""
        self._times.pop(key, None)

    def excess(self, servers: int, now: float) -> tuple[str, ...]:
        """What went missing at once, if that is too much; else nothing."""
        past = itertools.takewhile(lambda key: self._times[key] < now - WINDOW_SECONDS, self._times)
        for key in list(past):
            del self._times[key]
        return tuple(self._times) if self.limits.exceeded(len(self._times), servers) else ()
