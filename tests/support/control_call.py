"""A `Control` call without gRPC: what the edge would send on it, message by message."""

from edge.control_messages import CallMessages, ControlMessages
from vsphere_gateway.v1 import link_pb2


def welcomed_call(messages: ControlMessages) -> CallMessages:
    """Begin a call that the control plane has welcomed."""
    call = messages.open(link_pb2.Hello())
    hello = call.next_message(0)
    assert hello is not None
    assert hello.HasField("hello")
    messages.replay([])
    return call
