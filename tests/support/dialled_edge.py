"""An edge's end of the link, spoken by hand over real mutual TLS: one message at a time.

The real edge is in ``edge.link``; this one can also say what no edge should.
"""

import queue
from collections.abc import Iterator
from typing import Any

import grpc

from vsphere_gateway.v1 import inventory_pb2, link_pb2, link_pb2_grpc

PATIENCE = 10.0
VCENTER = "11111111-2222-3333-4444-555555555555"


class Call:
    """One open call."""

    def __init__(self, open_call: Any) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = open_call(self._sent(), timeout=2 * PATIENCE)

    def _sent(self) -> Iterator[Any]:
        while (request := self._requests.get()) is not None:
            yield request

    def send(self, request: Any) -> None:
        """Send a message."""
        self._requests.put(request)

    def close(self) -> None:
        """Close our half."""
        self._requests.put(None)

    def cancel(self) -> None:
        """Break the call off."""
        self._requests.put(None)
        self._call.cancel()

    def receive(self) -> Any:
        """Return the next message."""
        return next(self._call)

    def end(self) -> tuple[grpc.StatusCode, str]:
        """Read to the end and return how it ended."""
        try:
            for _ in self._call:
                pass
        except grpc.RpcError:
            pass
        self._requests.put(None)
        return self._call.code(), self._call.details()


class DialledEdge:
    """A fake edge: its channel, on which a test says what an edge would."""

    def __init__(
        self, port: int, credentials: grpc.ChannelCredentials, name: str, epoch: int = 1
    ) -> None:
        self.name = name
        self.epoch = epoch
        # A subchannel pool of its own: what another edge of the test dialled is not shared.
        self._channel = grpc.secure_channel(
            f"127.0.0.1:{port}", credentials, [("grpc.use_local_subchannel_pool", 1)]
        )
        self._stub = link_pb2_grpc.EdgeLinkStub(self._channel)

    def control(self) -> Call:
        """Open `Control` and say nothing."""
        return Call(self._stub.Control)

    def inventory(self) -> Call:
        """Open `Inventory` and say nothing."""
        return Call(self._stub.Inventory)

    def hello(self, vcenter: str = VCENTER, **fields: Any) -> link_pb2.ControlRequest:
        """Return the hello of this edge."""
        hello: dict[str, Any] = {
            "edge_name": self.name,
            "edge_version": "0.1.0",
            "protocol_minimum": 1,
            "protocol_maximum": 1,
            "epoch": self.epoch,
        }
        if vcenter:
            hello["vcenter"] = inventory_pb2.VCenter(instance_uuid=vcenter, full_name="vcsim")
        return link_pb2.ControlRequest(hello=link_pb2.Hello(**(hello | fields)))

    def connect(self, vcenter: str = VCENTER, **fields: Any) -> Call:
        """Open `Control`, say hello and take the welcome."""
        call = self.control()
        call.send(self.hello(vcenter, **fields))
        assert call.receive().HasField("welcome")
        return call

    def opened(self, vcenter: str = VCENTER) -> link_pb2.InventoryRequest:
        """Return the first message of an inventory stream."""
        return link_pb2.InventoryRequest(
            open=link_pb2.InventoryOpen(
                epoch=self.epoch, vcenter=inventory_pb2.VCenter(instance_uuid=vcenter), window=4
            )
        )

    def hang_up(self) -> None:
        """Close the channel."""
        self._channel.close()


def heartbeat(sequence: int, **fields: Any) -> link_pb2.ControlRequest:
    """Return a heartbeat."""
    return link_pb2.ControlRequest(heartbeat=link_pb2.Heartbeat(sequence=sequence, **fields))
