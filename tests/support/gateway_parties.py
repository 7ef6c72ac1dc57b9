"""Fakes of what lies behind the gateway, which has tests of its own, and a clock to turn."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from common.clock import Clock
from controlplane.domain.ports import InventorySink
from vsphere_gateway.v1 import link_pb2, operations_pb2

PATIENCE = 10.0
"""Seconds that a test waits for what must happen soon."""


class FakeClock:
    """A fake of both clocks, turned by the test."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.clock = Clock(wall=lambda: self.now, monotonic=lambda: self.now - 1_700_000_000.0)

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Record:
    """Calls in order, which a test may wait for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.calls: list[tuple[Any, ...]] = []

    def add(self, *call: Any) -> None:
        """Note a call."""
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()

    def wait_for(self, matches: Callable[[tuple[Any, ...]], bool]) -> tuple[Any, ...]:
        """Return the first call that matches, waiting for it."""

        def found() -> tuple[Any, ...] | None:
            return next((call for call in self.calls if matches(call)), None)

        with self._changed:
            call = self._changed.wait_for(found, timeout=PATIENCE)
        assert call, f"no such call among {self.calls}"
        return call

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """Return the calls of one method."""
        return [call for call in self.calls if call[0] == name]


class RecordedOperations:
    """A fake of the ledger. ``fail_with`` is raised whenever a result is stored."""

    def __init__(self) -> None:
        self.record = Record()
        self.fail_with: Exception | None = None

    def accepted(self, edge_name: str, accepted: operations_pb2.OperationAccepted) -> None:
        self.record.add("accepted", edge_name, accepted.operation_id)

    def progress(self, edge_name: str, progress: operations_pb2.OperationProgress) -> None:
        self.record.add("progress", edge_name, progress.operation_id, progress.percent)

    def completed(
        self, edge_name: str, result: operations_pb2.OperationResult
    ) -> Callable[[], None]:
        self.record.add("completed", result.operation_id)

        def store() -> None:
            self.record.add("store", edge_name, result.operation_id)
            if self.fail_with is not None:
                raise self.fail_with

        return store

    def edge_connected(
        self,
        edge_name: str,
        vcenter_uuid: str,
        unsettled: Sequence[operations_pb2.OperationProgress],
    ) -> None:
        ids = [progress.operation_id for progress in unsettled]
        self.record.add("edge_connected", edge_name, vcenter_uuid, ids)


class RecordedEdges:
    """A fake of the cluster supervisor."""

    def __init__(self) -> None:
        self.record = Record()

    def edge_online(self, vcenter_uuid: str, edge_name: str) -> None:
        self.record.add("edge_online", vcenter_uuid, edge_name)

    def edge_offline(self, vcenter_uuid: str, edge_name: str, since: float) -> None:
        self.record.add("edge_offline", vcenter_uuid, edge_name, since)


class RecordedFeed:
    """A fake of one open inventory stream; acknowledges each batch at once."""

    def __init__(self, record: Record, epoch: int, sink: InventorySink) -> None:
        self._record = record
        self._epoch = epoch
        self._sink = sink

    def holdings(self) -> link_pb2.Holdings:
        return link_pb2.Holdings(object_count=7)

    def receive(self, request: link_pb2.InventoryRequest) -> None:
        self._record.add("receive", request.WhichOneof("message"))
        if request.HasField("batch"):
            batch = request.batch
            ack = link_pb2.Ack(epoch=self._epoch, lane=batch.lane, sequence=batch.sequence)
            self._sink.send(link_pb2.InventoryResponse(ack=ack))

    def close(self) -> None:
        self._record.add("close")


class RecordedPipeline:
    """A fake of the inventory pipeline."""

    def __init__(self) -> None:
        self.record = Record()

    def open(
        self, edge_name: str, opened: link_pb2.InventoryOpen, sink: InventorySink
    ) -> RecordedFeed:
        self.record.add("open", edge_name, opened.vcenter.instance_uuid)
        return RecordedFeed(self.record, opened.epoch, sink)

    def observed(self, vcenter_uuid: str, state: Any) -> None:
        raise AssertionError("the gateway observes nothing")

    def reassert(self, instance_uuids: Sequence[str]) -> None:
        raise AssertionError("the gateway asserts nothing")
