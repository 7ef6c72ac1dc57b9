"""A real ledger on given tables, and the restarts of the control plane that holds it."""

from collections.abc import Callable

from common.background import ThreadMonitor
from controlplane.operations.ledger import Ledger
from controlplane.operations.pending import Request
from controlplane.operations.records import OperationHistory
from controlplane.store.database import Database
from controlplane.store.own import operations as store
from controlplane.store.own.operations import OperationRow
from tests.support.edge_side import RecordingPipeline, ScriptedEdge, SteppedClock

SERVER = "0b0d9d1c-6c0f-4f29-9b9f-000000000042"
MakeRequest = Callable[..., Request]


class LedgerLife:
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
