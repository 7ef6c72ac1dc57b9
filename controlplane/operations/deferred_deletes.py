"""Carries out deletes that were refused because the edge was offline, once it is back.

Nova's API is asked to delete the server, as a user would: so rows, ports, quota and allocations end
as with any delete, and the destroy arrives here as an operation of its own. Its result ends the
deferred one too (``records``).
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
"""Between two looks while a delete is deferred: a worker may have started, a delete aged."""
IDLE_SECONDS = 3600.0
"""Between two looks while no delete is deferred."""


class NovaServers(Protocol):
    """Nova's API (``controlplane.openstack.nova.api.NovaApi``)."""

    def server(self, uuid: str) -> ServerFacts | None:
        """Read a server; None when Nova has none. Raises ``NovaApiError``."""

    def delete(self, uuid: str) -> str:
        """Ask for a delete; returns an empty string, or for a person why it could not be asked."""

    def user_id(self) -> str:
        """Read the id of the user with which we ask. Raises ``NovaApiError``."""


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
        """Nothing to do: its inventory is not complete yet."""

    def cluster_synchronised(self, cluster_uuid: str) -> None:
        """Look at the cluster's deletes: the edge is back and the inventory up to date."""
        with self._changed:
            self._complete[cluster_uuid] = self._clock.time()
        self.noticed()

    def allocations_written(self, cluster_uuid: str) -> None:
        """Nothing to do."""

    def cluster_gone(self, cluster_uuid: str, reason: str) -> None:
        """Drop the cluster: its servers leave Nova."""
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
        left, failure = False, None
        for latest in _latest(rows, own):
            if self._thread.stopping.is_set():
                return True
            try:
                left |= self._server(self._nova, latest, own)
            except DatabaseUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - one server's delete holds up no other
                failure = failure or error
        if failure is not None:
            raise failure
        return left

    def _server(self, nova: NovaServers, row: OperationRow, own: str) -> bool:
        """Take the next step of a server's delete; tell whether something is left to do."""
        # Read before the clock: an edge that came back too late does not carry it out.
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
        """Tell since when the server's inventory is up to date; 0 while its edge is offline."""
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
    """Find each server's latest delete that a user asked for.

    One that we repeated and that found the edge offline again counts from the user's request.
    """
    latest: dict[str, OperationRow] = {}
    for row in rows:
        if row.user_id != own or row.instance_uuid not in latest:
            latest[row.instance_uuid] = row
    return list(latest.values())


def _nobodys(row: OperationRow, own: str) -> Decision | None:
    """Withdraw a delete that nobody but this control plane asked for; else None."""
    if row.user_id != own:
        return None
    return Decision(DeferralStep.WITHDRAW, "no user asked for it, only the control plane itself")
