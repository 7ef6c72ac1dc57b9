"""Times and sizes in few characters."""

import datetime

from google.protobuf import timestamp_pb2

from vsphere_gateway.v1 import link_pb2

_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def duration(seconds: float) -> str:
    """A duration in at most two units.

    >>> duration(0.2), duration(59), duration(3700), duration(2 * 86400 + 5)
    ('0.2s', '59s', '1h 1m', '2d')
    """
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s"
    parts = []
    left = int(seconds)
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        parts.append(f"{count}{unit}" if count else "")
    first = next(index for index, part in enumerate(parts) if part)
    return " ".join(part for part in parts[first : first + 2] if part)


def size(count: int) -> str:
    """A number of bytes.

    >>> size(0), size(1536), size(20 * 1024**3)
    ('0 B', '1.5 KiB', '20 GiB')
    """
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_SIZES) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f}".removesuffix(".0") + f" {_SIZES[unit]}"


def utc_time(time: timestamp_pb2.Timestamp) -> str:
    """A time to the second, in UTC; a dash when it is not set."""
    if not time.seconds:
        return "-"
    return time.ToDatetime(datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def vcenter_state(state: int) -> str:
    """The state of an edge's vCenter in words."""
    name = link_pb2.VCenterState.Name(state)  # type: ignore[arg-type]  # any number may come
    words = name.removeprefix("VCENTER_STATE_").replace("_", " ").lower()
    return "-" if words == "unspecified" else words


def yes_no(value: bool) -> str:
    """``yes`` or ``no``."""
    return "yes" if value else "no"
