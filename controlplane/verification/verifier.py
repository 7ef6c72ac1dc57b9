"""Compares everything, and what differs again: only a difference that persists is reported."""

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from common.clock import Clock
from common.log_fields import fields
from controlplane.domain.errors import OnDemandReadError
from controlplane.openstack.placement.client import PlacementError
from controlplane.store.errors import StoreError
from controlplane.store.own.clusters import ClusterState
from controlplane.verification.context import Readers, VerificationContext
from controlplane.verification.findings import Difference, Excuse, Findings, Place, Subject
from controlplane.verification.leftovers import LeftoverComparison
from controlplane.verification.machines import HELD_FIELD, MachineComparison
from vsphere_gateway.v1 import link_pb2

LOG = logging.getLogger(__name__)

PAUSES = (2.0, 3.0, 5.0)
"""Seconds between looks. A change of vCenter's is everywhere within a second or two."""
UNANNOUNCED_SECONDS = 65.0
"""vCenter does not announce everything: the edge's own pass over the rest comes each minute."""

ReadOnDemand = Callable[[str], Iterable[link_pb2.AuditBatch]]
"""Has a vCenter read afresh. Raises ``OnDemandReadError``."""


@dataclasses.dataclass(slots=True)
class Verdict:
    """What was found about one vCenter."""

    vcenter_uuid: str
    differences: list[Difference] = dataclasses.field(default_factory=list)
    excuses: list[Excuse] = dataclasses.field(default_factory=list)
    counts: Counter[tuple[Place, str]] = dataclasses.field(default_factory=Counter)
    looks: int = 0
    problem: str = ""
    """Why it could not be verified; empty when it was."""


class Verifier:
    """Verifies every vCenter of a control plane. Writes nothing."""

    def __init__(
        self,
        readers: Readers,
        read_on_demand: ReadOnDemand,
        clock: Clock,
        pauses: tuple[float, ...] = PAUSES,
        unannounced: float = UNANNOUNCED_SECONDS,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """``pauses`` and ``unannounced`` are seconds; ``sleep`` takes them."""
        self._readers = readers
        self._read_on_demand = read_on_demand
        self._clock = clock
        self._pauses = pauses
        self._unannounced = unannounced
        self._sleep = sleep

    def verify(self, wanted: Callable[[], bool] = lambda: True) -> Iterator[Verdict]:
        """Yield a verdict on each vCenter while ``wanted`` returns true. Raises ``StoreError``."""
        for row in self._readers.own.vcenters():
            if not wanted():
                return
            verdict = Verdict(row.uuid)
            if row.parity_at is None:
                verdict.problem = "its first sync is not complete"
            else:
                self._judge(verdict, wanted)
            if verdict.problem and self._is_idle(row.uuid):
                continue
            facts = fields(
                vcenter=row.uuid,
                looks=verdict.looks,
                differences=len(verdict.differences),
                problem=verdict.problem or None,
            )
            LOG.info("vCenter verified", extra=facts)
            yield verdict

    def _judge(self, verdict: Verdict, wanted: Callable[[], bool]) -> None:
        """Compare until nothing differs, or what differs will not go away by itself."""
        try:
            suspects = self._look(verdict, _Suspects())
            for pause in self._pauses:
                if not suspects.differences or not wanted():
                    break
                self._sleep(pause)
                suspects = self._look(verdict, suspects)
            if suspects.differences and wanted() and suspects.are_unreported():
                self._sleep(self._unannounced)
                suspects = self._look(verdict, suspects)
            verdict.differences = suspects.differences
        except (OnDemandReadError, StoreError, PlacementError) as error:
            verdict.problem = str(error)

    def _look(self, verdict: Verdict, before: "_Suspects") -> "_Suspects":
        """Compare everything; return what differs and, if there was a look before, did then."""
        findings = look(self._readers, verdict.vcenter_uuid, self._read_on_demand, self._clock)
        verdict.excuses, verdict.counts = findings.excuses, findings.counts
        differences = list(dict.fromkeys(findings.differences))
        found = _Suspects(differences, _unreported(differences))
        if verdict.looks:
            known = set(before.differences)
            found.differences = [
                one
                for one in found.differences
                if one in known and not found.is_new_to(one.subject, before)
            ]
        verdict.looks += 1
        return found

    def _is_idle(self, vcenter_uuid: str) -> bool:
        """Whether nothing of a vCenter is left here: it left management, and its edge with it."""
        own = self._readers.own
        return (
            all(row.state is ClusterState.UNMANAGED for row in own.clusters(vcenter_uuid))
            and not own.list_servers(vcenter_uuid)
            and not own.images(vcenter_uuid)
        )


@dataclasses.dataclass(slots=True)
class _Suspects:
    """What may be a difference after a look."""

    differences: list[Difference] = dataclasses.field(default_factory=list)
    unreported: dict[Subject, str] = dataclasses.field(default_factory=dict)
    """Objects that are held in another state than vCenter's, with the hash that is held."""

    def is_new_to(self, subject: Subject, before: "_Suspects") -> bool:
        """Whether an object is being synchronised: another state of it is held than before."""
        held = self.unreported.get(subject)
        return held is not None and held != before.unreported.get(subject)

    def are_unreported(self) -> bool:
        """Whether all that differs belongs to objects that the edge may not have reported yet."""
        return all(one.subject in self.unreported for one in self.differences)


def look(
    readers: Readers, vcenter_uuid: str, read_on_demand: ReadOnDemand, clock: Clock
) -> Findings:
    """Compare everything of a vCenter once.

    Raises ``OnDemandReadError``, ``StoreError`` or ``PlacementError``.
    """
    findings = Findings()
    context = VerificationContext(readers, vcenter_uuid, findings)
    machines = MachineComparison(readers, context, clock.wall)
    for batch in read_on_demand(vcenter_uuid):
        machines.take(batch)
    LeftoverComparison(readers, context, clock.wall).run()
    return findings


def _unreported(differences: Iterable[Difference]) -> dict[Subject, str]:
    return {one.subject: one.found for one in differences if one.field == HELD_FIELD}
