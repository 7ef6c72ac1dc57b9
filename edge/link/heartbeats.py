"""Heartbeats of one call: sequence, silence of the other side, and the difference of the clocks."""

import logging
import threading
from collections.abc import Callable

from google.protobuf import timestamp_pb2

from common.log_fields import fields
from vsphere_gateway.v1 import link_pb2, operations_pb2

SILENT_INTERVALS = 3
"""The link ends after this many intervals without an echo."""
CLOCK_TOLERANCE = 5.0
"""Seconds that the two clocks may differ before it is logged."""

log = logging.getLogger(__name__)


class Heartbeats:
    """Numbers heartbeats and matches echoes. Safe for threads."""

    def __init__(
        self, interval: float, monotonic: Callable[[], float], now: Callable[[], float]
    ) -> None:
        """``interval`` is in seconds, as the control plane's welcome says."""
        self.interval = interval
        self._monotonic = monotonic
        self._now = now
        self._lock = threading.Lock()
        self._sequence = 0
        self._sent: dict[int, float] = {}
        self._heard_at = monotonic()
        self._skew = 0.0
        self._clock_reported = False

    def stamp(self, heartbeat: link_pb2.Heartbeat) -> link_pb2.Heartbeat:
        """Number a heartbeat that is sent now; return it."""
        with self._lock:
            self._sequence += 1
            self._sent[self._sequence] = self._monotonic()
            heartbeat.sequence = self._sequence
            heartbeat.sent_at.CopyFrom(to_timestamp(self._now()))
        return heartbeat

    def echoed(self, echo: link_pb2.HeartbeatEcho) -> None:
        """Match an answer to its heartbeat."""
        with self._lock:
            self._heard_at = self._monotonic()
            sent = self._sent.get(echo.sequence)
            self._sent = {each: at for each, at in self._sent.items() if each > echo.sequence}
            if sent is None:
                return
            skew = self._skew = clock_skew(echo, self._heard_at - sent)
        self._report(skew)

    def by_own_clock(self, operation: operations_pb2.Operation) -> operations_pb2.Operation:
        """Move the operation's deadline from the control plane's clock to ours; return it.

        So an appliance with a wrong clock neither fails every operation nor waits too long.
        """
        if operation.HasField("deadline"):
            with self._lock:
                skew = self._skew
            deadline = operation.deadline.ToNanoseconds() - round(skew * 1e9)
            operation.deadline.FromNanoseconds(deadline)
        return operation

    def silent_for(self) -> float:
        """Seconds since the last echo, or since the call was welcomed."""
        with self._lock:
            return self._monotonic() - self._heard_at

    def is_silent(self) -> bool:
        """Whether the other side is considered dead."""
        return self.silent_for() >= SILENT_INTERVALS * self.interval

    def _report(self, skew: float) -> None:
        if abs(skew) > CLOCK_TOLERANCE and not self._clock_reported:
            self._clock_reported = True
            log.warning(
                "clocks differ: set this machine's and the control plane's by NTP",
                extra=fields(skew_seconds=round(skew, 3)),
            )


def clock_skew(echo: link_pb2.HeartbeatEcho, round_trip: float) -> float:
    """Seconds that the control plane's clock is ahead of ours, from one echo (RFC 5905, 8)."""
    sent = echo.sent_at.ToNanoseconds() / 1e9
    return echo.received_at.ToNanoseconds() / 1e9 - (sent + round_trip / 2)


def to_timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    """Unix time in seconds as a message."""
    moment = timestamp_pb2.Timestamp()
    moment.FromNanoseconds(round(seconds * 1e9))
    return moment
