"""The real bridge and ledger that a driver talks to, over a fake edge and a fake inventory."""

from pathlib import Path

from common.background import ThreadMonitor
from controlplane.gateway.plugins.compute_bridge import ComputeBridgeServicer
from controlplane.gateway.servers import bridge_server, listen_on_socket
from controlplane.operations.ledger import Ledger
from controlplane.operations.records import OperationHistory
from controlplane.store.database import Database
from controlplane.store.own import operations as store
from controlplane.store.own.operations import OperationRow
from tests.support.compute_inventory import ScriptedInventory
from tests.support.edge_side import RecordingPipeline, ScriptedEdge
from vsphere_gateway.v1 import compute_pb2_grpc

SERVER = "0b0d9d1c-6c0f-4f29-9b9f-000000000042"


class RunningBridge:
    """Bridge and ledger, which can go and come back."""

    def __init__(
        self, database: Database, socket: Path, edge: ScriptedEdge, inventory: ScriptedInventory
    ) -> None:
        self.history = OperationHistory(database)
        self.started: list[str] = []
        """Compute hosts whose workers have taken up their servers."""
        self.socket = socket
        self._database = database
        self._edge = edge
        self._inventory = inventory
        self.start()

    def start(self) -> None:
        """Begin to serve."""
        self.ledger = Ledger(self._database, self._edge, RecordingPipeline(), ThreadMonitor())
        self._edge.events = self.ledger
        self.ledger.start()
        self._server = bridge_server(8)
        servicer = ComputeBridgeServicer(
            self.ledger, self._inventory, self._edge, self.started.append
        )
        compute_pb2_grpc.add_ComputeBridgeServicer_to_server(servicer, self._server)
        listen_on_socket(self._server, self.socket)
        self._server.start()

    def stop(self) -> None:
        """End as `serve` does: callers first."""
        self.ledger.stop()
        self._server.stop(grace=1.0).wait()

    def rows(self) -> list[OperationRow]:
        """All rows of the ledger, oldest first."""
        with self._database.read() as connection:
            return list(reversed(store.recent(connection, 100)))
