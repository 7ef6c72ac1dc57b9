"""Two virtual machines with one instance UUID: settled by who was first, when both are confirmed.

One registry serves all vCenters, so that a virtual machine that moved to another vCenter keeps
its server: the newcomer inherits it as soon as the first is confirmed gone.
"""

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from controlplane.inventory.rules.identity import Bindings, Place, canonical
from controlplane.store.database import Connection
from controlplane.store.own import objects
from controlplane.store.own.servers import ServerState
from vsphere_gateway.v1 import inventory_pb2

CLAIMABLE = (ServerState.ACTIVE, ServerState.TRANSFERRED)
"""States of a server that a newcomer may wait for."""
Claim = tuple[Place, str]
"""A newcomer and the server whose UUID it has."""


@dataclass(slots=True)
class IdentityConflict:
    """One newcomer and the virtual machine whose UUID it has."""

    newcomer: Place
    first: Place
    server_uuid: str
    confirmed: set[Place] = field(default_factory=set)

    def is_settled(self) -> bool:
        """Whether both live: then the newcomer gets a UUID of its own."""
        return {self.newcomer, self.first} <= self.confirmed


class IdentityConflicts:
    """Every conflict that is not over. Thread-safe."""

    def __init__(self) -> None:
        """Start without any."""
        self._conflicts: dict[Place, IdentityConflict] = {}
        self._lock = threading.Lock()

    def open(self, newcomer: Place, first: Place, server_uuid: str) -> bool:
        """Note a newcomer; return whether both have to be confirmed with vCenter now."""
        with self._lock:
            known = self._conflicts.get(newcomer)
            if known is not None and known.first == first:
                return False
            self._conflicts[newcomer] = IdentityConflict(newcomer, first, server_uuid)
            return True

    def confirmed(self, place: Place, instance_uuid: str) -> list[Place]:
        """Note that vCenter still has a virtual machine; return newcomers that are settled now.

        With another instance UUID it confirms nothing: references of a vCenter that was restored
        from a backup name other virtual machines.
        """
        with self._lock:
            settled = []
            for conflict in self._conflicts.values():
                is_meant = conflict.server_uuid == instance_uuid
                is_party = place in (conflict.newcomer, conflict.first)
                if is_meant and is_party and not conflict.is_settled():
                    conflict.confirmed.add(place)
                    if conflict.is_settled():
                        settled.append(conflict.newcomer)
            return settled

    def settled(self, newcomer: Place) -> bool:
        """Whether a newcomer may have a UUID of its own."""
        conflict = self._conflicts.get(newcomer)
        return conflict is not None and conflict.is_settled()

    def successor(self, server_uuid: str, withdrawn: Collection[Claim] = ()) -> Place | None:
        """The newcomer that inherits a server whose first owner is gone."""
        claimants = self.claimants(server_uuid)
        return next((one for one in claimants if (one, server_uuid) not in withdrawn), None)

    def claimants(self, server_uuid: str) -> list[Place]:
        """The newcomers that have a server's UUID, who came first first."""
        with self._lock:
            conflicts = self._conflicts.values()
            return [one.newcomer for one in conflicts if one.server_uuid == server_uuid]

    def claimed(self, newcomer: Place) -> str | None:
        """The UUID that a newcomer has in common with a server."""
        conflict = self._conflicts.get(newcomer)
        return None if conflict is None else conflict.server_uuid

    def close(self, claims: Iterable[Claim]) -> None:
        """Close claims whose newcomer has the server, or another instance UUID, committed."""
        with self._lock:
            for newcomer, server_uuid in claims:
                conflict = self._conflicts.get(newcomer)
                if conflict is not None and conflict.server_uuid == server_uuid:
                    del self._conflicts[newcomer]

    def forget(self, vcenter_uuid: str) -> None:
        """Drop the newcomers of a vCenter."""
        with self._lock:
            for newcomer in [place for place in self._conflicts if place[0] == vcenter_uuid]:
                del self._conflicts[newcomer]

    def unconfirmed(self, vcenter_uuid: str) -> list[Place]:
        """The places in one vCenter that its edge should confirm."""
        with self._lock:
            return sorted(
                place
                for conflict in self._conflicts.values()
                for place in (conflict.newcomer, conflict.first)
                if place[0] == vcenter_uuid and place not in conflict.confirmed
            )


def reopen(
    connection: Connection,
    bindings: Bindings,
    conflicts: IdentityConflicts,
    vcenter_uuid: str | None = None,
) -> None:
    """Open the conflicts of newcomers in one vCenter, or in all.

    A newcomer is a virtual machine that has no server, and the instance UUID of another's. Hidden
    ones count: what is hidden is kept.
    """
    for uuid, body in objects.unsettled_machines(connection, vcenter_uuid):
        one = inventory_pb2.InventoryObject.FromString(body)
        place = (uuid, one.reference.value)
        server = bindings.get(canonical(one.virtual_machine.instance_uuid))
        if server is None or server.state not in CLAIMABLE or bindings.at(place) is not None:
            continue
        conflicts.open(place, (server.vcenter_uuid, server.moref), server.uuid)
