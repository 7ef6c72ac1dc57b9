"""Audits over the link: everything that vCenter says, read afresh, or a reason why not."""

from collections.abc import Callable

import pytest

from controlplane.domain.errors import OnDemandReadError
from edge.vcenter.client.faults import VCenterUnreachableError
from tests.support.link_ends import ControlPlaneEnd, EdgeEnd
from tests.support.vcenter_truth import VCENTER, VCenterTruth
from tests.support.waiting import eventually_true
from vsphere_gateway.v1 import link_pb2

MakeEdge = Callable[..., EdgeEnd]
UUID = VCENTER.instance_uuid


@pytest.fixture
def truth() -> VCenterTruth:
    """Enough for several pages and batches."""
    return VCenterTruth({f"vm-{number}": f"machine {number}" for number in range(450)})


def ready(control_plane: ControlPlaneEnd, edge: EdgeEnd) -> EdgeEnd:
    """Wait until the edge holds its vCenter's lease."""
    edge.read_vcenter()
    edge.start()
    eventually_true(lambda: control_plane.registry.online(UUID))
    return edge


def names(batches: list[link_pb2.AuditBatch]) -> list[str]:
    return [one.virtual_machine.name for batch in batches for one in batch.objects]


def test_audit_says_what_vcenter_has_and_not_what_the_edge_remembers(
    control_plane: ControlPlaneEnd, make_edge: MakeEdge, truth: VCenterTruth
) -> None:
    edge = ready(control_plane, make_edge(control_plane.port, truth))
    truth.names["vm-7"] = "renamed behind the edge's back"
    batches = list(control_plane.on_demand_reads.read(UUID))
    assert names(batches) == list(truth.names.values())
    assert max(len(batch.objects) for batch in batches) <= 200
    assert all(len(one.content_hash) == 16 for batch in batches for one in batch.objects)
    del truth.names["vm-8"]
    assert names(list(control_plane.on_demand_reads.read(UUID))) == list(truth.names.values())
    edge.stop()


def test_audit_of_a_vcenter_that_fails_says_so(
    control_plane: ControlPlaneEnd, make_edge: MakeEdge, truth: VCenterTruth
) -> None:
    ready(control_plane, make_edge(control_plane.port, truth))
    truth.failure = VCenterUnreachableError("vcenter.example.com does not answer")
    with pytest.raises(OnDemandReadError, match="does not answer"):
        list(control_plane.on_demand_reads.read(UUID))
    truth.failure = None
    assert len(names(list(control_plane.on_demand_reads.read(UUID)))) == 450


def test_audit_whose_edge_goes_away_ends(
    control_plane: ControlPlaneEnd, make_edge: MakeEdge, truth: VCenterTruth
) -> None:
    edge = ready(control_plane, make_edge(control_plane.port, truth))
    batches = control_plane.on_demand_reads.read(UUID)
    next(batches)
    edge.stop()
    with pytest.raises(OnDemandReadError, match=r"disconnected|all of its vCenter"):
        list(batches)
    with pytest.raises(OnDemandReadError, match="is offline since"):
        list(control_plane.on_demand_reads.read(UUID))


def test_audit_that_nobody_reads_any_more_leaves_the_link_as_it_was(
    control_plane: ControlPlaneEnd, make_edge: MakeEdge, truth: VCenterTruth
) -> None:
    ready(control_plane, make_edge(control_plane.port, truth))
    batches = control_plane.on_demand_reads.read(UUID)
    next(batches)
    batches.close()
    assert len(names(list(control_plane.on_demand_reads.read(UUID)))) == 450


def test_edge_of_an_older_version_is_named(
    control_plane: ControlPlaneEnd, make_edge: MakeEdge, truth: VCenterTruth
) -> None:
    ready(control_plane, make_edge(control_plane.port, truth, capabilities=("operation.power_on",)))
    with pytest.raises(OnDemandReadError, match="upgrade"):
        list(control_plane.on_demand_reads.read(UUID))
