"""Text as Nova's and Glance's tables can hold it. Pure."""

import re
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

COLUMN_LENGTH = 255
"""Of every name, key and value column that we write, in characters."""
HOSTNAME_LENGTH = 63
"""nova/utils.py:sanitize_hostname."""

_BEYOND_UTF8MB3 = re.compile("[\U00010000-\U0010ffff]")
# C0 and C1: a terminal that shows a name must not obey it.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f]")
_NO_HOSTNAME = re.compile(r"[^a-z0-9]+")
# A VM that is older than vSphere 6.7 has the epoch as createDate (API doc, ConfigInfo.createDate).
_OLDEST_DATE = datetime(1971, 1, 1)  # noqa: DTZ001 - the columns hold UTC without a zone


def escape(text: str) -> str:
    """Text without what utf8mb3 refuses: `U+1F600` becomes `\\u{1F600}`.

    Nova's and Glance's tables are utf8mb3, and one 4-byte character fails a whole batch with error
    1366. Control characters become spaces.
    """
    if text.isascii() and text.isprintable():
        return text
    spaced = _UNPRINTABLE.sub(" ", text)
    return _BEYOND_UTF8MB3.sub(lambda match: f"\\u{{{ord(match[0]):X}}}", spaced)


def cut(text: str, length: int = COLUMN_LENGTH) -> str:
    """Escaped text of at most ``length`` characters, never with half an escape."""
    escaped = escape(text)
    if len(escaped) <= length:
        return escaped
    head = escaped[:length]
    opened = head.rfind("\\u{")
    return head[:opened] if opened > head.rfind("}") else head


def hostname(*candidates: str) -> str:
    """The first candidate that leaves a host name after cleaning, else an empty string."""
    for candidate in candidates:
        label = candidate.split(".", 1)[0].lower() if candidate.isascii() else candidate.lower()
        cleaned = _NO_HOSTNAME.sub("-", label)[:HOSTNAME_LENGTH].strip("-")
        if cleaned:
            return cleaned
    return ""


def utc(timestamp: Timestamp) -> datetime | None:
    """A time as the DATETIME columns hold it; None when vCenter has no such time."""
    if not timestamp.seconds:
        return None
    moment = datetime.fromtimestamp(timestamp.seconds, UTC).replace(tzinfo=None)
    return moment if moment >= _OLDEST_DATE else None
