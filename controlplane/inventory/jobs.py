"""What is done for one vCenter: batches, ends of passes, servers to look at again."""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from common.clock import Clock
from common.references import machine_key, reference_of
from common.timestamps import naive_utc
from controlplane.config.log import keyed
from controlplane.domain.records import RemovalChange, ServerChange
from controlplane.domain.references import kind_of
from controlplane.inventory.apply.pipeline import Pipeline
from controlplane.inventory.apply.plan import EndedServer, Plan, Unit
from controlplane.inventory.apply.planner import PATIENCE_SECONDS
from controlplane.inventory.apply.retry_policy import AbandonedError, Patience
from controlplane.inventory.apply.retry_queue import Dirty
from controlplane.inventory.cluster_events import ClusterReporter
from controlplane.inventory.model.lag import Lags
from controlplane.inventory.model.state import VCenterState
from controlplane.inventory.rules.identity import Place
from controlplane.inventory.stream import Feed
from controlplane.store.database import Database
from controlplane.store.own import edges, objects
from controlplane.store.own.objects import Standing
from controlplane.store.own.servers import ENDING, ServerRow, ServerState
from vsphere_gateway.v1 import inventory_pb2, link_pb2

log = logging.getLogger(__name__)

AT_ONCE = 200
"""Objects in one unit, as in one batch of an edge."""
AT_ONCE_AMONG_CHANGES = 20
"""The same while changes come, which wait for the unit under way."""

Item = TypeVar("Item")

_TRY_LATER = (ServerChange.DEFERRED, ServerChange.GONE)
_NOT_SHOWN = (Standing.HIDDEN, Standing.UNCONFIRMED)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the workers of all vCenters have in common."""

    database: Database
    pipeline: Pipeline
    hosts: ClusterReporter
    lags: Lags
    clock: Clock
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
        patience: Callable[[Feed | None], Patience],
        overtake: Callable[[], bool],
    ) -> None:
        """``patience`` says how long to go on with what a stream, or nobody, waits for.

        ``overtake`` applies the changes that have come meanwhile, and tells whether changes come
        at present.
        """
        self.state = state
        self.shared = shared
        self.patience = patience
        self._overtake = overtake
        self.dirty = Dirty(shared.clock.monotonic)
        """Virtual machines to look at again, by key."""
        self.ending = Dirty(shared.clock.monotonic)
        """Servers that still have to go, by UUID."""

    def resume(self) -> None:
        """Go on with what an earlier process left open."""
        self.dirty.soon(self.state.holdings.keys({Standing.QUARANTINED, Standing.WAITING}))
        for one in (*ENDING, ServerState.HANDED_ON):
            rows = self.shared.pipeline.bindings.with_state(one)
            self.ending.soon(row.uuid for row in rows if row.vcenter_uuid == self.state.uuid)

    def batch(self, feed: Feed, batch: link_pb2.ObjectBatch) -> None:
        """Apply a batch, then acknowledge it; changes overtake what is left of a snapshot's."""
        if batch.lane == link_pb2.LANE_CHANGES:
            self._apply(Unit(feed.epoch, tuple(batch.objects), tuple(batch.removals)), feed)
            self._measure(batch.objects)
        else:
            for some in self._pages(batch.objects):
                self._apply(Unit(feed.epoch, tuple(some)), feed)
            if batch.removals:
                self._apply(Unit(feed.epoch, removals=tuple(batch.removals)), feed)
        feed.applied(batch)

    def observed(self, epoch: int, one: inventory_pb2.InventoryObject, feed: Feed | None) -> None:
        """Apply a state that came back with an operation."""
        self._apply(Unit(epoch, (one,)), feed)

    def revisit(self, keys: Iterable[str], feed: Feed | None) -> None:
        """Look at virtual machines again: what follows from what is held of them."""
        for page in self._pages(list(keys)):
            bodies = self.bodies(page)
            states = tuple(inventory_pb2.InventoryObject.FromString(one) for one in bodies.values())
            for key in page:
                if key not in bodies:
                    self.dirty.clean(key)
            if states:
                self._apply(Unit(0, states, revisited=True), feed)

    def bodies(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return what is stored of some objects."""
        database, uuid = self.shared.database, self.state.uuid

        def read() -> dict[str, bytes]:
            with database.read() as connection:
                return objects.bodies(connection, uuid, keys)

        return self.patience(None).run(read)

    def end(self, uuids: Iterable[str]) -> None:
        """Try again to end servers that Nova was still working on."""
        rows = [self.shared.pipeline.bindings.get(uuid) for uuid in uuids]
        ended = [
            EndedServer(row, row.state is ServerState.REMOVING, row.removed_reason)
            for row in rows
            if row is not None and self._has_to_go(row)
        ]
        if ended:
            plan = self.shared.pipeline.end(self.state, ended, self.patience(None))
            self._follow(plan, None)

    def _has_to_go(self, row: ServerRow) -> bool:
        """Tell whether a server is to end: one that was handed on only if nobody takes it."""
        if row.state is ServerState.HANDED_ON:
            return self.shared.pipeline.contests.heir(row.uuid) is None
        return row.state in ENDING

    def drop(self, keys: Iterable[str], reason: "link_pb2.RemovalReason.ValueType") -> None:
        """Take objects as removed, as a person decided."""
        for page in self._pages(list(keys)):
            removals = tuple(
                link_pb2.ObjectRemoval(reference=reference_of(key), reason=reason) for key in page
            )
            self._apply(Unit(0, removals=removals), None)

    def snapshot_end(self, feed: Feed, end: link_pb2.SnapshotEnd) -> None:
        """Compare both sides. Equal: parity, and the clusters are complete."""
        context = keyed(edge=feed.edge_name, vcenter=self.state.uuid, generation=end.generation)
        if not self.state.holdings.equal(end):
            mine = self.state.holdings.message().object_count
            log.info("no parity yet %s objects=%d held=%d", context, end.object_count, mine)
            feed.again()
            return
        now, patience = naive_utc(self.shared.clock.wall()), self.patience(feed)
        note = functools.partial(
            edges.parity,
            uuid=self.state.uuid,
            epoch=feed.epoch,
            generation=end.generation,
            now=now,
        )
        patience.run(lambda: self.shared.database.run(note))
        feed.parity(end.generation)
        log.info("parity %s objects=%d", context, end.object_count)
        self._complete(feed)

    def _complete(self, feed: Feed) -> None:
        state = self.state
        state.complete = True
        state.waiting.complete()
        self.revisit(state.holdings.keys({Standing.WAITING}), feed)
        state.settle_identities(self.shared.clock.monotonic())
        patience = self.patience(feed)
        self.shared.pipeline.save(state, patience)
        patience.run(lambda: self.shared.hosts.synchronised(state))
        patience.run(lambda: self.shared.hosts.allocate(state))
        self.ask_again(feed)

    def ask_again(self, feed: Feed) -> None:
        """Have vCenter asked about what is hidden, refused or contested."""
        keys = self.state.holdings.keys(_NOT_SHOWN)
        keys += sorted(self.state.refused)
        contested = self.shared.pipeline.contests.unconfirmed(self.state.uuid)
        feed.confirm(keys + [machine_key(moref) for _, moref in contested])

    def _pages(self, some: Sequence[Item]) -> Iterator[Sequence[Item]]:
        """Cut what is to be applied into units, and let changes overtake between them."""
        start = 0
        while start < len(some):
            size = AT_ONCE_AMONG_CHANGES if self._overtake() else AT_ONCE
            yield some[start : start + size]
            start += size

    def _apply(self, unit: Unit, feed: Feed | None) -> None:
        """Apply a unit whatever is in it: halves, down to the one object that cannot be."""
        pipeline, patience = self.shared.pipeline, self.patience(feed)
        failure: Exception | None = None
        try:
            self._follow(pipeline.apply(self.state, unit, patience), feed)
        except AbandonedError:
            raise
        except Exception as error:  # noqa: BLE001 - one object must never stop the others
            failure = error
        if failure is not None and len(unit) > 1:
            for half in unit.halves():
                self._apply(half, feed)
        elif failure is not None:
            log.error(
                "object cannot be applied %s", keyed(vcenter=self.state.uuid), exc_info=failure
            )
            self._follow(pipeline.refuse(self.state, unit, failure, patience), feed)

    def _follow(self, plan: Plan, feed: Feed | None) -> None:
        """Do what a committed plan asks for."""
        if feed is not None:
            feed.refused(plan)
        for planned, outcome in zip(plan.servers, plan.server_outcomes or (), strict=True):
            if outcome.change in _TRY_LATER:
                self.dirty.add(planned.key)
            else:
                self.dirty.clean(planned.key)
        self.dirty.soon(plan.revisit)
        self.dirty.soon(plan.postponed, PATIENCE_SECONDS)
        for removal in plan.removal_outcomes or ():
            if removal.change in (RemovalChange.REQUESTED, RemovalChange.DEFERRED):
                self.ending.add(removal.uuid)
            else:
                self.ending.clean(removal.uuid)
        self.state.back([*plan.rows, *plan.repeated, *plan.gone])
        self.shared.hosts.tell(self.state)
        if plan.elsewhere:
            self.shared.revisit(plan.elsewhere)
        if plan.contested:
            self.shared.confirm(plan.contested)

    def _measure(self, states: Iterable[inventory_pb2.InventoryObject]) -> None:
        now = self.shared.clock.wall()
        for one in states:
            if one.HasField("observed_at"):
                observed = one.observed_at.seconds + one.observed_at.nanos / 1e9
                self.shared.lags.add(self.state.uuid, kind_of(one), (now - observed) * 1000)
