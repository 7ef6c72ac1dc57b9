"""Looks after the quota of the projects that adoption fills, whenever servers were adopted."""

import logging
import threading
from collections.abc import Callable, Collection

from controlplane.log import keyed
from controlplane.nova_api import NovaApiError
from controlplane.quota import QuotaError, Quotas
from controlplane.store.errors import StoreError

LOG = logging.getLogger(__name__)

CHECK_SECONDS = 300.0
"""Between looks when nothing calls for one earlier; a failed one is made up for then too."""


class QuotaKeeper:
    """A ``ClusterEvents`` that asks Nova about quota in a thread of its own."""

    def __init__(
        self, quotas: Quotas, projects: Callable[[], Collection[str]], *, lift: bool
    ) -> None:
        """``projects`` returns those that have adopted servers; it may raise ``StoreError``."""
        self._quotas = quotas
        self._projects = projects
        self._lift = lift
        self._changed = threading.Condition()
        self._due = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="quota", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End after the request at hand."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def cluster_found(self, cluster_uuid: str) -> None:
        """No server was adopted."""

    def cluster_synchronised(self, cluster_uuid: str) -> None:
        """Servers may have been adopted: look when there is time."""
        with self._changed:
            self._due = True
            self._changed.notify_all()

    def allocations_written(self, cluster_uuid: str) -> None:
        """No server was adopted."""

    def cluster_gone(self, cluster_uuid: str, reason: str) -> None:
        """No server was adopted."""

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._stopping, timeout=CHECK_SECONDS)
                if self._stopping:
                    return
                self._due = False
            try:
                self._look()
            except (NovaApiError, QuotaError, StoreError) as error:
                LOG.warning("quota not looked after %s", keyed(error=error))

    def _look(self) -> None:
        projects = sorted(self._projects())
        if self._lift:
            self._quotas.lift_where_reached(projects)
            return
        for overrun in self._quotas.overruns(projects):
            LOG.warning("quota reached by adoption %s", keyed(why=overrun))
