"""Two virtual machines with one instance UUID: settled by who was first, when both are confirmed.

One registry serves all vCenters, so that a virtual machine that moved to another vCenter keeps
its server: the newcomer inherits it as soon as the first is confirmed gone.
"""

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from controlplane.inventory.rules.identity import Place
from controlplane.store.own.servers import ServerState

CONTESTED = (ServerState.ACTIVE, ServerState.HANDED_ON)
"""States of a server that a newcomer may wait for."""
Claim = tuple[Place, str]
"""A newcomer and the server whose UUID it has."""


@dataclass(slots=True)
class Contest:
    """One newcomer and the virtual machine whose UUID it has."""

    newcomer: Place
    first: Place
    server_uuid: str
    confirmed: set[Place] = field(default_factory=set)

    def is_settled(self) -> bool:
        """Tell whether both live: then the newcomer gets a UUID of its own."""
        return {self.newcomer, self.first} <= self.confirmed


class Contests:
    """Every contest that is not over. Thread-safe."""

    def __init__(self) -> None:
        """Know of none."""
        self._contests: dict[Place, Contest] = {}
        self._lock = threading.Lock()

    def open(self, newcomer: Place, first: Place, server_uuid: str) -> bool:
        """Note a newcomer; return whether both have to be confirmed with vCenter now."""
        with self._lock:
            known = self._contests.get(newcomer)
            if known is not None and known.first == first:
                return False
            self._contests[newcomer] = Contest(newcomer, first, server_uuid)
            return True

    def confirmed(self, place: Place, instance_uuid: str) -> list[Place]:
        """Note that vCenter still has a virtual machine; return newcomers that are settled now.

        With another instance UUID it confirms nothing: references of a vCenter that was restored
        from a backup name other virtual machines.
        """
        with self._lock:
            settled = []
            for contest in self._contests.values():
                is_meant = contest.server_uuid == instance_uuid
                is_party = place in (contest.newcomer, contest.first)
                if is_meant and is_party and not contest.is_settled():
                    contest.confirmed.add(place)
                    if contest.is_settled():
                        settled.append(contest.newcomer)
            return settled

    def settled(self, newcomer: Place) -> bool:
        """Tell whether a newcomer may have a UUID of its own."""
        contest = self._contests.get(newcomer)
        return contest is not None and contest.is_settled()

    def heir(self, server_uuid: str, renounced: Collection[Claim] = ()) -> Place | None:
        """Return the newcomer that inherits a server whose first owner is gone."""
        claimants = self.claimants(server_uuid)
        return next((one for one in claimants if (one, server_uuid) not in renounced), None)

    def claimants(self, server_uuid: str) -> list[Place]:
        """Return the newcomers that have a server's UUID, who came first first."""
        with self._lock:
            contests = self._contests.values()
            return [one.newcomer for one in contests if one.server_uuid == server_uuid]

    def claimed(self, newcomer: Place) -> str | None:
        """Return the UUID that a newcomer has in common with a server."""
        contest = self._contests.get(newcomer)
        return None if contest is None else contest.server_uuid

    def close(self, claims: Iterable[Claim]) -> None:
        """Newcomers have the server, or want it no more, and that is committed."""
        with self._lock:
            for newcomer, server_uuid in claims:
                contest = self._contests.get(newcomer)
                if contest is not None and contest.server_uuid == server_uuid:
                    del self._contests[newcomer]

    def forget(self, vcenter_uuid: str) -> None:
        """Know nothing of the newcomers of a vCenter any more."""
        with self._lock:
            for newcomer in [place for place in self._contests if place[0] == vcenter_uuid]:
                del self._contests[newcomer]

    def unconfirmed(self, vcenter_uuid: str) -> list[Place]:
        """Return the places in one vCenter that its edge should confirm."""
        with self._lock:
            return sorted(
                place
                for contest in self._contests.values()
                for place in (contest.newcomer, contest.first)
                if place[0] == vcenter_uuid and place not in contest.confirmed
            )
