"""What is done for one vCenter: batches, ends of passes, servers to look at again.

A job that takes long is a generator: it yields after each unit, and the worker puts changes that
have come meanwhile between. Repeated from its beginning, a job does again only what is not done.
"""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from common.clock import Clock
from common.log_fields import fields
from common.references import machine_key, reference_of
from common.timestamps import naive_utc
from controlplane.domain.records import RemovalChange, ServerChange
from controlplane.domain.references import kind_of
from controlplane.inventory.apply.pipeline import AbandonedError, Pipeline, RetryPolicy
from controlplane.inventory.apply.plan import EndedServer, Plan, Unit
from controlplane.inventory.apply.planner import CONTEXT_WAIT_SECONDS
from controlplane.inventory.cluster_events import ClusterReporter
from controlplane.inventory.model.state import VCenterState
from controlplane.inventory.rules.identity import Place
from controlplane.inventory.stream import Lags, VCenterStream
from controlplane.store.database import Database
from controlplane.store.own import edges, objects
from controlplane.store.own.objects import ObjectStatus
from controlplane.store.own.servers import ENDING, ServerRow, ServerState
from vsphere_gateway.v1 import inventory_pb2, link_pb2

log = logging.getLogger(__name__)

AT_ONCE = 200
"""Objects in one unit, as in one batch of an edge."""
AT_ONCE_AMONG_CHANGES = 20
"""The same while changes come, which wait for the unit under way."""
CHANGES_SECONDS = 5.0
"""How long after a change others are expected to follow."""

FIRST_ROW_DELAY = 1.0
LONGEST_ROW_DELAY = 60.0
"""Between two looks at a row that Nova withholds (`task_state`), in seconds. Some states are Nova's
own for days (a resize that waits to be confirmed): hence the growing delay."""

Item = TypeVar("Item")
Steps = Iterator[None]
"""A job under way, between whose units changes may be applied."""

_TRY_LATER = (ServerChange.DEFERRED, ServerChange.GONE)
_NOT_SHOWN = (ObjectStatus.HIDDEN, ObjectStatus.UNCONFIRMED)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the workers of all vCenters have in common."""

    database: Database
    pipeline: Pipeline
    hosts: ClusterReporter
    lags: Lags
    clock: Clock
    load: Callable[[str], VCenterState]
    """Reads what is stored of a vCenter. Raises ``StoreError``."""
    revisit: Callable[[Iterable[Place]], None]
    """Has virtual machines looked at again, in whatever vCenter they are."""
    confirm: Callable[[Iterable[str]], None]
    """Has the edges of some vCenters asked who has a contested instance UUID."""


class Jobs:
    """Done one after another, in the vCenter's own thread."""

    def __init__(
        self,
        state: VCenterState,
        shared: Shared,
        retrying: Callable[[VCenterStream | None], RetryPolicy],
    ) -> None:
        """``retrying`` makes the retry policy of work that a stream waits for, or none does."""
        self.state = state
        self.shared = shared
        self.retrying = retrying
        self.to_revisit = RetryQueue(shared.clock.monotonic)
        """Virtual machines to look at again, by key."""
        self.to_end = RetryQueue(shared.clock.monotonic)
        """Servers that still have to go, by UUID."""
        self._changed_at = -inf

    def resume(self) -> None:
        """Go on with what an earlier process left open."""
        waiting = self.state.replica.keys({ObjectStatus.QUARANTINED, ObjectStatus.WAITING})
        self.to_revisit.schedule(waiting)
        for one in (*ENDING, ServerState.TRANSFERRED):
            rows = self.shared.pipeline.bindings.with_state(one)
            self.to_end.schedule(row.uuid for row in rows if row.vcenter_uuid == self.state.uuid)

    def batch(self, stream: VCenterStream, batch: link_pb2.ObjectBatch) -> Steps:
        """Apply a batch, then acknowledge it; a change is one unit, a snapshot may be many."""
        if batch.lane == link_pb2.LANE_CHANGES:
            self._changed_at = self.shared.clock.monotonic()
            self._apply(Unit(stream.epoch, tuple(batch.objects), tuple(batch.removals)), stream)
            self._measure(batch.objects)
        else:
            for some in self._pages(batch.objects):
                self._apply(Unit(stream.epoch, tuple(some)), stream)
                yield
            if batch.removals:
                self._apply(Unit(stream.epoch, removals=tuple(batch.removals)), stream)
        stream.acknowledge(batch)

    def observed(
        self, epoch: int, one: inventory_pb2.InventoryObject, stream: VCenterStream | None
    ) -> None:
        """Apply a state that came back with an operation."""
        self._changed_at = self.shared.clock.monotonic()
        self._apply(Unit(epoch, (one,)), stream)

    def revisit(self, keys: Iterable[str], stream: VCenterStream | None) -> Steps:
        """Look at virtual machines again: what follows from what is held of them."""
        for page in self._pages(list(keys)):
            bodies = self.bodies(page)
            states = tuple(inventory_pb2.InventoryObject.FromString(one) for one in bodies.values())
            for key in page:
                if key not in bodies:
                    self.to_revisit.discard(key)
            if states:
                self._apply(Unit(0, states, revisited=True), stream)
            yield

    def bodies(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Read what is stored of some objects."""
        database, uuid = self.shared.database, self.state.uuid

        def read() -> dict[str, bytes]:
            with database.read() as connection:
                return objects.bodies(connection, uuid, keys)

        return self.retrying(None).run(read)

    def end(self, uuids: Iterable[str]) -> None:
        """Try again to end servers that Nova was still working on."""
        rows = [self.shared.pipeline.bindings.get(uuid) for uuid in uuids]
        ended = [
            EndedServer(row, row.state is ServerState.REMOVING, row.removed_reason)
            for row in rows
            if row is not None and self._has_to_go(row)
        ]
        if ended:
            plan = self.shared.pipeline.end(self.state, ended, self.retrying(None))
            self._follow(plan, None)

    def _has_to_go(self, row: ServerRow) -> bool:
        """Whether a server is to end: a transferred one only if it has no successor."""
        if row.state is ServerState.TRANSFERRED:
            return self.shared.pipeline.conflicts.successor(row.uuid) is None
        return row.state in ENDING

    def drop(self, keys: Iterable[str], reason: "link_pb2.RemovalReason.ValueType") -> Steps:
        """Take objects as removed, as a person decided."""
        for page in self._pages(list(keys)):
            removals = tuple(
                link_pb2.ObjectRemoval(reference=reference_of(key), reason=reason) for key in page
            )
            self._apply(Unit(0, removals=removals), None)
            yield

    def snapshot_end(self, stream: VCenterStream, end: link_pb2.SnapshotEnd) -> Steps:
        """Compare both sides. In sync, the clusters are complete; else there is another pass."""
        facts = {
            "edge": stream.edge_name,
            "vcenter": self.state.uuid,
            "generation": end.generation,
            "objects": end.object_count,
        }
        if not self.state.replica.equal(end):
            held = self.state.replica.message().object_count
            log.info("not in sync yet", extra=fields(**facts, held=held))
            stream.request_pass()
            return
        note = functools.partial(
            edges.parity,
            uuid=self.state.uuid,
            epoch=stream.epoch,
            generation=end.generation,
            now=naive_utc(self.shared.clock.wall()),
        )
        self.retrying(stream).run(lambda: self.shared.database.run(note))
        stream.send_in_sync(end.generation)
        log.info("in sync", extra=fields(**facts))
        yield from self._complete(stream)

    def _complete(self, stream: VCenterStream) -> Steps:
        """Everything was reported: what waits will wait no longer, and the clusters are ready."""
        state = self.state
        state.complete = True
        state.waiting.complete()
        yield from self.revisit(state.replica.keys({ObjectStatus.WAITING}), stream)
        state.settle_identities(self.shared.clock.monotonic())
        retrying = self.retrying(stream)
        self.shared.pipeline.save(state, retrying)
        retrying.run(lambda: self.shared.hosts.synchronised(state))
        retrying.run(lambda: self.shared.hosts.allocate(state))
        self.ask_again(stream)

    def ask_again(self, stream: VCenterStream) -> None:
        """Have vCenter asked about what is hidden, refused or contested."""
        keys = self.state.replica.keys(_NOT_SHOWN)
        keys += sorted(self.state.refused)
        contested = self.shared.pipeline.conflicts.unconfirmed(self.state.uuid)
        stream.request_confirmation(keys + [machine_key(moref) for _, moref in contested])

    def _pages(self, some: Sequence[Item]) -> Iterator[Sequence[Item]]:
        """Cut what is to be applied into units, small ones while changes come."""
        start = 0
        while start < len(some):
            changing = self.shared.clock.monotonic() - self._changed_at < CHANGES_SECONDS
            size = AT_ONCE_AMONG_CHANGES if changing else AT_ONCE
            yield some[start : start + size]
            start += size

    def _apply(self, unit: Unit, stream: VCenterStream | None) -> None:
        """Apply a unit whatever is in it: halves, down to the one object that cannot be.

        What fails once the unit is committed is no object's fault: it is raised.
        """
        pipeline, retrying = self.shared.pipeline, self.retrying(stream)
        failure: Exception | None = None
        try:
            plan = pipeline.commit(self.state, unit, retrying)
        except AbandonedError:
            raise
        except Exception as error:  # noqa: BLE001 - one object must never stop the others
            failure = error
        if failure is None:
            self._follow(plan, stream)
        elif len(unit) > 1:
            for half in unit.halves():
                self._apply(half, stream)
        else:
            facts = fields(vcenter=self.state.uuid, object=unit.only_key())
            log.error("object cannot be applied", extra=facts, exc_info=failure)
            self._follow(pipeline.refuse(self.state, unit, failure, retrying), stream)

    def _follow(self, plan: Plan, stream: VCenterStream | None) -> None:
        """Take a committed plan into memory, report it, and schedule what is still to do."""
        self.shared.pipeline.committed(self.state, plan)
        if stream is not None:
            stream.send_refusals(plan)
        for planned, outcome in zip(plan.servers, plan.server_outcomes or (), strict=True):
            if outcome.change in _TRY_LATER:
                self.to_revisit.retry_later(planned.key)
            else:
                self.to_revisit.discard(planned.key)
        self.to_revisit.schedule(plan.revisit)
        self.to_revisit.schedule(plan.postponed, CONTEXT_WAIT_SECONDS)
        for removal in plan.removal_outcomes or ():
            if removal.change in (RemovalChange.REQUESTED, RemovalChange.DEFERRED):
                self.to_end.retry_later(removal.uuid)
            else:
                self.to_end.discard(removal.uuid)
        self.state.clear_from_alarms([*plan.rows, *plan.repeated, *plan.gone])
        self.shared.hosts.report(self.state)
        if plan.elsewhere:
            self.shared.revisit(plan.elsewhere)
        if plan.to_confirm:
            self.shared.confirm(plan.to_confirm)

    def _measure(self, states: Iterable[inventory_pb2.InventoryObject]) -> None:
        now = self.shared.clock.wall()
        for one in states:
            if one.HasField("observed_at"):
                observed = one.observed_at.seconds + one.observed_at.nanos / 1e9
                self.shared.lags.add(self.state.uuid, kind_of(one), (now - observed) * 1000)


class RetryQueue:
    """Keys, and when each is due. Not thread-safe; ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        self._delays: dict[str, float] = {}

    def __len__(self) -> int:
        """Count the keys that wait."""
        return len(self._due)

    def retry_later(self, key: str) -> None:
        """Try later; each call in a row doubles the delay."""
        delay = self._delays.get(key, FIRST_ROW_DELAY)
        self._delays[key] = min(delay * 2, LONGEST_ROW_DELAY)
        self._due[key] = self._clock() + delay

    def schedule(self, keys: Iterable[str], delay: float = 0.0) -> None:
        """Try in ``delay`` seconds, and let delays start small again."""
        for key in keys:
            self._delays.pop(key, None)
            self._due[key] = self._clock() + delay

    def discard(self, key: str) -> None:
        """Nothing is left to do for a key."""
        self._due.pop(key, None)
        self._delays.pop(key, None)

    def next_due(self) -> float | None:
        """The earliest time at which a key is due."""
        return min(self._due.values(), default=None)

    def take(self, limit: int) -> list[str]:
        """Remove at most ``limit`` keys that are due, the longest overdue first."""
        now = self._clock()
        due = sorted((at, key) for key, at in self._due.items() if at <= now)
        keys = [key for _, key in due[:limit]]
        for key in keys:
            del self._due[key]
        return keys
