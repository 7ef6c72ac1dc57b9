"""How long changes take from the edge's observation to the commit."""

import threading
from collections import deque

KEPT = 1000


class Lags:
    """The last lags of each kind in each vCenter, in milliseconds. Thread-safe."""

    def __init__(self) -> None:
        """Have measured nothing."""
        self._lags: dict[tuple[str, int], deque[float]] = {}
        self._lock = threading.Lock()

    def add(self, vcenter_uuid: str, kind: int, milliseconds: float) -> None:
        """Take one measurement; clocks of edge and control plane may differ: never below 0."""
        with self._lock:
            lags = self._lags.setdefault((vcenter_uuid, kind), deque(maxlen=KEPT))
            lags.append(max(0.0, milliseconds))

    def quantile(self, vcenter_uuid: str, kind: int, fraction: float) -> int:
        """Return a quantile of the last lags, 0 when there are none."""
        with self._lock:
            lags = sorted(self._lags.get((vcenter_uuid, kind), ()))
        return round(lags[min(len(lags) - 1, int(len(lags) * fraction))]) if lags else 0
