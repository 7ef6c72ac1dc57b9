"""What a unit leaves in the gateway database, after everything else was written, and in memory."""

from collections.abc import Sequence
from dataclasses import replace

from common.clock import Clock
from common.references import moref_of
from common.timestamps import naive_utc
from controlplane.domain.records import (
    ImageChange,
    ImageOutcome,
    RemovalChange,
    ServerChange,
    ServerOutcome,
)
from controlplane.inventory.apply.plan import (
    EndedServer,
    Plan,
    PlannedImage,
    PlannedServer,
    Rejection,
)
from controlplane.inventory.model.replica_digest import Held
from controlplane.inventory.model.state import VCenterState
from controlplane.inventory.rules.identity import Bindings
from controlplane.store.database import Database
from controlplane.store.own import servers
from controlplane.store.own.objects import ObjectStatus
from controlplane.store.own.quarantine import LONGEST_REFERENCE, QuarantineReason, QuarantineRow
from controlplane.store.own.servers import ImageRow, ServerRow, ServerState
from controlplane.store.own.unit import UnitRows, write, write_clusters

_LATER = (RemovalChange.REQUESTED, RemovalChange.DEFERRED)


class Recorder:
    """Writes the gateway database. Everything is idempotent."""

    def __init__(self, database: Database, bindings: Bindings, clock: Clock) -> None:
        """Write into ``database`` and remember in ``bindings``."""
        self._database = database
        self._bindings = bindings
        self._clock = clock

    def refresh(self, uuids: Sequence[str]) -> None:
        """Take bindings of these servers that another process has written meanwhile."""
        if uuids:
            with self._database.read() as connection:
                self._bindings.load(servers.get(connection, uuids))

    def clusters(self, state: VCenterState) -> None:
        """Write clusters and alarms that changed, before anything uses their names."""
        unsaved = [one for one in state.clusters.values() if one.unsaved or one.unsaved_state]
        alarms = [state.alarms[name] for name in state.unsaved_alarms]
        if not unsaved and not alarms:
            return
        rows, now = [one.row for one in unsaved], naive_utc(self._clock.wall())
        restated = {one.row.uuid for one in unsaved if one.unsaved_state}
        self._database.run(
            lambda connection: write_clusters(connection, rows, restated, alarms, now)
        )
        state.unsaved_alarms.clear()
        for one in unsaved:
            one.unsaved = one.unsaved_state = False

    def record(self, state: VCenterState, plan: Plan) -> UnitRows:
        """Write what a plan came to and return it."""
        rows = self._settle(state, plan)
        if rows:
            self._database.run(lambda connection: write(connection, state.uuid, rows, plan.now))
        return rows

    def remember(self, state: VCenterState, plan: Plan) -> None:
        """Take what was committed into memory."""
        rows = plan.written or UnitRows()
        for row in rows.objects:
            held = Held(row.kind, row.content_hash, row.epoch, row.revision, row.status)
            state.replica.put(row.reference, held)
        for key, status in rows.statuses.items():
            state.replica.set_status(key, status)
        for key, revision in plan.repeated.items():
            state.replica.repeat(key, plan.unit.epoch, revision)
        for key, (_, revision) in plan.kept.items():
            state.replica.repeat(key, plan.unit.epoch, revision)
        for key, revision in plan.gone.items():
            state.replica.drop(key, plan.unit.epoch, revision)
            state.topology.forget(key)
        for server in rows.servers:
            self._bindings.put(server)
        for moref in plan.images_gone:
            del state.images[moref]
        state.images.update({image.moref: image.id for image in rows.images})
        state.quarantined.update({one.reference: one.attempts for one in rows.quarantine})
        for key in rows.released:
            state.quarantined.pop(key, None)
        state.refused = state.refused.difference(plan.rows, plan.gone, plan.repeated)
        state.refused.update(plan.refused)

    def _settle(self, state: VCenterState, plan: Plan) -> UnitRows:
        """Turn outcomes into rows. What a database refused becomes a rejection of the plan."""
        rows = UnitRows(
            gone=sorted(plan.gone), images_gone=[state.images[m] for m in plan.images_gone]
        )
        _settle_images(state, plan, rows)
        for planned, outcome in zip(plan.servers, plan.server_outcomes or (), strict=True):
            if outcome.change is ServerChange.REFUSED:
                _refuse(plan, planned.key, outcome.reason)
            elif outcome.change is not ServerChange.GONE:
                bound = _bound(plan, planned, outcome)
                if bound != planned.before:
                    rows.servers.append(bound)
        removals = {one.uuid: one.change for one in plan.removal_outcomes or ()}
        rows.servers += [_ended(plan, one, removals[one.row.uuid]) for one in plan.ended]
        for row in plan.transferred:
            reason = "its virtual machine is gone; another with its UUID takes over"
            rows.servers.append(_end(plan, row, ServerState.TRANSFERRED, reason))
        _settle_objects(state, plan, rows)
        _settle_quarantine(state, plan, rows)
        return rows


def _settle_images(state: VCenterState, plan: Plan, rows: UnitRows) -> None:
    for planned, outcome in zip(plan.images, plan.image_outcomes or (), strict=True):
        if outcome.change is ImageChange.REFUSED:
            _refuse(plan, planned.key, outcome.reason)
        elif outcome.change is ImageChange.CREATED or moref_of(planned.key) not in state.images:
            rows.images.append(_image(plan, planned, outcome))
        elif outcome.change is ImageChange.UPDATED:
            rows.images_changed.append(_image(plan, planned, outcome))


def _image(plan: Plan, planned: PlannedImage, outcome: ImageOutcome) -> ImageRow:
    record = planned.record
    return ImageRow(
        id=record.id,
        vcenter_uuid=plan.vcenter_uuid,
        moref=moref_of(planned.key),
        name=record.name,
        owner=outcome.owner or record.owner,
        visibility=outcome.visibility or record.visibility,
        state="active",
        created_at=plan.now,
    )


def _refuse(plan: Plan, key: str, reason: str) -> None:
    row = plan.rows.get(key)
    name, content_hash = (row.name, row.content_hash) if row else ("", b"")
    message = f"the database refused its values: {reason}"
    plan.refused[key] = Rejection(QuarantineReason.ROW_REFUSED, message, name, content_hash)


def _bound(plan: Plan, planned: PlannedServer, outcome: ServerOutcome) -> ServerRow:
    record, before = planned.record, planned.before
    return ServerRow(
        uuid=record.uuid,
        vcenter_uuid=plan.vcenter_uuid,
        moref=moref_of(planned.key),
        instance_uuid=planned.instance_uuid,
        cluster_uuid=planned.cluster_uuid,
        name=record.display_name,
        origin=outcome.origin.value,
        state=ServerState.ACTIVE,
        project_id=outcome.project_id or record.project_id,
        user_id=outcome.user_id or record.user_id,
        derived=planned.derived,
        cpus=record.flavor.vcpus,
        memory_mb=record.flavor.memory_mb,
        disk_gb=record.flavor.root_gb + record.flavor.ephemeral_gb,
        adopted_at=before.adopted_at if before else plan.now,
    )


def _ended(plan: Plan, ended: EndedServer, change: RemovalChange) -> ServerRow:
    if change in _LATER:
        state = ServerState.REMOVING if ended.delete else ServerState.UNMANAGING
    else:
        state = ServerState.REMOVED if ended.delete else ServerState.UNMANAGED
    return _end(plan, ended.row, state, ended.reason)


def _end(plan: Plan, row: ServerRow, state: ServerState, reason: str) -> ServerRow:
    return replace(row, state=state, removed_at=plan.now, removed_reason=reason)


def _settle_objects(state: VCenterState, plan: Plan, rows: UnitRows) -> None:
    for key, row in plan.rows.items():
        if key in plan.refused:
            continue
        held = state.replica.get(key)
        if not plan.unit.revisited or held is None or held.status is not row.status:
            rows.objects.append(row)
    for key, (status, _) in plan.kept.items():
        rows.statuses[key] = status
    for key in plan.refused:
        held = state.replica.get(key)
        if held is not None and held.status is not ObjectStatus.REFUSED:
            rows.statuses[key] = ObjectStatus.REFUSED


def _settle_quarantine(state: VCenterState, plan: Plan, rows: UnitRows) -> None:
    rejections = {**plan.held_back, **plan.refused}
    for key, rejection in rejections.items():
        reference = key[:LONGEST_REFERENCE]
        rows.quarantine.append(
            QuarantineRow(
                vcenter_uuid=state.uuid,
                reference=reference,
                reason=rejection.reason.value,
                message=rejection.message,
                name=rejection.name,
                content_hash=rejection.content_hash or None,
                since=plan.now,
                tried_at=plan.now,
                attempts=state.quarantined.get(reference, 0) + 1,
            )
        )
    if state.quarantined:
        sound = {*plan.rows, *plan.gone}.difference(rejections)
        rows.released = sorted(sound.intersection(state.quarantined))
