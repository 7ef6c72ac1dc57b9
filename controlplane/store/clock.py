"""Times as the tables hold them."""

from datetime import UTC, datetime


def moment(seconds: float) -> datetime:
    """Return a Unix time in seconds as UTC without a zone."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def utc_now() -> datetime:
    """Return the time in UTC without a zone or a fraction, as Nova's and Glance's columns do."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)
