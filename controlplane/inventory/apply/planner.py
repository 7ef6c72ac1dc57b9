"""Decides what follows from a unit of inventory: identity, adoption, project, mass removal.

Reads memory only. What it changes in memory is the context of virtual machines, which the
edge sends again if the unit comes to nothing.
"""

from common.clock import Clock
from common.references import key_of, moref_of
from common.timestamps import naive_utc
from controlplane.domain.mapping import servers as mapping
from controlplane.domain.mapping.servers import ImageDecision, ServerDecision
from controlplane.domain.records import Origin, Policy
from controlplane.domain.references import MACHINE_KINDS, kind_of, machine_of
from controlplane.inventory.apply.effects import (
    end_server,
    is_stopped,
    plan_removal,
    upsert,
    withdraw,
)
from controlplane.inventory.apply.plan import (
    NAME_LENGTH,
    Plan,
    PlannedImage,
    PlannedServer,
    Unit,
    no_instance_uuid,
    rejection,
    unreadable_reason,
)
from controlplane.inventory.model.replica_digest import Freshness
from controlplane.inventory.model.state import VCenterState
from controlplane.inventory.rules.adoption import Adoption, machine_policy, never_adopted
from controlplane.inventory.rules.identity import (
    CLAIMABLE,
    Bindings,
    Identified,
    Identity,
    IdentityConflicts,
    Place,
    canonical,
    image_uuid,
)
from controlplane.store.own.clusters import ClusterRow
from controlplane.store.own.objects import REPORTED, ObjectRow, ObjectStatus
from controlplane.store.own.quarantine import QuarantineReason
from controlplane.store.own.servers import ServerRow, ServerState
from vsphere_gateway.v1 import inventory_pb2

CONTEXT_WAIT_SECONDS = 3.0
"""How long a new virtual machine waits for a folder or network that is announced after it."""
_IN_CLUSTERS = MACHINE_KINDS | {inventory_pb2.OBJECT_KIND_HOST}


class Planner:
    """Plans units of any vCenter."""

    def __init__(
        self, bindings: Bindings, conflicts: IdentityConflicts, adoption: Adoption, clock: Clock
    ) -> None:
        """Decide by these bindings and choices."""
        self._bindings = bindings
        self._conflicts = conflicts
        self._adoption = adoption
        self._clock = clock

    def unknown(self, state: VCenterState, unit: Unit) -> list[str]:
        """The instance UUIDs of a unit that no server in memory has."""
        machines = (one for one in unit.objects if one.HasField("virtual_machine"))
        uuids = {canonical(one.virtual_machine.instance_uuid) for one in machines} - {""}
        return sorted(uuid for uuid in uuids if self._bindings.get(uuid) is None)

    def plan(self, state: VCenterState, unit: Unit) -> Plan:
        """What follows from a unit. Claims the UUIDs of new servers."""
        plan = Plan(state.uuid, unit, naive_utc(self._clock.wall()))
        machines = []
        with state.topology.lock:
            for one in unit.objects:
                key = key_of(one.reference)
                if not self._worth_a_look(state, plan, key, one):
                    continue
                if kind_of(one) in MACHINE_KINDS:
                    machines.append((key, one))
                else:
                    upsert(state, plan, key, one, self._adoption, self._clock.monotonic())
                    self._hold(state, plan, key, one, ObjectStatus.APPLIED)
        for key, one in machines:
            self._machine(state, plan, key, one)
        for removal in unit.removals:
            plan_removal(
                state, plan, removal, self._bindings, self._conflicts, self._clock.monotonic()
            )
        return plan

    def _worth_a_look(
        self, state: VCenterState, plan: Plan, key: str, one: inventory_pb2.InventoryObject
    ) -> bool:
        """Drop what is stale or held already, and reject what cannot be read."""
        unreadable = unreadable_reason(key, one)
        if unreadable:
            plan.refused[key] = rejection(QuarantineReason.UNREADABLE, unreadable, one)
            return False
        held = state.replica.get(key)
        if plan.unit.revisited:
            return (
                held is not None
                and held.status in REPORTED
                and held.content_hash == one.content_hash
            )
        if not one.content_hash:
            return held is not None and not state.replica.stale(key, plan.unit.epoch, one.revision)
        fresh = state.replica.freshness(key, one.content_hash, plan.unit.epoch, one.revision)
        if fresh is Freshness.SAME:
            plan.repeated[key] = one.revision
        if fresh is not Freshness.STALE and kind_of(one) in MACHINE_KINDS:
            place, uuid = (state.uuid, moref_of(key)), canonical(machine_of(one).instance_uuid)
            plan.elsewhere.update(self._conflicts.confirmed(place, uuid))
        return fresh is Freshness.NEW

    def _hold(
        self,
        state: VCenterState,
        plan: Plan,
        key: str,
        one: inventory_pb2.InventoryObject,
        status: ObjectStatus,
    ) -> None:
        held = state.replica.get(key)
        if not one.content_hash:  # the edge reports the same with its hash: held only then
            plan.postponed.add(key)
            return
        kind, body = kind_of(one), getattr(one, one.WhichOneof("body") or "")
        kept = held is not None and (plan.unit.revisited or not one.revision)
        plan.rows[key] = ObjectRow(
            vcenter_uuid=state.uuid,
            reference=key,
            kind=kind,
            content_hash=one.content_hash,
            epoch=held.epoch if held and kept else plan.unit.epoch,
            revision=held.revision if held and kept else one.revision,
            body=one.SerializeToString(),
            cluster=body.cluster.value or None if kind in _IN_CLUSTERS else None,
            name=body.full_name[:NAME_LENGTH]
            if kind == inventory_pb2.OBJECT_KIND_VCENTER
            else body.name[:NAME_LENGTH],
            status=status,
        )

    def _machine(
        self, state: VCenterState, plan: Plan, key: str, one: inventory_pb2.InventoryObject
    ) -> None:
        place = (state.uuid, moref_of(key))
        try:
            if one.HasField("template"):
                status = self._template(state, plan, key, one)
            else:
                if place[1] in state.images:
                    plan.images_gone.add(place[1])
                status = self._virtual_machine(state, plan, key, one)
        except (ValueError, OverflowError) as error:  # a value that no record can carry
            plan.refused[key] = rejection(QuarantineReason.UNREADABLE, str(error), one)
            return
        bound = self._bindings.at(place)
        if bound is not None and not plan.unit.revisited:
            state.guard(bound.cluster_uuid).discard(key)
        if status is not ObjectStatus.WAITING:
            state.waiting.done(key)
        self._hold(state, plan, key, one, status)

    def _template(
        self, state: VCenterState, plan: Plan, key: str, one: inventory_pb2.InventoryObject
    ) -> ObjectStatus:
        template, moref = one.template, moref_of(key)
        bound = self._bindings.at((state.uuid, moref))
        if is_stopped(state, bound):
            return ObjectStatus.WAITING
        if bound is not None:
            end_server(plan, bound, self._conflicts, delete=False, reason="converted to a template")
        self._withdraw(plan, (state.uuid, moref))
        if not state.mounts(template):
            if moref in state.images:
                plan.images_gone.add(moref)
            return ObjectStatus.WAITING
        if self._waits(state, plan, key, template):
            return ObjectStatus.WAITING
        path = state.topology.folder_path(template.folder)
        owner, members = self._adoption.image_access(template, path)
        image_id = image_uuid(state.uuid, moref)
        decision = ImageDecision(image_id, owner, "shared", members)
        record = mapping.image_record(template, one.reference, decision, state.topology, plan.now)
        plan.images.append(PlannedImage(key, record))
        return ObjectStatus.APPLIED

    def _virtual_machine(
        self, state: VCenterState, plan: Plan, key: str, one: inventory_pb2.InventoryObject
    ) -> ObjectStatus:
        machine = one.virtual_machine
        place = (state.uuid, moref_of(key))
        bound, never = self._bindings.at(place), never_adopted(machine)
        uuid = canonical(machine.instance_uuid)
        if (
            bound is not None
            and is_stopped(state, bound)
            and (never or bound.instance_uuid != uuid)
        ):
            self._claim(place, uuid)  # another's reference: it is not taken from a stopped cluster
            return ObjectStatus.WAITING
        if never and not (bound is not None and bound.origin == Origin.CREATED.value):
            if bound is not None:
                end_server(plan, bound, self._conflicts, delete=False, reason=never)
            self._withdraw(plan, place)
            return ObjectStatus.APPLIED
        cluster = state.open_cluster(key_of(machine.cluster))
        if cluster is None:
            wanted = [key_of(machine.cluster)]
            state.waiting.want(key, wanted, self._clock.monotonic())
            if state.is_stopped(wanted[0]):
                self._claim(place, uuid)
            return ObjectStatus.WAITING
        if self._waits(state, plan, key, machine):
            self._claim(place, uuid)
            return ObjectStatus.WAITING
        derive = self._conflicts.settled(place)
        identity = self._bindings.identify(place, uuid, derive=derive)
        return self._identified(state, plan, key, one, cluster, identity)

    def _claim(self, place: Place, instance_uuid: str) -> None:
        """Claim the server of a virtual machine that waits, in case it is another's until now."""
        server = self._bindings.get(instance_uuid)
        if server is None or server.state not in CLAIMABLE:
            return
        owner = (server.vcenter_uuid, server.moref)
        if owner != place or server.state is ServerState.TRANSFERRED:
            self._conflicts.open(place, owner, server.uuid)

    def _waits(
        self, state: VCenterState, plan: Plan, key: str, machine: inventory_pb2.VirtualMachine
    ) -> bool:
        """Whether a machine should wait for its context, which may still be on its way."""
        missing = state.topology.missing(machine)
        if not missing:
            return False
        now = self._clock.monotonic()
        state.waiting.want(key, missing, now)
        wait = CONTEXT_WAIT_SECONDS if state.complete else float("inf")
        if not state.waiting.worth_waiting(key, missing, now, wait):
            return False
        if state.complete:
            plan.postponed.add(key)
        return True

    def _identified(
        self,
        state: VCenterState,
        plan: Plan,
        key: str,
        one: inventory_pb2.InventoryObject,
        cluster: ClusterRow,
        identity: Identity,
    ) -> ObjectStatus:
        place = (state.uuid, moref_of(key))
        if identity.displaced is not None:
            reason = "its reference names another virtual machine now"
            end_server(plan, identity.displaced, self._conflicts, delete=False, reason=reason)
        if identity.found is Identified.UNREADABLE:
            if identity.server is None:
                plan.held_back[key] = no_instance_uuid(one)
                return ObjectStatus.QUARANTINED
            return ObjectStatus.APPLIED
        if identity.found is Identified.DUPLICATE:
            self._conflict(plan, key, one, place, identity.server)
            return ObjectStatus.QUARANTINED
        if self._conflicts.claimed(place) != identity.uuid:
            self._withdraw(plan, place)
        if identity.found is Identified.FREE and identity.server is not None:
            self._take(plan, place, identity.uuid)
        plan.servers.append(self._server(state, plan, key, one, cluster, identity))
        return ObjectStatus.APPLIED

    def _withdraw(self, plan: Plan, place: Place) -> None:
        """Withdraw the claim that a virtual machine may have on another's server."""
        withdraw(plan, place, self._bindings, self._conflicts)

    def _take(self, plan: Plan, place: Place, server_uuid: str) -> None:
        """Note that a virtual machine takes over a server, with which others may conflict now."""
        plan.settled_claims.add((place, server_uuid))
        plan.elsewhere.update(set(self._conflicts.claimants(server_uuid)) - {place})

    def _server(
        self,
        state: VCenterState,
        plan: Plan,
        key: str,
        one: inventory_pb2.InventoryObject,
        cluster: ClusterRow,
        identity: Identity,
    ) -> PlannedServer:
        machine, before = one.virtual_machine, identity.server
        path = state.topology.folder_path(machine.folder)
        decision = ServerDecision(
            instance_uuid=identity.uuid,
            project_id=before.project_id if before else self._adoption.project(machine, path),
            user_id=before.user_id if before else self._adoption.user_id,
            policy=machine_policy(Policy(cluster.policy), machine),
            compute_host=cluster.compute_host,
            node=cluster.hypervisor_hostname,
            compute_node_uuid=cluster.compute_node_uuid,
        )
        return PlannedServer(
            key=key,
            record=mapping.server_record(
                machine, one.reference, decision, state.topology, plan.now
            ),
            instance_uuid=canonical(machine.instance_uuid),
            derived=identity.derived,
            cluster_uuid=cluster.uuid,
            before=before,
            returning=before is not None and before.state is not ServerState.ACTIVE,
        )

    def _conflict(
        self,
        plan: Plan,
        key: str,
        one: inventory_pb2.InventoryObject,
        place: Place,
        first: ServerRow | None,
    ) -> None:
        """Put a newcomer into quarantine and have both confirmed."""
        if first is None:  # another vCenter's newcomer is being written this naive_utc
            plan.postponed.add(key)
            who = "another virtual machine"
        else:
            if self._conflicts.claimed(place) != first.uuid:
                self._withdraw(plan, place)
            owner = (first.vcenter_uuid, first.moref)
            who = f"{first.name} ({first.moref} of vCenter {first.vcenter_uuid})"
            if self._conflicts.open(place, owner, first.uuid):
                plan.to_confirm.update((place[0], owner[0]))
        message = (
            f"its instance UUID is also that of {who}, which was here first; it becomes a server "
            "of its own when both are confirmed with vCenter, or takes over when the first is gone"
        )
        plan.held_back[key] = rejection(QuarantineReason.DUPLICATE_INSTANCE_UUID, message, one)
