"""Power states as Nova numbers them, and those that operations have just returned."""

import threading
import time
from collections.abc import Callable, Mapping

from nova.compute import power_state, task_states

from vsphere_gateway.v1 import inventory_pb2

FRESH_SECONDS = 10.0
"""For how long the state that an operation returned is fresh: Nova reads it right after."""

POWER_OFF_TASKS = frozenset({None, task_states.POWERING_OFF, task_states.SOFT_DELETING})
"""Tasks whose purpose is to power off."""

_NOVA: Mapping[inventory_pb2.PowerState.ValueType, int] = {
    inventory_pb2.POWER_STATE_ON: power_state.RUNNING,
    inventory_pb2.POWER_STATE_OFF: power_state.SHUTDOWN,
    inventory_pb2.POWER_STATE_SUSPENDED: power_state.SUSPENDED,
}


def nova_power_state(state: inventory_pb2.PowerState.ValueType) -> int:
    """Convert to Nova's number of a power state."""
    return _NOVA.get(state, power_state.NOSTATE)


class RecentStates:
    """States that operations returned, each to be used once. Thread-safe."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._states: dict[str, tuple[int, float]] = {}

    def keep(self, instance_uuid: str, state: int) -> None:
        """Keep the state that an operation ended with."""
        now = self._now()
        with self._lock:
            self._states = {
                uuid: kept for uuid, kept in self._states.items() if now - kept[1] < FRESH_SECONDS
            }
            self._states[instance_uuid] = (state, now)

    def take(self, instance_uuid: str) -> int | None:
        """Return the state if it is fresh, and forget it."""
        with self._lock:
            kept = self._states.pop(instance_uuid, None)
        if kept is None or self._now() - kept[1] >= FRESH_SECONDS:
            return None
        return kept[0]

    def forget(self, instance_uuid: str) -> None:
        """Drop a state before an operation that may change it."""
        with self._lock:
            self._states.pop(instance_uuid, None)
