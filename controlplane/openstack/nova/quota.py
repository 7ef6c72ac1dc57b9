"""Keeps quota out of adoption's way: it counts servers that were not ordered from OpenStack.

Nova sums up what a project has and refuses new servers once that exceeds the limit, 10 servers by
default. A limit that is not reached yet stops the next server, or a larger one, just the same. So
every project that holds adopted servers gets unlimited servers, processors and memory, through
Nova's API or, where Nova uses unified limits, through Keystone's.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from common.background import BackgroundThread, ThreadMonitor
from common.log_fields import fields
from controlplane.domain.errors import NovaApiError
from controlplane.openstack.keystone.limits import UNLIMITED, KeystoneError, UnifiedLimits
from controlplane.openstack.nova.api import NovaApi
from controlplane.store.errors import DatabaseUnavailableError

LOG = logging.getLogger(__name__)

RESOURCES = ("instances", "cores", "ram")
CHECK_SECONDS = 300.0
"""Between checks of all projects: an operator's tool may set a limit again."""
RETRY_SECONDS = 10.0
"""Until a project is checked again whose quota could not be read or set."""


@dataclass(frozen=True, slots=True)
class Overrun:
    """A project that has reached or exceeded a limit."""

    project_id: str
    resource: str
    in_use: int
    limit: int

    def __str__(self) -> str:
        usage = f"uses {self.in_use} {self.resource}, its limit is {self.limit}"
        return f"project {self.project_id} {usage}"


class Quotas:
    """Lifts the limits of projects, or finds those that have reached one."""

    def __init__(self, nova: NovaApi, limits: UnifiedLimits | None) -> None:
        """``limits`` where Nova uses unified limits."""
        self._nova = nova
        self._limits = limits

    def overruns(self, project_id: str) -> list[Overrun]:
        """Find the limits that a project has reached. Raises ``NovaApiError``."""
        found = self._nova.quota(project_id)
        return [
            Overrun(project_id, resource, found[resource]["in_use"], found[resource]["limit"])
            for resource in RESOURCES
            if UNLIMITED != found[resource]["limit"] <= found[resource]["in_use"]
        ]

    def lift(self, project_id: str) -> None:
        """Make servers, processors and memory of a project unlimited, where they are not.

        Raises ``NovaApiError`` or ``KeystoneError``.
        """
        before = self._limits.lift(project_id) if self._limits else self._lift(project_id)
        if before:
            LOG.info("quota lifted", extra=fields(project=project_id, before=before))

    def _lift(self, project_id: str) -> dict[str, int]:
        """Lift Nova's own limits; returns those that were in force."""
        found = self._nova.quota(project_id)
        limits = {name: found[name]["limit"] for name in RESOURCES}
        before = {name: limit for name, limit in limits.items() if limit != UNLIMITED}
        if before:
            self._nova.set_quota(project_id, dict.fromkeys(before, UNLIMITED))
        return before


class QuotaKeeper:
    """An ``AdoptionWatch`` that asks for quota in a thread of its own.

    A project is checked when the first server that this process knows of is adopted into it, and
    with all others from time to time. One that fails, for example because Keystone does not know
    it, holds up no other.
    """

    def __init__(
        self,
        quotas: Quotas,
        projects: Callable[[], Collection[str]],
        monitor: ThreadMonitor,
        *,
        lift: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``projects`` returns those that have adopted servers; it may raise ``StoreError``."""
        self._quotas = quotas
        self._projects = projects
        self._clock = clock
        self._check = self._quotas.lift if lift else self._report
        self._changed = threading.Condition()
        self._due: set[str] = set()
        self._failed: set[str] = set()
        self._known: set[str] = set()
        self._all_due_at = self._retry_at = clock()
        self._thread = BackgroundThread("quota", self._step, monitor, wake=self._wake)

    def start(self) -> None:
        """Begin with all projects."""
        self._thread.start()

    def stop(self) -> None:
        """End after the request at hand."""
        self._thread.stop()

    def adopted(self, project_ids: Collection[str]) -> None:
        """Servers were adopted into these projects: check those that are new, at once."""
        with self._changed:
            new = set(project_ids) - self._known
            self._due |= new
            self._failed -= new
            if new:
                self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _step(self) -> None:
        """Check one project, or wait until one is due."""
        if self._clock() >= self._all_due_at:
            self._read_projects()
        project_id = self._next()
        if project_id is None:
            return
        with self._changed:
            self._failed.add(project_id)  # until it is done: whatever happens, it is checked again
            self._retry_at = self._clock() + RETRY_SECONDS
        try:
            self._check(project_id)
        except (NovaApiError, KeystoneError) as error:
            LOG.warning("quota not checked", extra=fields(project=project_id, error=error))
            return
        with self._changed:
            self._failed.discard(project_id)
            self._known.add(project_id)

    def _read_projects(self) -> None:
        self._all_due_at = self._clock() + RETRY_SECONDS
        try:
            projects = set(self._projects())
        except DatabaseUnavailableError as error:
            LOG.warning("quota not checked", extra=fields(error=error))
            return
        self._all_due_at = self._clock() + CHECK_SECONDS
        with self._changed:
            self._due |= projects

    def _next(self) -> str | None:
        """Take a project that is due; wait for one until all are due again."""
        with self._changed:
            if self._failed and self._clock() >= self._retry_at:
                self._due |= self._failed
                self._failed = set()
            if self._due:
                return self._due.pop()
            at = min(self._all_due_at, self._retry_at) if self._failed else self._all_due_at
            self._changed.wait_for(
                lambda: self._due or self._thread.stopping.is_set(), max(0.0, at - self._clock())
            )
            return None

    def _report(self, project_id: str) -> None:
        for overrun in self._quotas.overruns(project_id):
            LOG.warning("quota reached by adoption", extra=fields(why=overrun))


class NoQuota:
    """Takes the keeper's place where no Nova runs, which has no quota."""

    def adopted(self, project_ids: Collection[str]) -> None:
        """Nothing limits them."""
