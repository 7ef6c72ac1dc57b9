"""What the streaming calls of an edge have in common: one thread reads, one sends.

What waits to be sent is in an ``Outgoing``, a bounded queue.
"""

import collections
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import grpc

from common.log_fields import fields
from controlplane.gateway.authorization import peer_text
from controlplane.gateway.refusals import Refusals
from controlplane.gateway.status import FINISHED, KNOWN_ERRORS, StreamEnd, end_of
from controlplane.store.errors import StoreError

LOG = logging.getLogger(__name__)

Message = TypeVar("Message")

REFUSALS = frozenset(
    {
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)
"""Ends that the peer caused; the others are part of normal operation."""


class Outgoing(Generic[Message]):
    """A bounded queue of messages for the thread that sends them.

    Safe from any thread. The first end counts; what was queued before it is still sent when the
    stream ends well, and dropped when it does not.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: collections.deque[Message] = collections.deque()
        self._changed = threading.Condition()
        self._end: StreamEnd | None = None

    def put(self, message: Message) -> bool:
        """Queue a message; False when the stream has ended. Never blocks.

        A peer that reads too slowly ends its stream: it resumes from what it has acknowledged.
        """
        with self._changed:
            if self._end is not None:
                return False
            if len(self._messages) >= self._limit:
                self._finish(
                    StreamEnd(
                        grpc.StatusCode.RESOURCE_EXHAUSTED,
                        f"{self._limit} messages wait to be read by the edge; dial again",
                    )
                )
                return False
            self._messages.append(message)
            self._changed.notify_all()
            return True

    def end(self, end: StreamEnd = FINISHED) -> None:
        """End the stream; ignored when it has ended already."""
        with self._changed:
            if self._end is None:
                self._finish(end)

    @property
    def ended(self) -> StreamEnd | None:
        """How the stream ended; None while it lives."""
        with self._changed:
            return self._end

    def messages(self, first_within: float, missing: StreamEnd) -> Iterator[Message]:
        """Yield messages until the end; without one in ``first_within`` seconds it is ``missing``.

        For one consumer.
        """
        with self._changed:
            if not self._changed.wait_for(self._ready, timeout=first_within):
                self._finish(missing)
        while True:
            with self._changed:
                self._changed.wait_for(self._ready)
                if not self._messages:
                    return
                message = self._messages.popleft()
            yield message

    def _ready(self) -> bool:
        return bool(self._messages) or self._end is not None

    def _finish(self, end: StreamEnd) -> None:
        self._end = end
        if end.code is not grpc.StatusCode.OK:
            self._messages.clear()
        self._changed.notify_all()


class Streams:
    """The open calls of one method. gRPC's own thread sends, a second one reads."""

    def __init__(self, call: str, refusals: Refusals) -> None:
        self._call = call
        self._refusals = refusals
        self._lock = threading.Lock()
        self._readers: set[threading.Thread] = set()

    def run(
        self,
        context: grpc.ServicerContext,
        outgoing: Outgoing[Message],
        read: Callable[[], None],
        first_within: float,
        missing: StreamEnd,
    ) -> Iterator[Message]:
        """Yield what is to be sent until the call ends.

        ``read`` consumes the requests in a thread of its own; it ends the call by returning or by
        raising one of ``KNOWN_ERRORS``. Without anything to send in ``first_within`` seconds the
        call ends as ``missing``.
        """
        if not context.add_callback(outgoing.end):
            return
        who = peer_text(context)
        reader = threading.Thread(
            target=self._read, args=(outgoing, read, who), name=f"{self._call} {who}", daemon=True
        )
        with self._lock:
            self._readers.add(reader)
        reader.start()
        yield from outgoing.messages(first_within, missing)
        end = outgoing.ended or FINISHED
        if end.code in REFUSALS:
            self._refusals.refused(who, self._call, end)
        end.apply(context)

    def join(self, seconds: float) -> None:
        """Wait until the readers of ended calls have cleaned up."""
        deadline = time.monotonic() + seconds
        with self._lock:
            readers = list(self._readers)
        for reader in readers:
            reader.join(max(0.0, deadline - time.monotonic()))

    def _read(self, outgoing: Outgoing[Message], read: Callable[[], None], who: str) -> None:
        end = FINISHED
        try:
            read()
        except KNOWN_ERRORS as error:
            end = end_of(error)
            if isinstance(error, StoreError):
                LOG.error("call ended", extra=fields(peer=who, call=self._call, error=error))
        except grpc.RpcError:
            pass  # the peer is gone
        except Exception as error:  # the boundary of this thread
            LOG.exception("call failed", extra=fields(peer=who, call=self._call))
            end = end_of(error)
        finally:
            outgoing.end(end)
            with self._lock:
                self._readers.discard(threading.current_thread())
