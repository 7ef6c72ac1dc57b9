"""The time as Nova's DATETIME columns hold it."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time in UTC, without zone and fraction."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)
