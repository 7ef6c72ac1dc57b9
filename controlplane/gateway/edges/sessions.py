"""The open control streams, one for each edge, and what each edge has said on its stream."""

import dataclasses
import enum
import queue
import threading
from collections.abc import Callable

import grpc

from certs.identity import PeerIdentity
from common.clock import Clock
from common.timestamps import naive_utc
from controlplane.gateway.status import RefusedError, StreamEnd
from controlplane.gateway.streams.stream import Outgoing
from controlplane.store.own.edges import EdgeRow, VCenterRow
from controlplane.store.own.leases import LeaseRow
from vsphere_gateway.v1 import link_pb2

ControlOutgoing = Outgoing[link_pb2.ControlResponse]
InventoryOutgoing = Outgoing[link_pb2.InventoryResponse]
Job = Callable[[], None]


class SessionEvent(enum.Enum):
    """What the session's thread is told besides the jobs that it runs."""

    LEASE_GAINED = "lease gained"
    """Its edge now holds its vCenter's lease."""
    ENDED = "ended"


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
    """Unix time of the last heartbeat, or of the hello."""
    deadline: float
    """Monotonic time by which the next heartbeat must arrive."""
    heartbeat: link_pb2.Heartbeat = dataclasses.field(default_factory=link_pb2.Heartbeat)
    """The last heartbeat; empty before the first."""
    events: "queue.SimpleQueue[SessionEvent | Job]" = dataclasses.field(
        default_factory=queue.SimpleQueue
    )
    """What the session's own thread is to do, in order."""
    notified: tuple[str, int] | None = None
    """Holder and fencing epoch that the edge was notified of last."""
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
        if news == self.notified:
            return False
        self.notified = news
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
        """Build the edge's row for the database."""
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

    def vcenter_row(self) -> VCenterRow:
        """Build the row of the edge's vCenter for the database."""
        vcenter = self.hello.vcenter
        return VCenterRow(
            uuid=vcenter.instance_uuid,
            full_name=vcenter.full_name[:255],
            version=vcenter.version[:64],
            build=vcenter.build[:64],
            api_version=vcenter.api_version[:64],
            first_seen_at=naive_utc(self.opened_at),
        )


class Sessions:
    """Edges' open control streams by name. Safe from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._sessions: dict[str, EdgeSession] = {}
        self._closed = ""

    def add(self, session: EdgeSession) -> EdgeSession | None:
        """Add a stream and return the edge's older one, which it replaces.

        Raises ``RefusedError`` after ``close``, and when a process of that name that was started
        later is connected and alive.
        """
        with self._changed:
            if self._closed:
                raise RefusedError(grpc.StatusCode.UNAVAILABLE, self._closed)
            old = self._sessions.get(session.name)
            alive = old is not None and self._clock.monotonic() < old.deadline
            if old is not None and alive and old.epoch > session.epoch:
                raise RefusedError(
                    grpc.StatusCode.ALREADY_EXISTS,
                    f"edge {old.name} is connected from {old.peer} by a process that was started "
                    "later: two machines use one bundle; stop one or stamp it as an edge of its "
                    "own",
                )
            # Before anybody else finds the stream and has something to say on it.
            session.outgoing.put(link_pb2.ControlResponse(welcome=session.welcome))
            self._sessions[session.name] = session
            return old

    def remove(self, session: EdgeSession) -> bool:
        """Remove a stream; False when another has replaced it."""
        with self._changed:
            if self._sessions.get(session.name) is not session:
                return False
            del self._sessions[session.name]
            self._changed.notify_all()
            return True

    def get(self, name: str) -> EdgeSession | None:
        """An edge's open stream."""
        with self._changed:
            return self._sessions.get(name)

    def list_all(self) -> list[EdgeSession]:
        """All open streams by the edge's name."""
        with self._changed:
            return [self._sessions[name] for name in sorted(self._sessions)]

    def of(self, vcenter_uuid: str) -> list[EdgeSession]:
        """List the streams of one vCenter's edges, the longest connected first."""
        found = [session for session in self.list_all() if session.vcenter_uuid == vcenter_uuid]
        return sorted(found, key=lambda session: session.opened_at)

    def close(self, reason: str) -> None:
        """Refuse new streams."""
        with self._changed:
            self._closed = reason

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until every stream has ended; False when some are still open."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._sessions, timeout=seconds)
