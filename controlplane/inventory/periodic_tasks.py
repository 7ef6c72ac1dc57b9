"""What is done from time to time, and only while there is a reason to."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

from common.log_fields import fields
from common.timestamps import naive_utc
from controlplane.domain.references import MACHINE_KINDS
from controlplane.inventory.jobs import Jobs, Steps
from controlplane.inventory.stream import VCenterStream
from controlplane.store.own import quarantine
from controlplane.store.own.clusters import ClusterState
from controlplane.store.own.objects import ObjectStatus
from controlplane.store.own.quarantine import AlarmKind, AlarmRow
from vsphere_gateway.v1 import inventory_pb2, link_pb2

log = logging.getLogger(__name__)

COMPARED_AT_ONCE = 100
SWEPT_AT_ONCE = 500
COMPARE_SECONDS = 30.0
FIRST_COMPARE_SECONDS = 1.0
"""The same until everything that was held at the start has been compared once: an earlier process
knew from memory alone what was still to be looked at, for example after a rename."""
ASK_SECONDS = 600.0
ALARM_SECONDS = 5.0
ALLOCATE_SECONDS = 1.0
QUIET_SECONDS = 300.0


@dataclass(slots=True)
class PeriodicTask:
    """Something to do every so many seconds while it is needed."""

    action: Callable[[], Steps | None]
    every: float
    """Seconds."""
    needed: Callable[[], bool]
    due: float = 0.0
    """Monotonic time in seconds."""


class PeriodicTasks:
    """The periodic tasks of one vCenter; ``stream`` returns the open stream, if there is one."""

    def __init__(self, jobs: Jobs, stream: Callable[[], VCenterStream | None]) -> None:
        """Nothing is due at once but what is needed at once."""
        self._jobs = jobs
        self._state = jobs.state
        self._stream = stream
        self._clock = jobs.shared.clock.monotonic
        self._compared = ""
        self._inherited = bool(self._state.replica.keys_of_kinds(MACHINE_KINDS))
        """Not everything that was held at the start has been compared."""
        self._swept: list[str] = []
        self._changed: set[str] = set()
        later = self._clock()
        self._tasks = [
            PeriodicTask(self._allocate, ALLOCATE_SECONDS, lambda: bool(self._state.unallocated)),
            PeriodicTask(self._alarms, ALARM_SECONDS, lambda: bool(self._state.alarms)),
            PeriodicTask(self._sweep, 0.0, lambda: bool(self._state.renamed or self._swept)),
            PeriodicTask(self._compare, COMPARE_SECONDS, self._live, later + COMPARE_SECONDS),
            PeriodicTask(self._compare, FIRST_COMPARE_SECONDS, self._live_and_inherited),
            PeriodicTask(self._ask, ASK_SECONDS, self._live, later + ASK_SECONDS),
        ]

    def next_due(self) -> float:
        """When the next one is due, infinity when none is needed."""
        return min((task.due for task in self._tasks if task.needed()), default=inf)

    def take(self) -> Callable[[], Steps | None] | None:
        """Take the first that is due."""
        now = self._clock()
        for task in self._tasks:
            if task.due <= now and task.needed():
                task.due = now + task.every
                return task.action
        return None

    def _live(self) -> bool:
        return self._stream() is not None and self._state.complete

    def _live_and_inherited(self) -> bool:
        return self._inherited and self._live()

    def _allocate(self) -> None:
        hosts = self._jobs.shared.hosts
        self._jobs.retrying(None).run(lambda: hosts.allocate(self._state))

    def _ask(self) -> None:
        stream = self._stream()
        if stream is not None:
            self._jobs.ask_again(stream)

    def _compare(self) -> Steps:
        """Compare a few servers with Nova's rows: what Nova altered heals."""
        keys = self._state.replica.keys_of_kinds(MACHINE_KINDS)
        page = [key for key in keys if key > self._compared][:COMPARED_AT_ONCE]
        self._compared = page[-1] if len(page) == COMPARED_AT_ONCE else ""
        self._inherited = self._inherited and bool(self._compared)
        yield from self._jobs.revisit(page, self._stream())
        self._state.settle_identities(self._clock() - QUIET_SECONDS)
        self._jobs.shared.pipeline.save(self._state, self._jobs.retrying(None))

    def _sweep(self) -> None:
        """Find the servers that show the name of something that was renamed."""
        if not self._swept:
            self._changed, self._state.renamed = self._state.renamed, set()
            self._swept = self._state.replica.keys_of_kinds(MACHINE_KINDS)
        page, self._swept = self._swept[:SWEPT_AT_ONCE], self._swept[SWEPT_AT_ONCE:]
        for key, body in self._jobs.bodies(page).items():
            one = inventory_pb2.InventoryObject.FromString(body)
            machine = one.template if one.HasField("template") else one.virtual_machine
            if self._state.topology.depends(machine, self._changed):
                self._jobs.to_revisit.schedule([key])

    def _alarms(self) -> Steps:
        """Act on alarms that a person released, and settle those that are over."""
        self._jobs.shared.pipeline.save(self._state, self._jobs.retrying(None))
        database, uuid = self._jobs.shared.database, self._state.uuid

        def read() -> list[AlarmRow]:
            with database.read() as connection:
                return quarantine.open_alarms(connection, uuid)

        for row in self._jobs.retrying(None).run(read):
            known = self._state.alarms.get((row.kind, row.cluster_uuid))
            if known is None:
                continue
            released = row.released_at is not None
            if row.kind == AlarmKind.CLUSTER_IDENTITY.value:
                over = self._identity_over(row, released=released)
            elif row.kind == AlarmKind.MASS_REMOVAL.value:
                over = released or not known.held
                if released:
                    yield from self._jobs.drop(known.held, link_pb2.REMOVAL_REASON_UNMANAGED)
            else:
                over = released
            if over:
                self._settle(known)

    def _identity_over(self, alarm: AlarmRow, *, released: bool) -> bool:
        managed = self._state.by_uuid(alarm.cluster_uuid or "")
        if managed is None:
            return True
        key = f"ClusterComputeResource:{managed.row.moref}"
        if not released and self._state.identity_mismatch(key):
            return False
        hosts = self._state.host_uuids(key) or managed.row.host_uuids
        managed.row = replace(managed.row, known_name=managed.row.name, host_uuids=hosts)
        managed.unsaved = True
        self._state.change_state(managed, ClusterState.NEW, "")
        self._state.touch(key, self._clock())
        self._jobs.to_revisit.schedule(self._state.replica.keys({ObjectStatus.WAITING}))
        stream = self._stream()
        if stream is not None and stream.answered:
            # The end of a pass makes it synchronised: while it was stopped, none could.
            stream.request_pass()
        return True

    def _settle(self, alarm: AlarmRow) -> None:
        now = naive_utc(self._jobs.shared.clock.wall())
        database = self._jobs.shared.database
        self._jobs.retrying(None).run(
            lambda: database.run(
                lambda connection: quarantine.settle_alarm(connection, alarm.id, now)
            )
        )
        name = (alarm.kind, alarm.cluster_uuid)
        self._state.alarms.pop(name, None)
        self._state.unsaved_alarms.discard(name)
        facts = fields(vcenter=alarm.vcenter_uuid, kind=alarm.kind)
        log.warning("alarm is over", extra=facts)
