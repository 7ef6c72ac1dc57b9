"""Which Nova server a virtual machine is. The key is its instance UUID; a moref is only a hint.

Two virtual machines with one instance UUID: settled by who was first, when both are confirmed. One
registry serves all vCenters, so that a virtual machine that moved to another vCenter keeps its
server: the newcomer takes it over as soon as the first is confirmed gone.
"""

import re
import threading
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from controlplane.domain.mapping.hardware import NAMESPACE
from controlplane.store.database import Connection
from controlplane.store.own import objects
from controlplane.store.own.servers import ServerRow, ServerState
from vsphere_gateway.v1 import inventory_pb2

Place = tuple[str, str]
"""vCenter instance UUID and managed object identifier: where a virtual machine was seen."""

CLAIMABLE = (ServerState.ACTIVE, ServerState.TRANSFERRED)
"""States of a server that a newcomer may wait for."""
Claim = tuple[Place, str]
"""A newcomer and the server whose UUID it has."""

_BOUND = (ServerState.ACTIVE,)
_CANONICAL = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Identified(Enum):
    """What is known about a virtual machine's identity."""

    KNOWN = "known"
    """Its server stands for it already."""
    FREE = "free"
    """No server has its UUID now: adopt it, or take up the server that had it before."""
    DUPLICATE = "duplicate"
    """Another virtual machine's server has its UUID."""
    UNREADABLE = "unreadable"
    """vCenter gives no instance UUID for it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The server of one virtual machine."""

    found: Identified
    uuid: str = ""
    """The Nova UUID; empty when there is none yet."""
    derived: bool = False
    """The Nova UUID is a UUIDv5 because the virtual machine's own was taken."""
    server: ServerRow | None = None
    """The binding of that UUID as it was: the same, an ended one, or the other's (DUPLICATE)."""
    displaced: ServerRow | None = None
    """The server that stood for this reference before: its virtual machine is another's now."""


class Bindings:
    """All servers in memory, of every vCenter: who is whom is decided without a query.

    A claim keeps two threads from giving one UUID away twice between decision and commit.
    """

    def __init__(self) -> None:
        """Start empty; ``load`` fills it."""
        self._by_uuid: dict[str, ServerRow] = {}
        self._by_place: dict[Place, str] = {}
        self._claims: dict[str, Place] = {}
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def load(self, rows: Iterable[ServerRow]) -> None:
        """Take the bindings that the gateway database holds."""
        for row in rows:
            self.put(row)

    def get(self, server_uuid: str) -> ServerRow | None:
        """A binding by Nova UUID, in any state."""
        return self._by_uuid.get(server_uuid)

    def at(self, place: Place) -> ServerRow | None:
        """The server that stands for a reference."""
        server_uuid = self._by_place.get(place)
        return None if server_uuid is None else self._by_uuid[server_uuid]

    def put(self, row: ServerRow) -> None:
        """Take a binding that has been committed; its claim ends."""
        with self._lock:
            self._unplace(self._by_uuid.get(row.uuid))
            self._by_uuid[row.uuid] = row
            self._claims.pop(row.uuid, None)
            if row.state in _BOUND:
                self._by_place[row.vcenter_uuid, row.moref] = row.uuid
                self._counts[row.cluster_uuid] = self._counts.get(row.cluster_uuid, 0) + 1

    def count(self, cluster_uuid: str) -> int:
        """The number of active servers of a cluster."""
        return self._counts.get(cluster_uuid, 0)

    def with_state(self, state: ServerState) -> list[ServerRow]:
        """Every binding in one state."""
        with self._lock:
            return [row for row in self._by_uuid.values() if row.state is state]

    def identify(self, place: Place, instance_uuid: str, *, derive: bool = False) -> Identity:
        """Say which server a virtual machine is, and claim a UUID that is free.

        ``derive`` gives a UUIDv5 to one whose own UUID stays another's.
        """
        with self._lock:
            bound = self.at(place)
            if not instance_uuid:
                return Identity(Identified.UNREADABLE, server=bound)
            if bound is not None and bound.instance_uuid == instance_uuid:
                return Identity(Identified.KNOWN, bound.uuid, bound.derived, bound)
            other = self._by_uuid.get(instance_uuid)
            if self._taken(instance_uuid, place):
                if not derive:
                    return Identity(Identified.DUPLICATE, server=other, displaced=bound)
                return self._claim(derived_uuid(place), place, bound, derived=True)
            return self._claim(instance_uuid, place, bound, derived=False)

    def release(self, server_uuids: Sequence[str]) -> None:
        """Give claims back that came to nothing."""
        with self._lock:
            for server_uuid in server_uuids:
                self._claims.pop(server_uuid, None)

    def _taken(self, server_uuid: str, place: Place) -> bool:
        claim = self._claims.get(server_uuid)
        if claim is not None and claim != place:
            return True
        other = self._by_uuid.get(server_uuid)
        return (
            other is not None
            and other.state in _BOUND
            and (other.vcenter_uuid, other.moref) != place
        )

    def _claim(
        self, server_uuid: str, place: Place, bound: ServerRow | None, *, derived: bool
    ) -> Identity:
        self._claims[server_uuid] = place
        return Identity(
            Identified.FREE, server_uuid, derived, self._by_uuid.get(server_uuid), bound
        )

    def _unplace(self, row: ServerRow | None) -> None:
        if row is not None and row.state in _BOUND:
            place = (row.vcenter_uuid, row.moref)
            if self._by_place.get(place) == row.uuid:
                del self._by_place[place]
            self._counts[row.cluster_uuid] -= 1


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
    for vcenter, body in objects.unsettled_machines(connection, vcenter_uuid):
        one = inventory_pb2.InventoryObject.FromString(body)
        place = (vcenter, one.reference.value)
        server = bindings.get(canonical(one.virtual_machine.instance_uuid))
        if server is None or server.state not in CLAIMABLE or bindings.at(place) is not None:
            continue
        conflicts.open(place, (server.vcenter_uuid, server.moref), server.uuid)


def derived_uuid(place: Place) -> str:
    """The Nova UUID of a virtual machine whose own UUID another has."""
    return str(uuid.uuid5(NAMESPACE, f"server:{place[0]}:{place[1]}"))


def image_uuid(vcenter_uuid: str, moref: str) -> str:
    """The Glance image id of a template."""
    return str(uuid.uuid5(NAMESPACE, f"image:{vcenter_uuid}:{moref}"))


def canonical(instance_uuid: str) -> str:
    """An instance UUID as Nova writes UUIDs; empty when it is none."""
    if _CANONICAL.fullmatch(instance_uuid):
        return instance_uuid
    try:
        return str(uuid.UUID(instance_uuid)) if instance_uuid else ""
    except ValueError:
        return ""
