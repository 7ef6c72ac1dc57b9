"""The gateway database for verification. Nothing is locked, nothing written."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sqlalchemy import select

from controlplane.store.database import Database
from controlplane.store.own import clusters, edges, objects, quarantine, servers
from controlplane.store.own.clusters import ClusterRow
from controlplane.store.own.edges import VCenterRow
from controlplane.store.own.objects import ObjectStatus
from controlplane.store.own.quarantine import AlarmRow, QuarantineRow
from controlplane.store.own.schema import objects as objects_table
from controlplane.store.own.schema import servers as servers_table
from controlplane.store.own.servers import ENDING, ImageRow, ServerRow, ServerState
from vsphere_gateway.v1 import inventory_pb2


@dataclass(frozen=True, slots=True)
class HeldObject:
    """One object of the replica, without its body."""

    reference: str
    kind: int
    content_hash: bytes
    status: ObjectStatus
    name: str


class GatewayDatabaseReader:
    """Reads for verification. Every method raises ``StoreError``. Thread-safe."""

    def __init__(self, database: Database) -> None:
        """``database`` is not closed here."""
        self._database = database

    def vcenters(self) -> list[VCenterRow]:
        """Read every vCenter, with when it was last in sync."""
        with self._database.read() as connection:
            return edges.list_vcenters(connection)

    def unsettled_machines(self) -> list[inventory_pb2.VirtualMachine]:
        """Read the virtual machines of all vCenters that are held and not applied."""
        with self._database.read() as connection:
            bodies = [body for _, body in objects.unsettled_machines(connection)]
        return [inventory_pb2.InventoryObject.FromString(one).virtual_machine for one in bodies]

    def counts(self) -> dict[str, int]:
        """Count the objects of each vCenter."""
        totals: dict[str, int] = defaultdict(int)
        with self._database.read() as connection:
            for vcenter_uuid, _, number in objects.counts(connection):
                totals[vcenter_uuid] += number
        return totals

    def clusters(self, vcenter_uuid: str) -> list[ClusterRow]:
        """Read the clusters of a vCenter."""
        with self._database.read() as connection:
            return clusters.list_all(connection, vcenter_uuid)

    def images(self, vcenter_uuid: str) -> list[ImageRow]:
        """Read the active images of a vCenter."""
        with self._database.read() as connection:
            return servers.list_images(connection, vcenter_uuid)

    def quarantine(self, vcenter_uuid: str) -> list[QuarantineRow]:
        """Read what of a vCenter is in quarantine."""
        with self._database.read() as connection:
            return quarantine.list_all(connection, vcenter_uuid)

    def alarms(self, vcenter_uuid: str) -> list[AlarmRow]:
        """Read the open alarms of a vCenter."""
        with self._database.read() as connection:
            return quarantine.open_alarms(connection, vcenter_uuid)

    def objects(self, vcenter_uuid: str, references: Collection[str]) -> dict[str, HeldObject]:
        """Read some objects by reference."""
        with self._database.read() as connection:
            query = _HELD.where(
                objects_table.c.vcenter_uuid == vcenter_uuid,
                objects_table.c.reference.in_(sorted(references)),
            )
            return {row[0]: _held(row) for row in connection.execute(query).tuples()}

    def bodies(self, vcenter_uuid: str, references: Collection[str]) -> dict[str, bytes]:
        """Read some objects by reference, serialised."""
        with self._database.read() as connection:
            return objects.bodies(connection, vcenter_uuid, references)

    def list_objects(self, vcenter_uuid: str) -> Iterator[HeldObject]:
        """Read every object of a vCenter."""
        with self._database.read() as connection:
            streamed = connection.execution_options(yield_per=500)
            query = _HELD.where(objects_table.c.vcenter_uuid == vcenter_uuid)
            for row in streamed.execute(query).tuples():
                yield _held(row)

    def servers(self, vcenter_uuid: str, morefs: Collection[str]) -> dict[str, list[ServerRow]]:
        """Read the active servers of some virtual machines, by moref."""
        query = select(servers_table).where(
            servers_table.c.vcenter_uuid == vcenter_uuid,
            servers_table.c.moref.in_(sorted(morefs)),
            servers_table.c.state == ServerState.ACTIVE.value,
        )
        found: dict[str, list[ServerRow]] = defaultdict(list)
        with self._database.read() as connection:
            for row in connection.execute(query):
                server = servers.from_row(row._mapping)
                found[server.moref].append(server)
        return found

    def list_servers(self, vcenter_uuid: str) -> list[ServerRow]:
        """Read the servers of a vCenter that are active, transferred or being removed."""
        states = (ServerState.ACTIVE, ServerState.TRANSFERRED, *ENDING)
        with self._database.read() as connection:
            return servers.list_all(connection, vcenter_uuid=vcenter_uuid, states=states)


_HELD = select(
    objects_table.c.reference,
    objects_table.c.kind,
    objects_table.c.content_hash,
    objects_table.c.standing,
    objects_table.c.name,
)


def _held(row: tuple[str, int, bytes, int, str]) -> HeldObject:
    return HeldObject(row[0], row[1], bytes(row[2]), ObjectStatus(row[3]), row[4])
