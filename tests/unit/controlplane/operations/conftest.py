"""A ledger on SQLite, with a scripted edge."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.operations.pending import Request
from controlplane.store.database import Database
from controlplane.store.own import migration
from tests.support.edge_side import VCENTER, RecordingPipeline, ScriptedEdge, SteppedClock
from tests.support.ledger_life import SERVER, LedgerLife, MakeRequest
from vsphere_gateway.v1 import inventory_pb2, operations_pb2


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


@pytest.fixture
def life(
    database: Database, edge: ScriptedEdge, pipeline: RecordingPipeline, clock: SteppedClock
) -> Iterator[LedgerLife]:
    life = LedgerLife(database, edge, pipeline, clock)
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
