"""One open inventory stream: takes what the edge sends, queues it, and answers."""

from collections.abc import Callable, Iterable

from google.rpc import code_pb2, status_pb2

from common.references import reference_of
from controlplane.domain.ports import InventorySink
from controlplane.inventory.apply.plan import Plan
from controlplane.inventory.lanes import Lanes
from controlplane.inventory.model.replica_digest import Holdings
from vsphere_gateway.v1 import link_pb2

CONFIRMED_AT_ONCE = 500
"""References in one message."""

Notify = Callable[[], object]


class Feed:
    """Implements ``InventoryFeed``. Its worker takes messages out and answers through it."""

    def __init__(
        self,
        edge_name: str,
        opened: link_pb2.InventoryOpen,
        sink: InventorySink,
        holdings: Holdings,
        receive: Callable[["Feed", link_pb2.InventoryRequest], None],
        detach: Callable[["Feed"], None],
    ) -> None:
        """``receive`` and ``detach`` are the worker's: the lanes are under its lock."""
        self.edge_name = edge_name
        self.epoch = opened.epoch
        self.lanes = Lanes(opened)
        self.closed = False
        self.answered = False
        """The edge has sent something, so it has our first answer."""
        self._sink = sink
        self._holdings = holdings
        self._receive = receive
        self._detach = detach

    def holdings(self) -> link_pb2.Holdings:
        """Return what is held for this vCenter: the first answer on the stream."""
        return self._holdings.message()

    def receive(self, request: link_pb2.InventoryRequest) -> None:
        """Queue a batch, bucket query or snapshot end. Raises ``FlowControlError``."""
        self._receive(self, request)

    def close(self) -> None:
        """End of the stream; what was not applied is dropped, unacknowledged."""
        self.closed = True
        self._detach(self)

    def applied(self, batch: link_pb2.ObjectBatch) -> None:
        """Acknowledge a batch that is committed."""
        ack = self.lanes.applied(batch, self.epoch)
        self._sink.send(link_pb2.InventoryResponse(ack=ack))

    def refused(self, plan: Plan) -> None:
        """Tell which objects are in quarantine; goes before the acknowledgement."""
        for key, trouble in plan.refused.items():
            text = f"{trouble.reason.value}: {trouble.message}"
            nack = link_pb2.Nack(
                reference=reference_of(key),
                content_hash=trouble.content_hash,
                status=status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message=text),
            )
            self._sink.send(link_pb2.InventoryResponse(nack=nack))

    def contents(self, query: link_pb2.BucketQuery) -> None:
        """Answer a query for what is held in some buckets."""
        answer = self._holdings.contents(query)
        self._sink.send(link_pb2.InventoryResponse(bucket_contents=answer))

    def parity(self, generation: int) -> None:
        """Tell that both sides hold the same."""
        self._sink.send(link_pb2.InventoryResponse(parity=link_pb2.Parity(generation=generation)))

    def again(self) -> None:
        """Ask for another pass."""
        self._sink.send(link_pb2.InventoryResponse(holdings=self._holdings.message()))

    def confirm(self, keys: Iterable[str]) -> None:
        """Have vCenter asked about some objects."""
        references = [reference_of(key) for key in keys]
        for start in range(0, len(references), CONFIRMED_AT_ONCE):
            some = references[start : start + CONFIRMED_AT_ONCE]
            message = link_pb2.ConfirmObjects(references=some)
            self._sink.send(link_pb2.InventoryResponse(confirm_objects=message))
