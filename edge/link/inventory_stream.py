"""One `Inventory` call: snapshot and changes up, acknowledgements down."""

import threading
from collections.abc import Callable, Iterator

import grpc

from edge.errors import LinkError, LinkLostError
from edge.interfaces import InventorySource
from edge.link.faults import translate
from vsphere_gateway.v1 import link_pb2, link_pb2_grpc

WAIT_SECONDS = 60.0
"""Longest wait for something to send; its only purpose is that no thread waits without end."""


class InventoryStream:
    """One call, from the open to its end. Used once."""

    def __init__(
        self,
        stub: link_pb2_grpc.EdgeLinkStub,
        source: InventorySource,
        on_parity: Callable[[], None],
    ) -> None:
        """``on_parity`` is called by the thread that runs the call."""
        self._stub = stub
        self._source = source
        self._on_parity = on_parity
        self._attached = threading.Event()
        self._over = threading.Event()
        self._call: grpc.Call | None = None

    def run(self, opened: link_pb2.InventoryOpen) -> None:
        """Serve the call until ``end`` or until the other side ends it.

        Raises ``LinkError``.
        """
        call = self._stub.Inventory(self._requests(opened))
        self._call = call
        try:
            if self._over.is_set():
                call.cancel()
            for response in call:
                self._take(response)
        except grpc.RpcError as error:
            if not self._over.is_set():
                raise self._reason(error) from error
        finally:
            self._close()

    def end(self) -> None:
        """End the call. Any thread may call it, at any time."""
        self._over.set()
        if self._call is not None:
            self._call.cancel()

    def _reason(self, error: grpc.RpcError) -> LinkError:
        return translate(error, opened=self._attached.is_set())

    def _take(self, response: link_pb2.InventoryResponse) -> None:
        if not self._attached.is_set():
            if not response.HasField("holdings"):
                raise LinkLostError("the control plane does not begin with its holdings")
            self._source.attach(response.holdings)
            self._attached.set()
            return
        self._source.received(response)
        if response.HasField("parity"):
            self._on_parity()

    def _close(self) -> None:
        self.end()
        if self._attached.is_set():
            self._source.detach()
        self._attached.set()

    def _requests(self, opened: link_pb2.InventoryOpen) -> Iterator[link_pb2.InventoryRequest]:
        """Give gRPC what to send; it runs this in a thread of its own."""
        yield link_pb2.InventoryRequest(open=opened)
        self._attached.wait()
        while not self._over.is_set():
            request = self._source.next_request(WAIT_SECONDS)
            if request is not None:
                yield request
