"""The link as a whole: dial, keep the calls open, report what is wrong, dial again."""

import dataclasses
import datetime
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from common.background import BackgroundThread
from common.backoff import Backoff
from common.log_fields import fields
from edge.config import ControlPlaneSettings
from edge.control_messages import ControlMessages
from edge.errors import ControlPlaneUnreachableError, EdgeError
from edge.health import Health
from edge.interfaces import InventorySource, OnDemandReadSource, OperationRunner
from edge.link.channel import open_channel
from edge.link.control_stream import ControlStream
from edge.link.diagnosis import diagnose
from edge.link.identity import Identity, load_identity
from edge.link.inventory_calls import InventoryCalls
from edge.link.on_demand_read_calls import OnDemandReadCalls
from edge.link.proxy import Proxy, choose_proxy
from edge.sync.outbox import OutboxLimits
from vsphere_gateway.v1 import link_pb2, link_pb2_grpc

PROTOCOL_MINIMUM = 1
PROTOCOL_MAXIMUM = 1

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class EdgeFacts:
    """What the hello says of this process."""

    version: str
    epoch: int
    """Start of the process in nanoseconds since 1970."""
    capabilities: tuple[str, ...]


class Dialer:
    """Finds the way to the control plane; reads bundle and proxy at every dial."""

    def __init__(
        self,
        bundle: Path,
        settings: ControlPlaneSettings,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._bundle = bundle
        self._settings = settings
        self._environment = environment

    def look_up(self) -> tuple[Identity, Proxy | None]:
        """Load our identity and choose the proxy.

        Raises ``BundleError`` and ``SecretUnreadableError``.
        """
        identity = load_identity(self._bundle, datetime.datetime.now(datetime.UTC))
        return identity, choose_proxy(self._settings, identity.address[0], self._environment)


class Link:
    """Keeps the edge connected with its control plane for as long as the process lives."""

    def __init__(
        self,
        dialer: Dialer,
        facts: EdgeFacts,
        source: InventorySource,
        limits: OutboxLimits,
        runner: OperationRunner,
        messages: ControlMessages,
        reads: OnDemandReadSource,
        health: Health,
        backoff: Backoff,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``messages`` is the queue into which ``runner`` puts what it sends."""
        self._dialer = dialer
        self._facts = facts
        self._source = source
        self._limits = limits
        self._runner = runner
        self._messages = messages
        self._health = health
        self._backoff = backoff
        self._monotonic = monotonic
        self._inventory = InventoryCalls(source, self._open, backoff.reset, health.threads)
        self._reads = OnDemandReadCalls(reads, health.threads)
        self._thread = BackgroundThread("link", self._step, health.threads, wake=self._hang_up)
        self._control: ControlStream | None = None
        self._reported = ""

    @property
    def is_open(self) -> bool:
        """The control plane has welcomed this edge and the link lives."""
        control = self._control
        return control is not None and control.is_welcome

    @property
    def threads(self) -> tuple[BackgroundThread, ...]:
        """The threads that keep the link."""
        return self._thread, self._inventory.thread, self._reads.thread

    def start(self) -> None:
        """Begin to dial."""
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Close the link in order; returns when it is closed."""
        for thread in self.threads:
            thread.stop()

    def _hang_up(self) -> None:
        control = self._control
        if control is not None:
            control.finish()

    def _step(self) -> None:
        """Serve one connection from the dial to its end, then wait before the next attempt."""
        self._dial()
        self._thread.stopping.wait(self._backoff.next_delay())

    def _dial(self) -> None:
        """Serve one connection. What breaks it is logged in one line."""
        dialled_at = self._monotonic()
        try:
            identity, proxy = self._dialer.look_up()
            try:
                self._serve(identity, proxy)
            except ControlPlaneUnreachableError as error:
                if self._thread.stopping.is_set():
                    return
                raise diagnose(identity, proxy) or error from error
        except EdgeError as error:
            self._report(error)
        if self._monotonic() - dialled_at >= self._backoff.maximum:
            self._backoff.reset()

    def _serve(self, identity: Identity, proxy: Proxy | None) -> None:
        """Keep one channel until it breaks, is drained or the process stops."""
        log.debug("dialling", extra=_way(identity, proxy))
        channel = open_channel(identity, proxy)
        try:
            stub = link_pb2_grpc.EdgeLinkStub(channel)
            knew_vcenter = self._call(stub, identity)
            if not knew_vcenter and not self._thread.stopping.is_set():
                self._call(stub, identity)
        finally:
            channel.close()

    def _call(self, stub: link_pb2_grpc.EdgeLinkStub, identity: Identity) -> bool:
        """Serve one `Control` call, and the `Inventory` and `Audit` calls beside it.

        Returns whether the hello named the vCenter. Raises ``LinkError``.
        """
        hello = self._hello(identity)
        control = ControlStream(
            stub,
            self._source,
            self._runner,
            self._messages,
            self._health,
            self._welcomed,
            self._inventory.lease_changed,
            self._reads.requested,
        )
        self._control = control
        if self._thread.stopping.is_set():
            return True
        self._inventory.open(stub)
        self._reads.open(stub)
        try:
            control.run(hello)
        finally:
            self._control = None
            self._inventory.close()
            self._reads.close()
        return hello.HasField("vcenter")

    def _hello(self, identity: Identity) -> link_pb2.Hello:
        return link_pb2.Hello(
            edge_name=identity.name,
            edge_version=self._facts.version,
            protocol_minimum=PROTOCOL_MINIMUM,
            protocol_maximum=PROTOCOL_MAXIMUM,
            capabilities=self._facts.capabilities,
            epoch=self._facts.epoch,
            vcenter=self._source.vcenter(),
            unsettled_operations=self._runner.unsettled(),
        )

    def _open(self) -> link_pb2.InventoryOpen:
        return link_pb2.InventoryOpen(
            epoch=self._facts.epoch,
            vcenter=self._source.vcenter(),
            window=self._limits.snapshot_window,
            changes_window=self._limits.changes_window,
        )

    def _welcomed(self) -> None:
        # A step lasts as long as its connection, so it says here that it works.
        self._health.threads.recovered(self._thread.name)
        self._reported = ""

    def _report(self, error: EdgeError) -> None:
        """Log a reason once, until the link has been open again or the reason is another."""
        kind = type(error).__name__
        level = logging.DEBUG if kind == self._reported else logging.WARNING
        self._reported = kind
        log.log(level, "no link to the control plane", extra=fields(error=error))


def _way(identity: Identity, proxy: Proxy | None) -> dict[str, object]:
    return fields(edge=identity.name, address=identity.bundle.control_plane, proxy=proxy or "none")
