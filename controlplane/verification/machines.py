"""What vCenter shows, batch by batch, against what is held, bound and written of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from common.references import key_of, moref_of
from controlplane.domain.mapping import servers as mapping
from controlplane.domain.mapping.servers import ImageDecision, ServerDecision
from controlplane.domain.records import ImageRecord, Origin, Policy, ServerRecord
from controlplane.domain.references import BODY_BY_KIND, kind_of
from controlplane.inventory.rules.adoption import machine_policy, never_adopted
from controlplane.inventory.rules.identity import canonical, derived_uuid
from controlplane.store.nova.readers import ServerRows
from controlplane.store.own.clusters import ClusterRow, ClusterState
from controlplane.store.own.objects import ObjectStatus
from controlplane.store.own.readers import HeldObject
from controlplane.store.own.servers import ImageRow, ServerRow
from controlplane.verification.context import KEPT, Readers, VerificationContext
from controlplane.verification.findings import Place, Subject
from controlplane.verification.images import compare_image
from controlplane.verification.measurements import MEASURED, differ_in_state
from controlplane.verification.servers import ExpectedServer, compare_server
from vsphere_gateway.v1 import inventory_pb2, link_pb2

DELETE_SECONDS = 600.0
"""How long a virtual machine may remain after its delete was recorded."""

HELD_FIELD = "objects.content_hash"
"""Differs when another state of an object is held than vCenter's."""

Objects = Sequence[inventory_pb2.InventoryObject]


class MachineComparison:
    """Compares an on-demand read batch by batch, so that one batch at most is in memory."""

    def __init__(
        self,
        readers: Readers,
        context: VerificationContext,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``context`` is that of this look; ``wall`` is Unix time in seconds."""
        self._readers = readers
        self._context = context
        self._findings = context.findings
        self._wall = wall
        self._images = {row.moref: row for row in readers.own.images(context.vcenter_uuid)}
        self._measured: set[str] = set()
        """Keys in the batch at hand whose hashes differ by what is measured alone."""

    def take(self, batch: link_pb2.AuditBatch) -> None:
        """Compare one batch. Raises ``StoreError``."""
        context = self._context
        for unread in batch.unreadable_objects:
            key = key_of(unread.reference)
            context.unreadable.add(key)
            context.seen.add(key)
            self._findings.excuse(context.subject(key), f"the edge cannot read it: {unread.reason}")
        objects = list(batch.objects)
        context.take(objects)
        if not objects:
            return
        keys = [key_of(one.reference) for one in objects]
        held = self._readers.own.objects(context.vcenter_uuid, keys)
        self._measured = self._differing_in_measurements(objects, held)
        applied = [one for one in objects if self._is_applied(one, held)]
        self._compare_machines([one for one in applied if one.HasField("virtual_machine")])
        self._compare_templates([one for one in applied if one.HasField("template")])

    def _differing_in_measurements(
        self, objects: Objects, held: Mapping[str, HeldObject]
    ) -> set[str]:
        """The keys of objects that are held as they are, but for what is measured."""
        suspects = {
            key: one
            for one in objects
            if kind_of(one) == MEASURED
            and (key := key_of(one.reference)) in held
            and held[key].content_hash != one.content_hash
        }
        bodies = self._readers.own.bodies(self._context.vcenter_uuid, suspects)
        return {
            key
            for key, one in suspects.items()
            if not differ_in_state(one, held[key], bodies.get(key))
        }

    def _is_applied(
        self, one: inventory_pb2.InventoryObject, held: Mapping[str, HeldObject]
    ) -> bool:
        """Compare what is held of an object; returns whether something follows from it."""
        kind, key = BODY_BY_KIND[kind_of(one)], key_of(one.reference)
        body = getattr(one, kind)
        name = body.full_name if kind == "vcenter" else body.name
        subject = self._context.subject(key, name)
        self._findings.count(Place.VCENTER, kind)
        row, rejection = held.get(key), self._context.quarantine.get(key)
        if rejection is not None:
            self._findings.excuse(
                subject, f"in quarantine, {rejection.reason}: {rejection.message}"
            )
            return False
        if row is None:
            self._findings.differ(subject, Place.OWN, "objects", kind, "")
            return False
        self._findings.count(Place.OWN, kind)
        compare = self._findings.compare
        compare(subject, Place.OWN, "objects.kind", kind, BODY_BY_KIND.get(row.kind, row.kind))
        if row.content_hash == one.content_hash or key in self._measured:
            self._context.agreed.add(key)
        else:
            compare(subject, Place.OWN, HELD_FIELD, one.content_hash, row.content_hash)
        if row.status is ObjectStatus.WAITING:
            return self._waits(subject, kind, body)
        if row.status is not ObjectStatus.APPLIED:
            found = row.status.name.lower()
            self._findings.differ(subject, Place.OWN, "objects.standing", "applied", found)
        return row.status is ObjectStatus.APPLIED or row.status in KEPT

    def _waits(self, subject: Subject, kind: str, machine: inventory_pb2.VirtualMachine) -> bool:
        """Excuse what rightly waits."""
        missing = self._context.topology.missing(machine)
        cluster = self._context.cluster_of(machine)
        if missing:
            reason = f"waits for {', '.join(missing)}, which vCenter does not show"
            self._findings.excuse(subject, reason)
        elif cluster is not None and cluster.state is ClusterState.ALARM:
            self._findings.excuse(subject, f"its cluster is stopped: {cluster.state_reason}")
        elif self._is_of_stopped(subject):
            reason = "its reference is that of a server whose cluster is stopped by an alarm"
            self._findings.excuse(subject, reason)
        elif kind == "template" and not self._context.mounts(machine):
            self._findings.excuse(subject, "no managed cluster mounts its datastore")
        else:
            self._findings.differ(subject, Place.OWN, "objects.standing", "applied", "waiting")
        return False

    def _is_of_stopped(self, subject: Subject) -> bool:
        """Whether a stopped cluster's server stands for a reference."""
        moref = moref_of(subject.object)
        bound = self._readers.own.servers(self._context.vcenter_uuid, [moref]).get(moref, [])
        return any(self._context.is_doubtful(row.cluster_uuid) for row in bound)

    def _compare_machines(self, objects: Objects) -> None:
        if not objects:
            return
        context = self._context
        bound = self._readers.own.servers(
            context.vcenter_uuid, [one.reference.value for one in objects]
        )
        rows = self._readers.nova.servers(
            {row.uuid for several in bound.values() for row in several}
        )
        for one in objects:
            subject = context.subject(key_of(one.reference), one.virtual_machine.name)
            server = self._server(subject, one.virtual_machine, bound.get(one.reference.value, []))
            if server is not None:
                self._compare_server(subject, one, server, rows.get(server.uuid))

    def _server(
        self, subject: Subject, machine: inventory_pb2.VirtualMachine, bound: Sequence[ServerRow]
    ) -> ServerRow | None:
        """The server that stands for a virtual machine, and compare that there is one."""
        never = never_adopted(machine)
        if never and not any(row.origin == Origin.CREATED.value for row in bound):
            for row in bound:
                self._findings.differ(subject, Place.OWN, f"servers ({never})", "", row.uuid)
            return None
        if len(bound) == 1:
            return bound[0]
        found = ", ".join(row.uuid for row in bound)
        self._findings.differ(subject, Place.OWN, "servers", machine.instance_uuid, found)
        return None

    def _compare_server(
        self,
        subject: Subject,
        one: inventory_pb2.InventoryObject,
        server: ServerRow,
        rows: ServerRows | None,
    ) -> None:
        cluster = self._context.cluster_of(one.virtual_machine)
        if cluster is None:
            reference = one.virtual_machine.cluster.value
            self._findings.differ(subject, Place.OWN, "clusters", reference, "")
            return
        if cluster.state is ClusterState.ALARM:
            self._findings.excuse(subject, f"its cluster is stopped: {cluster.state_reason}")
            return
        record = self._record(one, server, cluster)
        self._compare_binding(subject, one, server, cluster, record)
        self._findings.count(Place.NOVA_CELL, "server")
        if rows is None or rows.instance["deleted"]:
            self._missing(subject, server.uuid, "deleted" if rows else "")
        elif rows.instance["task_state"] is not None:
            task = rows.instance["task_state"]
            self._findings.excuse(subject, f"Nova works on its server: {task}")
        else:
            self._findings.count(Place.NOVA_API, "server")
            expected = ExpectedServer(
                record,
                Origin(server.origin),
                self._context.compute_id(cluster),
                self._readers.nova.cell_id,
                self._context.unknown_images,
            )
            compare_server(self._findings, subject, expected, rows)

    def _record(
        self, one: inventory_pb2.InventoryObject, server: ServerRow, cluster: ClusterRow
    ) -> ServerRecord:
        decision = ServerDecision(
            instance_uuid=server.uuid,
            project_id=server.project_id,
            user_id=server.user_id,
            policy=machine_policy(Policy(cluster.policy), one.virtual_machine),
            compute_host=cluster.compute_host,
            node=cluster.hypervisor_hostname,
            compute_node_uuid=cluster.compute_node_uuid,
        )
        now = datetime.fromtimestamp(self._wall(), UTC).replace(tzinfo=None)
        return mapping.server_record(
            one.virtual_machine, one.reference, decision, self._context.topology, now
        )

    def _compare_binding(
        self,
        subject: Subject,
        one: inventory_pb2.InventoryObject,
        server: ServerRow,
        cluster: ClusterRow,
        record: ServerRecord,
    ) -> None:
        instance_uuid = canonical(one.virtual_machine.instance_uuid)
        place = (self._context.vcenter_uuid, moref_of(subject.object))
        wanted = {
            "uuid": derived_uuid(place) if server.derived else instance_uuid,
            "instance_uuid": instance_uuid,
            "cluster_uuid": cluster.uuid,
            "name": record.display_name,
            "cpus": record.flavor.vcpus,
            "memory_mb": record.flavor.memory_mb,
            "disk_gb": record.flavor.root_gb + record.flavor.ephemeral_gb,
        }
        if not instance_uuid:  # vCenter cannot read it now; it said so before
            del wanted["uuid"], wanted["instance_uuid"]
        for name, value in wanted.items():
            found = getattr(server, name)
            self._findings.compare(subject, Place.OWN, f"servers.{name}", value, found)

    def _missing(self, subject: Subject, uuid: str, found: str) -> None:
        recorded = self._readers.deletes.deletes_recorded([uuid]).get(uuid)
        ended = recorded is not None and recorded.state == "done"
        if recorded is None or (ended and self._wall() - recorded.finished_at > DELETE_SECONDS):
            self._findings.differ(subject, Place.NOVA_CELL, "instances", uuid, found)
        else:
            self._findings.excuse(subject, f"a delete of its server {uuid} is recorded")

    def _compare_templates(self, objects: Objects) -> None:
        if not objects:
            return
        wanted = [row.id for one in objects if (row := self._images.get(one.reference.value))]
        rows = self._readers.glance.images(wanted)
        for one in objects:
            subject = self._context.subject(key_of(one.reference), one.template.name)
            image = self._images.get(one.reference.value)
            if image is None:
                self._findings.differ(subject, Place.OWN, "images", "an image", "")
                continue
            self._findings.count(Place.GLANCE, "image")
            path = self._context.topology.folder_path(one.template.folder)
            owner, members = self._readers.rules.image_access(one.template, path)
            record = self._image(one, image, members)
            self._findings.compare(subject, Place.OWN, "images.name", record.name, image.name)
            compare_image(
                self._findings,
                subject,
                record,
                rows.get(image.id),
                with_locations=self._readers.glance.with_locations,
                # Else it was decided when the rules, or its folder, were others.
                with_members=owner == image.owner,
            )

    def _image(
        self, one: inventory_pb2.InventoryObject, image: ImageRow, members: frozenset[str]
    ) -> ImageRecord:
        decision = ImageDecision(image.id, image.owner, image.visibility, members)
        now = datetime.fromtimestamp(self._wall(), UTC).replace(tzinfo=None)
        return mapping.image_record(
            one.template, one.reference, decision, self._context.topology, now
        )
