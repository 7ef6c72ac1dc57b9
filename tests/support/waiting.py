"""Waiting for what must come true, with a limit and with what was seen last.

For what nobody announces to the test. Each place gives its own patience where the usual one
does not fit: a test of the whole cloud waits longer, and asks less often, than one of a thread.
"""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
SECONDS = 30.0
POLL_SECONDS = 0.2
IN_PROCESS_SECONDS = 20.0
IN_PROCESS_POLL_SECONDS = 0.01


def eventually(
    look: Callable[[], Value],
    expected: Value,
    seconds: float = SECONDS,
    poll: float = POLL_SECONDS,
) -> None:
    """Wait until ``look`` returns ``expected``; fail with what it returned last."""
    deadline = time.monotonic() + seconds
    while (seen := look()) != expected:
        assert time.monotonic() < deadline, f"after {seconds} s: {seen!r}, expected {expected!r}"
        time.sleep(poll)


def eventually_true(
    look: Callable[[], object],
    what: str = "",
    seconds: float = IN_PROCESS_SECONDS,
    poll: float = IN_PROCESS_POLL_SECONDS,
    evidence: Callable[[], str] = str,
) -> None:
    """Wait until ``look`` returns something true; fail with ``what``, its answer and evidence."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"after {seconds} s: no {what}: {seen!r}\n{evidence()}"
        time.sleep(poll)
