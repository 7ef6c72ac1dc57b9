"""Waiting for what must come true, with a limit and with what was seen last."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
POLL_SECONDS = 0.2


def eventually(
    look: Callable[[], Value], expected: Value, seconds: float = 30, poll: float = POLL_SECONDS
) -> None:
    """Wait until ``look`` returns ``expected``; fail with what it returned last."""
    deadline = time.monotonic() + seconds
    while (seen := look()) != expected:
        assert time.monotonic() < deadline, f"after {seconds} s: {seen!r}, expected {expected!r}"
        time.sleep(poll)
