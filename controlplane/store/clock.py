"""Times as the tables hold them."""

from datetime import UTC, datetime


def utcnow() -> datetime:
    """Return the present time in UTC, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)
