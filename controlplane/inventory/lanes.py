"""The queue of one inventory stream: changes overtake snapshot batches, within the windows.

That messages have their form and sequences no gaps was checked by the gateway.
"""

from collections import deque

from controlplane.domain.errors import FlowControlError
from vsphere_gateway.v1 import link_pb2

LARGEST_WINDOW = 64
"""A batch holds at most 512 KiB: this bounds what one stream may keep in memory."""


class Lane:
    """Batches of one lane that are not acknowledged yet."""

    def __init__(self, name: str, window: int) -> None:
        """Allow ``window`` batches under way, within reason."""
        self.name = name
        self.window = max(1, min(window, LARGEST_WINDOW))
        self.received = 0
        self.acked = 0

    def admit(self, sequence: int) -> None:
        """Count a batch in. Raises ``FlowControlError`` beyond the window."""
        if not self.received:
            self.acked = sequence - 1
        if sequence - self.acked > self.window:
            raise FlowControlError(
                f"{sequence - self.acked} batches of the {self.name} lane are under way, "
                f"the window is {self.window}"
            )
        self.received = sequence


class Lanes:
    """What one stream has sent and nobody has taken yet. Not thread-safe."""

    def __init__(self, opened: link_pb2.InventoryOpen) -> None:
        """Take the windows that the edge announced."""
        self._lanes = {
            link_pb2.LANE_CHANGES: Lane("changes", opened.changes_window),
            link_pb2.LANE_SNAPSHOT: Lane("snapshot", opened.window),
        }
        self._first: deque[link_pb2.InventoryRequest] = deque()
        self._later: deque[link_pb2.InventoryRequest] = deque()

    def put(self, request: link_pb2.InventoryRequest) -> None:
        """Queue a message of the edge. Raises ``FlowControlError`` beyond the window."""
        if request.HasField("batch"):
            self._lanes[request.batch.lane].admit(request.batch.sequence)
        later = request.HasField("batch") and request.batch.lane == link_pb2.LANE_SNAPSHOT
        (self._later if later else self._first).append(request)

    def take_first(self) -> link_pb2.InventoryRequest | None:
        """Return the next change, query or end of a pass.

        An end describes what holds after every batch before it: those of the snapshot lane that
        are still queued go first.
        """
        if self._first and self._first[0].HasField("snapshot_end") and self._later:
            return self._later.popleft()
        return self._first.popleft() if self._first else None

    def take_change(self) -> link_pb2.InventoryRequest | None:
        """Return the next change, but no query or end of a pass."""
        return self._first.popleft() if self._first and self._first[0].HasField("batch") else None

    def take_later(self) -> link_pb2.InventoryRequest | None:
        """Return the next snapshot batch."""
        return self._later.popleft() if self._later else None

    def applied(self, batch: link_pb2.ObjectBatch, epoch: int) -> link_pb2.Ack:
        """Return the acknowledgement of a batch that is committed."""
        self._lanes[batch.lane].acked = batch.sequence
        return link_pb2.Ack(epoch=epoch, lane=batch.lane, sequence=batch.sequence)
