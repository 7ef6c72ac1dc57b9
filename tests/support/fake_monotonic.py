"""A fake of the monotonic clock, for parts that are given one: it stands until a test turns it."""


class FakeMonotonic:
    """Called as ``time.monotonic`` is; a test sets ``now``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
