"""What follows from a changed cluster, host, folder, network or datastore."""

from common.references import key_of
from controlplane.domain.references import kind_of
from controlplane.inventory.apply.plan import Plan
from controlplane.inventory.model.cluster_resources import is_usable
from controlplane.inventory.model.state import VCenterState
from controlplane.inventory.rules.adoption import Adoption
from controlplane.store.own.clusters import ClusterState
from controlplane.store.own.quarantine import AlarmKind
from vsphere_gateway.v1 import inventory_pb2


def meet(
    state: VCenterState,
    plan: Plan,
    key: str,
    one: inventory_pb2.InventoryObject,
    adoption: Adoption,
    clock: float,
) -> None:
    """Learn an object; ``clock`` is a monotonic time in seconds."""
    known = state.topology.get(key)
    renamed = state.topology.learn(one)
    if known is None:
        plan.revisit.update(state.waiting.arrived(key))
    elif renamed:
        state.renamed.add(key)
    kind = kind_of(one)
    if kind == inventory_pb2.OBJECT_KIND_CLUSTER:
        _meet_cluster(state, plan, key, one.cluster, known, adoption, clock)
    elif kind == inventory_pb2.OBJECT_KIND_HOST:
        cluster = key_of(one.host.cluster)
        if cluster in state.clusters:
            state.touch(cluster, clock)
            _doubt(state, plan, cluster)
    elif kind == inventory_pb2.OBJECT_KIND_DATASTORE and _usable(known) != _usable(one.datastore):
        for cluster in state.mounting(key):
            state.touch(cluster, clock)


def _usable(datastore: inventory_pb2.Datastore | None) -> int:
    """Return what of a datastore counts in a cluster's totals, in bytes."""
    return datastore.capacity_bytes if datastore is not None and is_usable(datastore) else 0


def _meet_cluster(
    state: VCenterState,
    plan: Plan,
    key: str,
    body: inventory_pb2.Cluster,
    known: inventory_pb2.Cluster | None,
    adoption: Adoption,
    clock: float,
) -> None:
    policy = adoption.cluster_policy(body.name).value
    if state.meet_cluster(key, body, policy, plan.now, clock):
        plan.revisit.update(state.waiting.arrived(key))
        known = None
    if known is None or list(known.datastores) != list(body.datastores):
        templates = state.holdings.keys_of_kinds({inventory_pb2.OBJECT_KIND_TEMPLATE})
        plan.revisit.update(templates)
    _doubt(state, plan, key)


def _doubt(state: VCenterState, plan: Plan, key: str) -> None:
    """Stop a cluster whose reference names something else now."""
    managed = state.clusters[key]
    reason = state.doubt(key)
    if reason and managed.row.state is not ClusterState.ALARM:
        state.change_state(managed, ClusterState.ALARM, reason)
        state.raise_alarm(AlarmKind.CLUSTER_IDENTITY, managed.row.uuid, reason, (), plan.now)
