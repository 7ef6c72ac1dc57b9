"""Inventory becomes servers, images and compute hosts: one unit after another, in this order.

1. ``planner`` decides what follows from a unit: identity, adoption, project, mass removal.
2. The gateway database takes new clusters: their compute host's name is frozen before it is used.
3. Glance, then Nova's API and cell databases, take images and servers, in bulk.
4. The gateway database takes the rest; the objects' content hashes are the last rows.
5. Only then are others informed: the bus, placement, the supervisor of workers, and the edge.

What a database refuses is taken out and quarantined; when one is away, the step is repeated.
``commit`` does the first four, ``committed`` the rest: an object is at fault for what fails before
the commit, never for what fails after it.
"""

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from common.backoff import Backoff
from common.clock import Clock
from common.log_fields import fields
from common.references import key_of
from common.timestamps import naive_utc
from controlplane.domain.ports import RecordedDeletes
from controlplane.domain.records import RemovalOutcome, ServerChange, ServerOutcome
from controlplane.domain.writers import Writers
from controlplane.inventory.apply.plan import EndedServer, Plan, Rejection, Unit
from controlplane.inventory.apply.planner import Planner
from controlplane.inventory.apply.recording import Recorder
from controlplane.inventory.model.state import VCenterState
from controlplane.inventory.rules.adoption import Adoption
from controlplane.inventory.rules.identity import Bindings, IdentityConflicts
from controlplane.store.database import Database
from controlplane.store.errors import DatabaseUnavailableError, StoreError
from controlplane.store.own.quarantine import AlarmKind, QuarantineReason

log = logging.getLogger(__name__)

_ADOPTED = (ServerChange.ADOPTED, ServerChange.RESTORED)

RECORDED_DELETE_SECONDS = 600.0
"""A virtual machine that outlives a recorded, finished delete by this was not deleted by it."""

NAMED_SERVERS = 5
"""In one message."""

FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0
"""Between two attempts while a database is away, in seconds."""

Result = TypeVar("Result")


class AbandonedError(Exception):
    """The work at hand is no longer wanted: its stream ended, or the control plane stops."""


class RetryPolicy:
    """Repeats one piece of work while a database is away, as long as the work is wanted."""

    def __init__(
        self,
        vcenter_uuid: str,
        stopping: threading.Event,
        unwanted: Callable[[], bool] = lambda: False,
        backoff: Callable[[], Backoff] = lambda: Backoff(FIRST_DELAY, 2.0, LONGEST_DELAY),
    ) -> None:
        """Give up when ``stopping`` is set or ``unwanted`` returns true."""
        self._vcenter_uuid = vcenter_uuid
        self._stopping = stopping
        self._unwanted = unwanted
        self._backoff = backoff

    def run(self, work: Callable[[], Result]) -> Result:
        """What ``work`` returns. Raises ``AbandonedError``.

        Only unavailability and deadlocks are worth a repetition. Every other error would come
        again: it is raised, for the caller to find the object that causes it.
        """
        backoff: Backoff | None = None
        while True:
            try:
                result = work()
            except DatabaseUnavailableError as error:
                if backoff is None:
                    backoff = self._backoff()
                    facts = fields(vcenter=self._vcenter_uuid, error=error)
                    log.warning("inventory waits for a database", extra=facts)
                if self._stopping.wait(backoff.next_delay()) or self._unwanted():
                    raise AbandonedError from error
            else:
                if backoff is not None:
                    log.warning("inventory goes on", extra=fields(vcenter=self._vcenter_uuid))
                return result


class Pipeline:
    """Applies units of any vCenter. One thread at a time for each vCenter."""

    def __init__(
        self,
        database: Database,
        writers: Writers,
        deletes: RecordedDeletes,
        adoption: Adoption,
        clock: Clock,
    ) -> None:
        """``database`` holds the gateway database."""
        self.bindings = Bindings()
        self.conflicts = IdentityConflicts()
        self._planner = Planner(self.bindings, self.conflicts, adoption, clock)
        self._recorder = Recorder(database, self.bindings, clock)
        self._writers = writers
        self._deletes = deletes
        self._clock = clock

    def commit(self, state: VCenterState, unit: Unit, retrying: RetryPolicy) -> Plan:
        """Plan a unit and write all that follows from it. ``committed`` must be called next.

        Raises ``AbandonedError``, or what an object of the unit causes; then the gateway database
        has nothing of the unit, and it may be applied in parts.
        """
        retrying.run(lambda: self._recorder.refresh(self._planner.unknown(state, unit)))
        plan = self._planner.plan(state, unit)
        return self._carry_out(state, plan, retrying)

    def refuse(
        self, state: VCenterState, unit: Unit, error: Exception, retrying: RetryPolicy
    ) -> Plan:
        """Put the only object of a unit into quarantine, because applying it failed."""
        plan = Plan(state.uuid, unit, naive_utc(self._clock.wall()))
        refused = isinstance(error, StoreError)
        reason = QuarantineReason.ROW_REFUSED if refused else QuarantineReason.UNREADABLE
        message = f"applying it failed with {type(error).__name__}: {error}"
        for one in unit.objects:
            plan.refused[key_of(one.reference)] = Rejection(reason, message, "", one.content_hash)
        for removal in unit.removals:
            plan.refused[key_of(removal.reference)] = Rejection(reason, message, "", b"")
        return self._carry_out(state, plan, retrying)

    def end(self, state: VCenterState, ended: Sequence[EndedServer], retrying: RetryPolicy) -> Plan:
        """Try again to end servers that Nova was still working on."""
        plan = Plan(state.uuid, Unit(0, revisited=True), naive_utc(self._clock.wall()))
        plan.ended.extend(ended)
        return self._carry_out(state, plan, retrying)

    def save(self, state: VCenterState, retrying: RetryPolicy) -> None:
        """Write clusters and alarms that changed by themselves."""
        retrying.run(functools.partial(self._recorder.clusters, state))

    def committed(self, state: VCenterState, plan: Plan) -> None:
        """Take what was written into memory, and inform the bus, placement and the quota.

        What is raised here is no object's fault; memory has to be read from the database again.
        """
        try:
            self._recorder.remember(state, plan)
            self.conflicts.close(plan.settled_claims)
        finally:
            self.bindings.release(plan.claims())
        self._inform(state, plan)
        for key, rejection in plan.refused.items():
            facts = fields(
                vcenter=state.uuid,
                object=key,
                reason=rejection.reason.value,
                message=rejection.message,
            )
            log.warning("object refused", extra=facts)

    def _carry_out(self, state: VCenterState, plan: Plan, retrying: RetryPolicy) -> Plan:
        written = False
        try:
            retrying.run(functools.partial(self._write, state, plan))
            written = True
        finally:
            if not written:
                self.bindings.release(plan.claims())
                self._inform(state, plan)  # Nova has what was written before a later step failed
        return plan

    def _write(self, state: VCenterState, plan: Plan) -> None:
        """Write everything in order. Repeated, it goes on with the step that failed."""
        self._recorder.clusters(state)
        if plan.image_outcomes is None:
            records = [planned.record for planned in plan.images]
            plan.image_outcomes = self._writers.images.apply(records) if records else []
        if plan.images_gone:
            self._writers.images.remove([state.images[moref] for moref in plan.images_gone])
        if plan.server_outcomes is None:
            plan.server_outcomes = self._write_servers(state, plan)
        if plan.removal_outcomes is None:
            plan.removal_outcomes = self._end_servers(plan.ended)
        plan.written = self._recorder.record(state, plan)

    def _write_servers(self, state: VCenterState, plan: Plan) -> list[ServerOutcome]:
        records = [planned.record for planned in plan.servers]
        if not records:
            return []
        restore = {planned.record.uuid for planned in plan.servers if planned.returning}
        outcomes = self._writers.servers.apply(records, restore)
        gone = [one.uuid for one in outcomes if one.change is ServerChange.GONE]
        living = self._not_deleted(gone) if gone else set()
        if not living:
            return outcomes
        again = [record for record in records if record.uuid in living]
        restored = {one.uuid: one for one in self._writers.servers.apply(again, living)}
        self._flag(state, living, plan)
        return [restored.get(one.uuid, one) for one in outcomes]

    def _flag(self, state: VCenterState, servers: Iterable[str], plan: Plan) -> None:
        """Raise an alarm about servers that were deleted although no destroy is recorded."""
        named = sorted(servers)[:NAMED_SERVERS]
        message = (
            "Nova deleted servers while their virtual machines live on and no delete is recorded, "
            "as its API does by itself while a cluster's compute service is down; they were "
            f"restored, most recently {', '.join(named)}: delete them again if that was wanted, "
            "then release this"
        )
        held = tuple(f"server:{one}" for one in sorted(servers))
        state.raise_alarm(AlarmKind.UNRECORDED_DELETE, None, message, held, plan.now)
        self._recorder.clusters(state)

    def _not_deleted(self, uuids: Sequence[str]) -> set[str]:
        """Servers that Nova calls deleted although no destroy of their machine is recorded."""
        recorded = self._deletes.deletes_recorded(uuids)
        before = self._clock.wall() - RECORDED_DELETE_SECONDS
        return {
            one
            for one in uuids
            if one not in recorded
            or (recorded[one].state == "done" and recorded[one].finished_at < before)
        }

    def _end_servers(self, ended: Sequence[EndedServer]) -> list[RemovalOutcome]:
        deleted = [one.row.uuid for one in ended if one.delete]
        unmanaged = [one.row.uuid for one in ended if not one.delete]
        outcomes: list[RemovalOutcome] = []
        if deleted:
            outcomes += self._writers.servers.delete(deleted)
        if unmanaged:
            outcomes += self._writers.servers.unmanage(unmanaged)
        return outcomes

    def _inform(self, state: VCenterState, plan: Plan) -> None:
        """Inform the bus, placement and the keeper of quota what Nova's database has now."""
        outcomes = plan.server_outcomes or []
        adopted = {one.project_id for one in outcomes if one.change in _ADOPTED}
        if adopted:
            self._writers.quota.adopted(adopted)
        removals = plan.removal_outcomes or []
        said = [one.announcement for one in outcomes if one.announcement]
        said += [one.announcement for one in removals if one.announcement]
        if said:
            self._writers.announcer.announce(said)
        allocations = [
            one.allocation
            for one in outcomes
            if one.allocation and one.allocation.provider_uuid in state.allocated
        ]
        if allocations:
            self._writers.allocations.submit(allocations)
        released = [one.uuid for one in removals if one.compute_node_uuid]
        if released:
            self._writers.allocations.release(released)
