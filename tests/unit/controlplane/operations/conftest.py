"""A ledger on SQLite, with a scripted edge."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.background import ThreadMonitor
from controlplane.operations.ledger import Ledger
from controlplane.operations.pending import Request
from controlplane.operations.records import OperationHistory
from controlplane.store.database import Database
from controlplane.store.own import migration
from controlplane.store.own import operations as store
from controlplane.store.own.operations import OperationRow
from tests.support.edge_side import VCENTER, RecordingPipeline, ScriptedEdge, SteppedClock
from vsphere_gateway.v1 import inventory_pb2, operations_pb2

SERVER = "0b0d9d1c-6c0f-4f29-9b9f-000000000042"
MakeRequest = Callable[..., Request]


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def edge() -> ScriptedEdge:
    edge = ScriptedEdge()
    edge.power[SERVER] = inventory_pb2.POWER_STATE_ON
    return edge


@pytest.fixture
def pipeline() -> RecordingPipeline:
    return RecordingPipeline()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/own.sqlite")
    migration.upgrade(database)
    yield database
    database.close()


class Life:
    """Ledgers one after another on one database: the control plane and its restarts."""

    def __init__(
        self,
        database: Database,
        edge: ScriptedEdge,
        pipeline: RecordingPipeline,
        clock: SteppedClock,
    ) -> None:
        self._database = database
        self._edge = edge
        self._pipeline = pipeline
        self._clock = clock
        self.history = OperationHistory(database)
        self.monitor = ThreadMonitor()
        self.ledger = self._begin()

    def _begin(self) -> Ledger:
        ledger = Ledger(self._database, self._edge, self._pipeline, self.monitor, self._clock)
        self._edge.events = ledger
        ledger.start()
        return ledger

    def restart(self) -> Ledger:
        """Stop, with the edge's link going too, and start again."""
        self._edge.break_link()
        self.ledger.stop()
        self.ledger = self._begin()
        return self.ledger

    def rows(self) -> list[OperationRow]:
        """All rows, oldest first."""
        with self._database.read() as connection:
            return list(reversed(store.recent(connection, 100)))

    def row(self) -> OperationRow:
        """The only row."""
        (row,) = self.rows()
        return row


@pytest.fixture
def life(
    database: Database, edge: ScriptedEdge, pipeline: RecordingPipeline, clock: SteppedClock
) -> Iterator[Life]:
    life = Life(database, edge, pipeline, clock)
    yield life
    life.ledger.stop()


@pytest.fixture
def request_for(clock: SteppedClock) -> MakeRequest:
    def make(
        action: str, *, seconds: float = 60.0, key: str = "", recorded_delete: bool = False
    ) -> Request:
        operation = operations_pb2.Operation(
            idempotency_key=key or str(uuid.uuid4()), request_id="req-1"
        )
        operation.deadline.FromNanoseconds(int((clock.time() + seconds) * 1e9))
        operation.cluster.type = "ClusterComputeResource"
        operation.cluster.value = "domain-c1"
        getattr(operation, action).SetInParent()
        if action == "clone_virtual_machine":
            operation.clone_virtual_machine.instance_uuid = SERVER
            operation.clone_virtual_machine.power_on = True
        else:
            operation.target.instance_uuid = SERVER
        return Request(
            operation=operation,
            vcenter_uuid=VCENTER,
            instance_uuid=SERVER,
            compute_host="dc0-c0-1a2b3c4d",
            project_id="p1",
            user_id="u1",
            recorded_delete=recorded_delete,
        )

    return make
