"""Refused calls: each peer's reason is logged once and counted, however often it tries."""

import collections
import logging
import threading

from common.log_fields import fields
from controlplane.gateway.status import StreamEnd

LOG = logging.getLogger(__name__)

REMEMBERED = 1000
"""Pairs of peer and reason that are counted; beyond it the oldest is dropped."""


class Refusals:
    """Counts refused calls. Safe from any thread."""

    def __init__(self) -> None:
        self._counts: collections.OrderedDict[tuple[str, str], int] = collections.OrderedDict()
        self._lock = threading.Lock()

    def refused(self, who: str, call: str, end: StreamEnd) -> None:
        """Count a refused call of ``who``, and log the first with its reason."""
        key = (who, f"{call} {end.code.name}")
        with self._lock:
            count = self._counts.pop(key, 0) + 1
            self._counts[key] = count
            if len(self._counts) > REMEMBERED:
                self._counts.popitem(last=False)
        if count == 1:
            LOG.warning(
                "call refused",
                extra=fields(peer=who, call=call, status=end.code.name, reason=end.details),
            )

    def accepted(self, who: str) -> None:
        """Reset the counts of ``who``: should it be refused again, that is logged again."""
        with self._lock:
            forgotten = {key: self._counts.pop(key) for key in list(self._counts) if key[0] == who}
        for (_, reason), count in forgotten.items():
            if count > 1:
                LOG.info(
                    "calls were refused before", extra=fields(peer=who, reason=reason, times=count)
                )

    def count(self, who: str) -> int:
        """Count the calls of ``who`` that were refused since one was last accepted."""
        with self._lock:
            return sum(count for key, count in self._counts.items() if key[0] == who)
