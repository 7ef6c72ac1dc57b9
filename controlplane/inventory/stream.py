"""One open inventory stream: queues what the edge sends, within its windows, and answers.

That messages have their form and sequences no gaps was checked by the gateway.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable

from google.rpc import code_pb2, status_pb2

from common.references import reference_of
from controlplane.domain.errors import FlowControlError
from controlplane.domain.ports import InventorySink
from controlplane.inventory.apply.plan import Plan
from controlplane.inventory.model.replica_digest import ReplicaDigest
from vsphere_gateway.v1 import link_pb2

CONFIRMED_AT_ONCE = 500
"""References in one message."""
LAGS_KEPT = 1000
"""Measurements of each kind of object in each vCenter."""
LARGEST_WINDOW = 64
"""A batch holds at most 512 KiB: this bounds what one stream may keep in memory."""


class VCenterStream:
    """Implements ``InventoryStream``. Its worker takes messages out and answers through it."""

    def __init__(
        self,
        edge_name: str,
        opened: link_pb2.InventoryOpen,
        sink: InventorySink,
        replica: Callable[[], ReplicaDigest],
        receive: Callable[["VCenterStream", link_pb2.InventoryRequest], None],
        detach: Callable[["VCenterStream"], None],
    ) -> None:
        """``receive`` and ``detach`` are the worker's: the lanes are under its lock."""
        self.edge_name = edge_name
        self.epoch = opened.epoch
        self.lanes = Lanes(opened)
        self.closed = False
        self.answered = False
        """The edge has sent something, so it has our first answer."""
        self._sink = sink
        self._replica = replica
        self._receive = receive
        self._detach = detach

    def holdings(self) -> link_pb2.Holdings:
        """The first answer on the stream: what is held for this vCenter."""
        return self._replica().message()

    def receive(self, request: link_pb2.InventoryRequest) -> None:
        """Queue a batch, bucket query or snapshot end. Raises ``FlowControlError``."""
        self._receive(self, request)

    def close(self) -> None:
        """End the stream; what was not applied is dropped, unacknowledged."""
        self.closed = True
        self._detach(self)

    def acknowledge(self, batch: link_pb2.ObjectBatch) -> None:
        """Acknowledge a batch that is committed."""
        self.lanes.acknowledged(batch)
        ack = link_pb2.Ack(epoch=self.epoch, lane=batch.lane, sequence=batch.sequence)
        self._sink.send(link_pb2.InventoryResponse(ack=ack))

    def send_refusals(self, plan: Plan) -> None:
        """Name the objects that were refused; goes before the acknowledgement."""
        for key, rejection in plan.refused.items():
            text = f"{rejection.reason.value}: {rejection.message}"
            nack = link_pb2.Nack(
                reference=reference_of(key),
                content_hash=rejection.content_hash,
                status=status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=text),
            )
            self._sink.send(link_pb2.InventoryResponse(nack=nack))

    def send_contents(self, query: link_pb2.BucketQuery) -> None:
        """Answer a query for what is held in some buckets."""
        answer = self._replica().contents(query)
        self._sink.send(link_pb2.InventoryResponse(bucket_contents=answer))

    def send_in_sync(self, generation: int) -> None:
        """Say that both sides hold the same (the protocol calls that parity)."""
        self._sink.send(link_pb2.InventoryResponse(parity=link_pb2.Parity(generation=generation)))

    def request_pass(self) -> None:
        """Ask the edge for another pass."""
        self._sink.send(link_pb2.InventoryResponse(holdings=self.holdings()))

    def request_confirmation(self, keys: Iterable[str]) -> None:
        """Have the edge ask vCenter about some objects."""
        references = [reference_of(key) for key in keys]
        for start in range(0, len(references), CONFIRMED_AT_ONCE):
            some = references[start : start + CONFIRMED_AT_ONCE]
            message = link_pb2.ConfirmObjects(references=some)
            self._sink.send(link_pb2.InventoryResponse(confirm_objects=message))


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
    """What one stream has sent and was not taken yet; changes go first. Not thread-safe."""

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
        """Take the next change, query or end of a pass.

        An end describes what holds after every batch before it: those of the snapshot lane that
        are still queued go first.
        """
        if self._first and self._first[0].HasField("snapshot_end") and self._later:
            return self._later.popleft()
        return self._first.popleft() if self._first else None

    def take_change(self) -> link_pb2.InventoryRequest | None:
        """Take the next change, but no query or end of a pass."""
        return self._first.popleft() if self._first and self._first[0].HasField("batch") else None

    def take_later(self) -> link_pb2.InventoryRequest | None:
        """Take the next snapshot batch."""
        return self._later.popleft() if self._later else None

    def acknowledged(self, batch: link_pb2.ObjectBatch) -> None:
        """Make room in the window of a batch's lane."""
        self._lanes[batch.lane].acked = batch.sequence


class Lags:
    """The last lags of each kind in each vCenter, in milliseconds. Thread-safe."""

    def __init__(self) -> None:
        """Start empty."""
        self._lags: dict[tuple[str, int], deque[float]] = {}
        self._lock = threading.Lock()

    def add(self, vcenter_uuid: str, kind: int, milliseconds: float) -> None:
        """Take one measurement; clocks of edge and control plane may differ: never below 0."""
        with self._lock:
            lags = self._lags.setdefault((vcenter_uuid, kind), deque(maxlen=LAGS_KEPT))
            lags.append(max(0.0, milliseconds))

    def quantile(self, vcenter_uuid: str, kind: int, fraction: float) -> int:
        """A quantile of the last lags, 0 when there are none."""
        with self._lock:
            lags = sorted(self._lags.get((vcenter_uuid, kind), ()))
        return round(lags[min(len(lags) - 1, int(len(lags) * fraction))]) if lags else 0
