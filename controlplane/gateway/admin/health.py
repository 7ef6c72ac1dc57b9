"""What the health service says: of each service, of what it depends on, and overall."""

import logging
import threading

from grpc_health.v1 import health, health_pb2

from controlplane.config.log import keyed

LOG = logging.getLogger(__name__)

OVERALL = ""
EDGE_LINK = "vsphere_gateway.v1.EdgeLink"
COMPUTE_BRIDGE = "vsphere_gateway.v1.ComputeBridge"
DIAGNOSTICS = "vsphere_gateway.v1.Diagnostics"
DATABASE = "database"

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """The state behind `grpc.health.v1.Health`: overall serving when everything known is."""

    def __init__(self) -> None:
        # Watch holds a thread: interceptors do not know grpc's experimental way without one.
        self.servicer = health.HealthServicer(experimental_non_blocking=False)
        self._lock = threading.Lock()
        self._known: dict[str, bool] = {}
        self.servicer.set(OVERALL, NOT_SERVING)

    def set(self, service: str, serving: bool) -> None:
        """Say whether a service serves, or what it depends on works."""
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
            log("health %s", keyed(service=service, serving=serving))

    def stop(self) -> None:
        """Say NOT_SERVING of everything, for good."""
        self.servicer.enter_graceful_shutdown()
