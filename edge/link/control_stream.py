"""One `Control` call: hello, heartbeats, lease, operations and their results, drain."""

import logging
import threading
import time
from collections.abc import Callable

import grpc

from common.log_fields import fields
from edge.control_messages import ControlMessages
from edge.errors import LinkError, LinkLostError, LinkSilentError
from edge.health import Health
from edge.interfaces import InventorySource, OperationRunner
from edge.link.faults import translate
from edge.link.heartbeats import Heartbeats
from edge.tasks import Tasks
from vsphere_gateway.v1 import link_pb2, link_pb2_grpc

WELCOME_SECONDS = 20.0
"""Longest time from the dial to the welcome, including name resolution, proxy, TLS and hello."""
FINISH_SECONDS = 5.0
"""Longest time that the control plane may take to end a call that the edge has finished."""

log = logging.getLogger(__name__)


class ControlStream:
    """One call, from the hello to its end. Used once."""

    def __init__(
        self,
        stub: link_pb2_grpc.EdgeLinkStub,
        source: InventorySource,
        runner: OperationRunner,
        messages: ControlMessages,
        health: Health,
        on_welcome: Callable[[], None],
        on_lease: Callable[[link_pb2.Lease], None],
        on_read_request: Callable[[link_pb2.StartAudit], None],
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """The thread that runs the call calls the functions that begin with ``on_``."""
        self._stub = stub
        self._source = source
        self._runner = runner
        self._messages = messages
        self._health = health
        self._on_welcome = on_welcome
        self._on_lease = on_lease
        self._on_read_request = on_read_request
        self._monotonic = monotonic
        self._now = now
        self._welcomed = threading.Event()
        self._over = threading.Event()
        self._finished = threading.Event()
        self._heartbeats = Heartbeats(WELCOME_SECONDS, monotonic, now)
        self._drain_until: float | None = None
        self._hello_had_vcenter = False
        self._aborted: LinkError | None = None
        self._call: grpc.Call | None = None

    @property
    def is_welcome(self) -> bool:
        """The control plane has answered the hello, and the call has not ended."""
        return self._welcomed.is_set() and not self._over.is_set()

    def finish(self) -> None:
        """Close this side; the control plane then ends the call. Any thread may call it."""
        self._finished.set()
        self._messages.close()
        self._health.wake()
        if not self.is_welcome:
            self._cancel()

    def run(self, hello: link_pb2.Hello) -> None:
        """Serve the call until the edge has finished it.

        Raises ``LinkError`` when it ends otherwise.
        """
        self._hello_had_vcenter = hello.HasField("vcenter")
        call = self._stub.Control(self._messages.open(hello))
        self._call = call
        if self._finished.is_set():
            self._cancel()  # ``finish`` came too early to do so
        with Tasks(self._end) as tasks:
            tasks.start("heartbeat", self._keep_time)
            try:
                for response in call:
                    self._handle(response)
            except grpc.RpcError as error:
                if self._aborted or not self._finished.is_set():
                    raise self._reason(error) from error
            else:
                if not self._finished.is_set():
                    raise LinkLostError("the control plane ended the link")

    def _end(self) -> None:
        self._over.set()
        self._welcomed.set()
        self._messages.close()
        self._health.wake()
        self._cancel()

    def _cancel(self) -> None:
        if self._call is not None:
            self._call.cancel()

    def _reason(self, error: grpc.RpcError) -> LinkError:
        return self._aborted or translate(error, opened=self._welcomed.is_set())

    def _handle(self, response: link_pb2.ControlResponse) -> None:
        match response.WhichOneof("message"):
            case "welcome":
                self._begin(response.welcome)
            case "heartbeat_echo":
                self._heartbeats.echoed(response.heartbeat_echo)
            case "lease":
                self._handle_lease(response.lease)
            case "operation":
                self._runner.submit(self._heartbeats.by_own_clock(response.operation))
            case "cancel_operation":
                self._runner.cancel(response.cancel_operation)
            case "operation_result_ack":
                self._runner.acknowledged(response.operation_result_ack.operation_id)
                if self._drain_until is not None:
                    self._health.wake()
            case "drain":
                self._handle_drain(response.drain)
            case "start_audit":
                self._on_read_request(response.start_audit)
            case unknown:
                log.warning("unknown message ignored", extra=fields(kind=unknown))

    def _begin(self, welcome: link_pb2.Welcome) -> None:
        interval = max(welcome.heartbeat_interval_ms, 1) / 1000
        self._heartbeats = Heartbeats(interval, self._monotonic, self._now)
        self._welcomed.set()
        self._on_welcome()
        self._runner.replay()
        log.info(
            "link open",
            extra=fields(
                session=welcome.session_id,
                version=welcome.control_plane_version,
                protocol=welcome.protocol_version,
            ),
        )

    def _handle_lease(self, lease: link_pb2.Lease) -> None:
        facts = fields(held=lease.held, holder=lease.holder, fencing_epoch=lease.fencing_epoch)
        log.info("lease", extra=facts)
        self._runner.lease_changed(lease)
        self._on_lease(lease)

    def _handle_drain(self, drain: link_pb2.Drain) -> None:
        seconds = drain.deadline_ms / 1000
        log.info("drain", extra=fields(reason=drain.reason, wait_seconds=seconds))
        self._drain_until = self._monotonic() + seconds
        self._runner.drain(0)
        self._health.wake()

    # Below: the heartbeat thread.

    def _keep_time(self) -> None:
        """Send heartbeats, and end the call when it must end."""
        if not self._welcomed.wait(WELCOME_SECONDS):
            self._abort(LinkLostError(f"no welcome within {WELCOME_SECONDS:g} s"))
        while not self._over.is_set():
            version = self._health.vcenter().version
            self._beat()
            self._wait(version)
            if self._over.is_set():
                return
            if self._heartbeats.is_silent():
                silence = self._heartbeats.silent_for()
                self._abort(LinkSilentError(f"no answer for {silence:.0f} s"))
            elif self._is_to_finish():
                self.finish()
                if not self._over.wait(FINISH_SECONDS):
                    self._cancel()
                return

    def _beat(self) -> None:
        self._messages.heartbeat(self._heartbeats.stamp(self._health.heartbeat()))

    def _wait(self, version: int) -> None:
        """Wait until the next heartbeat is due, or something needs attention sooner."""
        seconds = self._heartbeats.interval
        if self._drain_until is not None:
            seconds = min(seconds, max(self._drain_until - self._monotonic(), 0.0))
        if not self._finished.is_set() and not self._is_to_finish():
            self._health.wait_for_change(version, seconds)

    def _is_to_finish(self) -> bool:
        if self._finished.is_set():
            return True
        if self._drain_until is not None:
            return self._monotonic() >= self._drain_until or not self._runner.unsettled()
        return not self._hello_had_vcenter and self._source.vcenter() is not None

    def _abort(self, error: LinkError) -> None:
        self._aborted = error
        self._over.set()
        self._cancel()
