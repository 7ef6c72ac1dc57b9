"""Keeps an `Inventory` call open beside `Control` for as long as this edge holds the lease."""

import logging
import threading
from collections.abc import Callable

from common.backoff import Backoff
from common.log_fields import fields
from edge.errors import LinkError
from edge.interfaces import InventorySource
from edge.link.inventory_stream import InventoryStream
from vsphere_gateway.v1 import link_pb2, link_pb2_grpc

log = logging.getLogger(__name__)


class InventoryCalls:
    """One `Inventory` call after another. Lives as long as one `Control` call."""

    def __init__(
        self,
        stub: link_pb2_grpc.EdgeLinkStub,
        source: InventorySource,
        open_message: Callable[[], link_pb2.InventoryOpen],
        on_parity: Callable[[], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._stub = stub
        self._source = source
        self._open_message = open_message
        self._on_parity = on_parity
        self._backoff = backoff or Backoff()
        self._changed = threading.Condition()
        self._held = False
        self._stopped = False
        self._stream: InventoryStream | None = None

    def lease_changed(self, lease: link_pb2.Lease) -> None:
        """Open the inventory when the lease is held, end it when it is not."""
        with self._changed:
            self._held = lease.held
            self._changed.notify_all()
            stream = self._stream
        if stream is not None and not lease.held:
            stream.end()

    def stop(self) -> None:
        """End the call for good; ``run`` returns soon after."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            stream = self._stream
        if stream is not None:
            stream.end()

    def run(self) -> None:
        """Keep the call open whenever the lease is held."""
        while (stream := self._next_stream()) is not None:
            try:
                stream.run(self._open_message())
            except LinkError as error:
                log.info("inventory interrupted", extra=fields(reason=error))
                self._pause()

    def _next_stream(self) -> InventoryStream | None:
        """Wait for the lease; None when it is time to stop."""
        with self._changed:
            self._stream = None
            self._changed.wait_for(lambda: self._stopped or self._held)
            if self._stopped:
                return None
            self._stream = InventoryStream(self._stub, self._source, self._parity)
            return self._stream

    def _parity(self) -> None:
        self._backoff.reset()
        self._on_parity()

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, self._backoff.next_delay())
