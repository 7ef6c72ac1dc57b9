"""What waits to be sent on one stream, and how that stream ends."""

import collections
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

import grpc

from controlplane.gateway.status import FINISHED, StreamEnd

Message = TypeVar("Message")


class Outgoing(Generic[Message]):
    """A bounded queue between whoever has something to say and the thread that sends it.

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
