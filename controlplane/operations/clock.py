"""Time, passed in so that tests need not wait for it."""

import threading
import time
from datetime import UTC, datetime
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


def table_time(seconds: float) -> datetime:
    """Unix time as the tables hold it: UTC without a zone."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def unix_time(moment: datetime) -> float:
    """The reverse of ``table_time``."""
    return moment.replace(tzinfo=UTC).timestamp()
