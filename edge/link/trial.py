"""A short call for `vsg-edge check`: is this edge accepted, and do the clocks agree?"""

import dataclasses
import time
from collections.abc import Iterator

import grpc

from edge.control_messages import ControlMessages
from edge.errors import ControlPlaneUnreachableError, LinkLostError
from edge.link.channel import open_channel
from edge.link.diagnosis import diagnose
from edge.link.faults import translate
from edge.link.heartbeats import clock_skew, to_timestamp
from edge.link.identity import Identity
from edge.link.proxy import Proxy
from vsphere_gateway.v1 import link_pb2, link_pb2_grpc

TIMEOUT = 20.0
"""Seconds for the whole trial."""
_OLDEST_EPOCH = 1
"""An edge process that runs is younger, so the trial never takes its place."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """What the short call found."""

    control_plane_version: str
    round_trip: float
    """Seconds."""
    clock_skew: float
    """Seconds that the control plane's clock is ahead of ours."""


def try_link(identity: Identity, proxy: Proxy | None, hello: link_pb2.Hello) -> Trial:
    """Say hello, send one heartbeat and end the call.

    Raises ``LinkError``; ``ConnectedAlreadyError`` when this edge's service is connected, which it
    stays.
    """
    hello.epoch = _OLDEST_EPOCH
    channel = open_channel(identity, proxy)
    messages = ControlMessages()
    try:
        stub = link_pb2_grpc.EdgeLinkStub(channel)
        return _converse(stub.Control(messages.open(hello), timeout=TIMEOUT), messages)
    except grpc.RpcError as error:
        raise translate(error, opened=False) from error
    except LinkLostError as error:
        raise ControlPlaneUnreachableError(str(error)) from error
    finally:
        messages.close()
        channel.close()


def explain(identity: Identity, proxy: Proxy | None, error: Exception) -> Exception:
    """Find out more exactly why nothing answered, if that is the error."""
    if isinstance(error, ControlPlaneUnreachableError):
        return diagnose(identity, proxy) or error
    return error


def _converse(call: Iterator[link_pb2.ControlResponse], messages: ControlMessages) -> Trial:
    version, sent = "", 0.0
    for response in call:
        if response.HasField("welcome"):
            version, sent = response.welcome.control_plane_version, time.monotonic()
            sent_at = to_timestamp(time.time())
            messages.heartbeat(link_pb2.Heartbeat(sequence=1, sent_at=sent_at))
        elif response.HasField("heartbeat_echo"):
            round_trip = time.monotonic() - sent
            return Trial(version, round_trip, clock_skew(response.heartbeat_echo, round_trip))
    raise LinkLostError("the control plane ended the call without an answer to a heartbeat")
