"""Verdicts as `vsphere_gateway.v1.Diagnostics` streams them. Pure, but for the clock."""

from collections import Counter
from collections.abc import Callable, Iterator

from common.clock import Clock
from controlplane.verification.findings import Difference, Excuse, Place
from controlplane.verification.verifier import Verdict, Verifier
from vsphere_gateway.v1 import diagnostics_pb2


class Verification:
    """What the admin listener serves."""

    def __init__(self, verifier: Verifier, clock: Clock) -> None:
        """``clock`` measures how long it took."""
        self._verifier = verifier
        self._clock = clock

    def verify(self, wanted: Callable[[], bool]) -> Iterator[diagnostics_pb2.VerifyResponse]:
        """Yield what was found, vCenter by vCenter, then the summary. Raises ``StoreError``."""
        make, started = diagnostics_pb2.VerifyResponse, self._clock.monotonic()
        summary = diagnostics_pb2.VerifySummary()
        counts: Counter[tuple[Place, str]] = Counter()
        for verdict in self._verifier.verify(wanted):
            for difference in verdict.differences:
                yield make(difference=_difference(difference))
            for excuse in verdict.excuses:
                yield make(excused=_excused(excuse))
            counts += verdict.counts
            summary.vcenters.append(_vcenter(verdict))
        for (place, kind), number in sorted(counts.items(), key=lambda one: str(one[0])):
            summary.compared.add(place=place.value, kind=kind, count=number)
        summary.seconds = round(self._clock.monotonic() - started, 3)
        yield make(summary=summary)


def _difference(one: Difference) -> diagnostics_pb2.Difference:
    return diagnostics_pb2.Difference(
        vcenter_uuid=one.subject.vcenter_uuid,
        object=one.subject.object,
        name=one.subject.name,
        place=one.place.value,
        field=one.field,
        expected=one.expected,
        found=one.found,
    )


def _excused(one: Excuse) -> diagnostics_pb2.Excused:
    return diagnostics_pb2.Excused(
        vcenter_uuid=one.subject.vcenter_uuid,
        object=one.subject.object,
        name=one.subject.name,
        reason=one.reason,
    )


def _vcenter(verdict: Verdict) -> diagnostics_pb2.VerifiedVCenter:
    return diagnostics_pb2.VerifiedVCenter(
        uuid=verdict.vcenter_uuid,
        verified=not verdict.problem,
        reason=verdict.problem,
        looks=verdict.looks,
    )
