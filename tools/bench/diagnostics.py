"""What a running control plane says of itself, read without starting a program each time."""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

import grpc

from certs.credentials import load_tls_material
from certs.identity import Role
from tools.demo.deployment import Deployment
from tools.servers.state import LOOPBACK, ServerError
from vsphere_gateway.v1 import diagnostics_pb2, diagnostics_pb2_grpc

Answer = TypeVar("Answer")
POLL_SECONDS = 0.25
"""What is measured is a time that the control plane tells: asking often would only delay it."""
CALL_SECONDS = 10


class Observer:
    """Watches one deployment through its admin listener."""

    def __init__(self, deployment: Deployment) -> None:
        folder = deployment.certificates
        self._gateway = deployment.gateway.number
        material = load_tls_material(
            folder / "ca.pem", folder / "operator.pem", folder / "operator.key", Role.OPERATOR
        )
        self._channel = grpc.secure_channel(
            f"{LOOPBACK}:{deployment.admin.number}", material.channel_credentials()
        )
        self._stub = diagnostics_pb2_grpc.DiagnosticsStub(self._channel)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def wait_for_gateway(self, seconds: float) -> None:
        """Wait until edges may dial. Raises ``ServerError`` after ``seconds``."""

        def listens() -> bool | None:
            try:
                socket.create_connection((LOOPBACK, self._gateway), timeout=1).close()
            except OSError:
                return None
            return True

        _wait(listens, seconds, "the control plane listens for edges")

    def edge(self) -> diagnostics_pb2.EdgeStatus | None:
        """Return the edge; None while there is none or the control plane does not answer."""
        try:
            answer = self._stub.ListEdges(
                diagnostics_pb2.ListEdgesRequest(), timeout=CALL_SECONDS, wait_for_ready=True
            )
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                return None
            raise
        return answer.edges[0] if answer.edges else None

    def wait_for_parity(self, epoch_after: int, seconds: float) -> diagnostics_pb2.EdgeStatus:
        """Wait for a parity of an edge process started after ``epoch_after``.

        Raises ``ServerError`` after ``seconds``.
        """

        def reached() -> diagnostics_pb2.EdgeStatus | None:
            edge = self.edge()
            if edge is None or edge.epoch <= epoch_after or not edge.HasField("parity_at"):
                return None
            return edge if edge.parity_at.ToNanoseconds() > edge.epoch else None

        return _wait(reached, seconds, "parity")


def _wait(ask: Callable[[], Answer | None], seconds: float, what: str) -> Answer:
    deadline = time.monotonic() + seconds
    while (answer := ask()) is None:
        if time.monotonic() > deadline:
            raise ServerError(f"not within {seconds:.0f} s: {what}")
        time.sleep(POLL_SECONDS)
    return answer
