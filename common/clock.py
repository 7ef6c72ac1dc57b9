"""Time, passed in: tests turn the hands themselves."""

import dataclasses
import time
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, slots=True)
class Clock:
    """Two clocks, because the one that people read may be set back."""

    wall: Callable[[], float] = time.time
    """Unix time in seconds, for what is shown and stored."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds that only ever grow, for deadlines."""
