"""Keeps an `Inventory` call open for as long as this edge holds the lease of its vCenter.

Snapshot and changes go up, acknowledgements come down.
"""

import logging
import threading
from collections.abc import Callable, Iterator

import grpc

from common.background import BackgroundThread, ThreadMonitor
from common.backoff import Backoff
from common.log_fields import fields
from edge.errors import LinkError, LinkLostError
from edge.interfaces import InventorySource
from edge.link.faults import translate
from vsphere_gateway.v1 import link_pb2, link_pb2_grpc

WAIT_SECONDS = 60.0
"""Longest wait for something to send; its only purpose is that no thread waits without end."""

log = logging.getLogger(__name__)


class InventoryCalls:
    """One `Inventory` call after another, over one channel after another."""

    def __init__(
        self,
        source: InventorySource,
        open_message: Callable[[], link_pb2.InventoryOpen],
        on_parity: Callable[[], None],
        monitor: ThreadMonitor,
        backoff: Backoff | None = None,
    ) -> None:
        """``on_parity`` is called by the thread that runs the calls."""
        self.thread = BackgroundThread("inventory-call", self._step, monitor, wake=self._wake)
        self._source = source
        self._open_message = open_message
        self._on_parity = on_parity
        self._monitor = monitor
        self._backoff = backoff or Backoff()
        self._changed = threading.Condition()
        self._stub: link_pb2_grpc.EdgeLinkStub | None = None
        self._held = False
        self._call: InventoryCall | None = None

    def open(self, stub: link_pb2_grpc.EdgeLinkStub) -> None:
        """The control plane can be reached over ``stub``'s channel; the lease is not held yet."""
        with self._changed:
            self._stub = stub

    def lease_changed(self, lease: link_pb2.Lease) -> None:
        """Open a call when the lease is held, end it when it is not."""
        with self._changed:
            self._held = lease.held
            self._changed.notify_all()
            if not lease.held:
                self._end_call()

    def close(self) -> None:
        """End the call; none begins until ``open``."""
        with self._changed:
            self._stub, self._held = None, False
            self._end_call()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
            self._end_call()

    def _end_call(self) -> None:
        if self._call is not None:
            self._call.end()

    def _step(self) -> None:
        """Run one call from its beginning to its end, once there may be one."""
        call = self._next_call()
        if call is None:
            return
        try:
            call.run()
        except LinkError as error:
            log.info("inventory call interrupted", extra=fields(error=error))
            with self._changed:
                self._changed.wait_for(self.thread.stopping.is_set, self._backoff.next_delay())

    def _next_call(self) -> "InventoryCall | None":
        with self._changed:
            self._call = None
            self._changed.wait_for(
                lambda: self._held or self.thread.stopping.is_set(), WAIT_SECONDS
            )
            if self._stub is None or not self._held or self.thread.stopping.is_set():
                return None
            # Under the lock: `close` comes before it, or finds a call that it can end.
            self._call = InventoryCall(self._stub, self._source, self._open_message(), self._parity)
            return self._call

    def _parity(self) -> None:
        # A step lasts as long as its call, so it says here that it works.
        self._monitor.recovered(self.thread.name)
        self._backoff.reset()
        self._on_parity()


class InventoryCall:
    """One call, which begins when it is made. Used once."""

    def __init__(
        self,
        stub: link_pb2_grpc.EdgeLinkStub,
        source: InventorySource,
        opened: link_pb2.InventoryOpen,
        on_parity: Callable[[], None],
    ) -> None:
        self._source = source
        self._on_parity = on_parity
        self._attached = threading.Event()
        self._over = threading.Event()
        self._call: grpc.Call | None = None
        self._failure: Exception | None = None
        self._call = self._responses = stub.Inventory(self._requests(opened))
        if self._over.is_set():
            self.end()  # it was too early for `end` to do so

    def run(self) -> None:
        """Serve the call until ``end`` or until the other side ends it.

        Raises ``LinkError``.
        """
        try:
            for response in self._responses:
                self._handle(response)
        except grpc.RpcError as error:
            if not self._over.is_set():
                raise translate(error, opened=self._attached.is_set()) from error
        finally:
            self._close()
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """End the call. Any thread may call it, at any time."""
        self._over.set()
        if self._call is not None:
            self._call.cancel()

    def _close(self) -> None:
        self.end()
        if self._attached.is_set():
            self._source.detach()
        self._attached.set()

    def _handle(self, response: link_pb2.InventoryResponse) -> None:
        if not self._attached.is_set():
            if not response.HasField("holdings"):
                raise LinkLostError("the control plane did not begin with its holdings")
            self._source.attach(response.holdings)
            self._attached.set()
            return
        self._source.received(response)
        if response.HasField("parity"):
            self._on_parity()

    def _requests(self, opened: link_pb2.InventoryOpen) -> Iterator[link_pb2.InventoryRequest]:
        """What gRPC sends; it runs this in a thread of its own."""
        yield link_pb2.InventoryRequest(open=opened)
        self._attached.wait()
        try:
            while not self._over.is_set():
                request = self._source.next_request(WAIT_SECONDS)
                if request is not None:
                    yield request
        except Exception as error:  # noqa: BLE001 - raised again by the thread that runs the call
            # gRPC itself would end the call with a status that says nothing.
            self._failure = error
            self.end()
