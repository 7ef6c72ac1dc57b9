"""Times as database columns hold them: UTC without a zone, as Nova's and Glance's are."""

from datetime import UTC, datetime


def naive_utc(seconds: float) -> datetime:
    """Convert a Unix time in seconds to UTC without a zone."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def naive_utc_now() -> datetime:
    """Read the clock as UTC without a zone or a fraction, as Nova's and Glance's columns do."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)


def unix_seconds(naive: datetime) -> float:
    """Convert back what ``naive_utc`` returned."""
    return naive.replace(tzinfo=UTC).timestamp()
