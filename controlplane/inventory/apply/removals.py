"""What follows when an edge no longer reports an object: only a confirmed end ends anything."""

from common.references import key_of, machine_key, moref_of
from controlplane.domain.references import MACHINE_KINDS
from controlplane.inventory.apply.plan import EndedServer, Plan
from controlplane.inventory.model.state import CLOSED, VCenterState
from controlplane.inventory.rules.identity import Bindings, Place
from controlplane.inventory.rules.identity_conflicts import Contests
from controlplane.store.own.clusters import ClusterState
from controlplane.store.own.objects import Standing
from controlplane.store.own.quarantine import AlarmKind
from controlplane.store.own.servers import ServerRow, ServerState
from vsphere_gateway.v1 import inventory_pb2, link_pb2

_KEPT = {
    link_pb2.REMOVAL_REASON_HIDDEN: Standing.HIDDEN,
    link_pb2.REMOVAL_REASON_UNCONFIRMED: Standing.UNCONFIRMED,
    link_pb2.REMOVAL_REASON_UNSPECIFIED: Standing.UNCONFIRMED,
}


def plan_removal(
    state: VCenterState,
    plan: Plan,
    removal: link_pb2.ObjectRemoval,
    bindings: Bindings,
    contests: Contests,
    clock: float,
) -> None:
    """Plan one removal; ``clock`` is a monotonic time in seconds."""
    key = key_of(removal.reference)
    if state.holdings.stale(key, plan.unit.epoch, removal.revision):
        return
    held = state.holdings.get(key)
    bound = bindings.at((state.uuid, moref_of(key))) if key == machine_key(moref_of(key)) else None
    standing = _KEPT.get(removal.reason)
    if standing is None and in_doubt(state, bound):
        standing = Standing.UNCONFIRMED
    if standing is not None:
        if held is not None:
            plan.kept[key] = (standing, removal.revision)
            if bound is not None:
                _brake(state, plan, key, bound, bindings, clock)
        return
    plan.gone[key] = removal.revision
    deleted = removal.reason == link_pb2.REMOVAL_REASON_DELETED
    if bound is not None:
        reason = "deleted in vCenter" if deleted else "moved out of the managed clusters"
        end_server(plan, bound, contests, delete=deleted, reason=reason)
        state.vanished(bound.cluster_uuid).back(key)
    if held is None or held.kind in MACHINE_KINDS:
        _machine_gone(state, plan, key, bindings, contests, deleted=deleted)
    elif held.kind == inventory_pb2.OBJECT_KIND_CLUSTER:
        _cluster_gone(state, plan, key, deleted=deleted)


def end_server(
    plan: Plan, row: ServerRow, contests: Contests, *, delete: bool, reason: str
) -> None:
    """End a server, or hand it on to the virtual machine that waits for its UUID."""
    heir = contests.heir(row.uuid, plan.uncontested)
    if heir is not None and heir != (row.vcenter_uuid, row.moref):
        plan.handed_on.append(row)
        plan.elsewhere.add(heir)
    else:
        plan.ended.append(EndedServer(row, delete, reason))


def renounce(
    plan: Plan, place: Place, bindings: Bindings, contests: Contests, *, delete: bool = False
) -> None:
    """A virtual machine is gone, or wants the UUID no more for which it waited.

    A server that was handed on to it ends, unless there is another heir.
    """
    server_uuid = contests.claimed(place)
    if server_uuid is None:
        return
    plan.uncontested.add((place, server_uuid))
    handed_on = [row for row in plan.handed_on if row.uuid == server_uuid]
    for row in handed_on:
        plan.handed_on.remove(row)
    known = bindings.get(server_uuid)
    if not handed_on and known is not None and known.state is ServerState.HANDED_ON:
        handed_on = [known]
    for row in handed_on:
        reason = "its virtual machine is gone, and the other with its UUID does not take over"
        end_server(plan, row, contests, delete=delete, reason=reason)


def _machine_gone(
    state: VCenterState,
    plan: Plan,
    key: str,
    bindings: Bindings,
    contests: Contests,
    *,
    deleted: bool,
) -> None:
    place = (state.uuid, moref_of(key))
    renounce(plan, place, bindings, contests, delete=deleted)
    if place[1] in state.images:
        plan.images_gone.add(place[1])


def _cluster_gone(state: VCenterState, plan: Plan, key: str, *, deleted: bool) -> None:
    managed = state.clusters.get(key)
    if managed is not None and managed.row.state is not ClusterState.UNMANAGED:
        reason = "deleted in vCenter" if deleted else "taken from management by the site"
        state.change_state(managed, ClusterState.UNMANAGED, reason)
        managed.leaving = managed.touched = True
        templates = state.holdings.keys_of_kinds({inventory_pb2.OBJECT_KIND_TEMPLATE})
        plan.revisit.update(templates)


def in_doubt(state: VCenterState, bound: ServerRow | None) -> bool:
    """Tell whether the server's cluster is stopped: then nothing of it ends."""
    managed = None if bound is None else state.by_uuid(bound.cluster_uuid)
    return managed is not None and managed.row.state is ClusterState.ALARM


def _brake(
    state: VCenterState,
    plan: Plan,
    key: str,
    bound: ServerRow,
    bindings: Bindings,
    clock: float,
) -> None:
    """Raise an alarm when too much of a cluster vanishes unconfirmed."""
    managed = state.by_uuid(bound.cluster_uuid)
    if managed is None or managed.row.state in CLOSED:
        return
    vanished = state.vanished(bound.cluster_uuid)
    vanished.add(key, clock)
    servers = bindings.count(bound.cluster_uuid)
    held = vanished.excess(servers, clock)
    if held:
        message = (
            f"{len(held)} of {servers} servers of cluster {managed.row.name!r} are no longer shown "
            "to the edge, and vCenter did not confirm that they were deleted; their servers are "
            "kept. Check the edge's user and its privileges; release the alarm only if the "
            "virtual machines are really to leave OpenStack"
        )
        state.raise_alarm(AlarmKind.MASS_REMOVAL, bound.cluster_uuid, message, held, plan.now)
