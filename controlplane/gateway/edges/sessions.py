"""The open control streams, one an edge."""

import threading

import grpc

from common.clock import Clock
from controlplane.gateway.edges.edge_session import EdgeSession
from controlplane.gateway.status import RefusedError
from vsphere_gateway.v1 import link_pb2


class Sessions:
    """Edges' open control streams by name. Safe from any thread; calls nobody."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._sessions: dict[str, EdgeSession] = {}
        self._closed = ""

    def add(self, session: EdgeSession) -> EdgeSession | None:
        """Welcome a stream in the place of the edge's older one, which is returned.

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
        """Take a stream out; False when another has taken its place."""
        with self._changed:
            if self._sessions.get(session.name) is not session:
                return False
            del self._sessions[session.name]
            self._changed.notify_all()
            return True

    def get(self, name: str) -> EdgeSession | None:
        """Return an edge's open stream."""
        with self._changed:
            return self._sessions.get(name)

    def every(self) -> list[EdgeSession]:
        """Return all open streams by the edge's name."""
        with self._changed:
            return [self._sessions[name] for name in sorted(self._sessions)]

    def of(self, vcenter_uuid: str) -> list[EdgeSession]:
        """Return the streams of one vCenter's edges, the longest connected first."""
        found = [session for session in self.every() if session.vcenter_uuid == vcenter_uuid]
        return sorted(found, key=lambda session: session.opened_at)

    def close(self, reason: str) -> None:
        """Take no new stream in."""
        with self._changed:
            self._closed = reason

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until every stream has ended; False when some are still open."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._sessions, timeout=seconds)
