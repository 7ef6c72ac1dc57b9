"""The health service's answers: for each service, for what it depends on, and overall."""

import logging
import threading

from grpc_health.v1 import health, health_pb2

from common.background import ThreadMonitor
from common.log_fields import fields

LOG = logging.getLogger(__name__)

OVERALL = ""
EDGE_LINK = "vsphere_gateway.v1.EdgeLink"
COMPUTE_BRIDGE = "vsphere_gateway.v1.ComputeBridge"
DIAGNOSTICS = "vsphere_gateway.v1.Diagnostics"
DATABASE = "database"
ACTIVE = "vsphere_gateway.active"
"""Serving while this control plane acts; not while it starts or stands by."""
BACKGROUND = "vsphere_gateway.background"
"""All background threads; NAME/THREAD is one of them, once it has failed."""

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """The state behind `grpc.health.v1.Health`: overall serving when each known service is."""

    def __init__(self) -> None:
        # Watch holds a thread: interceptors do not know grpc's experimental way without one.
        self.servicer = health.HealthServicer(experimental_non_blocking=False)
        self._lock = threading.Lock()
        self._known: dict[str, bool] = {ACTIVE: False}
        self._threads = threading.Lock()
        for service in (OVERALL, ACTIVE):
            self.servicer.set(service, NOT_SERVING)

    def set(self, service: str, serving: bool) -> None:
        """Set the state of a service, or of something that services depend on."""
        with self._lock:
            before = self._known.get(service)
            if before == serving:
                return
            self._known[service] = serving
            overall = all(self._known.values())
            self.servicer.set(service, SERVING if serving else NOT_SERVING)
            self.servicer.set(OVERALL, SERVING if overall else NOT_SERVING)
        if before is not None or not serving:
            log = LOG.info if serving else LOG.warning
            log("health", extra=fields(service=service, serving=serving))

    def threads_changed(self, monitor: ThreadMonitor) -> None:
        """Set the state of the background threads: of all, and of each that has failed before."""
        with self._threads:  # or an older state could be set last
            down = {failure.thread for failure in monitor.down()}
            for thread in monitor.failures():
                self.set(f"{BACKGROUND}/{thread}", thread not in down)
            self.set(BACKGROUND, not down)

    def stop(self) -> None:
        """Answer NOT_SERVING for everything from now on."""
        self.servicer.enter_graceful_shutdown()
