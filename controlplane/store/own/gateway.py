"""The gateway's own tables: edges, vCenters and their leases, and alarms that a person settles."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from common.timestamps import naive_utc_now
from controlplane.store.database import Database
from controlplane.store.own import edges, leases, quarantine
from controlplane.store.own.edges import EdgeRow, VCenterRow
from controlplane.store.own.leases import LeaseRow


class DatabaseGatewayStore:
    """Implements ``GatewayStore`` and ``Alarms`` of ``controlplane.gateway``. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, resource: str, holder: str, now: datetime, duration: timedelta) -> LeaseRow:
        """Take or renew a lease; another's is taken only after it has expired."""
        return self._database.run(lambda c: leases.acquire(c, resource, holder, now, duration))

    def lease(self, resource: str) -> LeaseRow | None:
        """Read a lease, expired or not."""
        with self._database.read() as connection:
            return leases.get(connection, resource)

    def edges(self) -> list[EdgeRow]:
        """Read every edge that ever dialled."""
        with self._database.read() as connection:
            return edges.every(connection)

    def write_edges(self, rows: Collection[EdgeRow]) -> None:
        """Write edges as they are now."""

        def write(connection: Connection) -> None:
            for row in rows:
                edges.write(connection, row)

        self._database.run(write)

    def write_vcenter(self, row: VCenterRow) -> None:
        """Note a vCenter's name and version."""
        self._database.run(lambda connection: edges.write_vcenter(connection, row))

    def release_alarm(self, alarm_id: str, by: str) -> bool:
        """Let what an alarm holds back go on; False when it is not open."""
        now = naive_utc_now()
        return self._database.run(
            lambda connection: quarantine.release_alarm(connection, alarm_id, by, now)
        )

    def vcenters(self) -> list[VCenterRow]:
        """Read every vCenter with its last parity."""
        with self._database.read() as connection:
            return edges.every_vcenter(connection)
