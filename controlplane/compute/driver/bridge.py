"""The worker's client of the control plane: gRPC on a unix socket, with a deadline on each call."""

import time
import uuid
from collections.abc import Callable
from typing import TypeVar

import grpc

from controlplane.compute.driver.exceptions import BridgeUnavailable
from vsphere_gateway.v1 import compute_pb2, compute_pb2_grpc, operations_pb2

QUERY_SECONDS = 10.0
"""For what the control plane answers from its inventory, in milliseconds as a rule."""
STATE_SECONDS = 8.0
"""A little more than the control plane gives the edge for a virtual machine's state."""
RESULT_MARGIN = 30.0
"""Seconds after an operation's deadline in which the control plane may still settle it."""
OUTAGE_SECONDS = 60.0
"""How long to wait for a control plane that restarts."""
RETRY_SECONDS = 0.5
BROKEN = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})

Response = TypeVar("Response")


class Bridge:
    """Calls of one compute host. Thread-safe; raises ``BridgeUnavailable`` and nothing else."""

    def __init__(
        self,
        socket: str,
        compute_host: str,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare a channel; nothing is dialled yet."""
        self.compute_host = compute_host
        self._closed = False
        self._socket = socket
        self._now = now
        self._sleep = sleep
        credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
        options = [
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        self._channel = grpc.secure_channel(f"unix:{socket}", credentials, options)
        self._stub = compute_pb2_grpc.ComputeBridgeStub(self._channel)

    def close(self) -> None:
        """End the calls that still run."""
        self._closed = True
        self._channel.close()

    def execute(
        self,
        operation: operations_pb2.Operation,
        seconds: float,
        project_id: str,
        user_id: str,
        *,
        user_requested_delete: bool = False,
    ) -> operations_pb2.OperationResult:
        """Run an operation and return its result, also when it failed.

        When the control plane restarts meanwhile the request is repeated under the same key, which
        returns the first result and runs nothing twice.
        """
        operation.idempotency_key = str(uuid.uuid4())
        deadline = self._now() + seconds
        operation.deadline.FromNanoseconds(int(deadline * 1e9))
        request = compute_pb2.ExecuteRequest(
            compute_host=self.compute_host,
            operation=operation,
            project_id=project_id,
            user_id=user_id,
            user_requested_delete=user_requested_delete,
        )
        broken_since: float | None = None
        while True:
            called_at = self._now()
            self._check_open()
            try:
                response = self._stub.Execute(
                    request, timeout=deadline + RESULT_MARGIN - called_at, wait_for_ready=False
                )
            except grpc.RpcError as error:
                failed_at = self._now()
                if failed_at - called_at > RETRY_SECONDS or broken_since is None:
                    broken_since = failed_at
                if error.code() not in BROKEN or failed_at - broken_since > OUTAGE_SECONDS:
                    raise self._unavailable(error) from error
                self._sleep(RETRY_SECONDS)
            else:
                return response.result

    def instance(self, instance_uuid: str, *, use_cache: bool) -> compute_pb2.GetInstanceResponse:
        """The state of one virtual machine."""
        request = compute_pb2.GetInstanceRequest(
            compute_host=self.compute_host, instance_uuid=instance_uuid, use_cache=use_cache
        )
        seconds = QUERY_SECONDS if use_cache else STATE_SECONDS
        return self._ask(lambda: self._stub.GetInstance(request, timeout=seconds))

    def instances(self) -> list[compute_pb2.InstanceName]:
        """The servers of this compute host."""
        request = compute_pb2.ListInstancesRequest(compute_host=self.compute_host)
        return list(
            self._ask(lambda: self._stub.ListInstances(request, timeout=QUERY_SECONDS)).instances
        )

    def resources(self, *, started: bool = False) -> compute_pb2.GetClusterResourcesResponse:
        """Read totals and usage of this compute host, and say whether Nova has started."""
        request = compute_pb2.GetClusterResourcesRequest(
            compute_host=self.compute_host, started=started
        )
        return self._ask(lambda: self._stub.GetClusterResources(request, timeout=QUERY_SECONDS))

    def template(self, image_id: str) -> compute_pb2.GetTemplateResponse:
        """The template behind an image."""
        request = compute_pb2.GetTemplateRequest(image_id=image_id)
        return self._ask(lambda: self._stub.GetTemplate(request, timeout=QUERY_SECONDS))

    def _check_open(self) -> None:
        if self._closed:
            raise BridgeUnavailable(reason="this worker stops")

    def _ask(self, call: Callable[[], Response]) -> Response:
        self._check_open()
        try:
            return call()
        except grpc.RpcError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: grpc.RpcError) -> BridgeUnavailable:
        return BridgeUnavailable(
            reason=f"{error.code().name} on {self._socket}: {error.details()}; "
            "see whether vsg-controlplane runs"
        )
