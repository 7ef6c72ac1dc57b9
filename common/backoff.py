"""How long to wait before the next try."""

import random
from collections.abc import Callable


class Backoff:
    """Exponential with full jitter: each delay is drawn evenly from nothing to a growing bound.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("full jitter"): when
    a control plane returns, its edges do not come all at once.
    """

    def __init__(
        self,
        initial: float = 1.0,
        factor: float = 1.6,
        maximum: float = 60.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """``initial`` and ``maximum`` bound the first and the last delays, in seconds."""
        self.maximum = maximum
        self._initial = initial
        self._factor = factor
        self._uniform = uniform
        self._bound = initial

    def next_delay(self) -> float:
        """Draw the seconds to wait; the next bound is longer."""
        delay = self._uniform(0.0, self._bound)
        self._bound = min(self._bound * self._factor, self.maximum)
        return delay

    def reset(self) -> None:
        """What was tried has worked; begin anew."""
        self._bound = self._initial
