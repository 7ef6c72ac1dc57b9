"""Looks after the quota of the projects that hold adopted servers, from the first one on."""

import logging
import threading
import time
from collections.abc import Callable, Collection

from controlplane.config.log import keyed
from controlplane.openstack.nova.api import NovaApiError
from controlplane.openstack.nova.quota import QuotaError, Quotas
from controlplane.store.errors import StoreError

LOG = logging.getLogger(__name__)

CHECK_SECONDS = 300.0
"""Between looks at all projects: an operator's tool may set a limit again."""
RETRY_SECONDS = 10.0
"""Until a project is tried again whose quota could not be read or set."""


class QuotaKeeper:
    """An ``AdoptionWatch`` that asks for quota in a thread of its own.

    A project is looked at when the first server that this process knows of is adopted into it, and
    with all others from time to time. One that makes trouble, for example because Keystone does not
    know it, holds up no other.
    """

    def __init__(
        self,
        quotas: Quotas,
        projects: Callable[[], Collection[str]],
        *,
        lift: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``projects`` returns those that have adopted servers; it may raise ``StoreError``."""
        self._quotas = quotas
        self._projects = projects
        self._clock = clock
        self._look_at = self._lift if lift else self._name
        self._changed = threading.Condition()
        self._new: set[str] = set()
        self._known: set[str] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="quota", daemon=True)

    def start(self) -> None:
        """Begin with all projects."""
        self._thread.start()

    def stop(self) -> None:
        """End after the request at hand."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def adopted(self, project_ids: Collection[str]) -> None:
        """Servers were adopted into these projects: look at those that are new, at once."""
        with self._changed:
            self._new.update(set(project_ids) - self._known)
            if self._new:
                self._changed.notify_all()

    def _run(self) -> None:
        everything_at, again = self._clock(), set[str]()
        while not self._stopping:
            if self._clock() >= everything_at:
                everything = self._everything()
                everything_at = self._clock() + (
                    RETRY_SECONDS if everything is None else CHECK_SECONDS
                )
                again |= everything or set()
            again = self._look(again | self._take())
            self._wait(RETRY_SECONDS if again else everything_at - self._clock())

    def _everything(self) -> set[str] | None:
        """Return all projects that have adopted servers; None when they cannot be read."""
        try:
            return set(self._projects())
        except StoreError as error:
            LOG.warning("quota not looked after %s", keyed(error=error))
            return None

    def _take(self) -> set[str]:
        with self._changed:
            found, self._new = self._new, set()
        return found

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._new or self._stopping, max(0.0, seconds))

    def _look(self, projects: Collection[str]) -> set[str]:
        """Look at projects; return those that have to be tried again."""
        failed = set()
        for project_id in sorted(projects):
            if self._stopping:
                break
            try:
                self._look_at(project_id)
            except (NovaApiError, QuotaError) as error:
                failed.add(project_id)
                LOG.warning("quota not looked after %s", keyed(project=project_id, error=error))
                continue
            with self._changed:
                self._known.add(project_id)
        return failed

    def _lift(self, project_id: str) -> None:
        self._quotas.lift(project_id)

    def _name(self, project_id: str) -> None:
        for overrun in self._quotas.overruns(project_id):
            LOG.warning("quota reached by adoption %s", keyed(why=overrun))


class NoQuota:
    """Stands in where no Nova runs, which has no quota."""

    def adopted(self, project_ids: Collection[str]) -> None:
        """Nothing limits them."""
