"""Carries out deletes that were refused because the edge was offline, once it is back.

It is Nova that deletes, asked as a person would ask: so rows, ports, quota and allocations end as
with any delete, and the destroy comes back here as an operation of its own. What that comes to ends
the deferred one too (``records``).
"""

import logging
import threading
from collections.abc import Iterable
from typing import Protocol

from common.background import BackgroundThread, ThreadMonitor
from common.log_fields import fields
from common.timestamps import naive_utc, unix_seconds
from controlplane.domain.errors import NovaApiError
from controlplane.domain.ports import ComputeInventory, EdgeDispatcher
from controlplane.domain.records import ServerFacts
from controlplane.operations.clock import Clock, SystemClock
from controlplane.operations.deferral import Decision, DeferralStep, decide, expired
from controlplane.store.database import Connection, Database
from controlplane.store.errors import DatabaseUnavailableError
from controlplane.store.own import clusters
from controlplane.store.own import operations as store
from controlplane.store.own.operations import OperationRow, OperationState

log = logging.getLogger(__name__)

RETRY_SECONDS = 15.0
"""Until the next look while a delete is deferred: at a worker that starts, or the delete's age."""
IDLE_SECONDS = 3600.0
"""Until the next look while none is known of."""


class NovaServers(Protocol):
    """What is asked of Nova's API (``controlplane.openstack.nova.api.NovaApi``)."""

    def server(self, uuid: str) -> ServerFacts | None:
        """Return what Nova says about a server; None when it has none. Raises ``NovaApiError``."""

    def delete(self, uuid: str) -> str:
        """Ask for a delete; returns an empty string, or for a person why it could not be asked."""

    def user_id(self) -> str:
        """Return the id of the user that asks. Raises ``NovaApiError``."""


class DeferredDeletes:
    """A ``ClusterEvents`` with a thread that sleeps while no delete is deferred."""

    def __init__(
        self,
        database: Database,
        nova: NovaServers | None,
        dispatcher: EdgeDispatcher,
        inventory: ComputeInventory,
        age_limit: float,
        monitor: ThreadMonitor,
        clock: Clock | None = None,
    ) -> None:
        """``age_limit`` is the age in seconds at which a delete is withdrawn.

        ``nova`` is None where no Nova runs: nothing is ever deleted there.
        """
        self._database = database
        self._nova = nova
        self._dispatcher = dispatcher
        self._inventory = inventory
        self._age_limit = age_limit
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._complete: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._due = True
        self._left = False
        self._thread = BackgroundThread("deferred-deletes", self._step, monitor, wake=self.noticed)

    def start(self) -> None:
        """Begin, with what an earlier process left."""
        self._thread.start()

    def stop(self) -> None:
        """End after the request at hand."""
        self._thread.stop()

    def noticed(self) -> None:
        """Look at once: a delete was deferred."""
        with self._changed:
            self._due = True
            self._changed.notify_all()

    def cluster_found(self, cluster_uuid: str) -> None:
        """It is not complete yet."""

    def cluster_synchronised(self, cluster_uuid: str) -> None:
        """The edge is back, and what the inventory says of the cluster is true."""
        with self._changed:
            self._complete[cluster_uuid] = self._clock.time()
        self.noticed()

    def allocations_written(self, cluster_uuid: str) -> None:
        """Nothing that matters here."""

    def cluster_gone(self, cluster_uuid: str, reason: str) -> None:
        """Its servers leave Nova."""
        with self._changed:
            self._complete.pop(cluster_uuid, None)

    def _step(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._due, RETRY_SECONDS if self._left else IDLE_SECONDS)
            self._due = False
        if self._thread.stopping.is_set():
            return
        self._left = True  # also when an unexpected error ends the look
        try:
            self._left = self._look()
        except (NovaApiError, DatabaseUnavailableError) as error:
            log.warning("deferred deletes not looked at, trying again", extra=fields(error=error))

    def _look(self) -> bool:
        """Look at every deferred delete; tell whether something is left to do."""
        with self._database.read() as connection:
            rows = store.deferred(connection)
        if not rows or self._nova is None:
            return False
        servers = {row.instance_uuid for row in rows}
        self._asked = {uuid: asked for uuid, asked in self._asked.items() if uuid in servers}
        own = self._nova.user_id()
        left = [self._server(self._nova, latest, own) for latest in _latest(rows, own)]
        return any(left)

    def _server(self, nova: NovaServers, row: OperationRow, own: str) -> bool:
        """Bring a server's delete nearer to its end; tell whether something is left to do."""
        # Asked before the time: an edge whose return came too late does not carry it out.
        complete = self._completed(row)
        decision = (
            _nobodys(row, own)
            or expired(row, self._clock.time(), self._age_limit)
            or self._decision(nova, row, complete)
        )
        if decision.step is DeferralStep.ASK:
            self._ask(nova, row)
        elif decision.step is DeferralStep.WITHDRAW:
            self._settle(row, OperationState.FAILED, f"not carried out: {decision.reason}")
        elif decision.step is DeferralStep.GONE:
            self._settle(row, OperationState.DONE, "")
        return decision.step in (DeferralStep.ASK, DeferralStep.WAIT)

    def _decision(self, nova: NovaServers, row: OperationRow, complete: float) -> Decision:
        asked = self._asked.get(row.instance_uuid, 0.0)
        if not complete > max(unix_seconds(row.created_at), asked):
            return Decision(DeferralStep.WAIT)
        stored = self._inventory.virtual_machine(row.instance_uuid)
        return decide(row, nova.server(row.instance_uuid), stored)

    def _completed(self, row: OperationRow) -> float:
        """Return since when the inventory around a server is true; 0 while its edge is away."""
        if not self._dispatcher.online(row.vcenter_uuid):
            return 0.0
        with self._database.read() as connection:
            found = clusters.list_all(connection, row.vcenter_uuid)
        with self._changed:
            return max((self._complete.get(one.uuid, 0.0) for one in found), default=0.0)

    def _ask(self, nova: NovaServers, row: OperationRow) -> None:
        self._asked[row.instance_uuid] = self._clock.time()
        problem = nova.delete(row.instance_uuid)
        facts = fields(
            server=row.instance_uuid,
            request=row.request_id,
            user=row.user_id,
            error=problem or None,
        )
        if problem:
            log.warning("deferred delete refused by Nova", extra=facts)
            self._settle(row, OperationState.FAILED, f"asked again: {problem}")
        else:
            log.info("deferred delete asked of Nova again", extra=facts)

    def _settle(self, row: OperationRow, state: OperationState, error: str) -> None:
        now = naive_utc(self._clock.time())

        def write(connection: Connection) -> None:
            store.settle_deferred(connection, row.instance_uuid, state, now, error)

        self._database.run(write)
        facts = fields(
            server=row.instance_uuid,
            request=row.request_id,
            state=state.value,
            reason=error or None,
        )
        log.info("deferred delete is settled", extra=facts)


def _latest(rows: Iterable[OperationRow], own: str) -> list[OperationRow]:
    """Return each server's latest delete that a person asked for.

    What was asked here again and found the edge away once more counts by its first asking.
    """
    latest: dict[str, OperationRow] = {}
    for row in rows:
        if row.user_id != own or row.instance_uuid not in latest:
            latest[row.instance_uuid] = row
    return list(latest.values())


def _nobodys(row: OperationRow, own: str) -> Decision | None:
    """Return the end of a delete that only this control plane wants; None if a person does."""
    if row.user_id != own:
        return None
    return Decision(DeferralStep.WITHDRAW, "it was asked for by the control plane itself")
