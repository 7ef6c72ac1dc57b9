"""Times as the tables hold them."""

from datetime import UTC, datetime


def moment(seconds: float) -> datetime:
    """Return a Unix time in seconds as UTC without a zone."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
