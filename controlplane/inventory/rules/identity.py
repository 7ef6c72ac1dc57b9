"""Which Nova server a virtual machine is. The key is its instance UUID; a moref is only a hint."""

import re
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from controlplane.domain.mapping.hardware import NAMESPACE
from controlplane.store.own.servers import ServerRow, ServerState

Place = tuple[str, str]
"""vCenter instance UUID and managed object identifier: where a virtual machine was seen."""

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

        ``derive`` gives a UUIDv5 to one whose own UUID another has for good.
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
