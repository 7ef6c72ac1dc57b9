"""One edge's open control stream, and what is known of the edge through it."""

import dataclasses
import threading
from collections.abc import Callable

import grpc

from certs.identity import PeerIdentity
from common.timestamps import naive_utc
from controlplane.gateway.status import StreamEnd
from controlplane.gateway.streams.outgoing import Outgoing
from controlplane.store.own.edges import EdgeRow
from controlplane.store.own.leases import LeaseRow
from vsphere_gateway.v1 import link_pb2

ControlOutgoing = Outgoing[link_pb2.ControlResponse]
InventoryOutgoing = Outgoing[link_pb2.InventoryResponse]


@dataclasses.dataclass(slots=True, eq=False)
class EdgeSession:
    """One open control stream. Each field that changes is replaced as a whole, by any thread."""

    identity: PeerIdentity
    hello: link_pb2.Hello
    peer: str
    """``HOST:PORT`` at the other end."""
    session_id: str
    outgoing: ControlOutgoing
    welcome: link_pb2.Welcome
    """Sent before anything else."""
    opened_at: float
    """Unix time in seconds."""
    heard_at: float
    """Unix time of the last sign of life."""
    deadline: float
    """Monotonic time by which the next sign of life must come."""
    heartbeat: link_pb2.Heartbeat = dataclasses.field(default_factory=link_pb2.Heartbeat)
    """The last heartbeat; empty before the first."""
    lease_gained: Callable[[], None] = lambda: None
    """Called without locks when this edge begins to hold its vCenter's lease."""
    told: tuple[str, int] | None = None
    """Holder and fencing epoch that the edge was told last."""
    inventory: InventoryOutgoing | None = None
    """Its open inventory stream."""
    over: threading.Event = dataclasses.field(default_factory=threading.Event)
    """Set once the stream has ended."""

    @property
    def name(self) -> str:
        """The edge's name, as in its certificate."""
        return self.identity.name

    @property
    def epoch(self) -> int:
        """When the edge's process started, in nanoseconds since 1970."""
        return self.hello.epoch

    @property
    def vcenter_uuid(self) -> str:
        """Its vCenter's instance UUID; empty before the edge has reached it."""
        return self.hello.vcenter.instance_uuid

    def tell(self, lease: LeaseRow) -> bool:
        """Tell the edge how its vCenter's lease stands, once; False when it knows already.

        An edge without the lease reports no inventory.
        """
        news = (lease.holder, lease.fencing_epoch)
        if news == self.told:
            return False
        self.told = news
        held = lease.holder == self.name
        message = link_pb2.Lease(held=held, fencing_epoch=lease.fencing_epoch, holder=lease.holder)
        self.outgoing.put(link_pb2.ControlResponse(lease=message))
        if not held:
            self.end_inventory(
                StreamEnd(
                    grpc.StatusCode.UNAVAILABLE,
                    f"edge {lease.holder} holds the lease of vCenter {self.vcenter_uuid} now; "
                    f"edge {self.name} stands by",
                )
            )
        return True

    def end(self, end: StreamEnd) -> None:
        """End both of the edge's streams."""
        self.over.set()
        self.outgoing.end(end)
        self.end_inventory(end)

    def begin_inventory(self, outgoing: InventoryOutgoing) -> None:
        """Put a new inventory stream in the place of an older one."""
        replaced = StreamEnd(grpc.StatusCode.ABORTED, "replaced by a newer inventory stream")
        self.end_inventory(replaced)
        self.inventory = outgoing
        if self.over.is_set():
            self.end_inventory(StreamEnd(grpc.StatusCode.UNAVAILABLE, "control stream ended"))

    def end_inventory(self, end: StreamEnd) -> None:
        """End the inventory stream, if one is open."""
        outgoing, self.inventory = self.inventory, None
        if outgoing is not None:
            outgoing.end(end)

    def row(self, *, online: bool, since: float) -> EdgeRow:
        """Return what the store keeps about the edge."""
        return EdgeRow(
            name=self.name,
            vcenter_uuid=self.vcenter_uuid or None,
            epoch=self.epoch,
            version=self.hello.edge_version[:64],
            peer=self.peer[:255],
            vcenter_state=self.heartbeat.vcenter_state,
            vcenter_message=self.heartbeat.vcenter_message[:4096],
            certificate_not_before=self.identity.not_before.replace(tzinfo=None),
            certificate_not_after=self.identity.not_after.replace(tzinfo=None),
            first_seen_at=naive_utc(self.opened_at),
            last_seen_at=naive_utc(self.heard_at),
            online=online,
            since=naive_utc(since),
        )
