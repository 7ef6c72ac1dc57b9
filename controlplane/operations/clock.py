"""The clock of the ledger, passed in so that tests need not wait."""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def time(self) -> float:
        """Unix time in seconds."""

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        """Wait on a condition that is held, at most ``timeout`` seconds; may wake early."""


class SystemClock:
    """The machine's clock."""

    def time(self) -> float:
        """Unix time in seconds."""
        return time.time()

    def wait(self, condition: threading.Condition, timeout: float) -> None:
        """Wait on a condition that the caller holds."""
        condition.wait(timeout)
