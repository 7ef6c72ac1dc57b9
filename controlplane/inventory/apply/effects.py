"""What follows in memory from a changed context, and from what is no longer reported."""

from common.references import key_of, machine_key, moref_of
from controlplane.domain.references import MACHINE_KINDS, kind_of
from controlplane.inventory.apply.plan import EndedServer, Plan
from controlplane.inventory.model.cluster_resources import is_usable
from controlplane.inventory.model.state import CLOSED, VCenterState
from controlplane.inventory.rules.adoption import Adoption
from controlplane.inventory.rules.identity import Bindings, IdentityConflicts, Place
from controlplane.store.own.clusters import ClusterState
from controlplane.store.own.objects import ObjectStatus
from controlplane.store.own.quarantine import AlarmKind
from controlplane.store.own.servers import ServerRow, ServerState
from vsphere_gateway.v1 import inventory_pb2, link_pb2

_KEPT = {
    link_pb2.REMOVAL_REASON_HIDDEN: ObjectStatus.HIDDEN,
    link_pb2.REMOVAL_REASON_UNCONFIRMED: ObjectStatus.UNCONFIRMED,
    link_pb2.REMOVAL_REASON_UNSPECIFIED: ObjectStatus.UNCONFIRMED,
}


def plan_removal(
    state: VCenterState,
    plan: Plan,
    removal: link_pb2.ObjectRemoval,
    bindings: Bindings,
    conflicts: IdentityConflicts,
    clock: float,
) -> None:
    """Plan one removal; ``clock`` is a monotonic time in seconds."""
    key = key_of(removal.reference)
    if state.replica.stale(key, plan.unit.epoch, removal.revision):
        return
    held = state.replica.get(key)
    bound = bindings.at((state.uuid, moref_of(key))) if key == machine_key(moref_of(key)) else None
    status = _KEPT.get(removal.reason)
    if status is None and is_stopped(state, bound):
        status = ObjectStatus.UNCONFIRMED
    if status is not None:
        if held is not None:
            plan.kept[key] = (status, removal.revision)
            if bound is not None:
                _guard_mass_removal(state, plan, key, bound, bindings, clock)
        return
    plan.gone[key] = removal.revision
    deleted = removal.reason == link_pb2.REMOVAL_REASON_DELETED
    if bound is not None:
        reason = "deleted in vCenter" if deleted else "moved out of the managed clusters"
        end_server(plan, bound, conflicts, delete=deleted, reason=reason)
        state.guard(bound.cluster_uuid).discard(key)
    if held is None or held.kind in MACHINE_KINDS:
        _machine_gone(state, plan, key, bindings, conflicts, deleted=deleted)
    elif held.kind == inventory_pb2.OBJECT_KIND_CLUSTER:
        _cluster_gone(state, plan, key, deleted=deleted)


def end_server(
    plan: Plan, row: ServerRow, conflicts: IdentityConflicts, *, delete: bool, reason: str
) -> None:
    """End a server, or transfer it to the virtual machine that waits for its UUID."""
    successor = conflicts.successor(row.uuid, plan.settled_claims)
    if successor is not None and successor != (row.vcenter_uuid, row.moref):
        plan.transferred.append(row)
        plan.elsewhere.add(successor)
    else:
        plan.ended.append(EndedServer(row, delete, reason))


def withdraw(
    plan: Plan,
    place: Place,
    bindings: Bindings,
    conflicts: IdentityConflicts,
    *,
    delete: bool = False,
) -> None:
    """Withdraw the claim of a virtual machine that is gone or has another instance UUID now.

    A server that was transferred to it ends, unless there is another successor.
    """
    server_uuid = conflicts.claimed(place)
    if server_uuid is None:
        return
    plan.settled_claims.add((place, server_uuid))
    transferred = [row for row in plan.transferred if row.uuid == server_uuid]
    for row in transferred:
        plan.transferred.remove(row)
    known = bindings.get(server_uuid)
    if not transferred and known is not None and known.state is ServerState.TRANSFERRED:
        transferred = [known]
    for row in transferred:
        reason = "its virtual machine is gone, and the other with its UUID does not take over"
        end_server(plan, row, conflicts, delete=delete, reason=reason)


def _machine_gone(
    state: VCenterState,
    plan: Plan,
    key: str,
    bindings: Bindings,
    conflicts: IdentityConflicts,
    *,
    deleted: bool,
) -> None:
    place = (state.uuid, moref_of(key))
    withdraw(plan, place, bindings, conflicts, delete=deleted)
    if place[1] in state.images:
        plan.images_gone.add(place[1])


def _cluster_gone(state: VCenterState, plan: Plan, key: str, *, deleted: bool) -> None:
    managed = state.clusters.get(key)
    if managed is not None and managed.row.state is not ClusterState.UNMANAGED:
        reason = "deleted in vCenter" if deleted else "taken from management by the site"
        state.change_state(managed, ClusterState.UNMANAGED, reason)
        managed.leaving = managed.touched = True
        templates = state.replica.keys_of_kinds({inventory_pb2.OBJECT_KIND_TEMPLATE})
        plan.revisit.update(templates)


def is_stopped(state: VCenterState, bound: ServerRow | None) -> bool:
    """Whether the server's cluster is stopped: then nothing of it ends."""
    managed = None if bound is None else state.by_uuid(bound.cluster_uuid)
    return managed is not None and managed.row.state is ClusterState.ALARM


def _guard_mass_removal(
    state: VCenterState,
    plan: Plan,
    key: str,
    bound: ServerRow,
    bindings: Bindings,
    clock: float,
) -> None:
    """Raise an alarm when too much of a cluster goes missing unconfirmed."""
    managed = state.by_uuid(bound.cluster_uuid)
    if managed is None or managed.row.state in CLOSED:
        return
    guard = state.guard(bound.cluster_uuid)
    guard.add(key, clock)
    servers = bindings.count(bound.cluster_uuid)
    held = guard.excess(servers, clock)
    if held:
        message = (
            f"{len(held)} of {servers} servers of cluster {managed.row.name!r} are no longer shown "
            "to the edge, and vCenter did not confirm that they were deleted; their servers are "
            "kept. Check the edge's user and its privileges; release the alarm only if the "
            "virtual machines are really to leave OpenStack"
        )
        state.raise_alarm(AlarmKind.MASS_REMOVAL, bound.cluster_uuid, message, held, plan.now)


def upsert(
    state: VCenterState,
    plan: Plan,
    key: str,
    one: inventory_pb2.InventoryObject,
    adoption: Adoption,
    clock: float,
) -> None:
    """Update what virtual machines live in; ``clock`` is a monotonic time in seconds."""
    known = state.topology.get(key)
    renamed = state.topology.learn(one)
    if known is None:
        plan.revisit.update(state.waiting.arrived(key))
    elif renamed:
        state.renamed.add(key)
    kind = kind_of(one)
    if kind == inventory_pb2.OBJECT_KIND_CLUSTER:
        _upsert_cluster(state, plan, key, one.cluster, known, adoption, clock)
    elif kind == inventory_pb2.OBJECT_KIND_HOST:
        cluster = key_of(one.host.cluster)
        if cluster in state.clusters:
            state.touch(cluster, clock)
            _check_identity(state, plan, cluster)
    elif kind == inventory_pb2.OBJECT_KIND_DATASTORE and _usable(known) != _usable(one.datastore):
        for cluster in state.mounting(key):
            state.touch(cluster, clock)


def _usable(datastore: inventory_pb2.Datastore | None) -> int:
    """What of a datastore counts in a cluster's totals, in bytes."""
    return datastore.capacity_bytes if datastore is not None and is_usable(datastore) else 0


def _upsert_cluster(
    state: VCenterState,
    plan: Plan,
    key: str,
    body: inventory_pb2.Cluster,
    known: inventory_pb2.Cluster | None,
    adoption: Adoption,
    clock: float,
) -> None:
    policy = adoption.cluster_policy(body.name).value
    if state.upsert_cluster(key, body, policy, plan.now, clock):
        plan.revisit.update(state.waiting.arrived(key))
        known = None
    if known is None or list(known.datastores) != list(body.datastores):
        templates = state.replica.keys_of_kinds({inventory_pb2.OBJECT_KIND_TEMPLATE})
        plan.revisit.update(templates)
    _check_identity(state, plan, key)


def _check_identity(state: VCenterState, plan: Plan, key: str) -> None:
    """Stop a cluster whose reference names something else now."""
    managed = state.clusters[key]
    reason = state.identity_mismatch(key)
    if reason and managed.row.state is not ClusterState.ALARM:
        state.change_state(managed, ClusterState.ALARM, reason)
        state.raise_alarm(AlarmKind.CLUSTER_IDENTITY, managed.row.uuid, reason, (), plan.now)
